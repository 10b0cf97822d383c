"""A small file system of a test's own, for what happens when it is full.

It is a tmpfs in a mount namespace, which ends with the process: nothing is left to unmount, whatever the test does.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile

import pytest

MOUNT = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@"'


@functools.cache
def unshare() -> tuple[str, ...]:
    """The command that gives a process mounts of its own, as root or through a user namespace; else a skip."""
    said = ""
    for flags in ("-m", "-Urm"):
        command = ("unshare", flags, "sh", "-c", MOUNT, "sh")
        with tempfile.TemporaryDirectory() as place:
            tried = subprocess.run([*command, "1m", place, "true"], capture_output=True, text=True, check=False)
        if tried.returncode == 0:
            return command
        said += tried.stderr.strip() + "; "
    if os.environ.get("CI"):
        pytest.fail(f"cannot mount a small file system: {said}")
    pytest.skip(f"cannot mount a small file system: {said}")


def run_on_small_disk(place, code: str, *arguments: object, megabytes: int = 96) -> str:
    """Run Python code whose first argument is the mounted `place`; what it printed. It has to end well."""
    program = [sys.executable, "-c", code, place, *arguments]
    done = subprocess.run(
        [*unshare(), f"{megabytes}m", *map(str, (place, *program))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
