"""Java servers from Maven artifacts: the runtime, and the class path of a checked-in pom.

Belongs here: finding Java, resolving and keeping class paths. Does not: the options of a server.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

from filelock import FileLock

from aura.services.recipe import INSTALL, MissingSoftwareError, ServerError

MINIMUM_JAVA = 17
_RESOLVE_SECONDS = 600
_POMS = Path(__file__).parents[2] / "deploy" / "services"


def java(title: str) -> str:
    """Path of a Java runtime that is new enough: that of JAVA_HOME, else the one on PATH.

    Args:
        title: The server that needs it, for the error.

    Raises:
        MissingSoftwareError: There is none, or it is too old.
    """
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home) / "bin") if home else None)
    remedy = f"Install Java {MINIMUM_JAVA} or newer ({INSTALL} does on Debian and Ubuntu) or set JAVA_HOME."
    if found is None:
        raise MissingSoftwareError(
            f"{title} needs Java, and there is none {f'in JAVA_HOME={home}' if home else 'on PATH'}. {remedy}"
        )
    told = subprocess.run([found, "-version"], capture_output=True, text=True, timeout=60, check=False).stderr  # noqa: S603
    version = re.search(r'version "(?:1\.)?(\d+)', told)
    if version is None or int(version[1]) < MINIMUM_JAVA:
        raise MissingSoftwareError(f"{title} needs Java {MINIMUM_JAVA}, and {found} says {told.strip()!r}. {remedy}")
    return found


def java_servers() -> list[str]:
    """Names of the servers that are resolved from a pom; none outside a checkout of the project."""
    return sorted(pom.parent.name for pom in _POMS.glob("*/pom.xml"))


def class_path(name: str) -> str:
    """The jars of `deploy/services/<name>/pom.xml`, joined for `java -cp`.

    Maven resolves a pom once; the answer is kept in the user's cache under the pom's digest, and nothing is asked of
    the network again while the jars are there.

    Raises:
        MissingSoftwareError: The pom or Maven is missing.
        ServerError: Maven cannot resolve the pom.
    """
    pom = _POMS / name / "pom.xml"
    if not pom.is_file():
        raise MissingSoftwareError(f"{pom} is missing: the Java servers run from a checkout of the project.")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aura" / "classpath"
    cache.mkdir(parents=True, exist_ok=True)
    kept = cache / f"{name}-{hashlib.sha256(pom.read_bytes()).hexdigest()[:16]}.txt"
    with FileLock(kept.with_suffix(".lock"), timeout=_RESOLVE_SECONDS):
        if not _complete(kept):
            _resolve(pom, kept)
        return kept.read_text(encoding="utf-8").strip()


def _complete(kept: Path) -> bool:
    return kept.is_file() and all(
        Path(jar).is_file() for jar in kept.read_text(encoding="utf-8").strip().split(os.pathsep)
    )


def _resolve(pom: Path, kept: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise MissingSoftwareError(
            f"The jars of {pom} have not been fetched yet, and there is no `mvn` to fetch them: install Maven "
            f"({INSTALL} does on Debian and Ubuntu)."
        )
    draft = kept.with_suffix(".draft")
    goal = ("dependency:build-classpath", f"-Dmdep.outputFile={draft}", "-DincludeScope=runtime")
    try:
        done = subprocess.run(  # noqa: S603
            [maven, "-q", "-B", "-f", str(pom), *goal],
            capture_output=True,
            text=True,
            timeout=_RESOLVE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ServerError(f"Maven has been fetching the jars of {pom} for {_RESOLVE_SECONDS} s: try again.") from error
    if done.returncode != 0:
        raise ServerError(
            f"Maven cannot resolve {pom}: {(done.stdout + done.stderr).strip()[-800:]}\n"
            "It needs Maven Central (or the mirror in Maven's settings.xml) once."
        )
    draft.replace(kept)
