"""Networks of correlations and of messages: weights, both directions of their filtration, closed forms, round trip."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aura.tiers.values import StoredValue
from aura.topology.networks import (
    Direction,
    Network,
    NetworkError,
    NetworkSeries,
    correlation_network,
    correlation_windows,
    message_graph,
    message_windows,
)

NAN = np.nan


def signals(rows=60, count=5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, count)), [f"s{number}" for number in range(count)]


def cycle_of_messages(nodes, each=4):
    """Everybody writes `each` messages to the next in a circle."""
    senders = [f"n{number}" for number in range(nodes) for _ in range(each)]
    receivers = [f"n{(number + 1) % nodes}" for number in range(nodes) for _ in range(each)]
    return senders, receivers


def test_weights_are_absolute_correlations():
    values, names = signals()
    network = correlation_network(values, names)
    expected = np.abs(np.corrcoef(values.T))
    np.fill_diagonal(expected, NAN)
    np.testing.assert_allclose(network.weights, expected, atol=1e-12)
    assert network.edges == 10


def test_the_distance_is_that_of_standardised_signals_up_to_their_sign():
    values, names = signals()
    units = values - values.mean(axis=0)
    units /= np.linalg.norm(units, axis=0)
    straight = np.linalg.norm(units[:, 0] - units[:, 1])
    mirrored = np.linalg.norm(units[:, 0] + units[:, 1])
    distance = correlation_network(values, names).filtration(Direction.STRONG_FIRST)[0, 1]
    assert distance == pytest.approx(min(straight, mirrored))


def test_a_signal_and_its_mirror_image_are_at_distance_zero():
    values, _ = signals(count=1)
    network = correlation_network(np.column_stack((values, -3 * values + 7)), ["a", "b"])
    assert network.filtration(Direction.STRONG_FIRST)[0, 1] == pytest.approx(0, abs=1e-6)
    assert network.filtration(Direction.WEAK_FIRST)[0, 1] == pytest.approx(math.sqrt(2))


@pytest.mark.parametrize("exponent", [-1050, -700, 700, 1020])
def test_the_unit_of_a_signal_does_not_change_its_correlations(exponent):
    values, names = signals()
    values = np.round(values * 2**10) / 2**10
    expected = correlation_network(values, names).weights
    scaled = np.ldexp(values, [exponent, 0, exponent, 3, 0])
    assert np.isfinite(scaled).all()
    np.testing.assert_array_equal(correlation_network(scaled, names).weights, expected)
    np.testing.assert_array_equal(correlation_network(np.ldexp(values, exponent), names).weights, expected)


@pytest.mark.parametrize("level", [0.0, 0.1, -1e9])
def test_a_constant_signal_has_no_edge_and_stays_a_component_of_its_own(level):
    values, names = signals()
    values[:, 2] = level
    network = correlation_network(values, names)
    assert np.isnan(network.weights[2]).all()
    assert network.edges == 6
    for direction in Direction:
        deaths = network.bars(direction)[0][:, 1]
        assert (deaths == network.horizon).sum() == 2


def test_a_missing_value_is_named_with_its_signal_and_row():
    values, names = signals()
    values[7, 3] = NAN
    with pytest.raises(NetworkError, match=r"signal 's3' holds 1 values.*row 7"):
        correlation_network(values, names)


def test_counts_keep_who_wrote_to_whom_and_the_network_adds_both_directions_up():
    graph = message_graph(["a", "a", "b", "c", "c"], ["b", "b", "a", "c", "a"])
    assert graph.names == ("a", "b", "c")
    np.testing.assert_array_equal(graph.counts, [[0, 2, 0], [1, 0, 0], [1, 0, 1]])
    network = graph.network()
    np.testing.assert_array_equal(network.weights, [[NAN, 3, 1], [3, NAN, NAN], [1, NAN, NAN]])
    assert network.messages == 5


def test_a_message_enters_by_its_surprise_or_by_its_commonness():
    network = message_graph(["a", "a", "b", "c"], ["b", "b", "a", "d"]).network()
    strong, weak = network.filtration(Direction.STRONG_FIRST), network.filtration(Direction.WEAK_FIRST)
    assert strong[0, 1] == pytest.approx(math.log(4 / 3))
    assert weak[0, 1] == pytest.approx(math.log(3))
    assert weak[2, 3] == 0
    assert np.isinf(strong[0, 2])


def test_a_circle_of_messages_is_one_loop_that_never_ends():
    network = message_graph(*cycle_of_messages(6)).network()
    components, loops = network.bars(Direction.STRONG_FIRST)
    np.testing.assert_allclose(loops, [[math.log(6), math.log(48)]])
    np.testing.assert_allclose(np.sort(components[:, 1]), [math.log(6)] * 5 + [math.log(48)])


def test_a_chord_ends_the_loop_when_it_enters():
    senders, receivers = cycle_of_messages(4)
    network = message_graph([*senders, "n0"], [*receivers, "n2"]).network()
    _, loops = network.bars(Direction.STRONG_FIRST)
    np.testing.assert_allclose(loops, [[math.log(17 / 4), math.log(17)]])


def test_the_two_directions_show_different_loops():
    weights = np.full((4, 4), 0.1)
    for a, b in ((0, 1), (1, 2), (2, 3), (3, 0)):
        weights[a, b] = weights[b, a] = 0.9
    np.fill_diagonal(weights, NAN)
    network = Network(("a", "b", "c", "d"), weights, "correlation")
    assert len(network.bars(Direction.STRONG_FIRST)[1]) == 1
    assert len(network.bars(Direction.WEAK_FIRST)[1]) == 0


@given(st.integers(0, 1000), st.integers(2, 12))
def test_names_and_their_order_do_not_change_the_shape(seed, count):
    rng = np.random.default_rng(seed)
    values, names = signals(rows=20, count=count, seed=seed)
    order = rng.permutation(count)
    renamed = [f"other{number}" for number in range(count)]
    for direction in Direction:
        before = correlation_network(values, names).bars(direction)
        after = correlation_network(values[:, order], renamed).bars(direction)
        for one, other in zip(before, after, strict=True):
            np.testing.assert_allclose(one[np.lexsort(one.T)], other[np.lexsort(other.T)], atol=1e-9)


def test_windows_are_consecutive_and_leave_the_rest_out():
    values, names = signals(rows=35)
    series = correlation_windows(values, names, window=10, gap=2)
    assert len(series.networks) == 3
    expected = correlation_network(values[12:22], names).weights
    np.testing.assert_array_equal(series.networks[1].weights, expected)


def test_a_window_holds_the_nodes_that_spoke_in_it():
    series = message_windows(["a", "b", "c", "d", "e"], ["b", "a", "d", "c", "a"], window=2)
    assert [each.names for each in series.networks] == [("a", "b"), ("c", "d")]
    assert series.names == ("a", "b", "c", "d")


def test_fewer_rows_than_a_window_are_no_networks():
    values, names = signals(rows=9)
    assert correlation_windows(values, names, window=10).networks == ()


@pytest.mark.parametrize(
    "series",
    [
        correlation_windows(*signals(rows=40), window=10),
        message_windows(*cycle_of_messages(6), window=7),
        NetworkSeries((message_graph(["a"], ["a"]).network(),), 1),
        NetworkSeries((), 5),
    ],
)
def test_a_series_comes_back_from_its_parts(series):
    assert isinstance(series, StoredValue)
    again = NetworkSeries.from_parts(series.to_parts())
    assert again.window == series.window
    assert len(again.networks) == len(series.networks)
    for one, other in zip(series.networks, again.networks, strict=True):
        assert (one.names, one.kind, one.messages) == (other.names, other.kind, other.messages)
        np.testing.assert_array_equal(one.weights, other.weights)


def test_parts_without_their_note_are_refused():
    parts = dict(message_windows(*cycle_of_messages(6), window=7).to_parts())
    parts["nodes"] = parts["nodes"].replace_schema_metadata(None)
    with pytest.raises(NetworkError, match="metadata"):
        NetworkSeries.from_parts(parts)
    with pytest.raises(NetworkError, match="'edges'"):
        NetworkSeries.from_parts({"nodes": parts["nodes"]})


@pytest.mark.parametrize(
    ("names", "weights", "kind", "complaint"),
    [
        (("a", "a"), [[NAN, 0.5], [0.5, NAN]], "correlation", "named twice"),
        (("a", "b"), [[NAN, 0.5], [0.4, NAN]], "correlation", "not symmetric"),
        (("a", "b"), [[1.0, 0.5], [0.5, 1.0]], "correlation", "NaN on the diagonal"),
        (("a", "b"), [[NAN, 1.5], [1.5, NAN]], "correlation", "expected 0 to 1"),
        (("a", "b"), [[NAN, 0.5], [0.5, NAN]], "messages", "expected 1 to 0"),
        (("a",), [[NAN, 0.5], [0.5, NAN]], "correlation", r"expected float64 \(1, 1\)"),
    ],
)
def test_a_malformed_network_is_refused(names, weights, kind, complaint):
    with pytest.raises(NetworkError, match=complaint):
        Network(names, np.array(weights), kind)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: correlation_network(np.zeros((2, 1)), ["a"]), "at least 3"),
        (lambda: correlation_network(np.zeros((9, 2)), ["a"]), r"shape \(9, 2\) and 1 names"),
        (lambda: correlation_windows(np.zeros((9, 1)), ["a"], window=2), "window 2"),
        (lambda: message_graph(["a"], []), "1 senders and 0 receivers"),
        (lambda: message_windows(["a"], ["b"], window=0), "window of at least|window 0|at least 1 message"),
    ],
)
def test_misshapen_input_is_refused(call, complaint):
    with pytest.raises(NetworkError, match=complaint):
        call()
