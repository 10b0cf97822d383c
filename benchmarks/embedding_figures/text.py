"""MiniLM on the documentation of Python beside `sentence_transformers` in float32 and in bfloat16.

All sides get the same texts in the same order, cut off at the model's limit, and the same number of threads; the
library sorts by length and pads as it does by itself. Retrieval: the first line of a text is the query for it.

The bound on the ratio to float32 is what the machine multiplies faster in bfloat16, times what the library leaves of
the rate in float32.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from report import Figure, figure, tell
from sentence_transformers import SentenceTransformer

from aura.corpus.python_docs import PythonDocsSource
from aura.embeddings.text import open_text_encoder
from aura.embeddings.weights import locate_model
from embedding_figures.sides import agreement, bert_flops, in_turns, product_rate, throughput

TEXTS = 800
QUERIES = 200
TOP = 10
GOALS = {"sentence-transformers float32": 5.0, "sentence-transformers bfloat16": 1.8}


def python_texts(count: int) -> list[str]:
    """Texts of the documentation that comes with Python."""
    texts: list[str] = PythonDocsSource("python-docs").scan().items("text")["text"].to_pylist()
    return texts[:count]


def figures(data: Path | None, runs: int) -> list[Figure]:
    """All rows about texts."""
    del data
    return measured("cpu", python_texts(TEXTS), runs)


def measured(device: str, texts: list[str], runs: int) -> list[Figure]:
    """Rows about these texts on this device."""
    tell(f"{len(texts)} texts on {device}")
    directory = str(locate_model(None).directory)
    ours = open_text_encoder(device=device, long_inputs="truncate")
    exact = SentenceTransformer(directory, device=device)
    halved = SentenceTransformer(directory, device=device, model_kwargs={"dtype": torch.bfloat16})
    sides = {
        "AURA": lambda: ours.encode(texts).vectors,
        "sentence-transformers float32": lambda: exact.encode(texts, show_progress_bar=False),
        "sentence-transformers bfloat16": lambda: halved.encode(texts, show_progress_bar=False),
    }
    vectors = {name: np.asarray(side(), np.float32) for name, side in sides.items()}
    what = f"MiniLM on {device}"
    seconds = in_turns(sides, runs)
    found = throughput(what, seconds, len(texts), GOALS, "texts/s")
    reference = vectors["sentence-transformers float32"]
    found.append(agreement(what, vectors["AURA"], reference, "sentence-transformers float32"))
    found += retrieval(what, texts, vectors, lambda queries: ours.encode(queries).vectors, exact)
    return found + rates(what, ours.encode(texts).tokens, texts=texts, exact=exact, seconds=seconds, device=device)


def retrieval(what: str, texts: list[str], vectors: dict, encode, exact: SentenceTransformer) -> list[Figure]:  # noqa: ANN001
    """Whether queries find the same texts, and as many of them their own."""
    chosen = np.linspace(0, len(texts) - 1, min(QUERIES, len(texts))).astype(int)
    queries = [texts[row].strip().splitlines()[0][:200] if texts[row].strip() else "" for row in chosen]
    ours = np.argsort(-(encode(queries) @ vectors["AURA"].T), axis=1, kind="stable")[:, :TOP]
    theirs_queries = exact.encode(queries, show_progress_bar=False)
    reference = vectors["sentence-transformers float32"]
    theirs = np.argsort(-(theirs_queries @ reference.T), axis=1, kind="stable")[:, :TOP]
    overlap = np.mean([len(set(a) & set(b)) / TOP for a, b in zip(ours, theirs, strict=True)])
    recall, expected = ((found == chosen[:, None]).any(axis=1).mean() for found in (ours, theirs))
    against = "sentence-transformers float32"
    return [
        figure(f"{what}, shared of the nearest {TOP}", [float(overlap)], "share", against=against),
        figure(f"{what}, recall in the nearest {TOP}", [float(recall)], "share"),
        figure(
            f"{what}, recall in the nearest {TOP}, difference", [float(recall - expected)], "share", against=against
        ),
    ]


def rates(
    what: str,
    tokens: int,
    *,
    texts: list[str],
    exact: SentenceTransformer,
    seconds: dict[str, list[float]],
    device: str,
) -> list[Figure]:
    """The shares of the machine's rate of matrix products that the sides reach."""
    config = exact[0].auto_model.config
    ids = exact.tokenizer(texts, truncation=True, max_length=exact.max_seq_length)["input_ids"]
    lengths = np.array([len(each) for each in ids])
    if int(lengths.sum()) != tokens:
        raise RuntimeError(f"the sides disagree about the tokens: {tokens} and {int(lengths.sum())}")
    width, inner = config.hidden_size, config.intermediate_size
    flops = bert_flops(lengths, config.num_hidden_layers, width, inner)
    shapes = [(width, 3 * width), (width, width), (width, inner), (inner, width)]
    found = []
    rows = 1024 if device == "cpu" else 16384
    for dtype, side in ((torch.float32, "sentence-transformers float32"), (torch.bfloat16, "AURA")):
        name = str(dtype).removeprefix("torch.")
        rate = product_rate(shapes, rows, dtype, device)
        reached = [flops / each / 1e9 for each in seconds[side]]
        found += [
            figure(f"{what}, linear layers in {name}", [rate], "GFLOP/s"),
            figure(f"{what}, {side}, share of that", [each / rate for each in reached], "share"),
        ]
    return found
