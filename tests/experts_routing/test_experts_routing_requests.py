"""The activations of single requests, as values and as events."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aura.events.batches import OffsetRange
from aura.events.errors import EventInvalidError
from aura.events.sqlite_log import SqliteEventLog
from aura.experts.plots import plot_activations
from aura.experts.routing.errors import RoutingError
from aura.experts.routing.requests import (
    TOPIC,
    RequestActivations,
    every_token_counted,
    find_request,
    publish_request,
)

AT = datetime(2026, 1, 5, 10, tzinfo=UTC)
SMALL = RequestActivations("chat-1", "m", 3, np.array([[2, 1, 0, 3], [0, 3, 3, 0]]), AT)


@pytest.fixture
def log(tmp_path):
    log = SqliteEventLog(tmp_path / "log.db")
    yield log
    log.close()


def equal(one, other):
    return (
        (one.request, one.model, one.tokens, one.at) == (other.request, other.model, other.tokens, other.at)
        and one.matrix.dtype == other.matrix.dtype == np.int64
        and np.array_equal(one.matrix, other.matrix)
        and one.by_layer() == other.by_layer()
    )


@settings(deadline=None)
@given(arrays(np.int64, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.integers(0, 10**12)))
def test_activations_come_back_from_their_parts(matrix):
    request = RequestActivations("r", "m", 7, matrix, AT)
    assert equal(RequestActivations.from_parts(request.to_parts()), request)


def test_a_request_is_told_once_and_found_again(log):
    ack = publish_request(log, SMALL, source="tests")
    assert publish_request(log, SMALL, source="tests") == ack
    publish_request(log, replace(SMALL, request="chat-2"), source="tests")
    assert equal(find_request(log, "chat-1"), SMALL)
    there = OffsetRange(TOPIC, ack.partition, ack.offset, ack.offset + 1)
    assert equal(find_request(log, "chat-1", there), SMALL)
    again = replace(SMALL, matrix=SMALL.matrix[::-1], at=AT + timedelta(seconds=1))
    publish_request(log, again, source="tests")
    assert equal(find_request(log, "chat-1"), again), "an id that is used again loses no answer"
    with pytest.raises(RoutingError, match="request chat-3 is not in the log"):
        find_request(log, "chat-3")


def test_the_activations_of_a_large_model_fit_into_an_event(log):
    matrix = np.full((94, 256), 123_456)
    publish_request(log, RequestActivations("large", "m", 1000, matrix, AT), source="tests")
    assert find_request(log, "large").matrix.shape == (94, 256)
    with pytest.raises(EventInvalidError, match="bytes of data"):
        publish_request(log, RequestActivations("vast", "m", 1000, np.full((1000, 256), 123_456), AT), source="tests")


def test_tokens_that_a_layer_has_lost_are_noticed():
    assert every_token_counted(SMALL).passed
    lost = replace(SMALL, matrix=np.array([[2, 1, 0, 2], [0, 3, 3, 0]]))
    assert not every_token_counted(lost).passed
    assert every_token_counted(lost).figures["layers_not_counted"] == 1
    assert not every_token_counted(replace(SMALL, matrix=np.array([[0, 0], [3, 0]]))).passed


def test_what_capacity_dropped_and_two_stacks_are_counted_by_layer(log):
    # Of 5 tokens, two choices each, the first layer dropped three; the second is of a decoder that got 2 tokens.
    request = RequestActivations(
        "two-stacks", "m", 5, np.array([[4, 3], [1, 3]]), AT, given=np.array([5, 2]), dropped=np.array([3, 0])
    )
    assert every_token_counted(request).passed
    assert equal(RequestActivations.from_parts(request.to_parts()), request)
    publish_request(log, request, source="tests")
    assert equal(find_request(log, "two-stacks"), request)
    assert not every_token_counted(replace(request, dropped=None)).passed
    assert every_token_counted(replace(request, given=None)).figures["layers_not_counted"] == 1
    with pytest.raises(RoutingError, match=r"given of request two-stacks is \[5\]; expected one count"):
        replace(request, given=np.array([5]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"request": "../../etc"}, "no id of a request"),
        ({"request": ""}, "no id of a request"),
        ({"matrix": np.array([1, 2])}, r"int64\[2\]; expected counts"),
        ({"matrix": np.array([[1.5]])}, "float64"),
        ({"matrix": np.array([[-1]])}, "none below 0"),
        ({"tokens": 0}, "give 1 or more"),
        ({"at": datetime(2026, 1, 1)}, "UTC"),  # noqa: DTZ001 - a time without a zone is what is refused
    ],
)
def test_impossible_activations_are_refused(change, message):
    with pytest.raises(RoutingError, match=message):
        replace(SMALL, **change)


def test_the_picture_is_a_small_png():
    assert plot_activations(SMALL).startswith(b"\x89PNG")
    assert len(plot_activations(SMALL)) < 60_000
