"""Notebooks: each is run on what is published, and kept with its outputs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import dagster as dg

from aura.overview.rendered import NotebookError, render
from aura.settings import Settings, config_file
from aura_assets.asset import aura_asset
from aura_assets.checks import NOTEBOOK
from aura_assets.step import Made, Skipped

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"


def notebook_asset(name: str, title: str, deps: tuple[str, ...]) -> dg.AssetsDefinition:
    """An asset that runs `notebooks/<name>.ipynb`.

    Args:
        name: Name of the notebook; the asset is called `<name>_notebook`.
        title: What it answers.
        deps: What it reads.
    """
    path = FOLDER / f"{name}.ipynb"

    def body(context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]) -> Made | Skipped:
        if not path.is_file():
            return Skipped(f"{path} is not there: notebooks are part of a checkout, not of the installed package")
        kept = settings.home / "notebooks" / path.name
        kept.parent.mkdir(parents=True, exist_ok=True)
        try:
            rendered = render(path, kernel_environment(settings), kept.parent)
        except NotebookError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        context.log.info("%s ran: %s", path.name, rendered.counts())

        def keep(_: str | None) -> Mapping[str, object]:
            kept.write_bytes(rendered.notebook)
            kept.with_suffix(".html").write_bytes(rendered.page)
            return {
                "rendered": dg.MetadataValue.md(rendered.markdown()),
                "notebook": dg.MetadataValue.path(kept),
                "page": dg.MetadataValue.path(kept.with_suffix(".html")),
            }

        counts = rendered.counts()
        return Made(rendered, rows=counts["cells"], figures=counts, when_published=keep)

    body.__name__ = f"{name}_notebook"
    body.__doc__ = f"""{title}

    The notebook `notebooks/{name}.ipynb`, run top to bottom on what is published in this home. "Show Markdown"
    beside `rendered` in the metadata of a materialization shows what it says and draws; `page` has its code as well.
    """
    return aura_asset(
        group="notebooks", kinds={"jupyter", "python"}, checks=NOTEBOOK, partitioned=False, deps=deps, automatic=False
    )(body)


def kernel_environment(settings: Settings) -> Mapping[str, str]:
    """The environment in which a notebook finds the home and the settings file of this process, wherever it works."""
    # Absolute: the kernel does not work in the directory of this process, where relative paths begin.
    config = {"AURA_CONFIG": str(config_file().resolve())} if config_file().is_file() else {}
    return {**os.environ, "AURA_HOME": str(settings.home.absolute()), **config}


TEXTS = ("corpus_manifest", "text_embeddings")
DIAGRAMS = ("embedding_diagrams", "embedding_loops", "averaged_landscapes", "embedding_drift")
ROUTING = ("expert_model", "expert_routing_table")
TIERS = ("tier_profile", "tier_placement")


def notebook_assets(measured: Sequence[dg.AssetsDefinition]) -> tuple[dg.AssetsDefinition, ...]:
    """Every notebook.

    Args:
        measured: The assets that are no notebooks: `costs` reads what each of them has cost.
    """
    return (
        notebook_asset("tour", "A tour of the assets.", (*TEXTS, *DIAGRAMS, "diagram_vectors", *ROUTING, *TIERS)),
        notebook_asset(
            "topology", "What shape does the corpus have, and has it changed?", (*TEXTS, *DIAGRAMS, "network_drift")
        ),
        notebook_asset("routing", "Does routing pay?", (*ROUTING, "moe_versus_dense")),
        notebook_asset("placement", "Where should my objects live?", TIERS),
        notebook_asset("costs", "What did it cost?", tuple(asset.key.to_user_string() for asset in measured)),
    )
