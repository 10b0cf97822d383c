"""The recipe of PostgreSQL, from the distribution's binaries.

PostgreSQL refuses to run as root: a root caller (a container, a CI machine) starts it under the account `postgres`,
else `nobody`, which then owns the data. Where that account cannot reach the home (`/root`, say) the data is kept under
`/var/lib/aura`, and the home has a link to it.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from aura.services.recipe import (
    INSTALL,
    Account,
    Launch,
    MissingSoftwareError,
    Place,
    Recipe,
    ServerError,
    missing_extra,
)
from aura.settings import LOOPBACK

_TITLE = "PostgreSQL"
USER = DATABASE = "aura"
_DISTRIBUTION = Path("/usr/lib/postgresql")
_ELSEWHERE = Path("/var/lib/aura")
_SETUP_SECONDS = 120
_CONNECT_SECONDS = 5


def _binaries() -> Path:
    """Directory with `initdb` and `postgres`; the newest of the distribution's, else what is on PATH.

    Raises:
        MissingSoftwareError: There is none.
    """
    versions = [
        path for path in _DISTRIBUTION.glob("*/bin") if path.parent.name.isdigit() and (path / "initdb").exists()
    ]
    if versions:
        return max(versions, key=lambda path: int(path.parent.name))
    found = shutil.which("initdb")
    if found is None:
        raise MissingSoftwareError(f"There is no PostgreSQL: install it ({INSTALL} does on Debian and Ubuntu).")
    return Path(found).resolve().parent


def _account() -> Account:
    if os.geteuid() != 0:
        return Account()
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise MissingSoftwareError(
        f"{_TITLE} refuses to run as root, and there is no account `postgres` or `nobody`: run as another user."
    )


def _run(command: tuple[str, ...], account: Account, *, given: str = "") -> None:
    done = subprocess.run(  # noqa: S603
        command,
        input=given,
        capture_output=True,
        text=True,
        timeout=_SETUP_SECONDS,
        check=False,
        cwd="/",
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        user=account.user,
        group=account.group,
        extra_groups=account.extra_groups,
    )
    if done.returncode != 0:
        raise ServerError(f"{_TITLE}: {command[0]} failed: {(done.stdout + done.stderr).strip()[-800:]}")


def password_file(directory: Path) -> Path:
    """Where the password is kept, readable by its owner only."""
    return directory / "password"


def _password(place: Place) -> str:
    return password_file(place.directory).read_text(encoding="utf-8").strip()


def _prepare(place: Place) -> Launch:
    binaries, account = _binaries(), _account()
    if not place.data.exists():
        _initialize(place, binaries, account)
    return Launch(
        (
            *(str(binaries / "postgres"), "-D", str(place.data.resolve())),
            *("-c", f"listen_addresses={LOOPBACK}", "-c", f"port={place.port}", "-c", "unix_socket_directories="),
            *("-c", "max_connections=50", "-c", "shared_buffers=32MB", "-c", "dynamic_shared_memory_type=mmap"),
        ),
        account=account,
    )


def _initialize(place: Place, binaries: Path, account: Account) -> None:
    """Create the data under another name, so that a set-up that is cut short leaves nothing that looks finished."""
    kept = password_file(place.directory)
    kept.touch(mode=0o600)
    kept.write_text(secrets.token_urlsafe(24), encoding="utf-8")
    home = _reachable(place, account)
    draft = home / "draft"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    # initdb takes the password from a file that its account can read.
    handed_over = home / "draft.password"
    handed_over.touch(mode=0o600)
    handed_over.write_text(_password(place), encoding="utf-8")
    if account.user is not None and account.group is not None:
        for path in (draft, handed_over):
            os.chown(path, account.user, account.group)
    initdb = (str(binaries / "initdb"), "-D", str(draft), "-U", USER, f"--pwfile={handed_over}", "--encoding=UTF8")
    try:
        _run((*initdb, "--auth=scram-sha-256", "--no-locale"), account)
    finally:
        handed_over.unlink()
    single = (str(binaries / "postgres"), "--single", "-D", str(draft), "postgres")
    _run(single, account, given=f"CREATE DATABASE {DATABASE}\n")
    draft.rename(home / "data")
    if home != place.directory:
        place.data.unlink(missing_ok=True)
        place.data.symlink_to(home / "data")


def _reachable(place: Place, account: Account) -> Path:
    if account.user is None:
        return place.directory
    test = subprocess.run(  # noqa: S603
        ["/usr/bin/test", "-x", str(place.directory)],
        timeout=_CONNECT_SECONDS,
        check=False,
        cwd="/",
        user=account.user,
        group=account.group,
        extra_groups=account.extra_groups,
    )
    if test.returncode == 0:
        return place.directory
    elsewhere = _ELSEWHERE / f"postgres-{hashlib.sha256(str(place.directory).encode()).hexdigest()[:12]}"
    elsewhere.mkdir(parents=True, exist_ok=True, mode=0o755)
    return elsewhere


def _answer(place: Place) -> str:
    try:
        import psycopg2
    except ImportError as error:
        raise missing_extra(_TITLE) from error
    connection = psycopg2.connect(
        host=LOOPBACK,
        port=place.port,
        dbname=DATABASE,
        user=USER,
        password=_password(place),
        connect_timeout=_CONNECT_SECONDS,
    )
    try:
        with connection.cursor() as cursor:
            cursor.execute("SHOW server_version")
            (version,) = cursor.fetchone()
    finally:
        connection.close()
    return str(version).split()[0]


def _address(place: Place) -> str:
    return f"postgresql://{place.host_and_port}/{DATABASE}"


def _variables(place: Place) -> Mapping[str, str]:
    return {
        "AURA_POSTGRES__ADDRESS": _address(place),
        "AURA_POSTGRES__USER": USER,
        "AURA_POSTGRES__PASSWORD": _password(place),
    }


POSTGRES = Recipe(
    name="postgres",
    title=_TITLE,
    port_setting="services.postgres_port",
    prepare=_prepare,
    answer=_answer,
    address=_address,
    variables=_variables,
    start_seconds=60.0,
    # SIGTERM would wait for the clients to leave.
    stop_signal=signal.SIGINT,
)
