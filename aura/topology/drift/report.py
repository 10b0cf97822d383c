"""A decision about drift as a stored value: both tests with their null distributions, and what they say together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal, Self

import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from aura.tiers.values import Part
from aura.topology.drift.settings import DriftSettings

METADATA_KEY = b"aura"
PART = "drift"
SCHEMA = pa.schema([("test", pa.string()), ("null", pa.float64())])

TestName = Literal["topology", "plain"]


class DriftReportError(ValueError):
    """A drift report is malformed."""


class Verdict(StrEnum):
    """Which of the two tests raised an alarm; undecided where neither could be made."""

    BOTH = "both"
    TOPOLOGY_ALONE = "topology alone"
    PLAIN_ALONE = "plain alone"
    NONE = "none"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Component:
    """One of the distances that a test looks at.

    Attributes:
        name: Such as "H1".
        energy: In the unit of its distance; 0 on average without drift.
        score: The energy in standard deviations of its null distribution.
    """

    name: str
    energy: float
    score: float


@dataclass(frozen=True)
class Decided:
    """A test that was made.

    Attributes:
        method: What was compared with what, in one sentence.
        reference: Blocks or items of the reference's sample.
        current: Blocks or items of the current sample.
        components: The distances that the test looks at.
        statistic: The largest score among the components.
        threshold: Alarm where the statistic exceeds it.
        p_value: Of the permutation test, exact: at most `level` with a probability of at most `level` without drift.
        level: Probability of a false alarm.
        null: The statistic of every permutation.
    """

    method: str
    reference: int
    current: int
    components: tuple[Component, ...]
    statistic: float
    threshold: float
    p_value: float
    level: float
    null: tuple[float, ...]

    @property
    def alarm(self) -> bool:
        """Whether what is observed is too rare without drift."""
        return self.p_value <= self.level


@dataclass(frozen=True)
class Unavailable:
    """A test that could not be made, and why."""

    reason: str

    @property
    def alarm(self) -> bool:
        """Never: what was not tested raises no alarm."""
        return False


Outcome = Decided | Unavailable


@dataclass(frozen=True)
class Side:
    """Where one side comes from.

    Attributes:
        source: Name of the model or of the source.
        fingerprint: Digest of what made the values; "" where there is none.
        made_at: When it was made or taken; None where that is not known.
        items: Items or windows, before the two samples were dealt.
    """

    source: str
    fingerprint: str
    made_at: datetime | None
    items: int


@dataclass(frozen=True)
class DriftReport:
    """What two tests on the same two samples say about drift.

    Attributes:
        kind: "embedding" or "network".
        reference: What is compared with.
        current: What is there now.
        shared: Items that both sides hold; they were dealt out, half to each side.
        block_size: Items of a block of the topological test; for networks 1, a block being a window.
        neighbours_alike: P-value of the hypothesis, which both tests rest on, that windows are no more like their
            neighbours than like any other; None where there is no order in time, or no test.
        settings: How it was decided.
        topology: The test on persistence diagrams.
        plain: The test beside it.
    """

    kind: Literal["embedding", "network"]
    reference: Side
    current: Side
    shared: int
    block_size: int
    neighbours_alike: float | None
    settings: DriftSettings
    topology: Outcome
    plain: Outcome

    @property
    def drifted(self) -> bool:
        """Whether the decision is an alarm: false with a probability of at most `settings.false_alarms`."""
        return self.topology.alarm or self.plain.alarm

    @property
    def verdict(self) -> Verdict:
        """Which of the tests raised the alarm."""
        if isinstance(self.topology, Unavailable) and isinstance(self.plain, Unavailable):
            return Verdict.UNDECIDED
        if self.topology.alarm:
            return Verdict.BOTH if self.plain.alarm else Verdict.TOPOLOGY_ALONE
        return Verdict.PLAIN_ALONE if self.plain.alarm else Verdict.NONE

    @property
    def exchangeable(self) -> bool:
        """Whether nothing speaks against what both tests assume, at the level of either."""
        return self.neighbours_alike is None or self.neighbours_alike > self.settings.level

    @property
    def headline(self) -> str:
        """The verdict for a person."""
        return _HEADLINES[self.verdict]

    @property
    def sentence(self) -> str:
        """The headline with what each test found, and with a warning where their assumption does not hold."""
        told = f"{self.headline} Topology: {_told(self.topology)}. Plain: {_told(self.plain)}."
        if self.exchangeable:
            return told
        return f"{told} Neighbouring windows are alike (p = {self.neighbours_alike:.2g}): drift is found too often."

    def to_parts(self) -> Mapping[str, Part]:
        """Take the report apart: the null distributions as one Arrow table, the rest as JSON in its metadata."""
        nulls = {"topology": self.topology, "plain": self.plain}
        rows = [(name, value) for name, test in nulls.items() if isinstance(test, Decided) for value in test.null]
        columns = [pa.array([name for name, _ in rows], pa.string()), pa.array([v for _, v in rows], pa.float64())]
        excluded = {name: {"null"} for name, test in nulls.items() if isinstance(test, Decided)}
        metadata = {METADATA_KEY: _REPORT.dump_json(self, exclude=excluded)}
        return {PART: pa.Table.from_arrays(columns, schema=SCHEMA.with_metadata(metadata))}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Part]) -> Self:
        """Put a report together from what `to_parts` gave.

        Raises:
            DriftReportError: The part is missing or is no table, or its schema or metadata are malformed.
        """
        table = parts.get(PART)
        if not isinstance(table, pa.Table) or not table.schema.equals(SCHEMA):
            raise DriftReportError(f"a drift report is kept as one Arrow table {PART!r} with the columns\n{SCHEMA}")
        metadata = (table.schema.metadata or {}).get(METADATA_KEY)
        if metadata is None:
            raise DriftReportError(f"the table {PART!r} has no metadata {METADATA_KEY!r}: it is no drift report")
        try:
            document = _DOCUMENT.validate_json(metadata)
            for name in ("topology", "plain"):
                if "reason" not in document[name]:
                    document[name]["null"] = [row["null"] for row in table.to_pylist() if row["test"] == name]
            report: Self = TypeAdapter(cls).validate_python(document)
        except (ValidationError, KeyError, TypeError) as error:
            raise DriftReportError(f"the table {PART!r} has malformed metadata: {error}") from error
        return report


_REPORT = TypeAdapter(DriftReport)
_DOCUMENT = TypeAdapter(dict)

_HEADLINES = {
    Verdict.BOTH: "Drift: the values have changed, and so has their shape.",
    Verdict.TOPOLOGY_ALONE: "Drift that the shape shows and the plain test does not.",
    Verdict.PLAIN_ALONE: "Drift that the plain test shows and the shape does not.",
    Verdict.NONE: "No drift was found.",
    Verdict.UNDECIDED: "Undecided: neither test could be made.",
}


def _told(outcome: Outcome) -> str:
    if isinstance(outcome, Unavailable):
        return f"unavailable, {outcome.reason}"
    return (
        f"statistic {outcome.statistic:.3g} (threshold {outcome.threshold:.3g}), p = {outcome.p_value:.2g}"
        f" at level {outcome.level:.2g}"
    )
