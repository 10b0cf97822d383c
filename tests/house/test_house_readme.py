"""What the documents point to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aura.settings import SettingsError, load_settings

PROJECT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    *(PROJECT / folder / "README.md" for folder in ("", "benchmarks", "notebooks")),
    *sorted((PROJECT / "docs").rglob("*.md")),
]
TARGETS = re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_every_link_of_a_document_leads_somewhere(document):
    links = re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8"))
    here = [link for link in links if "://" not in link]
    assert [link for link in here if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_every_make_target_that_a_document_names_exists(document):
    named = re.findall(r"`make ([a-z-]+)", document.read_text(encoding="utf-8"))
    assert set(named) <= set(TARGETS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_every_variable_that_a_document_names_can_be_set(document, monkeypatch):
    for variable in re.findall(r"\bAURA_[A-Z0-9_]+", document.read_text(encoding="utf-8")):
        monkeypatch.setenv(variable, "a value of no setting")
    refused = ""
    try:
        load_settings()
    except SettingsError as error:
        refused = str(error)
    assert "Unknown" not in refused
