"""Which experts one request used: its expert activation matrix, as a value and as an event.

A request is one prompt given to a model, with what the model answered. The matrix of its tokens by layer and expert is
what prefetching goes by (MoE-Infinity, arXiv 2401.14361, section 4), kept per request because requests differ and their
sum looks even.

Belongs here: the value, telling the event log of it, reading it back. Does not: running the model and counting
(`aura.experts.offload.runtime`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

import numpy as np
import pyarrow as pa

from aura.events.batches import OffsetRange
from aura.events.event import Record, new_event
from aura.events.log import Ack, EventLog
from aura.events.scan import read_range
from aura.experts.routing.errors import RoutingError
from aura.measure.checks import CheckResult
from aura.tiers.values import Part

TOPIC = "expert.requests"
KIND = "expert.requests.routed"

SCHEMA = pa.schema(
    [
        pa.field("layer", pa.int32(), nullable=False),
        pa.field("expert", pa.int32(), nullable=False),
        pa.field("tokens", pa.int64(), nullable=False),
    ]
)

BY_LAYER = ("given", "dropped")
"""Counts of whole layers that a request may come with."""
REQUEST = re.compile(r"[A-Za-z0-9][A-Za-z0-9_:-]{0,99}")
"""Ids of requests; they become names of partitions and keys of the store."""


@dataclass(frozen=True, eq=False)
class RequestActivations:
    """The activations of one request.

    Attributes:
        request: Its id, see `REQUEST`.
        model: Name of the model that answered.
        tokens: Tokens that went through the model: those of the prompt and those of the answer, without the last one
            where nothing follows it; where a model has two stacks, of the one that was given most.
        matrix: Assignments to each expert [layers, experts], int64, read-only; 0 beyond a layer's last expert. Those
            that capacity has dropped are in it only where `dropped` is None.
        at: When it was answered, UTC.
        given: Tokens that each layer was given [layers], int64, read-only, which differ where a model has an encoder
            and a decoder; None: `tokens`.
        dropped: Assignments that each layer's capacity has dropped and the matrix lacks [layers], int64, read-only;
            None: none.

    Raises:
        RoutingError: A value is impossible.
    """

    request: str
    model: str
    tokens: int
    matrix: np.ndarray
    at: datetime
    given: np.ndarray | None = None
    dropped: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not REQUEST.fullmatch(self.request):
            raise RoutingError(
                f"{self.request!r} is no id of a request: give 1 to 100 letters, digits, '_', ':' or '-', the first a "
                "letter or digit"
            )
        matrix = np.asarray(self.matrix)
        if matrix.ndim != 2 or 0 in matrix.shape or matrix.dtype.kind not in "iu" or (matrix < 0).any():
            raise RoutingError(
                f"the activations of request {self.request} are {matrix.dtype}{list(matrix.shape)}; expected counts "
                "[layers, experts], none below 0"
            )
        if self.tokens < 1 or self.at.tzinfo is None:
            raise RoutingError(f"request {self.request} has {self.tokens} tokens at {self.at}; give 1 or more, and UTC")
        for name, counts in (("matrix", matrix), ("given", self.given), ("dropped", self.dropped)):
            if counts is None:
                continue
            frozen = np.asarray(counts).astype(np.int64)
            if len(frozen) != len(matrix) or (frozen < 0).any():
                raise RoutingError(
                    f"{name} of request {self.request} is {frozen.tolist()}; expected one count for each of "
                    f"{len(matrix)} layers, none below 0"
                )
            frozen.flags.writeable = False
            object.__setattr__(self, name, frozen)
        object.__setattr__(self, "at", self.at.astimezone(UTC))

    def to_parts(self) -> Mapping[str, Part]:
        """One table, "activations", one row per layer and expert, with the rest in its metadata."""
        layers, experts = self.matrix.shape
        metadata = {"request": self.request, "model": self.model, "tokens": str(self.tokens), "at": self.at.isoformat()}
        metadata |= {name: json.dumps(counts) for name, counts in self.by_layer().items()}
        table = pa.table(
            {
                "layer": np.repeat(np.arange(layers, dtype=np.int32), experts),
                "expert": np.tile(np.arange(experts, dtype=np.int32), layers),
                "tokens": self.matrix.ravel(),
            },
            schema=SCHEMA.with_metadata(metadata),
        )
        return {"activations": table}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Part]) -> Self:
        """Put them together; raises RoutingError when the parts are not the activations of a request."""
        table = parts.get("activations")
        if not isinstance(table, pa.Table) or not table.schema.equals(SCHEMA, check_metadata=False):
            raise RoutingError(f"the activations of a request are a table with the columns {SCHEMA.names}")
        known = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        try:
            layers = int(table["layer"].to_numpy().max()) + 1
            return cls(
                known["request"],
                known["model"],
                int(known["tokens"]),
                table["tokens"].to_numpy().reshape(layers, -1),
                datetime.fromisoformat(known["at"]),
                **{name: np.array(json.loads(known[name]), np.int64) for name in BY_LAYER if name in known},
            )
        except (KeyError, ValueError) as error:
            raise RoutingError(f"the activations of a request cannot be read: {error!r}") from error

    def by_layer(self) -> dict[str, list[int]]:
        """The counts of whole layers that there are."""
        return {name: counts.tolist() for name in BY_LAYER if (counts := getattr(self, name)) is not None}


def publish_request(log: EventLog, activations: RequestActivations, *, source: str) -> Ack:
    """Tell the event log of a request; telling it again changes nothing, a later answer to it takes its place.

    Args:
        log: The log.
        activations: What the request used.
        source: Who answered it: a host, a process, a service.

    Raises:
        EventError: The log does not take it.
    """
    data = {
        "request": activations.request,
        "model": activations.model,
        "tokens": activations.tokens,
        "at": activations.at.isoformat(),
        "activations": activations.matrix.tolist(),
        **activations.by_layer(),
    }
    told_once = f"{KIND}/{activations.request}/{activations.at.isoformat()}"
    event = new_event(KIND, data, source=source, key=activations.request, id=told_once, time=activations.at)
    return log.publish(TOPIC, [event])[0]


def request_of(record: Record) -> str:
    """The request that an event of the topic is about."""
    return str(record.event.data["request"])


def find_request(log: EventLog, request: str, events: OffsetRange | None = None) -> RequestActivations:
    """The activations of a request, of its latest event.

    Args:
        log: The log.
        request: Its id.
        events: Where its events are, if that is known; otherwise its partition of the topic is read.

    Raises:
        RoutingError: It is not in the log, or not any more.
        EventError: The log cannot be read.
    """
    if events is None:
        partition = log.registry.get(TOPIC).partition_of(request)
        first, end = log.begin_offsets(TOPIC)[partition], log.end_offsets(TOPIC)[partition]
        events = OffsetRange(TOPIC, partition, first, end) if first < end else None
    found = [] if events is None else [each for each in read_range(log, events) if request_of(each) == request]
    if not found:
        raise RoutingError(f"request {request} is not in the log of {TOPIC}, or not any more")
    return _from_event(found[-1].event.data)


def _from_event(data: Mapping[str, Any]) -> RequestActivations:
    rows = data["activations"]
    if len({len(row) for row in rows}) != 1:
        raise RoutingError(f"the layers of request {data['request']} have rows of different lengths")
    return RequestActivations(
        request=data["request"],
        model=data["model"],
        tokens=data["tokens"],
        matrix=np.array(rows, np.int64),
        at=datetime.fromisoformat(data["at"]),
        **{name: np.array(data[name], np.int64) for name in BY_LAYER if name in data},
    )


def every_token_counted(activations: RequestActivations) -> CheckResult:
    """Every layer has sent each token that it was given to the same whole number of experts, those dropped included."""
    sums = activations.matrix.sum(axis=1)
    if activations.dropped is not None:
        sums = sums + activations.dropped
    given = np.full(len(sums), activations.tokens) if activations.given is None else activations.given
    uneven = int(((sums == 0) | (given == 0) | (sums % np.maximum(given, 1) != 0)).sum())
    return CheckResult(
        passed=uneven == 0,
        figures={"layers_not_counted": float(uneven), "tokens": float(activations.tokens)},
        description=f"{uneven} of {len(sums)} layers have no whole number of experts for each of the tokens that they "
        f"were given, at most {int(given.max())}",
    )
