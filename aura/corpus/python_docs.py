"""The docstrings of the standard library and of the installed packages as a source of texts.

Belongs here: finding modules, taking docstrings out of their syntax trees, the fair choice among packages. Nothing is
imported or run. Does not: documentation outside docstrings.
"""

from __future__ import annotations

import ast
import gc
import importlib.metadata
import os
import sysconfig
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path

from aura.corpus.errors import TextItemError
from aura.corpus.manifest import CorpusManifest
from aura.corpus.rows import MAX_TEXT_BYTES, ManifestRow, SetAsideError, set_aside_row, text_row, until_usable
from aura.corpus.tree import read_bounded

MAX_ITEMS = 6_000
"""Default number of documents: with 460 packages installed about 27 of each of the 200 packages that have as many."""
MAX_PER_PACKAGE = 100
"""No package gives more documents, so that one large package does not drown a small environment."""
MIN_CHARACTERS = 80
"""A shorter docstring says little more than the name does."""

_PASSED_OVER = frozenset({"tests", "test", "idle_test", "_vendor", "_vendored", "vendor", "vendored", "site-packages"})
_Documented = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_BLOCKS = (ast.If, ast.Try, ast.TryStar, ast.ExceptHandler, ast.With, ast.For, ast.While)


@dataclass(frozen=True, order=True)
class Module:
    """One source file and the dotted name under which it would be imported."""

    name: str
    path: Path

    @property
    def package(self) -> str:
        """The top-level package."""
        return self.name.partition(".")[0]


@dataclass(frozen=True)
class PythonDocsSource:
    """The docstrings of this Python as a source; label = top-level package, sublabel = module.

    Packages take turns, one document each, until there are `max_items` or every package is at its end or at
    `max_per_package`; a file is parsed only when its package's turn needs it. Within a package public modules come
    before private ones and outer before inner. A docstring that another object has already given is passed over; where
    a module and an object share a dotted name, the first one met keeps it. `modules` defaults to the installed ones.
    """

    name: str = "python-docs"
    max_items: int | None = None
    max_per_package: int = MAX_PER_PACKAGE
    modules: tuple[Module, ...] | None = field(default=None, repr=False)

    def scan(self, progress: Callable[[int, int], None] | None = None) -> CorpusManifest:
        """List the documents sorted by uri; files that do not parse are set aside.

        Args:
            progress: called with the number of documents found and the number wanted.
        """
        modules = installed_modules() if self.modules is None else self.modules
        total = self.max_items or MAX_ITEMS
        with _without_cyclic_collection():
            rows = list(self._draw(modules, total, progress))
        return CorpusManifest.from_rows(self.name, sorted(rows, key=lambda row: row.uri))

    def read(self, uri: str, item_id: str) -> bytes:
        """Docstrings are text and travel in the manifest.

        Raises:
            TextItemError: always.
        """
        raise TextItemError(
            f"{uri!r} ({item_id}) of source {self.name!r} is text: take it from the manifest's column 'text'"
        )

    def _draw(
        self, modules: Iterable[Module], wanted: int, progress: Callable[[int, int], None] | None
    ) -> Iterator[ManifestRow]:
        seen: set[str] = set()
        turns = [_fresh(files, seen) for files in _packages(modules)]
        drawn = 0
        for turn in chain.from_iterable(repeat(turns, self.max_per_package)):
            for row in until_usable(turn, 1):
                yield row
                drawn += row.reason is None
            if progress is not None:
                progress(drawn, wanted)
            if drawn == wanted:
                return


@contextmanager
def _without_cyclic_collection() -> Iterator[None]:
    """Syntax trees are many young objects without cycles; looking for cycles took a third of a scan's CPU time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def installed_modules() -> tuple[Module, ...]:
    """The modules of the standard library and of the installed distributions, sorted by name; none is imported."""
    paths = sysconfig.get_paths()
    found = chain(
        _standard_library(Path(paths["stdlib"])), _distributions(sorted({paths["purelib"], paths["platlib"]}))
    )
    by_name: dict[str, Module] = {}
    for module in sorted(found, key=lambda module: (module.name, str(module.path))):
        by_name.setdefault(module.name, module)
    return tuple(by_name.values())


def documents(module: Module) -> list[ManifestRow]:
    """The docstrings of one file: of the module, its classes, its functions and its methods, in their order.

    Docstrings shorter than `MIN_CHARACTERS` after `inspect.cleandoc` (PEP 257) are passed over. A file that cannot be
    read or parsed gives one row that says why.
    """
    try:
        tree = _parsed(read_bounded(module.path, MAX_TEXT_BYTES))
    except SetAsideError as error:
        return [set_aside_row(f"python:{module.name}", str(error), modality="text")]
    if tree is None:
        return []
    texts = ((name, ast.get_docstring(node)) for name, node in _documented(tree, module.name))
    return [
        text_row(f"python:{name}", text, label=module.package, sublabel=module.name)
        for name, text in texts
        if text is not None and len(text) >= MIN_CHARACTERS
    ]


def _parsed(content: bytes) -> ast.Module | None:
    """The syntax tree of a source file, None if it has no triple quotes and so no docstring as PEP 257 wants it."""
    if not any(quote in content for quote in (b'"""', b"'''")):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about invalid escapes and the like in code that is not ours
        try:
            return ast.parse(content)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            # RecursionError and MemoryError are how the parser says "nested too deeply".
            raise SetAsideError(f"undecodable: does not parse ({type(error).__name__}: {error})") from error


def _documented(tree: ast.Module, module: str) -> Iterator[tuple[str, ast.Module | _Documented]]:
    """The nodes that may have a docstring, with their dotted names; bodies of functions are not entered."""
    yield module, tree
    pending: list[tuple[str, ast.AST]] = [(module, tree)]
    while pending:
        name, node = pending.pop(0)
        for child in ast.iter_child_nodes(node):
            if isinstance(child, _Documented):
                yield f"{name}.{child.name}", child
            if isinstance(child, ast.ClassDef):
                pending.append((f"{name}.{child.name}", child))
            elif isinstance(child, _BLOCKS):
                pending.append((name, child))


def _packages(modules: Iterable[Module]) -> list[list[Module]]:
    """The modules per top-level package, packages sorted, public before private and outer before inner modules."""
    packages: dict[str, list[Module]] = {}
    for module in sorted(
        modules, key=lambda module: (module.package, _is_private(module), module.name.count("."), module)
    ):
        packages.setdefault(module.package, []).append(module)
    return list(packages.values())


def _is_private(module: Module) -> bool:
    return any(part.startswith("_") for part in module.name.split("."))


def _fresh(modules: Iterable[Module], seen: set[str]) -> Iterator[ManifestRow]:
    """The rows of one package, file by file, whose uri and content were not `seen`; adds them to `seen`."""
    for row in chain.from_iterable(map(documents, modules)):
        keys = {row.uri} if row.item_id is None else {row.uri, row.item_id}
        if seen.isdisjoint(keys):
            seen |= keys
            yield row


def _standard_library(root: Path) -> Iterator[Module]:
    for directory, below, files in os.walk(root):
        below[:] = [name for name in below if name not in _PASSED_OVER]
        parts = Path(directory).relative_to(root).parts
        yield from _modules((Path(directory, name), (*parts, name)) for name in files)


def _distributions(paths: list[str]) -> Iterator[Module]:
    for distribution in importlib.metadata.distributions(path=paths):
        files = distribution.files or ()
        yield from _modules((Path(str(file.locate())), file.parts) for file in files if file.suffix == ".py")


def _modules(files: Iterable[tuple[Path, tuple[str, ...]]]) -> Iterator[Module]:
    """The files that can be imported as modules, given with the parts of their relative path."""
    for path, (*parents, file) in files:
        stem, dot, suffix = file.rpartition(".")
        parts = parents if stem == "__init__" and parents else [*parents, stem]
        importable = dot and suffix == "py" and all(part.isidentifier() for part in parts)
        if importable and _PASSED_OVER.isdisjoint(parents):
            yield Module(".".join(parts), path)
