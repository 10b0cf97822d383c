"""How well and how fast 100,000 vectors are searched: the graph beside a comparison with all of them.

The vectors are latent semantic ones (TF-IDF and a singular value decomposition, Deerwester et al. 1990) of real texts:
the paragraphs of this Python's docstrings, or of the texts of a directory. One query after the other, as a person asks.

    python benchmarks/search.py [--vectors N] [--dimension D] [--queries N] [--runs N] [--data DIR] [--json]
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from report import Figure, as_json, figure, table, tell

from aura.corpus.directory import DirectorySource
from aura.corpus.python_docs import PythonDocsSource
from aura.embeddings.encoder import Vectors
from aura.embeddings.table import EmbeddingModel, EmbeddingTable
from aura.search.index import NEIGHBOURS, OpenIndex, SearchIndex, build_index

DOCUMENTS = 50_000
"""Texts that are read at first: that takes longer than searching."""

MIN_CHARACTERS = 60

LESS = 0.01
"""Share of the vectors that are added to an index that is there."""

RECALL_GOAL = 0.98


def texts(directory: Path | None, count: int) -> list[str]:
    """Distinct paragraphs of real texts, as many as there are up to `count`."""
    documents = DOCUMENTS
    paragraphs: dict[str, None] = {}
    while True:
        source = (
            PythonDocsSource(max_items=documents, max_per_package=documents)
            if directory is None
            else DirectorySource("data", directory, max_items=documents)
        )
        found: list[str] = source.scan().items("text")["text"].to_pylist()
        paragraphs |= dict.fromkeys(
            part for text in found for part in re.split(r"\n\s*\n", text) if len(part) >= MIN_CHARACTERS
        )
        if len(paragraphs) >= count or len(found) < documents:
            return list(paragraphs)[:count]
        documents *= 2


def latent(documents: Sequence[str], dimension: int) -> Vectors:
    """Latent semantic vectors [n, dimension] of length 1."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    counted = TfidfVectorizer(sublinear_tf=True, max_features=50_000).fit_transform(documents)
    reduced = TruncatedSVD(dimension, n_iter=2, random_state=0).fit_transform(counted)
    norms = np.linalg.norm(reduced, axis=1)
    kept = reduced[norms > 0] / norms[norms > 0, None]
    return kept.astype(np.float32)


def embedded(vectors: Vectors) -> EmbeddingTable:
    """The vectors as a table of embeddings."""
    names = pa.array([f"{row:032x}" for row in range(len(vectors))], pa.string())
    kinds = pa.array(["text"] * len(vectors), pa.string())
    items = pa.table({"item_id": names, "uri": names, "modality": kinds, "label": names, "sublabel": names})
    return EmbeddingTable.build(items, vectors, EmbeddingModel("latent", "0" * 32, None, vectors.shape[1], "float32"))


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def latencies(index: OpenIndex, queries: Vectors) -> list[float]:
    """Milliseconds of each query, one after the other."""
    return [1000 * timed(lambda query=query: index.search(query[None], "text")) for query in queries]


def measure(vectors: Vectors, queries: Vectors, runs: int) -> list[Figure]:
    """Index, extend and search."""
    whole = embedded(vectors)
    most = embedded(vectors[: int(len(vectors) * (1 - LESS))])
    tell("building the graph")
    built: list[SearchIndex] = []
    building = timed(lambda: built.append(build_index(whole, flat_up_to=0)))
    before = build_index(most, flat_up_to=0)
    extending = timed(lambda: build_index(whole, before, flat_up_to=0))
    index = built[0]
    part = index.card.parts["text"]
    if part.way != "graph":
        raise SystemExit("the graph does not find well enough: all vectors are compared")
    graph, flat = OpenIndex(whole, index), OpenIndex(whole, None)
    exact, found = flat.search(queries, "text"), graph.search(queries, "text")
    recall = (found.scores >= exact.scores.min(axis=1, keepdims=True) - 1e-6).mean()
    own = float((graph.search(vectors, "text", 1).scores[:, 0] > 1 - 1e-5).mean())
    sides = {"graph": graph, "comparison with all": flat}
    times: dict[str, list[list[float]]] = {name: [] for name in sides}
    for run in range(runs):
        tell(f"searching, run {run + 1} of {runs}")
        for name, side in sides.items():
            times[name].append(latencies(side, queries))
    p50 = {name: [float(np.percentile(each, 50)) for each in times[name]] for name in sides}
    p99 = {name: [float(np.percentile(each, 99)) for each in times[name]] for name in sides}
    ratios = [fast / slow for fast, slow in zip(p50["graph"], p50["comparison with all"], strict=True)]
    scanned = vectors.nbytes / 1e9
    rates = [scanned / (each / 1000) for each in p50["comparison with all"]]
    copied = [2 * scanned / timed(vectors.copy) for _ in range(3)]
    count = f"{len(vectors):,} vectors of {vectors.shape[1]}"
    return [
        figure(f"recall at {NEIGHBOURS}", [float(recall)], "share", against="exact", goal=RECALL_GOAL, at_least=True),
        figure("vectors that find themselves first", [own], "share", against=count, goal=1, at_least=True),
        figure("graph, median", p50["graph"], "ms"),
        figure("graph, p99", p99["graph"], "ms"),
        figure("comparison with all, median", p50["comparison with all"], "ms"),
        figure("comparison with all, p99", p99["comparison with all"], "ms"),
        figure("graph / comparison with all", ratios, "ratio", against="comparison with all"),
        figure("comparison with all, read", rates, "GB/s", against=f"{np.median(copied):.1f} GB/s of a copy"),
        figure("extending by 1 % / building", [extending / building], "ratio", against="building"),
        figure("building", [building], "s", against=count),
        figure("graph", [len(index.graphs["text"].content) / len(vectors)], "bytes a vector"),
        figure("expansion", [part.expansion], "candidates"),
    ]


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--queries", type=int, default=500, help="texts that are asked for and not indexed")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--data", type=Path, help="a directory with texts, instead of the docstrings of this Python")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args()
    tell("reading texts")
    documents = texts(options.data, options.vectors + options.queries)
    tell(f"latent semantic vectors of {len(documents):,} texts")
    vectors = latent(documents, options.dimension)
    chosen = np.random.default_rng(0).permutation(len(vectors))
    queries, rest = vectors[chosen[: options.queries]], vectors[np.sort(chosen[options.queries :])]
    figures = measure(np.ascontiguousarray(rest), queries, options.runs)
    if options.json:
        as_json("search", figures)
    else:
        table(figures)


if __name__ == "__main__":
    main()
