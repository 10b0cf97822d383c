"""Real text by domains for a small language model: what is installed on this machine, or the files of a directory.

Belongs here: which files make up a domain, what is left out, the split into training and held-out text. Does not:
tokens (`aura.experts.language.tokens`).
"""

from __future__ import annotations

import importlib.util
import os
import re
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from aura.corpus.rows import content_id
from aura.experts.dataset import held_out_mask

INSTALLED = "installed"
"""Name of the text that is on any machine with this environment."""

DOMAIN_BYTES = 4_000_000
HELD_OUT_SHARE = 0.05
DOCUMENT_BYTES = 128 * 1024
"""A larger file is left out: a few of them would be a whole domain."""
MIN_DOCUMENTS = 2
_LEAST_SHARE = 0.1
_PERL = ("/usr/share/perl", "/usr/share/perl5", "/usr/lib/x86_64-linux-gnu/perl", "/usr/lib/aarch64-linux-gnu/perl")
_PASSED_OVER = frozenset({"test", "tests", "idle_test", "site-packages", "__pycache__", "lib2to3"})
_SPACE = re.compile(r"\s+")


class TextError(ValueError):
    """There is no text to learn from; the message says what was looked for, and where."""


@dataclass(frozen=True)
class Document:
    """One file.

    Attributes:
        domain: Name of its domain.
        digest: blake2b-128 hex of its text, white space apart; decides the order of the files and the split.
        text: Its text.
    """

    domain: str
    digest: str
    text: str = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes of the text in UTF-8."""
        return len(self.text.encode())


@dataclass(frozen=True)
class SplitText:
    """Text by domains with a held-out part that shares no document with the training part.

    Attributes:
        source: "installed" or the directory.
        training: Documents to learn from, by domain, in order of their digest.
        held_out: Documents to be judged by, likewise.
        left_out: Domains that are not there, and why.
    """

    source: str
    training: Mapping[str, tuple[Document, ...]]
    held_out: Mapping[str, tuple[Document, ...]]
    left_out: Mapping[str, str]

    @property
    def domains(self) -> tuple[str, ...]:
        """The names of the domains, sorted."""
        return tuple(self.training)

    @property
    def digest(self) -> str:
        """blake2b-128 hex of the domains, their documents and their sides."""
        lines = [
            f"{side} {document.domain} {document.digest} {content_id(document.text.encode())}"
            for side, documents in (("training", self.training), ("held out", self.held_out))
            for document in _all(documents)
        ]
        return content_id("\n".join(lines).encode())


def read_text(
    source: str = INSTALLED, *, domain_bytes: int = DOMAIN_BYTES, held_out_share: float = HELD_OUT_SHARE
) -> SplitText:
    """Read text by domains and split it.

    A document belongs to the first domain that has it: one that differs from an earlier one in white space alone is
    left out, so that nothing held out was learned. Of a domain, documents are taken in order of their digest as
    long as they fit into `domain_bytes`; the same files give the same split whatever their names and places.

    Args:
        source: "installed": the standard library of Python, the C++ headers of torch, the documentation of the
            installed packages, the modules of Perl. Else a directory whose sub-directories are the domains; one
            without sub-directories is one domain.
        domain_bytes: Bytes of each domain; balanced, because no domain gets more.
        held_out_share: Share of the documents held out, by their digest; of each domain at least one.

    Raises:
        TextError: The directory is not there, or no domain has enough text.
        ValueError: A number is out of its range.
    """
    if domain_bytes < 1 or not 0 < held_out_share < 1:
        raise ValueError(f"{domain_bytes} bytes and a held-out share of {held_out_share} make no split of a text")
    files = installed_files() if source == INSTALLED else directory_files(Path(source))
    least = _LEAST_SHARE * min(domain_bytes, DOMAIN_BYTES)
    seen: set[str] = set()
    training: dict[str, tuple[Document, ...]] = {}
    held_out: dict[str, tuple[Document, ...]] = {}
    left_out: dict[str, str] = {}
    for domain in sorted(files):
        taken = _taken(_candidates(files[domain], seen), domain_bytes)
        size = sum(each.size for each in taken)
        if len(taken) < MIN_DOCUMENTS or (source == INSTALLED and size < least):
            left_out[domain] = f"{len(taken)} documents with {size} bytes are too little"
            continue
        documents = [Document(domain, each.digest, _text(each.path)) for each in taken]
        mask = held_out_mask([each.digest for each in taken], np.zeros(len(taken), np.int64), held_out_share)
        training[domain] = tuple(d for d, out in zip(documents, mask, strict=True) if not out)
        held_out[domain] = tuple(d for d, out in zip(documents, mask, strict=True) if out)
    if not training:
        raise TextError(
            f"no text in {source!r}: {left_out or 'no files'}; give a directory whose sub-directories hold at least "
            f"{MIN_DOCUMENTS} different UTF-8 texts each"
        )
    return SplitText(source, training, held_out, left_out)


def installed_files() -> dict[str, list[Path]]:
    """The files of the installed domains; a domain of which nothing is installed has none."""
    library = Path(sysconfig.get_path("stdlib"))
    packages = sorted({Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")})
    torch = importlib.util.find_spec("torch")
    headers = [Path(root) / "include" for root in (torch.submodule_search_locations if torch else None) or ()]
    return {
        "cpp": _below(headers, {".h", ".hpp", ".cuh"}),
        "documentation": [
            *_below(packages, {".md", ".rst"}),
            *(path for root in packages for path in sorted(root.glob("*.dist-info/METADATA"))),
        ],
        "perl": _below(map(Path, _PERL), {".pm", ".pl", ".pod"}),
        "python": _below([library], {".py"}),
    }


def directory_files(root: Path) -> dict[str, list[Path]]:
    """The files below each sub-directory of a directory; the directory's own where it has no sub-directories.

    Raises:
        TextError: There is no such directory.
    """
    if not root.is_dir():
        raise TextError(f"{root} is not a directory; give one with text files, or {INSTALLED!r}")
    domains = [each for each in sorted(root.iterdir()) if each.is_dir() and not each.name.startswith(".")]
    return {each.name: _below([each], None) for each in domains or [root.resolve()]}


def _below(roots: Iterable[Path], suffixes: set[str] | None) -> list[Path]:
    """Regular files below these directories, sorted; links and directories of tests are passed over."""
    found: list[Path] = []
    for root in roots:
        below: list[Path] = []
        for directory, directories, names in os.walk(root):
            directories[:] = [name for name in directories if name not in _PASSED_OVER]
            below += [Path(directory, name) for name in names if suffixes is None or Path(name).suffix in suffixes]
        found += [path for path in sorted(below) if not path.is_symlink() and path.is_file()]
    return found


@dataclass(frozen=True)
class _Candidate:
    """A file that may become a document; its text is read again then, so that not all are held at once."""

    path: Path
    digest: str
    size: int


def _candidates(files: Iterable[Path], seen: set[str]) -> Iterator[_Candidate]:
    """The files that are UTF-8 text, of some length, and not `seen`; adds their digests to `seen`."""
    for path in files:
        if not 0 < path.stat().st_size <= DOCUMENT_BYTES:
            continue
        try:
            text = _text(path)
        except UnicodeDecodeError:
            continue
        digest = content_id(_SPACE.sub(" ", text).strip().encode())
        if digest in seen or not text.strip() or "\0" in text:
            continue
        seen.add(digest)
        yield _Candidate(path, digest, len(text.encode()))


def _text(path: Path) -> str:
    return path.read_bytes().decode().replace("\r\n", "\n")


def _taken(candidates: Iterable[_Candidate], size: int) -> list[_Candidate]:
    """The candidates in order of their digest, but for those that would exceed the size."""
    taken: list[_Candidate] = []
    for candidate in sorted(candidates, key=lambda candidate: candidate.digest):
        if candidate.size <= size:
            size -= candidate.size
            taken.append(candidate)
    return taken


def _all(documents: Mapping[str, tuple[Document, ...]]) -> Iterator[Document]:
    return (document for each in documents.values() for document in each)
