"""A directory tree as a flat list of files, and the only doors through which its files are read.

Belongs here: walking, uris of files, the refusal of every path that leaves the root, bounded reads. Does not: what a
file holds.

A file's uri is its path relative to the root with `/` between the parts. The characters `%` and `#`, control characters
and bytes that are not UTF-8 are percent-encoded (RFC 3986), so that a uri is always valid text and `file#row` unique.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

from aura.corpus.errors import CorpusRootError, PathOutsideCorpusError
from aura.corpus.rows import SetAsideError, oversized

_ENCODED = re.compile("[%#\x00-\x1f\x7f\udc80-\udcff]")


@dataclass(frozen=True)
class Found:
    """One thing met in the tree: a file to read, or (`reason` set) something refused.

    `path` has no symbolic link in it; `size` is in bytes, None where it could not be learned.
    """

    uri: str
    path: Path
    size: int | None = None
    reason: str | None = None


def list_tree(root: Path) -> list[Found]:
    """Everything under `root` but hidden files and directories, sorted by uri.

    Links to files inside the root are followed. Links to directories are not, since their files are listed where they
    are, so that no loop is possible.

    Raises:
        CorpusRootError: the root is not a readable directory.
    """
    resolved = resolved_root(root)
    found: list[Found] = []
    pending = [resolved]
    while pending:
        directory = pending.pop()
        try:
            with os.scandir(directory) as listing:
                entries = [entry for entry in listing if not entry.name.startswith(".")]
        except OSError as error:
            if directory == resolved:
                raise CorpusRootError(f"the corpus root {root} cannot be read: {error.strerror}") from error
            found.append(Found(_uri(resolved, directory) + "/", directory, reason=unreadable(error)))
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                pending.append(Path(entry.path))
            else:
                found.append(_found(resolved, Path(entry.path)))
    return sorted(found, key=lambda one: one.uri)


def resolved_root(root: Path) -> Path:
    """The root without symbolic links.

    Raises:
        CorpusRootError: it does not exist or is not a directory.
    """
    if not root.is_dir():
        state = "is not a directory" if root.exists() else "does not exist"
        raise CorpusRootError(f"the corpus root {root} {state}; register the source again with an existing directory")
    return Path(os.path.realpath(root))


def path_inside(root: Path, uri: str) -> Path:
    """The file behind `uri`, with every symbolic link resolved; it need not exist.

    Raises:
        PathOutsideCorpusError: the path, or a link in it, leads out of the root.
    """
    relative = unquote_to_bytes(uri.encode("utf-8", "surrogateescape"))
    if b"\0" in relative:
        raise PathOutsideCorpusError(f"{uri!r} is no path: it holds a NUL byte")
    resolved = resolved_root(root)
    path = Path(os.path.realpath(resolved / os.fsdecode(relative)))
    if not path.is_relative_to(resolved):
        raise PathOutsideCorpusError(f"{uri!r} leads to {path}, outside the corpus root {resolved}")
    return path


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """The content of a regular file of at most `max_bytes` bytes, never through a link and never blocking.

    Raises:
        SetAsideError: the file is unreadable, not a regular file, or oversized.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise SetAsideError("not a regular file")
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise SetAsideError(unreadable(error)) from error
    if len(content) > max_bytes:
        raise SetAsideError(oversized(max(status.st_size, len(content)), max_bytes))
    return content


def unreadable(error: OSError) -> str:
    """The reason for a file or directory that the system refuses to open."""
    return f"unreadable: {(error.strerror or str(error)).lower()}"


def encoded(path: str) -> str:
    """A relative path with `/` between the parts as the uri of the file."""
    return _ENCODED.sub(lambda match: quote_from_bytes(os.fsencode(match[0]), safe=""), path)


def _uri(root: Path, path: Path) -> str:
    return encoded(path.relative_to(root).as_posix())


def _found(root: Path, path: Path) -> Found:
    uri = _uri(root, path)
    if path.is_symlink():
        return _followed(root, path, uri)
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        return Found(uri, path, reason="not a regular file")
    return Found(uri, path, status.st_size)


def _followed(root: Path, path: Path, uri: str) -> Found:
    try:
        target = Path(os.path.realpath(path, strict=True))
        status = target.stat()
    except OSError as error:
        return Found(uri, path, reason=f"broken symbolic link: {(error.strerror or str(error)).lower()}")
    if not target.is_relative_to(root):
        return Found(uri, path, reason=f"symbolic link leaves the corpus root: it points to {target}")
    if stat.S_ISDIR(status.st_mode):
        return Found(uri, path, reason="symbolic link to a directory: its files are listed where they are")
    if not stat.S_ISREG(status.st_mode):
        return Found(uri, path, reason="not a regular file")
    return Found(uri, target, status.st_size)
