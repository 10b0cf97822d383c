"""The commands `aura experts`, from putting a model in to removing it."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from offload_models import save_with_letters
from rich.console import Console
from typer.testing import CliRunner

from aura.cli import app
from aura.events.errors import EventError
from aura.events.opening import open_event_log
from aura.experts.offload.cli import _complete
from aura.experts.offload.errors import ModelFilesError, UnknownModelError
from aura.experts.routing.requests import RequestActivations, every_token_counted, find_request
from aura.settings import load_settings
from aura.tiers.catalog import Catalog
from aura.tiers.errors import StorageError
from aura.tiers.opening import open_configured_store


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A model with a tokenizer whose words are letters."""
    return save_with_letters("qwen", tmp_path_factory.mktemp("models") / "letters")


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    for name, value in {
        "AURA_HOME": tmp_path / "home",
        "AURA_TIERS__PROCESS_BYTES": 120_000,
        "AURA_TIERS__ARENA_BYTES": 0,
        "COLUMNS": 160,
    }.items():
        monkeypatch.setenv(name, str(value))
    # The one of the module took its width when it was imported.
    monkeypatch.setattr("aura.experts.offload.cli.console", Console(width=160))


def run(*arguments, fails=None):
    """What `aura experts` printed; or it has to end with this error, which `aura` says in a sentence."""
    done = CliRunner().invoke(app, ["experts", *map(str, arguments)])
    if fails is not None:
        assert isinstance(done.exception, fails)
        return str(done.exception)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_a_model_goes_in_runs_in_every_mode_and_goes_out(directory):
    assert "24 experts of 3 layers" in run("put", directory)
    assert json.loads(run("put", directory, "--name", "again", "--json"))["experts"] == [8, 8, 8]
    rows = [json.loads(line) for line in run("list", "--json").splitlines()]
    assert [(row["name"], row["tiers"]) for row in rows] == [("again", {"L3": 24}), ("letters", {"L3": 24})]
    assert "letters" in run("list")

    texts = set()
    for mode in ("resident", "cold", "lru", "online", "planned"):
        found = json.loads(run("run", "letters", "abc", "--mode", mode, "--budget", "90KB", "--tokens", 8, "--json"))
        texts.add(found["text"])
        assert found["mode"] == mode
        assert found["tokens_per_second"] > 0
        assert found["budget_bytes"] == 90_000
        assert (found["hit_ratio"] is None) == (mode == "resident")
    assert len(texts) == 1
    assert "tokens a second" in run("run", "letters", "abc", "--tokens", 4, "--request", "first")
    with closing(open_event_log(load_settings())) as log:
        told = find_request(log, "first")
    assert (told.model, told.matrix.shape) == ("letters", (3, 8))
    # Two choices in each of three layers, of every token but the last, which nothing follows.
    assert told.tokens <= 3 + 4 - 1
    assert told.matrix.sum() == 2 * 3 * told.tokens
    assert every_token_counted(told).passed
    assert "below the" in run("run", "letters", "abc", "--tokens", 4, "--mode", "lru", "--budget", "20KB")

    assert json.loads(run("remove", "again", "--json")) == {"name": "again", "removed": 24}
    assert "24 experts of letters are removed" in run("remove", "letters")
    assert run("list", "--json") == ""


def test_errors_name_the_thing_and_the_remedy(directory, tmp_path):
    assert "aura experts put" in run("list", fails=StorageError)
    assert "config.json" in run("put", tmp_path, fails=ModelFilesError)
    run("put", directory)
    assert "there are: letters" in run("run", "other", "abc", fails=UnknownModelError)
    for option, value in (("--budget", "much"), ("--budget", "-5"), ("--request", "not one"), ("--mode", "warm")):
        done = CliRunner().invoke(app, ["experts", "run", "letters", "abc", option, value])
        assert done.exit_code == 2
        assert f"'{value}'" in done.stderr
    assert "no tokens" in run("run", "letters", "", fails=ModelFilesError)
    run("remove", "letters")
    assert "there are: none" in run("remove", "letters", fails=UnknownModelError)


def test_a_run_begins_with_what_was_published_of_the_model(directory, monkeypatch):
    """A routing table of other weights, and requests to other models, count for nothing."""
    from aura.experts.offload import runtime
    from aura.experts.routing.capture import open_routed_model
    from aura.experts.routing.tabulate import Items, route_texts

    begun = []

    class Watched(runtime.ExpertRuntime):
        def __init__(self, *arguments, **options):
            begun.append((options["transitions"], list(options["past"])))
            super().__init__(*arguments, **options)

    monkeypatch.setattr(runtime, "ExpertRuntime", Watched)
    run("put", directory)
    run("run", "letters", "abc", "--tokens", 2)
    table = route_texts(
        open_routed_model(str(directory), device="cpu"),
        ["abcde", "fgh"],
        Items(["1", "2"], [None] * 2, np.zeros(2, int)),
        tokens=8,
    )
    other = replace(table, figures=replace(table.figures, fingerprint="other"))
    matrix = np.arange(24).reshape(3, 8)
    with open_configured_store(load_settings()) as store:
        catalog = Catalog(store)
        for partition, value in (("mine", table), ("other", other)):
            catalog.publish("expert_routing_table", value, partition=partition, provenance={})
        for number, model in enumerate(("letters", "another", "letters")):
            value = RequestActivations(f"r{number}", model, 12, matrix + number, datetime.now(UTC))
            catalog.publish("request_activations", value, partition=value.request, provenance={})
    run("run", "letters", "abc", "--tokens", 2)
    run("run", "letters", "abc", "--tokens", 2, "--mode", "lru")

    (nothing, no_past), (transitions, past), for_lru = begun
    assert nothing is None
    assert no_past == []
    assert transitions.sum() == sum(table.transitions["pairs"].to_pylist()) > 0
    assert [found[0, 0] for found in past] == [2, 0]
    assert for_lru == (None, [])


def test_an_answer_is_there_although_the_log_cannot_be_told_of_it(directory):
    run("put", directory)
    load_settings().event_log_file.mkdir(parents=True)  # in its way
    done = CliRunner().invoke(app, ["experts", "run", "letters", "abc", "--tokens", "2", "--request", "untold"])
    assert isinstance(done.exception, EventError)
    assert "tokens a second" in done.output


def test_names_are_completed_from_a_running_owner_alone(directory):
    assert _complete("let") == []
    assert not load_settings().store_directory.exists()
    run("put", directory)
    assert _complete("let") == []  # nobody has the store open, and who completes does not
    with open_configured_store(load_settings()):
        assert _complete("let") == ["letters"]
        assert _complete("x") == []


def test_help_has_an_example_for_every_command():
    for command in ("put", "list", "run", "remove"):
        assert f"aura experts {command}" in run(command, "--help")
