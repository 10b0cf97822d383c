"""The registry of sources: a file that survives crashes, damage and several writers."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aura.corpus.errors import RegistryError, SourceExistsError, UnknownSourceError
from aura.corpus.registry import SourceRegistry
from aura.corpus.sources import SourceSpec


@pytest.fixture
def registry(tmp_path) -> SourceRegistry:
    return SourceRegistry(tmp_path / "state" / "sources.json")


def names(registry: SourceRegistry) -> list[str]:
    return [spec.name for spec in registry.specs()]


def test_the_built_in_sources_are_there_without_a_file(registry):
    assert names(registry) == ["digits", "python-docs"]
    assert not registry.path.exists()


def test_an_added_source_is_there_for_the_next_process_with_an_absolute_path(registry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept = registry.add(SourceSpec("notes", "directory", Path("notes"), 10))
    assert kept.path == tmp_path / "notes"
    assert SourceRegistry(registry.path).get("notes") == kept
    assert names(registry) == ["digits", "notes", "python-docs"]


def test_adding_the_same_source_again_changes_nothing_and_another_one_is_refused(registry, tmp_path):
    registry.add(SourceSpec("notes", "directory", tmp_path))
    registry.add(SourceSpec("notes", "directory", tmp_path))
    with pytest.raises(SourceExistsError, match="remove it first"):
        registry.add(SourceSpec("notes", "directory", tmp_path / "other"))
    assert registry.get("notes").path == tmp_path


def test_a_removed_built_in_source_stays_away_until_it_is_added_again(registry):
    registry.remove("digits")
    assert names(SourceRegistry(registry.path)) == ["python-docs"]
    registry.add(SourceSpec("digits", "digits", max_items=50))
    assert registry.get("digits").max_items == 50
    registry.remove("digits")
    assert names(registry) == ["python-docs"]


def test_a_source_that_nobody_knows_is_named_with_the_known_ones(registry):
    for ask in (registry.get, registry.remove):
        with pytest.raises(UnknownSourceError, match="no source 'notes', only digits, python-docs"):
            ask("notes")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"sources": [{}], "removed": []}',
        '{"sources": [5], "removed": []}',
        '{"sources": [{"name": "A", "kind": "digits", "path": null, "max_items": null}], "removed": []}',
        '{"sources": [{"name": "a", "kind": "digits", "path": null, "max_items": "5"}], "removed": []}',
        '{"sources": [{"name": "a", "kind": ["x"], "path": null, "max_items": null}], "removed": []}',
        '{"sources": [], "removed": null}',
    ],
)
def test_a_damaged_file_is_named_with_the_remedy_and_never_overwritten(registry, content):
    registry.path.parent.mkdir()
    registry.path.write_text(content)
    with pytest.raises(RegistryError, match=r"sources\.json is damaged .* delete it"):
        registry.specs()
    with pytest.raises(RegistryError, match="damaged"):
        registry.add(SourceSpec("a", "digits"))
    assert registry.path.read_text() == content


def test_a_registry_that_cannot_be_kept_is_an_error_with_its_path(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RegistryError, match=r"file/sources\.json cannot be locked"):
        SourceRegistry(tmp_path / "file" / "sources.json").add(SourceSpec("a", "digits"))
    with pytest.raises(RegistryError, match="cannot be read"):
        SourceRegistry(tmp_path).specs()


def test_nothing_but_the_registry_and_its_lock_is_left_behind(registry):
    registry.add(SourceSpec("a", "digits"))
    assert {path.name for path in registry.path.parent.iterdir()} <= {"sources.json", "sources.json.lock"}


def test_writers_in_threads_and_processes_lose_nothing(registry):
    program = (
        "import sys; from pathlib import Path; from aura.corpus.registry import SourceRegistry; "
        "from aura.corpus.sources import SourceSpec\n"
        "for n in range(10): SourceRegistry(Path(sys.argv[1])).add(SourceSpec(f'process-{n}', 'digits'))"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(registry.path)]) as process:
        with ThreadPoolExecutor(4) as threads:
            specs = [SourceSpec(f"thread-{n}", "digits") for n in range(20)]
            list(threads.map(lambda spec: SourceRegistry(registry.path).add(spec), specs))
        assert process.wait(60) == 0
    expected = {f"thread-{n}" for n in range(20)} | {f"process-{n}" for n in range(10)}
    assert expected == set(names(registry)) - {"digits", "python-docs"}
