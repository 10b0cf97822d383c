"""`aura top`: machine, tiers, events and assets, live in the whole terminal.

Belongs here: the screen, its keys, when it is drawn. Does not: reading (`sources`), text (`panels`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from rich.console import Group, RenderableType
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Footer, Static

from aura.overview import units
from aura.overview.panels import (
    absence,
    assets_panel,
    events_panel,
    machine_panel,
    read_at,
    read_at_each,
    remarks,
    tiers_panel,
)
from aura.overview.readings import Reading
from aura.overview.sources import SLOW_SECONDS, Sources

AGES_SECONDS = 10.0
"""Ages are counted on so often."""

FASTEST, SLOWEST = 0.25, 60.0

SIZED_BY_CONTENT = {"tiers", "events", "assets"}
"""Panels that may take more or fewer lines when they are drawn again."""


class Top(App[None]):
    """The screen."""

    CSS = """
    Static { padding: 0 1; height: auto; }
    .title { text-style: bold; color: $accent; margin-top: 1; }
    #head { color: $text-muted; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit"),
        Binding("p", "pause", "pause"),
        Binding("plus,equals_sign", "pace(0.5)", "faster", key_display="+"),
        Binding("minus", "pace(2)", "slower", key_display="-"),
    ]
    ENABLE_COMMAND_PALETTE = False

    def __init__(
        self,
        sources: Sources,
        home: str,
        *,
        interval: float,
        window: timedelta,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Prepare the screen.

        Args:
            sources: What it reads.
            home: Where the project is.
            interval: Seconds between two drawings.
            window: How far lines over time reach back at most; not beyond the samples that `MachineView` keeps.
            clock: The time now, in UTC.
        """
        super().__init__()
        self._sources = sources
        self._home = home
        self._interval = interval
        self._window = window
        self._clock = clock
        self._paused = False
        self._drawn: dict[str, object] = {}
        self._assets_read: object = None

    def compose(self) -> ComposeResult:
        """The panels from top to bottom."""
        yield Static(id="head")
        with VerticalScroll():
            for name in ("machine", "tiers", "events", "assets"):
                yield Static(name, id=f"{name}-title", classes="title")
                yield Static("...", id=name)
        yield Footer()

    def on_mount(self) -> None:
        """Begin."""
        self.animation_level = "none"
        self._timer = self.set_interval(self._interval, self._draw)
        self._draw()

    def action_pause(self) -> None:
        """Stop drawing, or go on."""
        self._paused = not self._paused
        self._draw_head()

    def action_pace(self, factor: float) -> None:
        """Draw more or less often."""
        self._interval = min(SLOWEST, max(FASTEST, self._interval * factor))
        self._timer.stop()
        self._timer = self.set_interval(self._interval, self._draw)
        self._draw_head()

    def _draw(self) -> None:
        if self._paused:
            return
        self._draw_head()
        now = self._clock()
        self._draw_machine()
        tiers = self._sources.tiers.latest(max_age_seconds=self._interval / 2, patience_seconds=0)
        if tiers.value is not None:
            # As they are shown: else the panel would be drawn anew for a hundredth of a second.
            shown = tuple(replace(each, recent_seconds=round(each.recent_seconds)) for each in tiers.value)
            tiers = replace(tiers, value=shown)
        self._show_reading("tiers", tiers, tiers_panel)
        topics = self._sources.topics.latest(max_age_seconds=SLOW_SECONDS, patience_seconds=0)
        self._show_reading("events", topics, lambda value: events_panel(value, now), now.timestamp() // AGES_SECONDS)
        self._draw_assets(now)

    def _draw_machine(self) -> None:
        load = self._sources.machine.sample(self._interval / 2)
        if load is None:
            return
        samples = self._sources.machine.samples(self._window)
        width = max(10, self.size.width - 45)
        self._show("machine", load, lambda: machine_panel(load, samples, width))
        back = units.span(load.taken_at - samples[0].taken_at) if samples else "0 s"
        self._title("machine", f"as of {load.taken_at.astimezone():%H:%M:%S}, lines reach back {back}")

    def _draw_assets(self, now: datetime) -> None:
        """The assets, once their costs are known or known to be missing; what cannot be read is said above them."""
        known = self._sources.assets(0)
        self._title("assets", read_at_each({"costs": known.costs, "stored": known.values}))
        if known.costs.value is None and known.costs.error is None:
            waiting = absence(known.costs) or ""
            self._show("assets", waiting, lambda: Text(waiting, "dim"))
            self._assets_read = None
            return
        errors, ages = known.errors, now.timestamp() // AGES_SECONDS
        read = ([reading.taken_at for reading in known.readings.values()], errors, ages)
        if read == self._assets_read:
            return
        self._assets_read, rows = read, known.rows
        self._show("assets", (rows, errors, ages), lambda: Group(*remarks(errors), assets_panel(rows, now)))

    def _draw_head(self) -> None:
        state = "paused" if self._paused else f"every {self._interval:g} s"
        self._show("head", state, lambda: Text(f"AURA  {self._home}  {state}, window {self._window} at most"))

    def _show_reading(
        self, name: str, reading: Reading[object], draw: Callable[..., RenderableType], ages: float = 0.0
    ) -> None:
        """Draw what was read, anew when it or the `ages` in it have changed, and say when that was."""
        self._title(name, read_at(reading))
        if (missing := absence(reading)) is not None:
            self._show(name, missing, lambda: Text(missing, "yellow" if reading.error else "dim"))
        else:
            self._show(name, (reading.value, ages), lambda: draw(reading.value))

    def _title(self, name: str, about: str) -> None:
        self._show(f"{name}-title", about, lambda: Text.assemble(name, (f"  {about}", "not bold dim")))

    def _show(self, name: str, state: object, draw: Callable[[], RenderableType]) -> None:
        """Draw a panel, unless it shows this already."""
        if name not in self._drawn or self._drawn[name] != state:
            # The layout of all panels costs more than the text of one.
            layout = name not in self._drawn or name in SIZED_BY_CONTENT
            self._drawn[name] = state
            self.query_one(f"#{name}", Static).update(draw(), layout=layout)
