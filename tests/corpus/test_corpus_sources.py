"""Descriptions of sources and the sources they open."""

from __future__ import annotations

from pathlib import Path

import pytest

from aura.corpus.digits import DigitsSource
from aura.corpus.directory import DirectorySource
from aura.corpus.errors import SourceSpecError
from aura.corpus.python_docs import PythonDocsSource
from aura.corpus.sources import SourceOptions, SourceSpec, open_source


@pytest.mark.parametrize("name", ["a", "0", "my-corpus_2.v1"])
def test_plain_names_are_accepted(name):
    assert SourceSpec(name, "digits").name == name


@pytest.mark.parametrize("name", ["", "A", "-a", ".a", "a b", "a/b", "ä", "a\n", "../a"])
def test_other_names_are_refused_with_the_rule(name):
    with pytest.raises(SourceSpecError, match="starts with a-z or 0-9"):
        SourceSpec(name, "digits")


def test_wrong_fields_are_refused_by_name():
    with pytest.raises(SourceSpecError, match="kind 's3', expected one of directory, python-docs, digits"):
        SourceSpec("a", "s3")  # type: ignore[arg-type]
    with pytest.raises(SourceSpecError, match="needs the path of its root"):
        SourceSpec("a", "directory")
    with pytest.raises(SourceSpecError, match="takes no path, got /x"):
        SourceSpec("a", "digits", Path("/x"))
    with pytest.raises(SourceSpecError, match="max_items 0, expected at least 1"):
        SourceSpec("a", "digits", max_items=0)


def test_each_kind_opens_its_source_with_its_name_and_bound(tmp_path):
    assert open_source(SourceSpec("d", "digits", max_items=5)) == DigitsSource("d", 5)
    assert open_source(SourceSpec("p", "python-docs", max_items=5)) == PythonDocsSource("p", 5)
    assert open_source(SourceSpec("t", "directory", tmp_path, 5)) == DirectorySource("t", tmp_path, 5)


def test_the_options_reach_the_source_that_they_are_for(tmp_path):
    options = SourceOptions(file_bytes=1_000, text_bytes=100, spoken_digits=tmp_path)
    assert open_source(SourceSpec("d", "digits"), options) == DigitsSource("d", None, tmp_path)
    assert open_source(SourceSpec("t", "directory", tmp_path), options) == DirectorySource(
        "t", tmp_path, None, 1_000, 100
    )


def test_the_manifest_carries_the_name_of_the_source(tmp_path):
    assert open_source(SourceSpec("t", "directory", tmp_path)).scan().source == "t"
