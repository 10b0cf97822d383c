"""What the documents point to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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
