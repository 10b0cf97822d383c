"""Figures and pictures as Dagster metadata."""

from __future__ import annotations

import base64

import dagster as dg
import pyarrow as pa

from aura.measure.cost import Cost


def picture(png: bytes, alt: str) -> dg.MarkdownMetadataValue:
    """A plot, drawn in the UI."""
    return dg.MetadataValue.md(f"![{alt}](data:image/png;base64,{base64.b64encode(png).decode()})")


def figure(value: float) -> dg.MetadataValue:
    """A number as people read it: whole numbers as such, others to five significant digits."""
    whole = float(value).is_integer()
    return dg.MetadataValue.int(int(value)) if whole else dg.MetadataValue.float(float(f"{value:.5g}"))


def cost_metadata(cost: Cost) -> dict[str, dg.MetadataValue]:
    """What a materialization cost. Joules appear under the name of their source, or not at all."""
    energy = cost.energy
    method = None if energy.source == "unavailable" else energy.method
    metadata: dict[str, dg.MetadataValue] = {
        "wall_seconds": figure(cost.wall_seconds),
        "cpu_seconds": figure(cost.cpu_seconds),
        "peak_memory_mib": figure(cost.peak_memory_bytes / 2**20),
        "energy": dg.MetadataValue.text(": ".join(filter(None, (energy.source, method, energy.reason)))),
    }
    if energy.joules is not None:
        metadata[f"joules_{energy.source}"] = figure(energy.joules)
    return metadata


def markdown_table(table: pa.Table) -> dg.MarkdownMetadataValue:
    """A small Arrow table, drawn in the UI; floats to four significant digits."""
    lines = [" | ".join(table.column_names), " | ".join("---" for _ in table.column_names)]
    lines += [" | ".join(_cell(value) for value in row.values()) for row in table.to_pylist()]
    return dg.MetadataValue.md("\n".join(f"| {line} |" for line in lines))


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("|", "\\|").replace("\n", " ")
