"""A notebook that was run: its cells with their outputs, and the page that they make.

Belongs here: running a notebook in a kernel of its own, rendering it, the stored value. Does not: the notebooks.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from aura.measure.checks import CheckResult
from aura.tiers.tables import ValueSchemaError
from aura.tiers.values import Part

NOTEBOOK, PAGE = "notebook", "page"
CELL_SECONDS = 600
KERNEL_SECONDS = 180
"""For the kernel to answer: it imports for seconds, and for many on a machine that computes something else."""
KERNEL = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "PYTHONWARNINGS": "ignore:IProgress not found"}
"""What a kernel's environment says whatever this process' own does: with another backend a notebook has no pictures."""
SHOWN = ["image/png", "text/markdown", "text/plain"]
"""Forms of an output that Markdown takes, the best first."""

REMEDY = "install AURA with the extra `notebooks`, which `make demo` does"


class NotebookError(RuntimeError):
    """A notebook cannot be run here, or one of its cells failed; the message has the cell and its error."""


@dataclass(frozen=True)
class RenderedNotebook:
    """A notebook with its outputs.

    Attributes:
        notebook: Its JSON (nbformat 4), UTF-8.
        page: One HTML page with everything in it, UTF-8.
    """

    notebook: bytes
    page: bytes

    def to_parts(self) -> Mapping[str, Part]:
        """Both documents."""
        return {NOTEBOOK: self.notebook, PAGE: self.page}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Part]) -> Self:
        """Put it together; raises ValueSchemaError when the parts are another thing's."""
        notebook, page = parts.get(NOTEBOOK), parts.get(PAGE)
        if not isinstance(notebook, bytes) or not isinstance(page, bytes):
            raise ValueSchemaError(f"a rendered notebook has the parts notebook and page, got {sorted(parts)}")
        return cls(notebook, page)

    def markdown(self) -> str:
        """The notebook as Markdown without its code: what it says, its tables as text, its pictures as data."""
        import nbformat
        from nbconvert import MarkdownExporter

        notebook = nbformat.reads(self.notebook.decode(), as_version=4)  # type: ignore[no-untyped-call]
        exporter = MarkdownExporter(exclude_input=True, config={"NbConvertBase": {"display_data_priority": SHOWN}})  # type: ignore[no-untyped-call]
        text, resources = exporter.from_notebook_node(notebook)
        for name, picture in resources["outputs"].items():
            text = text.replace(f"({name})", f"(data:image/png;base64,{base64.b64encode(picture).decode()})")
        return re.sub(r"\n\s*\n(?=\n)", "\n", text)

    def counts(self) -> dict[str, int]:
        """Code cells, those of them that ran, and pictures in their outputs."""
        import nbformat

        notebook = nbformat.reads(self.notebook.decode(), as_version=4)  # type: ignore[no-untyped-call]
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        outputs = [output for cell in cells for output in cell.outputs]
        return {
            "cells": len(cells),
            "run": sum(cell.execution_count is not None for cell in cells),
            "pictures": sum("image/png" in output.get("data", {}) for output in outputs),
        }


def render(path: Path, environment: Mapping[str, str], directory: Path) -> RenderedNotebook:
    """Run a notebook top to bottom in a kernel of its own, and render it.

    Args:
        path: The notebook; it is not changed.
        environment: Of the kernel's process.
        directory: Where the kernel works.

    Raises:
        NotebookError: The libraries are missing, the kernel did not start or died, a cell raised, or one took longer
            than `CELL_SECONDS`.
    """
    try:
        import nbformat
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError, CellTimeoutError
        from nbconvert import HTMLExporter
    except ModuleNotFoundError as error:
        raise NotebookError(f"{error.name} is missing: {REMEDY}") from error
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        startup_timeout=KERNEL_SECONDS,
        resources={"metadata": {"path": str(directory)}},
    )
    try:
        client.execute(env={**environment, **KERNEL})
    except (CellExecutionError, CellTimeoutError, RuntimeError) as error:
        raise NotebookError(f"{path.name}: {error}") from error
    exporter = HTMLExporter(template_name="classic", exclude_input_prompt=True, exclude_output_prompt=True)  # type: ignore[no-untyped-call]
    page, _ = exporter.from_notebook_node(notebook)
    text: str = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
    return RenderedNotebook(text.encode(), page.encode())


def every_cell_ran(rendered: RenderedNotebook) -> CheckResult:
    """Every code cell was run."""
    counts = rendered.counts()
    return CheckResult(
        passed=counts["run"] == counts["cells"] > 0,
        figures={name: float(count) for name, count in counts.items()},
        description=f"{counts['run']} of {counts['cells']} cells ran and drew {counts['pictures']} pictures",
    )
