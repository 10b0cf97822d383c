"""The supervisor of one server: start, readiness, stop, and the faults that a test wants of it.

Belongs here: the life of a process and its files. Does not: what the process is (`aura.services.recipe`).
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock

from aura.services.ports import listening, place_of, require_free
from aura.services.process import Identity, Tether, alive, identify, signal_all
from aura.services.recipe import Launch, MissingSoftwareError, Place, Recipe, ServerError
from aura.settings import variable_of

_PAUSE_SECONDS = 0.1
_LOG_LIMIT = 16 * 2**20
_KILL_SECONDS = 20.0


class Server:
    """A server of this machine with its directory.

    A server that was started by another process is adopted: it can be stopped, killed and paused from here as well.
    """

    def __init__(
        self,
        recipe: Recipe,
        directory: Path,
        *,
        port: int | None = None,
        tethered: bool,
        clock: Callable[[], float] = time.monotonic,
        chosen: random.Random | None = None,
    ) -> None:
        """Name a server; nothing is started or created.

        Args:
            recipe: What it is.
            directory: Where its configuration, data and log are.
            port: Port of the clients; None: the one of the last start, else a free one.
            tethered: True: the server dies with this process, even if that crashes. False: it stays.
            clock: Seconds, for the deadlines.
            chosen: Where free ports are looked for first.
        """
        self.recipe = recipe
        self.directory = directory
        self._port = port
        self._tethered = tethered
        self._clock = clock
        self._chosen = chosen or random.Random()  # noqa: S311
        self._child: subprocess.Popen[bytes] | None = None
        self._tether: Tether | None = None

    @property
    def place(self) -> Place:
        """Directory and ports, which are chosen at the first call and kept on disk; a running server keeps its own."""
        self.directory.mkdir(parents=True, exist_ok=True)
        port = None if self.running else self._port
        return place_of(self.recipe, self.directory, port=port, chosen=self._chosen)

    @property
    def address(self) -> str:
        """What the setting of AURA takes."""
        return self.recipe.address(self.place)

    @property
    def variables(self) -> Mapping[str, str]:
        """Environment variables that point AURA at this server."""
        return self.recipe.variables(self.place)

    @property
    def log(self) -> Path:
        """What the server prints; appended to at each start, the older half of it in `server.log.1`."""
        return self.directory / "server.log"

    @property
    def identity(self) -> Identity | None:
        """The running process; None if there is none."""
        try:
            identity = Identity(**json.loads(self._record.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        return identity if alive(identity) else None

    @property
    def running(self) -> bool:
        """Whether its process exists; a paused one does."""
        return self.identity is not None

    def answer(self) -> str:
        """Do the recipe's real operation once.

        Returns:
            The server's version, "" if it does not tell.

        Raises:
            Exception: Whatever its client raises while it does not answer.
        """
        return self.recipe.answer(self.place)

    def start(self) -> None:
        """Start the server unless it runs, and wait until it does its operation.

        Raises:
            MissingSoftwareError: Something is not installed.
            ServerError: A port is taken, the process ended, or it did not answer within the recipe's time.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        with self._lock():
            running = self.identity
            if running is not None:
                self._require_port()
                self._wait_until_ready(running)
                return
            identity = self._spawn()
            try:
                self._wait_until_ready(identity)
            except BaseException:
                self._kill(identity)
                raise

    def stop(self) -> None:
        """Ask for a clean stop, then kill what is left after the recipe's time. Nothing happens if it does not run."""
        if not self.directory.is_dir():
            return
        with self._lock():
            identity = self.identity
            if identity is not None:
                with suppress(ProcessLookupError):
                    os.kill(identity.pid, self.recipe.stop_signal)
                # A paused process takes the signal when it continues.
                signal_all(identity, signal.SIGCONT)
                if self._wait_until_gone(identity, self.recipe.stop_seconds):
                    self._forget()
                    return
                self._kill(identity)
            self._forget()

    def kill(self) -> None:
        """SIGKILL to the server and all its processes; returns when they are gone."""
        identity = self.identity
        if identity is not None:
            self._kill(identity)

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def last_lines(self, count: int) -> list[str]:
        """The end of the log; empty if there is none yet."""
        if not self.log.is_file():
            return []
        return self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:]

    @property
    def _record(self) -> Path:
        return self.directory / "process.json"

    def _lock(self) -> FileLock:
        return FileLock(self.directory / "lock", timeout=self.recipe.start_seconds + self.recipe.stop_seconds)

    def _signal(self, kind: signal.Signals) -> None:
        identity = self.identity
        if identity is None:
            raise ServerError(f"{self.recipe.title} in {self.directory} does not run: start it first.")
        signal_all(identity, kind)

    def _require_port(self) -> None:
        port = self.place.port
        if self._port not in {None, port}:
            raise ServerError(
                f"{self.recipe.title} runs on port {port}, but {variable_of(self.recipe.port_setting)}={self._port}: "
                f"stop it first (`aura services down {self.recipe.name}`)."
            )

    def _spawn(self) -> Identity:
        self._forget()
        place = self.place
        require_free(self.recipe, place)
        launch = self.recipe.prepare(place)
        if self.log.is_file() and self.log.stat().st_size > _LOG_LIMIT:
            self.log.replace(self.log.with_suffix(".log.1"))
        self._child = self._process(launch)
        if self._tethered:
            self._tether = Tether(self._child.pid)
        identity = identify(self._child.pid)
        if identity is None:
            raise ServerError(self._ended())
        draft = self._record.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(identity)), encoding="utf-8")
        draft.replace(self._record)
        return identity

    def _process(self, launch: Launch) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603
                launch.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                env={**os.environ, **launch.environment},
                start_new_session=True,
                user=launch.account.user,
                group=launch.account.group,
                extra_groups=launch.account.extra_groups,
            )

    def _wait_until_ready(self, identity: Identity) -> None:
        deadline = self._clock() + self.recipe.start_seconds
        reason = "it does not listen"
        while self._clock() < deadline:
            if not self._alive(identity):
                raise ServerError(self._ended())
            if listening(self.place.port):
                try:
                    self.answer()
                except MissingSoftwareError:
                    raise
                except Exception as error:  # noqa: BLE001  each client has errors of its own
                    reason = str(error)
                else:
                    return
            time.sleep(_PAUSE_SECONDS)
        raise ServerError(
            f"{self.recipe.title} has not answered on {self.place.host_and_port} within "
            f"{self.recipe.start_seconds:.0f} s ({reason}). Its log: {self.log}"
        )

    def _ended(self) -> str:
        return f"{self.recipe.title} ended while it started. The end of {self.log}:\n" + "\n".join(self.last_lines(15))

    def _alive(self, identity: Identity) -> bool:
        if self._child is not None and self._child.pid == identity.pid:
            self._child.poll()
        return alive(identity)

    def _kill(self, identity: Identity) -> None:
        signal_all(identity, signal.SIGKILL)
        if not self._wait_until_gone(identity, _KILL_SECONDS):
            raise ServerError(f"{self.recipe.title}, process {identity.pid}, does not end: it may wait for a disk.")
        self._forget()

    def _wait_until_gone(self, identity: Identity, seconds: float) -> bool:
        deadline = self._clock() + seconds
        while self._alive(identity):
            if self._clock() > deadline:
                return False
            time.sleep(_PAUSE_SECONDS / 4)
        return True

    def _forget(self) -> None:
        if self._tether is not None:
            self._tether.cut()
            self._tether = None
        if self._child is not None:
            self._child.poll()
            self._child = None
        self._record.unlink(missing_ok=True)
