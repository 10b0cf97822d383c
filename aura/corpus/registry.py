"""Which sources there are: a JSON file of descriptions that several processes may change.

Belongs here: persistence, locking, the built-in sources. Does not: opening a source (`aura.corpus.sources`).
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from filelock import FileLock, Timeout

from aura.corpus.errors import RegistryError, SourceExistsError, SourceSpecError, UnknownSourceError
from aura.corpus.sources import Kind, SourceSpec

BUILT_IN = (SourceSpec("digits", "digits"), SourceSpec("python-docs", "python-docs"))
_LOCK_SECONDS = 10.0


@dataclass(frozen=True)
class _State:
    """What the file holds: the sources that were added, and the built-in ones that were removed."""

    added: dict[str, SourceSpec]
    removed: frozenset[str]

    def specs(self) -> dict[str, SourceSpec]:
        built_in = {spec.name: spec for spec in BUILT_IN if spec.name not in self.removed}
        return dict(sorted((built_in | self.added).items()))


@dataclass(frozen=True)
class PartitionChanges:
    """What has to happen so that the partitions are the registered sources; both sorted."""

    added: tuple[str, ...]
    removed: tuple[str, ...]


def built_in(name: str) -> SourceSpec:
    """The built-in source of this name, to be added again after it was removed.

    Raises:
        UnknownSourceError: There is none.
    """
    return _known({spec.name: spec for spec in BUILT_IN}, name)


def partition_changes(*, registered: Iterable[str], present: Iterable[str]) -> PartitionChanges:
    """Compare the registered sources with the partitions that are there."""
    wanted, there = set(registered), set(present)
    return PartitionChanges(added=tuple(sorted(wanted - there)), removed=tuple(sorted(there - wanted)))


@dataclass(frozen=True)
class SourceRegistry:
    """The sources in the JSON file at `path`; without a file, the built-in ones.

    Readers never wait: the file is replaced as a whole. Writers take turns by a lock file beside it.
    """

    path: Path

    def specs(self) -> tuple[SourceSpec, ...]:
        """All sources, sorted by name."""
        return tuple(self._load().specs().values())

    def get(self, name: str) -> SourceSpec:
        """The source called `name`.

        Raises:
            UnknownSourceError: there is none.
        """
        return _known(self._load().specs(), name)

    def add(self, spec: SourceSpec) -> SourceSpec:
        """Register a source, with the absolute path of its root, and return it as it is kept.

        Adding the same source again changes nothing.

        Raises:
            SourceExistsError: another source has this name.
            RegistryError: the file cannot be read or written.
        """
        kept = spec if spec.path is None else replace(spec, path=spec.path.expanduser().absolute())
        with self._locked():
            state = self._load()
            present = state.specs().get(kept.name)
            if present is None:
                self._save(replace(state, added=state.added | {kept.name: kept}))
            elif present != kept:
                raise SourceExistsError(
                    f"there is a source {kept.name!r} already: {present}; remove it first, or choose another name"
                )
        return kept

    def remove(self, name: str) -> None:
        """Forget a source, a built-in one too; `add` brings it back.

        Raises:
            UnknownSourceError: there is none of this name.
            RegistryError: the file cannot be read or written.
        """
        with self._locked():
            state = self._load()
            _known(state.specs(), name)
            added = {other: spec for other, spec in state.added.items() if other != name}
            built_in = {spec.name for spec in BUILT_IN}
            self._save(_State(added, state.removed | ({name} & built_in)))

    def _load(self) -> _State:
        try:
            content = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return _State({}, frozenset())
        except (OSError, UnicodeDecodeError) as error:
            raise RegistryError(f"the source registry {self.path} cannot be read: {error}") from error
        try:
            document = json.loads(content)
            specs = [_spec(entry) for entry in document["sources"]]
            return _State({spec.name: spec for spec in specs}, frozenset(map(str, document["removed"])))
        except (ValueError, KeyError, TypeError, SourceSpecError) as error:
            raise RegistryError(
                f"the source registry {self.path} is damaged ({type(error).__name__}: {error}); correct it, or "
                f"delete it to start again with the built-in sources"
            ) from error

    def _save(self, state: _State) -> None:
        document = {
            "sources": [_entry(spec) for _, spec in sorted(state.added.items())],
            "removed": sorted(state.removed),
        }
        try:
            _replace(self.path, json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        except OSError as error:
            raise RegistryError(f"the source registry {self.path} cannot be written: {error}") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = FileLock(f"{self.path}.lock")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=_LOCK_SECONDS)
        except Timeout as error:
            raise RegistryError(
                f"the source registry {self.path} is locked by another process for more than {_LOCK_SECONDS:.0f} s; "
                f"end that process and try again"
            ) from error
        except OSError as error:
            raise RegistryError(f"the source registry {self.path} cannot be locked: {error}") from error
        try:
            yield
        finally:
            lock.release()


def _known(specs: dict[str, SourceSpec], name: str) -> SourceSpec:
    if name not in specs:
        raise UnknownSourceError(f"there is no source {name!r}, only {', '.join(specs) or 'none at all'}; add it first")
    return specs[name]


def _entry(spec: SourceSpec) -> dict[str, str | int | None]:
    path = None if spec.path is None else str(spec.path)
    return {"name": spec.name, "kind": spec.kind, "path": path, "max_items": spec.max_items}


def _spec(entry: dict[str, object]) -> SourceSpec:
    path, max_items = entry["path"], entry["max_items"]
    if not (path is None or isinstance(path, str)) or not (max_items is None or isinstance(max_items, int)):
        raise SourceSpecError(f"source {entry['name']!r} has path {path!r} and max_items {max_items!r}")
    return SourceSpec(str(entry["name"]), cast("Kind", entry["kind"]), None if path is None else Path(path), max_items)


def _replace(path: Path, content: str) -> None:
    """Write a file so that a reader sees the old content or the new, also after a power cut."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
