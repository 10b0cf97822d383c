"""`aura search` and `aura.find` on what the graph has made, and long texts on their way through it."""

from __future__ import annotations

import json

import pytest
from shell_graph import SOURCE, Graph, changed
from test_shell_processes import assert_one_sentence, aura

import aura as library
from aura.search.errors import SearchError

TEXTS = ["corpus_manifest", "text_embeddings", "text_index"]


def test_the_command_line_finds_the_nearest_texts_and_names_what_is_wrong(graph, corpus_directory) -> None:
    assert_one_sentence(aura("search", "turtle"), "nothing is published")
    assert graph.run_selection(TEXTS).failed == {}
    asked = corpus_directory / "turtle" / "03.txt"

    found = json.loads(aura("search", asked, "--json", "-n", 3).stdout)
    assert found["searched"] == 60
    assert [hit["source"] for hit in found["hits"]] == [SOURCE] * 3
    assert found["hits"][0]["uri"] == "turtle/03.txt"
    assert found["hits"][0]["score"] == pytest.approx(1, abs=1e-5)

    shown = aura("search", asked, "--in", "texts", "--source", SOURCE)
    assert shown.returncode == 0, shown.stderr
    assert "turtle/03.txt" in shown.stdout
    assert asked.read_text(encoding="utf-8").split()[0] in shown.stdout
    assert "of 60 items" in shown.stdout

    assert_one_sentence(aura("search", "turtle", "--source", "nowhere"), "nowhere", SOURCE)
    assert_one_sentence(aura("search", "nowhere.png"), "nowhere.png")
    assert_one_sentence(aura("search", "turtle", "--in", "images"), "image")
    wrong = aura("search", "turtle", "--in", "pictures")
    assert wrong.returncode == 2
    assert "images" in wrong.stderr


def test_a_notebook_finds_the_same_and_shows_it(graph, corpus_directory) -> None:
    assert graph.run_selection(TEXTS).failed == {}
    found = library.find(corpus_directory / "email" / "01.txt", count=2)
    assert found.hits[0].uri == "email/01.txt"
    assert len(found.hits) == len(found.previews) == 2
    assert "email/01.txt" in found._repr_html_()
    with pytest.raises(SearchError, match="'pictures'"):
        library.find("turtle", within="pictures")
    with pytest.raises(SearchError, match="of type int"):
        library.find(3)


@pytest.mark.parametrize(("long_inputs", "chunked", "truncated"), [("chunk", 1, 0), ("truncate", 0, 1)])
def test_a_long_text_is_chunked_or_cut_as_configured_and_counted(
    graph, corpus_directory, long_inputs, chunked, truncated
) -> None:
    for short in corpus_directory.rglob("*.txt"):
        short.write_text(" ".join(short.read_text(encoding="utf-8").split()[:20]), encoding="utf-8")
    (corpus_directory / "turtle" / "long.txt").write_text("turtle " * 300, encoding="utf-8")
    configured = Graph(changed(graph.settings, embeddings={"long_inputs": long_inputs}))
    made = configured.run_selection(["corpus_manifest", "text_embeddings"]).materialized["text_embeddings"]
    assert (made["chunked"], made["truncated"]) == (chunked, truncated)
