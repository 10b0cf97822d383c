"""MLflow as a person meets it: find the runs, compare two placements and two models, look a model up."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from shell_graph import MIB, PROJECT, SOURCE, Graph, changed, small_settings

from aura.services.stack import stack

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]

ARTEFACTS = PROJECT / "test-artifacts"
STARTUP_SECONDS = 180
PATIENCE_MS = 90_000
EXPERTS = (2, 3)
ARENAS = (4 * MIB, 6 * MIB)


@dataclass(frozen=True)
class Tracked:
    """A server, and what it has to show.

    Attributes:
        address: Of the server.
        experiment: Id of the experiment.
        models: Runs of two trainings of one source with different settings.
        placements: Runs of two placements with different capacities.
    """

    address: str
    experiment: str
    models: tuple[str, str]
    placements: tuple[str, str]


@pytest.fixture(scope="module")
def tracked(tmp_path_factory, corpus_template, text_model) -> Iterator[Tracked]:
    """Two trainings and two placements in one home, behind the server that the development stack starts."""
    settings = small_settings(tmp_path_factory.mktemp("tracked"), text_model)
    Graph(settings).register(corpus_template)
    assert Graph(settings).run_selection(["corpus_manifest", "text_embeddings"]).success
    models, placements = [], []
    for experts in EXPERTS:
        outcome = Graph(changed(settings, experts={"experts": experts})).run_selection(["expert_model"])
        models.append(str(outcome.materialized["expert_model"]["mlflow_run"]))
    for arena in ARENAS:
        graph = Graph(changed(settings, tiers={"arena_bytes": arena}))
        outcome = graph.run("tiers") if not placements else graph.run_selection(["tier_placement"], None)
        placements.append(str(outcome.materialized["tier_placement"]["mlflow_run"]))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    served = changed(settings, services={"mlflow_port": port})
    (server,) = (process for process in stack(served, PROJECT) if process.name == "mlflow")
    process = subprocess.Popen(
        server.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_until_up(f"{served.mlflow_address}/health")
        import mlflow

        experiment = mlflow.MlflowClient(served.tracking_uri).get_run(models[0]).info.experiment_id
        yield Tracked(served.mlflow_address, experiment, (models[0], models[1]), (placements[0], placements[1]))
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)


def wait_until_up(address: str) -> None:
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"{address} did not answer within {STARTUP_SECONDS} s")


@pytest.fixture
def page(browser) -> Iterator[object]:
    opened = browser.new_page(viewport={"width": 1600, "height": 1400})
    opened.set_default_timeout(PATIENCE_MS)
    yield opened
    opened.close()


def keep(page, name):
    ARTEFACTS.mkdir(exist_ok=True)
    page.wait_for_timeout(1500)
    page.screenshot(path=ARTEFACTS / f"mlflow-{name}.png")


CELLS_BESIDE = """label => {
  const middle = each => each.getBoundingClientRect().top + each.getBoundingClientRect().height / 2;
  const section = label.closest("[class*=collapse-content-box]");
  const cells = [...section.querySelectorAll("td, .ReactVirtualized__Grid__innerScrollContainer > div")];
  return cells.filter(each => !each.contains(label) && Math.abs(middle(each) - middle(label)) < 8)
    .sort((one, other) => one.getBoundingClientRect().left - other.getBoundingClientRect().left)
    .map(each => each.innerText.trim());
}"""
"""Metrics are compared in what is no table: its cells stand in lines by their style alone."""


def line(page, name):
    """The values of a parameter or metric on the page that compares, from left to right."""
    label = page.get_by_text(name, exact=True).last
    label.wait_for()
    return label.evaluate(CELLS_BESIDE)


def compare(page, tracked, runs):
    chosen = ",".join(f'"{run}"' for run in runs)
    page.goto(f'{tracked.address}/#/compare-runs?runs=[{chosen}]&experiments=["{tracked.experiment}"]')
    page.get_by_text("Parameters").first.wait_for()


def test_the_experiment_lists_its_runs_by_names_that_tell_what_they_are(tracked, page):
    page.goto(f"{tracked.address}/#/experiments/{tracked.experiment}/runs")
    page.get_by_text(re.compile(rf"^expert_model\[{SOURCE}\] \d{{4}}-")).first.wait_for()
    page.get_by_text(re.compile(r"^tier_placement \d{4}-")).first.wait_for()
    keep(page, "experiment")


def test_two_models_stand_side_by_side_with_what_they_were_made_with_and_what_they_gave(tracked, page):
    compare(page, tracked, tracked.models)
    assert line(page, "experts.experts") == [str(each) for each in EXPERTS]
    assert len(set(line(page, "input text_embeddings"))) == 1
    assert all(0 <= float(each) <= 1 for each in line(page, "switch_accuracy"))
    assert all(float(each) > 0 for each in line(page, "wall_seconds"))
    keep(page, "models")


def test_two_placements_stand_side_by_side_with_their_capacities(tracked, page):
    compare(page, tracked, tracked.placements)
    assert line(page, "L2_capacity_bytes") == [str(each) for each in ARENAS]
    keep(page, "placements")


def test_a_registered_model_has_its_alias_and_the_tags_of_its_lineage(tracked, page):
    name = f"aura-experts-{SOURCE}"
    page.goto(f"{tracked.address}/#/models/{name}")
    page.get_by_text("@ current").first.wait_for()
    keep(page, "model")
    page.goto(f"{tracked.address}/#/models/{name}/versions/2")
    for text in ("dagster.run_id", "aura.asset", "aura.partition", "expert_model"):
        page.get_by_text(text).first.wait_for()
    page.get_by_text("current").first.wait_for()
    keep(page, "version")
