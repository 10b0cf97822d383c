"""The development stack as a person meets it: `aura up`, a browser, a click on Materialize."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from shell_graph import PROJECT, SOURCE

from aura.corpus.registry import SourceRegistry
from aura.tiers.catalog import Catalog
from aura.tiers.opening import open_configured_store

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(1800)]

ARTEFACTS = PROJECT / "test-artifacts"
STARTUP_SECONDS = 180
RUN_SECONDS = 600
GROUPS = ("corpus", "embeddings", "topology", "drift", "experts", "joint", "search", "tiers", "notebooks")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(address: str, query: str) -> dict:
    request = urllib.request.Request(
        f"{address}/graphql", json.dumps({"query": query}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["data"]


def wait_for(what, condition, seconds, told=None):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if result := condition():
                return result
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass
        time.sleep(1)
    raise AssertionError(f"{what}: not within {seconds} s; {told() if told else ''}")


@pytest.fixture
def page(browser) -> Iterator[object]:
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    yield context.new_page()
    context.close()


@pytest.fixture
def stack(graph, monkeypatch) -> Iterator[dict[str, str]]:
    """The stack on free ports, in a fresh home with the small corpus as its only source and nothing computed."""
    registry = SourceRegistry(graph.settings.sources_file)
    for name in ("digits", "python-docs"):
        registry.remove(name)
    ports = {name: free_port() for name in ("dagster", "mlflow", "dashboard")}
    for name, port in ports.items():
        monkeypatch.setenv(f"AURA_SERVICES__{name.upper()}_PORT", str(port))
    log = graph.settings.home.parent / "up.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / "aura"), "up", "--project", str(PROJECT)],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    addresses = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    try:
        for name, path in (("dagster", "/server_info"), ("mlflow", "/health"), ("dashboard", "/_stcore/health")):
            wait_for(
                f"{name} ({log.read_text(errors='replace')[-2000:]})",
                lambda u=addresses[name] + path: reached(u),
                STARTUP_SECONDS,
            )
        yield addresses
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise


def reached(url: str) -> bool:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.status == 200


def runs(address: str) -> list[dict]:
    query = "{runsOrError(limit:50){... on Runs{results{runId jobName status assetSelection{path} tags{key value}}}}}"
    return ask(address, query)["runsOrError"]["results"]


def states(address: str, job: str) -> list[str]:
    return [run["status"] for run in runs(address) if run["jobName"] == job]


def made(address: str, asset: str) -> bool:
    """Whether a run of this asset alone has ended well; one that has failed ends the waiting."""
    own = [run for run in runs(address) if run["assetSelection"] == [{"path": [asset]}]]
    assert not [run for run in own if run["status"] == "FAILURE"], failures(address)
    return any(run["status"] == "SUCCESS" for run in own)


def failures(address: str) -> str:
    """What the steps that failed have said."""
    query = """{runsOrError(limit:50, filter:{statuses:[FAILURE]}){... on Runs{results{eventConnection(limit:2000){
        events{... on ExecutionStepFailureEvent{stepKey error{message errorChain{error{message}}}}}}}}}}"""
    told = ask(address, query)["runsOrError"]["results"]
    return json.dumps([event for run in told for event in run["eventConnection"]["events"] if event], indent=1)


def launch(page, job):
    """The button acts on what the page knows: a click before the job has been loaded is lost."""
    page.goto(job)
    page.get_by_text("Materialize all").wait_for()
    page.wait_for_load_state("networkidle")
    page.get_by_text("Materialize all").click()


def follow(page, address):
    """Open the first link that leads to an address; gives the page that it opens."""
    link = page.locator(f"a[href^='{address}']").first
    link.wait_for(timeout=30_000)
    with page.context.expect_page() as opened:
        link.click()
    return opened.value


def nothing_to_mend(page, address):
    """The deployment page: everything is loaded, every daemon runs, nothing warns."""
    page.goto(f"{address}/locations")
    page.get_by_text("Loaded", exact=True).first.wait_for(timeout=60_000)
    page.screenshot(path=ARTEFACTS / "dagster-deployment.png")
    assert page.get_by_text(re.compile("fail|error|warning", re.IGNORECASE)).all_inner_texts() == []
    query = "{instance{daemonHealth{allDaemonStatuses{daemonType required healthy}}}}"
    wait_for(
        "every daemon runs",
        lambda: all(
            daemon["healthy"] or not daemon["required"]
            for daemon in ask(address, query)["instance"]["daemonHealth"]["allDaemonStatuses"]
        ),
        120,
    )


def shows_the_lineage(page, address):
    """The groups, none drawn over another, and the assets of one of them."""
    page.goto(f"{address}/asset-groups")
    group = page.locator("svg").get_by_text("tiers", exact=True).first
    group.wait_for(timeout=60_000)
    page.screenshot(path=ARTEFACTS / "dagster-groups.png")
    boxes = [page.locator("svg").get_by_text(name, exact=True).first.bounding_box() for name in GROUPS]
    assert all(
        one["x"] + one["width"] <= other["x"]
        or other["x"] + other["width"] <= one["x"]
        or one["y"] + one["height"] <= other["y"]
        or other["y"] + other["height"] <= one["y"]
        for one, other in itertools.combinations(boxes, 2)
    )
    group.dblclick()
    page.get_by_text("tier_placement").first.wait_for(timeout=30_000)
    page.screenshot(path=ARTEFACTS / "dagster-lineage.png")


def shows_a_value(page, stack):
    """Its plot, the page of the dashboard that has more of it, and the MLflow run that made it."""
    page.goto(f"{stack['dagster']}/assets/embedding_diagrams?view=overview")
    page.get_by_text("[Show Markdown]").first.click()
    is_drawn(page)
    page.screenshot(path=ARTEFACTS / "dagster-plot.png")
    page.get_by_role("button", name="Close").click()
    shown = follow(page, f"{stack['dashboard']}/topology")
    shown.get_by_role("heading", name="Diagrams of the texts").wait_for(timeout=120_000)
    run = follow(page, f"{stack['mlflow']}/#/runs/")
    run.get_by_text(f"embedding_diagrams[{SOURCE}]").first.wait_for(timeout=120_000)
    run.screenshot(path=ARTEFACTS / "dagster-mlflow-run.png")


def is_drawn(page):
    plot = page.locator("img[src^='data:image/png']").first
    plot.wait_for(timeout=30_000)
    assert plot.evaluate("image => image.naturalWidth") > 100


def makes_a_notebook_from_the_dashboard(page, stack):
    address = stack["dagster"]
    page.goto(stack["dashboard"])
    page.get_by_text("Materialize an asset").click(timeout=60_000)
    page.get_by_role("combobox", name="Asset").last.fill("costs_notebook")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Materialize ...").click()
    page.get_by_role("button", name="Yes, do it").click()
    page.get_by_text(re.compile("Run .* is queued")).wait_for(timeout=60_000)
    wait_for("the notebook has run", lambda: made(address, "costs_notebook"), RUN_SECONDS, lambda: runs(address))
    page.goto(f"{address}/assets/costs_notebook?view=overview")
    page.get_by_text("[Show Markdown]").first.click()
    page.get_by_role("heading", name="What did it cost?").wait_for(timeout=30_000)
    is_drawn(page)
    page.screenshot(path=ARTEFACTS / "dagster-notebook.png")


def test_every_asset_materializes_from_the_page_and_shows_its_plots(graph, stack, page):
    address = stack["dagster"]
    partitions = "{assetNodes{assetKey{path} partitionKeys}}"
    wait_for(
        "the sensor turns the source into a partition",
        lambda: any(SOURCE in node["partitionKeys"] for node in ask(address, partitions)["assetNodes"]),
        120,
    )
    ARTEFACTS.mkdir(exist_ok=True)
    nothing_to_mend(page, address)
    launch(page, f"{address}/locations/aura/jobs/corpus")
    page.get_by_role("button", name="All", exact=True).click()
    page.screenshot(path=ARTEFACTS / "dagster-launch.png")
    page.get_by_role("button", name=re.compile("^Launch (backfill|1 run)")).click()
    # The tiers' job asks whether it should run without what the corpus' job has not made yet.
    wait_for("the job corpus has ended well", lambda: states(address, "corpus") == ["SUCCESS"], RUN_SECONDS)
    launch(page, f"{address}/locations/aura/jobs/tiers")
    wait_for("the job tiers is launched", lambda: states(address, "tiers"), 60)

    def all_published():
        assert not [run for run in runs(address) if run["status"] == "FAILURE"], failures(address)
        with open_configured_store(graph.settings) as store:
            return {"expert_routing_table", "embedding_diagrams", "tier_placement"} <= {
                published.name for published in Catalog(store).published()
            }

    wait_for("everything is published", all_published, RUN_SECONDS)
    wait_for(
        "every run has ended well",
        lambda: all(run["status"] == "SUCCESS" for run in runs(address)),
        RUN_SECONDS,
        lambda: runs(address),
    )

    shows_the_lineage(page, address)
    shows_a_value(page, stack)
    makes_a_notebook_from_the_dashboard(page, stack)

    page.goto(stack["mlflow"])
    page.get_by_text("aura").first.wait_for(timeout=60_000)
    page.goto(stack["dashboard"])
    page.get_by_text("text_embeddings").first.wait_for(timeout=60_000)
