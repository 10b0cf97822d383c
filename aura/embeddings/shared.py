"""The items of a source in one space: texts, images and sounds, each by its own tower of one model.

Belongs here: which modalities are encoded, one table of them. Does not: what is new and what is re-used
(`aura.embeddings.incremental`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    tables: dict[str, EmbeddingTable] = {}
    reports: dict[str, EmbeddingReport] = {}
    for modality in MODALITIES:
        read_here = None if modality == "text" else read
        items = manifest.items(modality)
        if modality in space.modalities and items.num_rows:
            tables[modality], reports[modality] = embed_items(
                items,
                space.encoder(modality),
                previous=None if previous is None else of_modality(previous, modality),
                read=read_here,
                progress=None if progress is None else progress(modality),
                elsewhere=None if elsewhere is None else elsewhere(modality, read_here),
            )
    if not tables:
        return None
    model = _common({modality: table.model for modality, table in tables.items()})
    return EmbeddingTable(pa.concat_tables([table.table for table in tables.values()]), model), reports


def of_modality(table: EmbeddingTable, modality: str) -> EmbeddingTable:
    """The rows of one modality, with the model that its tower is."""
    rows = table.table.filter(pc.equal(table.table["modality"], modality))
    arithmetics = dict(part.split(" ") for part in table.model.dtype.split(", ") if " " in part)
    return EmbeddingTable(rows, replace(table.model, dtype=arithmetics.get(modality, table.model.dtype)))


def _common(models: Mapping[str, EmbeddingModel]) -> EmbeddingModel:
    """The towers as one model: its parity is the worst, its arithmetic named by modality where they differ."""
    arithmetics = {modality: model.dtype for modality, model in models.items()}
    one = len(set(arithmetics.values())) == 1
    dtype = next(iter(arithmetics.values())) if one else ", ".join(map(" ".join, arithmetics.items()))
    parities = [model.parity_cosine for model in models.values() if model.parity_cosine is not None]
    return replace(next(iter(models.values())), dtype=dtype, parity_cosine=min(parities, default=None))
