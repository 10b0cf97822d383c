"""The environment: starts producers and consumers, kills them (and the broker) at random moments, starts them again.

Knows the processes by their commands and their files only. Every random choice comes from one seed.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from events_crash.plan import acknowledged, notes

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
POLL_SECONDS = 0.01
ALL = "all processes"
VICTIMS = ("producer", "consumer", ALL)


class Broker(Protocol):
    """A server that can be killed and started again on the same port and data."""

    def kill(self) -> None:
        """Kill it and wait until it is gone."""
        ...

    def start(self) -> None:
        """Start it; returns when it answers."""
        ...


@dataclass(frozen=True)
class Settings:
    """How a run is made.

    Attributes:
        place: The log: a file or host:port.
        topic: Topic, of which nobody else knows.
        folder: Notes and effects.
        producers: Number of producers.
        partitions: Partitions of the topic.
        batch: Largest number of events in a call.
        pause: Seconds between two kills, from and to.
        producer_bug: Bug of the producers' log.
        consumer_bug: Bug of the consumer.
        shadow: Where what is synced is kept, for `cut_power`; None without.
    """

    place: str
    topic: str
    folder: Path
    producers: int = 2
    partitions: int = 3
    batch: int = 400
    pause: tuple[float, float] = (0.02, 0.25)
    producer_bug: str = ""
    consumer_bug: str = ""
    shadow: Path | None = None


@dataclass
class Report:
    """What the environment did.

    Attributes:
        kills: Kills by victim: producer, consumer, all processes, broker.
        recoveries: Seconds by victim: of a process from its start to its first acknowledged event or effect; of the
            broker from its death to the first event acknowledged and the first effect afterwards.
    """

    kills: dict[str, int] = field(default_factory=dict)
    recoveries: dict[str, list[float]] = field(default_factory=dict)


class Environment:
    """A run: enter it to start the processes; leaving it kills what is left."""

    def __init__(self, settings: Settings, seed: int, broker: Broker | None = None) -> None:
        self.settings = settings
        self.report = Report()
        self._chance = random.Random(seed)  # noqa: S311  a repeatable choice, no secret
        self._broker = broker
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        self.settings.folder.mkdir(parents=True, exist_ok=True)
        for number in range(self.settings.producers):
            self._start(f"producer-{number}")
        self._start("consumer")
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()

    def _start(self, name: str) -> None:
        chosen = self.settings
        kind = name.partition("-")[0]
        bug = chosen.producer_bug if kind == "producer" else chosen.consumer_bug
        command = [sys.executable, "-m", f"events_crash.{kind}", chosen.place, chosen.topic, "--name", name]
        command += ["--partitions", str(chosen.partitions), "--folder", str(chosen.folder), "--bug", bug]
        command += ["--batch", str(chosen.batch)] if kind == "producer" else []
        command += ["--shadow", str(chosen.shadow)] if chosen.shadow is not None else []
        path = os.pathsep.join(map(str, (HERE.parent, PROJECT)))
        self._processes[name] = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path})

    def kill_process(self, kind: str | None = None) -> None:
        """Kill a producer, the consumer or all of them at a random moment; start again, wait until all works again.

        With all of them SQLite has to recover its write-ahead log, which it does not while one process has it open.
        """
        kind = kind or self._chance.choice(VICTIMS)
        time.sleep(self._chance.uniform(*self.settings.pause))
        names = [name for name in self._processes if kind == ALL or name.startswith(kind)]
        names = names if kind == ALL else [self._chance.choice(names)]
        for name in names:
            self._kill(name)
        before = {name: self._progress(name) for name in names}
        started = time.monotonic()
        for name in names:
            self._start(name)
        self._wait(lambda: all(self._progress(name) > before[name] for name in names), f"{names} to work again")
        self._note(kind, time.monotonic() - started)

    def kill_broker(self) -> None:
        """Kill the broker at a random moment, start it again, wait until events flow from end to end."""
        if self._broker is None:
            raise ValueError("this run has no broker")
        time.sleep(self._chance.uniform(*self.settings.pause))
        died = time.monotonic()
        self._broker.kill()
        self._broker.start()
        back = time.monotonic()
        self._wait(lambda: self._last_ack() > back and self._last_effect() > back, "events to flow again")
        self._note("broker", time.monotonic() - died)

    def kill_all(self) -> None:
        """Kill every process at the same random moment; they stay dead."""
        time.sleep(self._chance.uniform(*self.settings.pause))
        for name in list(self._processes):
            self._kill(name)
        self._processes.clear()

    def restart_all(self) -> None:
        """Start the processes after `kill_all`."""
        self.__enter__()

    def _kill(self, name: str) -> None:
        process = self._processes[name]
        if process.poll() is not None:
            raise RuntimeError(f"{name} ended by itself with {process.returncode}")
        process.send_signal(signal.SIGKILL)
        process.wait()

    def _note(self, victim: str, seconds: float) -> None:
        self.report.kills[victim] = self.report.kills.get(victim, 0) + 1
        self.report.recoveries.setdefault(victim, []).append(seconds)

    def wait_for(self, events: int, seconds: float = 600.0) -> None:
        """Let the processes work until this many events are acknowledged."""
        self._wait(lambda: self.acknowledged() >= events, f"{events} acknowledged events", seconds)

    def acknowledged(self) -> int:
        """Events acknowledged so far."""
        return sum(acknowledged(path) for path in self._note_files())

    def finish(self, seconds: float = 120.0) -> None:
        """Let the producers stop, then the consumer come to the end of the log."""
        for kind in ("producer", "consumer"):
            (self.settings.folder / f"stop-{kind}s").touch()
            for name, process in self._processes.items():
                if name.startswith(kind) and process.wait(seconds) != 0:
                    raise RuntimeError(f"{name} ended with {process.returncode}")

    def _note_files(self) -> list[Path]:
        return sorted(self.settings.folder.glob("*.acknowledged"))

    def _progress(self, name: str) -> float:
        """When a process last got something done."""
        return self._last_effect() if name == "consumer" else _last_note(self.settings.folder / f"{name}.acknowledged")

    def _last_ack(self) -> float:
        return max(map(_last_note, self._note_files()), default=0.0)

    def _last_effect(self) -> float:
        path = self.settings.folder / "effects.db"
        if not path.exists():
            return 0.0
        connection = sqlite3.connect(path)
        try:
            row = connection.execute("SELECT at FROM effect ORDER BY id DESC LIMIT 1").fetchone()
        except sqlite3.OperationalError:
            # The consumer has not made its table yet.
            return 0.0
        finally:
            connection.close()
        return float(row[0]) if row else 0.0

    def _wait(self, done: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
        end = time.monotonic() + seconds
        while not done():
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise RuntimeError(f"{name} ended by itself with {process.returncode} while waiting for {what}")
            if time.monotonic() > end:
                raise TimeoutError(f"waited {seconds:g} s for {what}")
            time.sleep(POLL_SECONDS)


def _last_note(path: Path) -> float:
    moments: Iterator[float] = (moment for _, moment in notes(path))
    return max(moments, default=0.0)
