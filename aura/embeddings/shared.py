"""The items of a source in one space: texts, images and sounds, each by its own tower of one model.

Belongs here: which modalities are encoded, one table of them. Does not: what is new and what is re-used
(`aura.embeddings.incremental`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from aura.corpus.manifest import CorpusManifest
from aura.corpus.rows import MODALITIES
from aura.embeddings.encoder import Progress, SharedSpace
from aura.embeddings.incremental import Elsewhere, EmbeddingReport, embed_items
from aura.embeddings.table import EmbeddingModel, EmbeddingTable
from aura.embeddings.windows import Read


def embed_shared(
    manifest: CorpusManifest,
    space: SharedSpace,
    *,
    read: Read,
    previous: EmbeddingTable | None = None,
    progress: Callable[[str], Progress] | None = None,
    elsewhere: Callable[[str, Read | None], Elsewhere | None] | None = None,
) -> tuple[EmbeddingTable, Mapping[str, EmbeddingReport]] | None:
    """Bring the table of a source's items in a shared space up to date.

    Args:
        manifest: What the source holds.
        space: The model; items of modalities that it does not take are left out.
        read: From a uri and an item_id to the content of an image or sound.
        previous: The table of an earlier run.
        progress: Gives the progress of a modality.
        elsewhere: Gives what encodes a modality in place of this process.

    Returns:
        Rows of texts, then images, then sounds, each in the order of the manifest, and a report per modality; None
        where the source has no item of a modality that the model takes.

    Raises:
        EmbeddingTableError, EncodingError: see `embed_items`.
    """
    tables: list[EmbeddingTable] = []
    reports: dict[str, EmbeddingReport] = {}
    for modality in MODALITIES:
        read_here = None if modality == "text" else read
        items = manifest.items(modality)
        if modality in space.modalities and items.num_rows:
            table, reports[modality] = embed_items(
                items,
                space.encoder(modality),
                previous=None if previous is None else of_modality(previous, modality),
                read=read_here,
                progress=None if progress is None else progress(modality),
                elsewhere=None if elsewhere is None else elsewhere(modality, read_here),
            )
            tables.append(table)
    if not tables:
        return None
    model = _common([table.model for table in tables])
    return EmbeddingTable(pa.concat_tables([table.table for table in tables]), model), reports


def of_modality(table: EmbeddingTable, modality: str) -> EmbeddingTable:
    """The rows of one modality."""
    return EmbeddingTable(table.table.filter(pc.equal(table.table["modality"], modality)), table.model)


def _common(models: Sequence[EmbeddingModel]) -> EmbeddingModel:
    """The towers' model as one: its arithmetic is that of all of them, its parity the worst."""
    arithmetics = sorted({model.dtype for model in models})
    parities = [model.parity_cosine for model in models if model.parity_cosine is not None]
    return replace(models[0], dtype=" and ".join(arithmetics), parity_cosine=min(parities, default=None))
