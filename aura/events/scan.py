"""What a reader has seen of a topic and not dealt with: by subject and partition, from the first event to the last.

Belongs here: the scan as a value that is kept between two looks, and reading ranges. Does not: what to do about it
(`batches`). A scan that is lost starts again at the first record that is kept, and comes to the same result.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Self

from aura.events.batches import OffsetRange
from aura.events.event import Poison, Record
from aura.events.log import Batch, EventLog

READ = 1000
"""Records in one read."""


@dataclass(frozen=True)
class Scan:
    """How far a topic has been looked through, and what was found.

    Attributes:
        next: The next offset of each partition.
        found: Subject to partition to (first offset, offset after the last) of its events that are not dealt with.
    """

    next: Mapping[int, int] = field(default_factory=dict)
    found: Mapping[str, Mapping[int, tuple[int, int]]] = field(default_factory=dict)

    def after(self, partition: int, batch: Batch, subject_of: Callable[[Record], str | None]) -> Scan:
        """The scan with one more batch of a partition; an event without a subject matters to nobody."""
        found = {subject: dict(ranges) for subject, ranges in self.found.items()}
        for record in batch.records:
            subject = subject_of(record)
            if subject is not None:
                first, _ = found.setdefault(subject, {}).get(partition, (record.offset, 0))
                found[subject][partition] = (first, record.offset + 1)
        return Scan({**self.next, partition: batch.next_offset}, found)

    def without(self, subject: str, partition: int, end: int) -> Scan:
        """The scan once the events of a subject before `end` are dealt with."""
        found = {name: dict(ranges) for name, ranges in self.found.items()}
        first, last = found.get(subject, {}).get(partition, (end, end))
        found.get(subject, {}).pop(partition, None)
        if last > end:
            found[subject][partition] = (max(first, end), last)
        return Scan(self.next, {name: ranges for name, ranges in found.items() if ranges})

    def forgetting(self, partition: int) -> Scan:
        """The scan without anything that was found in a partition, to read it anew."""
        found = {name: {p: span for p, span in ranges.items() if p != partition} for name, ranges in self.found.items()}
        return Scan({**self.next, partition: 0}, {name: ranges for name, ranges in found.items() if ranges})

    def pending(self, topic: str) -> Iterator[tuple[str, OffsetRange]]:
        """Each subject with a range of a partition that holds all its events that are not dealt with."""
        for subject, ranges in sorted(self.found.items()):
            for partition, (first, end) in sorted(ranges.items()):
                yield subject, OffsetRange(topic, partition, first, end)

    def of(self, subjects: Collection[str]) -> Scan:
        """The scan with these subjects only."""
        return Scan(self.next, {name: ranges for name, ranges in self.found.items() if name in subjects})

    def dealt_with(self) -> dict[int, int]:
        """Of each partition the offset before which nothing is left to do."""
        firsts = [(partition, first) for ranges in self.found.values() for partition, (first, _) in ranges.items()]
        return {
            partition: min([at] + [first for p, first in firsts if p == partition])
            for partition, at in self.next.items()
        }

    def to_json(self) -> str:
        """As text, for a cursor."""
        return json.dumps({"next": self.next, "found": self.found}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: The text is something else.
        """
        try:
            tree = json.loads(text)
            return cls(
                {int(partition): int(offset) for partition, offset in tree["next"].items()},
                {
                    str(subject): {int(partition): (int(first), int(end)) for partition, (first, end) in ranges.items()}
                    for subject, ranges in tree["found"].items()
                },
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{text!r} is no scan of a topic") from error


def look(
    log: EventLog, topic: str, scan: Scan, subject_of: Callable[[Record], str | None], *, limit: int = 10_000
) -> tuple[Scan, list[Poison]]:
    """Read on from where a scan stands, at most `limit` records of each partition.

    Where the log is shorter than the scan it is another log, and the partition is read from its beginning. Records
    that retention has deleted are passed over.

    Returns:
        The scan, and the records that could not be decoded.

    Raises:
        LogUnavailableError: The log did not answer.
    """
    begin, end = log.begin_offsets(topic), log.end_offsets(topic)
    poison: list[Poison] = []
    for partition in sorted(end):
        if scan.next.get(partition, 0) > end[partition]:
            scan = scan.forgetting(partition)
        at = max(scan.next.get(partition, 0), begin[partition])
        scan = Scan({**scan.next, partition: at}, scan.found)
        for batch in _batches(log, topic, partition, at, min(end[partition], at + limit)):
            scan = scan.after(partition, batch, subject_of)
            poison.extend(batch.poison)
    return scan, poison


def read_range(log: EventLog, events: OffsetRange) -> list[Record]:
    """Every record of a range that can be decoded and is still kept, in order.

    Raises:
        LogUnavailableError: The log did not answer.
    """
    first = max(events.first, log.begin_offsets(events.topic)[events.partition])
    batches = _batches(log, events.topic, events.partition, first, events.end)
    return list(chain.from_iterable(batch.records for batch in batches))


def _batches(log: EventLog, topic: str, partition: int, start: int, stop: int) -> Iterator[Batch]:
    while start < stop:
        batch = log.read(topic, partition, start, stop, limit=READ)
        yield batch
        if batch.next_offset <= start:
            return
        start = batch.next_offset
