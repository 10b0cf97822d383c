"""Single pages as Streamlit runs them, without a browser: what they show of real values and records."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.views.events import TAIL
from app.views.experts import COLUMNS, mark
from app.views.overview import ALERTS_SHOWN
from aura.corpus.manifest import CorpusManifest
from aura.corpus.rows import set_aside_row, text_row
from aura.events.errors import EventError
from aura.events.event import new_event
from aura.events.opening import open_event_log
from aura.experts.language.card import BitsPerByte, Curve, CurvePoint, LanguageCard, LayerBalance
from aura.experts.language.comparison import Interval, MoeVersusDense
from aura.experts.language.presets import PRESETS, PairCost
from aura.experts.language.tokens import Domain, TextCard
from aura.experts.routing.requests import RequestActivations
from aura.measure.cost import Cost
from aura.measure.energy import Energy
from aura.measure.mlflow_recorder import MlflowRecorder
from aura.measure.recorder import Record
from aura.settings import Settings
from aura.tiers.budgets import TierBudgets
from aura.tiers.catalog import Catalog
from aura.tiers.places import pointer_key
from aura.tiers.store import open_store

SMALL = TierBudgets(process_bytes=1 << 20, arena_bytes=1 << 20)
NOW = datetime.now(UTC)
TWIN = 2.4


def draw(name):
    import importlib

    from app.frame import draw_again_if_waiting, draw_head
    from aura.settings import load_settings

    view = importlib.import_module(f"app.views.{name}")
    view.draw(draw_head(load_settings(), view.SUBTITLE))
    draw_again_if_waiting()


def html(app):
    return unescape("\n".join(element.proto.body for element in app.get("html")))


def captions(app):
    return [image.caption for element in app.get("image") for image in element.proto.imgs]


@pytest.fixture
def view(at_home):
    """Runs a page on a home until what is waited for is drawn."""

    def run(name, home, awaited, **settings):
        at_home(home, **settings)
        app = AppTest.from_function(draw, default_timeout=60, kwargs={"name": name})
        for _ in range(300):
            app.run()
            assert not app.exception
            if awaited in html(app):
                return app
            time.sleep(0.2)
        pytest.fail(f"{awaited!r} was never drawn, but {html(app)}")

    return run


def curve(steps, held_out):
    points = tuple(
        CurvePoint(step, step / 10, 1.0, BitsPerByte.of({"a": held_out + 0.5 - step / 1000})) for step in steps
    )
    return Curve(steps[-1], points, BitsPerByte.of({"a": held_out}))


def card(seed, experts):
    """What a training of enough tokens measured, in which the model with experts came to so many bits per byte."""
    config = PRESETS["small"].with_seed(seed)
    text = TextCard("a test", "0", config.vocabulary, (Domain("a", 1, 1, config.tokens, 1, 1, 1),), {})
    return LanguageCard(
        config=config,
        text=text,
        cost=PairCost.of(config, config.vocabulary),
        clock="cpu",
        moe=curve((100, 200), experts),
        dense=curve((100, 200), TWIN),
        dense_longer=curve((120, 240), TWIN),
        balance=(LayerBalance((10, 10, 10, 10)),),
        versions={},
    )


@pytest.mark.parametrize(
    ("values", "state"),
    [([-0.05, -0.04, -0.06], "fresh"), ([0.05, 0.04, 0.06], "late"), ([-0.05, 0.05, 0.01], ""), ([0.05], "")],
)
def test_only_a_difference_that_is_shown_is_marked(values, state):
    assert mark(Interval.of(values)) == state


def test_no_two_columns_of_the_routing_table_are_named_alike():
    assert len({name.strip() for name in COLUMNS.values()}) == len(COLUMNS)


def test_experts_are_judged_at_equal_time_over_the_seeds_that_there_are(view, empty):
    comparison = MoeVersusDense.of([card(seed, TWIN + more) for seed, more in enumerate((0.1, 0.11))])
    with open_store(empty.store_directory, budgets=SMALL) as store:
        Catalog(store).publish("moe_versus_dense", comparison, partition=None, provenance={})
        app = view("experts", empty, "Computed")
    drawn = html(app)
    assert "Held-out text, 2 seeds" in drawn
    assert f"{comparison.equal_time.percent()} bits per byte at equal time" in drawn
    assert comparison.sentence() in drawn
    assert 'class="au-state au-late"' in drawn
    assert drawn.count("Computed") == 1
    assert captions(app) == ["Differences over the seeds", "Learning curves"]
    assert app.dataframe[-1].value["seed"].tolist() == [0, 1]


def test_a_comparison_that_proves_nothing_is_no_alarm(view, empty):
    proved = card(0, TWIN + 0.1)
    nothing = replace(proved, text=replace(proved.text, domains=(Domain("a", 1, 1, 10, 1, 1, 1),)))
    with open_store(empty.store_directory, budgets=SMALL) as store:
        Catalog(store).publish("moe_versus_dense", MoeVersusDense.of([nothing]), partition=None, provenance={})
        drawn = html(view("experts", empty, "PROVES NOTHING"))
    assert "Held-out text, 1 seed<" in drawn
    assert 'class="au-state au-late"' not in drawn
    assert 'class="au-state au-fresh"' not in drawn


def test_a_request_is_shown_with_its_model_and_its_age_once(view, empty):
    with open_store(empty.store_directory, budgets=SMALL) as store:
        for name, tokens in (("chat-1", 3), ("chat-2", 1500)):
            matrix = np.full((2, 4), tokens)
            request = RequestActivations(name, "models/small-moe", tokens, matrix, NOW)
            Catalog(store).publish("request_activations", request, partition=name, provenance={})
        app = view("experts", empty, "answered at")
        assert app.selectbox(key="request").label == "Request"
        assert "3 tokens through models/small-moe" in html(app)
        assert html(app).count("Computed") == 1
        assert captions(app) == ["Tokens by layer and expert"]
        app.selectbox(key="request").select("chat-2").run()
        assert "1,500 tokens through models/small-moe" in html(app)


def test_the_tiers_and_the_values_on_them_are_each_as_of_their_own_reading(view, empty):
    with open_store(empty.store_directory, budgets=SMALL) as store:
        request = RequestActivations("chat-1", "m", 3, np.array([[3, 0]]), NOW)
        Catalog(store).publish("request_activations", request, partition="chat-1", provenance={})
        drawn = html(view("tiers", empty, "Bytes of each published value"))
    assert drawn.count("As of ") == 2
    assert "No placement is published" in drawn


def test_a_value_whose_pointer_is_damaged_is_named_with_the_remedy(view, empty):
    with open_store(empty.store_directory, budgets=SMALL) as store:
        store.put(pointer_key("embedding_loops", "notes"), b"{")
        drawn = html(view("overview", empty, "A published value cannot be found"))
    assert "pointers/embedding_loops/notes" in drawn


def test_placements_are_said_to_be_unknown_where_they_are(view, empty):
    drawn = html(view("tiers", empty, "What is published is not known"))
    assert "see above" not in drawn


def test_a_dashboard_for_reading_only_replays_nothing(view, empty):
    assert [each.label for each in view("tiers", empty, "not known").button] == ["Replay ..."]
    app = view("tiers", empty, "not known", AURA_SERVICES__DASHBOARD_READ_ONLY="true")
    assert not app.button
    assert [each.value for each in app.header] == ["Now", "The last placement"]


def publish(home, topic, kind, data, times):
    log = open_event_log(Settings(home=home.path))
    log.publish(topic, [new_event(kind, data, source="test", key="a", time=time) for time in times])
    log.close()


def test_alerts_beyond_those_that_are_listed_are_mentioned(view, empty):
    alert = {"alert": "a", "severity": "info", "failed": "it", "remedy": "wait"}
    publish(empty, "alerts", "alerts.raised", alert, [NOW - timedelta(minutes=each) for each in range(ALERTS_SHOWN)])
    drawn = html(view("overview", empty, "alerts.raised"))
    assert drawn.count("<b>alerts.raised</b>") == ALERTS_SHOWN
    assert "are listed" not in drawn
    publish(empty, "alerts", "alerts.raised", alert, [NOW])
    drawn = html(view("overview", empty, "Of alerts only the latest"))
    assert drawn.count("<b>alerts.raised</b>") == ALERTS_SHOWN


def test_runs_beyond_those_that_are_listed_are_mentioned(view, empty, monkeypatch):
    monkeypatch.setattr("app.views.overview.RUNS", 1)
    recorder = MlflowRecorder(Settings(home=empty.path).tracking_uri)
    energy = Energy("modelled", 12.5, {"cpu": 12.5}, "25 W a core", None)

    def record(minutes_ago):
        cost = Cost(NOW - timedelta(minutes=minutes_ago), 1.5, 0.5, 1 << 20, energy, "VmHWM")
        recorder.record(Record("embeddings", "a", f"run-{minutes_ago}", "embeddings", "1", cost, {}, {}))

    record(3)
    drawn = html(view("overview", empty, ">run-3<"))
    assert "are listed" not in drawn
    record(2)
    drawn = html(view("overview", empty, "Only the latest 1 are listed."))
    assert ">run-2<" in drawn
    assert ">run-3<" not in drawn


def test_items_set_aside_beyond_those_that_are_listed_are_mentioned(view, empty, monkeypatch):
    rows = [text_row("a.txt", "a text"), *(set_aside_row(f"{each}.bin", "unknown", modality=None) for each in range(3))]
    with open_store(empty.store_directory, budgets=SMALL) as store:
        Catalog(store).publish("corpus_manifest", CorpusManifest.from_rows("a", rows), partition="a", provenance={})
        assert "Only the first" not in html(view("search", empty, "Computed"))
        monkeypatch.setattr("app.views.search.LISTED", 2)
        app = view("search", empty, "Only the first 2 are listed.")
    assert app.dataframe[-1].value["uri"].tolist() == ["0.bin", "1.bin"]


def test_records_beyond_those_that_are_listed_are_mentioned_if_they_are_within_the_window(view, empty):
    data = {"source": "a", "changed": [], "removed": []}
    old = [NOW - timedelta(days=2)] * 9
    publish(empty, "corpus.items", "corpus.items.changed", data, [*old, *[NOW] * TAIL])
    app = view("events", empty, "As of")
    assert len(app.dataframe[0].value) == TAIL
    assert "are listed" not in html(app)
    publish(empty, "corpus.items", "corpus.items.changed", data, [NOW])
    app = view("events", empty, f"Only the latest {TAIL} are listed.")
    assert len(app.dataframe[0].value) == TAIL


def test_an_event_has_the_type_that_was_chosen_and_the_example_is_one_of_that_type(view, empty, monkeypatch):
    asked = {}
    monkeypatch.setattr("app.views.events.confirm", asked.__setitem__)
    app = view("events", empty, "no event log")
    assert app.selectbox(key="type-of-corpus.items").options == ["corpus.items.changed"]
    app.selectbox(key="to").select("alerts").run()
    app.selectbox(key="type-of-alerts").select("alerts.resolved").run()
    assert "An alert no longer holds." in html(app)
    (example,) = (each.value for each in app.code)

    def publish(data):
        app.text_area(key="event-data").input(data)
        next(button for button in app.button if button.label == "Publish ...").click().run()
        return asked.pop("Publish an event of the type `alerts.resolved` on `alerts`? Whoever listens acts on it.")()

    for wrong in ("[]", "{"):
        with pytest.raises(EventError, match=re.escape(f"a JSON object such as {example}")):
            publish(wrong)
    assert "is durable at" in publish(example)
    log = open_event_log(Settings(home=empty.path))
    (record,) = log.read("alerts", 0, 0, 9).records
    log.close()
    assert (record.event.type, record.event.data) == ("alerts.resolved", json.loads(example))
