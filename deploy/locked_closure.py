"""Print the part of requirements.lock that some packages need, hashes and all, for an image without the tools.

The lock notes beside each package who wants it; that is followed from the packages named on the command line, or from
the dependencies of the project and its extras (not its development tools) if none is named.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

PROJECT = "aura (pyproject.toml)"
_HEAD = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(\[[^\]]*\])?==")


def blocks(lock: str) -> dict[str, str]:
    """The text of each package in the lock, by its name; a package with two versions has both."""
    found: dict[str, str] = {}
    name = ""
    for line in lock.splitlines(keepends=True):
        head = _HEAD.match(line)
        if head is not None:
            name = head["name"]
        if name:
            found[name] = found.get(name, "") + line
    return found


def wanted_by(block: str) -> set[str]:
    """The packages that a block says it is there for."""
    comments = (line.strip().lstrip("#").strip() for line in block.splitlines() if line.strip().startswith("#"))
    return {comment.removeprefix("via").strip() for comment in comments} - {""}


def closure(lock: str, roots: list[str]) -> str:
    """The part of a lock file that the roots need.

    Raises:
        KeyError: A root is not in the lock.
    """
    text = blocks(lock)
    parents = {name: wanted_by(block) for name, block in text.items()}
    kept = {*roots} if roots else {name for name, wanted in parents.items() if PROJECT in wanted}
    missing = kept - text.keys()
    if missing:
        raise KeyError(f"not in the lock: {', '.join(sorted(missing))}")
    while True:
        more = {name for name, wanted in parents.items() if name not in kept and wanted & kept}
        if not more:
            return "".join(text[name] for name in text if name in kept)
        kept |= more


if __name__ == "__main__":
    sys.stdout.write(closure(Path(sys.argv[1]).read_text(encoding="utf-8"), sys.argv[2:]))
