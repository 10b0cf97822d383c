"""Reading a topic on from where a sensor left off.

Belongs here: the cursor, and what becomes of records that cannot be decoded. Does not: what the events ask for.
"""

from __future__ import annotations

from collections.abc import Callable

from aura.events.consumer import dead_letter
from aura.events.errors import EventError
from aura.events.event import Record
from aura.events.log import EventLog
from aura.events.scan import Scan, look


def read_on(
    log: EventLog, topic: str, cursor: str | None, subject_of: Callable[[Record], str | None], *, group: str
) -> tuple[Scan, int]:
    """Read from the cursor on, or from the beginning if it is of another log or cannot be read: it only saves reading.

    Args:
        log: The log.
        topic: The topic.
        cursor: What `cursor_at` gave.
        subject_of: The subject of an event; None for one that matters to nobody.
        group: Who puts what cannot be decoded with the topic's dead letters.

    Returns:
        The scan, and how many records went to the dead letters.

    Raises:
        EventError: The log cannot be read or written.
    """
    place, _, text = (cursor or "").partition("\n")
    try:
        known = Scan.from_json(text) if place == log.identity(topic) else Scan()
    except ValueError:
        known = Scan()
    scan, poison = look(log, topic, known, subject_of)
    if poison:
        # The id of a letter follows from the record's place, so that a look that is repeated buries nothing new.
        log.publish(log.registry.get(topic).dead.name, [dead_letter(each, group) for each in poison])
    return scan, len(poison)


def cursor_at(place: str, scan: Scan) -> str:
    """The cursor of a scan of the log of this identity: offsets mean nothing on another one."""
    return f"{place}\n{scan.to_json()}"


def tell_the_log(log: EventLog, topic: str, scan: Scan, *, group: str) -> str:
    """Let `aura events lag` and the overview know how far a sensor has come; nothing goes by it.

    Returns:
        What to tell a person; "" if all is well.
    """
    try:
        log.commit(group, topic, scan.dealt_with())
    except EventError as error:
        return f"the log was not told how far this sensor is: {error}"
    return ""
