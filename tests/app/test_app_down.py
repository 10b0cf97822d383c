"""Pages whose services are down, hang, or come back, in a real browser."""

from __future__ import annotations

import re
import signal

import pytest
from playwright.sync_api import expect
from visiting import PATIENCE_MS, alarms, keep, row, shows

from aura.tiers.catalog import Catalog

pytestmark = [pytest.mark.browser, pytest.mark.slow]

DOWN = {
    "": "Costs and freshness are not known",
    "corpus": "What is published is not known",
    "topology": "What is published is not known",
    "experts": "What is published is not known",
    "tiers": "The memory tiers are not known",
    "events": "The event log is not known",
}


@pytest.fixture(scope="module")
def deserted(materialized, closed_port):
    """The dashboard of a materialized project of which nothing else runs: no owner, no MLflow, no Kafka."""
    nobody = f"127.0.0.1:{closed_port}"
    with materialized.dashboard(AURA_MEASURE__MLFLOW_URI=f"http://{nobody}", AURA_EVENTS__KAFKA=nobody) as found:
        yield found


@pytest.mark.parametrize("name", DOWN)
def test_with_every_service_down_a_page_says_what_is_missing_and_how_to_get_it(opened, deserted, name):
    page = opened(f"{deserted}/{name}")
    panel = alarms(page).filter(has_text=DOWN[name]).first
    shows(panel, re.compile("Remedy|make up|aura |AURA_"))
    page.wait_for_timeout(2000)
    keep(page, f"down-{name or 'overview'}")


def test_with_every_service_down_the_services_have_their_remedies_and_the_machine_its_load(opened, deserted):
    page = opened(f"{deserted}/system")
    body = page.locator("[data-testid=stMainBlockContainer]")
    shows(body, re.compile("kafka.*mlflow.*Remedy", re.DOTALL))
    shows(body, re.compile("processor.*memory.*GiB", re.DOTALL))


def test_an_owner_that_hangs_holds_no_page_up(opened, address, owner):
    page = opened(f"{address}/topology")
    shows(page.locator("[data-testid=stMainBlockContainer]"), "Diagrams of the texts")
    owner.send_signal(signal.SIGSTOP)
    try:
        other = opened(f"{address}/corpus")
        expect(other.get_by_role("textbox", name="Search")).to_be_visible(timeout=PATIENCE_MS)
        other.get_by_role("textbox", name="Search").fill("a boat")
        other.keyboard.press("Enter")
        shows(other.locator("[data-testid=stMainBlockContainer]"), "There is no answer")
        shows(alarms(other).last, re.compile("not known.*did not answer.*aura tiers serve", re.DOTALL))
        events = opened(f"{address}/events")
        shows(events.locator("[data-testid=stMainBlockContainer]"), "corpus.items")
    finally:
        owner.send_signal(signal.SIGCONT)
    other.reload()
    shows(other.locator("[data-testid=stMainBlockContainer]"), "text")
    expect(other.locator(".au-remedy")).to_have_count(0, timeout=PATIENCE_MS)


def test_a_choice_whose_value_comes_late_is_shown_when_it_comes_though_the_page_is_not_live(opened, album):
    with album.owner() as owner, album.dashboard() as found:
        with album.joined() as store:
            catalog = Catalog(store)
            catalog.publish("corpus_manifest", catalog.load("corpus_manifest", "album"), partition="b", provenance={})
        page = opened(f"{found}/corpus")
        shows(page.locator("[data-testid=stMainBlockContainer]"), "Computed")
        page.get_by_text("Live", exact=True).click()
        page.get_by_role("combobox", name="Source").click()
        owner.send_signal(signal.SIGSTOP)
        try:
            page.get_by_role("option", name="b", exact=True).click()
            shows(
                page.locator(".au-waiting").first, re.compile("corpus_manifest of b cannot be shown yet.*aura status")
            )
        finally:
            owner.send_signal(signal.SIGCONT)
        expect(page.locator(".au-waiting")).to_have_count(0, timeout=PATIENCE_MS)
        expect(alarms(page)).to_have_count(0)
        shows(page.locator("[data-testid=stMainBlockContainer]"), "Computed")
        with album.joined() as store:
            Catalog(store).withdraw("corpus_manifest", "b")


def test_without_the_owner_a_panel_has_the_remedy_and_the_rest_stays(opened, address, owner, materialized):
    page = opened(address)
    shows(row(page, "text_embeddings").locator(".au-c-stored"), re.compile(r"B\s*L[123]"))
    owner.kill()
    shows(alarms(page), re.compile("What is stored is not known.*make up.*aura tiers serve"))
    shows(row(page, "text_embeddings").locator(".au-c-stored"), "store not reached")
    shows(row(page, "text_embeddings").locator(".au-c-energy"), "J")
    assert alarms(page).count() == 1
    keep(page, "without-owner")
    with materialized.owner():
        shows(row(page, "text_embeddings").locator(".au-c-stored"), re.compile(r"B\s*L[123]"))
        expect(page.locator(".au-remedy")).to_have_count(0, timeout=PATIENCE_MS)
