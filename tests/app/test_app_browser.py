"""The page in a real browser, served by a real process, on a project that was really materialized."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import expect
from visiting import PATIENCE_MS, SCREENS, VIEWS, keep, row, shows

from aura.events.consumer import dead_letter
from aura.events.event import Poison, new_event
from aura.events.opening import open_event_log
from aura.settings import Settings
from aura.tiers.catalog import Catalog
from aura.tiers.records import Tier

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ASSETS = (
    "corpus_manifest",
    "text_embeddings",
    "embedding_diagrams",
    "expert_model",
    "expert_routing_table",
    "tier_profile",
    "tier_placement",
)


@pytest.mark.parametrize("screen", SCREENS)
def test_assets_with_their_costs_and_the_tiers_are_visible(opened, address, owner, closed_port, screen):
    page = opened(address, screen)
    for asset in ASSETS:
        line = row(page, asset)
        shows(line.locator(".au-c-freshness"), re.compile("fresh.*ago"))
        shows(line.locator(".au-c-wall-time"), re.compile(r"\d s.*computed.*ago"))
        shows(line.locator(".au-c-cpu-time"), re.compile(r"\d s"))
        shows(line.locator(".au-c-peak-memory"), "MiB")
        shows(line.locator(".au-c-energy"), re.compile(r"\d J.*modelled"))
        shows(line.locator(".au-c-rows"), re.compile(r"\d"))
        shows(line.locator(".au-c-stored"), re.compile(r"B\s*L[123].*B"))
        shows(line.locator(".au-c-checks"), "passed")
    expect(page.locator("[data-testid=stVegaLiteChart] canvas, [data-testid=stVegaLiteChart] svg")).to_be_visible()
    assert page.locator(".au-remedy").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= SCREENS[screen][0]
    dagster = f"http://127.0.0.1:{closed_port}"
    expect(page.get_by_role("link", name="Dagster")).to_have_attribute("href", dagster)
    keep(page, f"overview-{screen}")


PAGES = {
    "corpus": ("Search", re.compile("text.*ok", re.DOTALL)),
    "topology": ("Drift", "Diagrams of the texts"),
    "experts": ("Routing", re.compile("Experts against a dense twin.*language", re.DOTALL)),
    "tiers": ("The last placement", re.compile("objects.*gets since opened.*mean get", re.DOTALL)),
    "events": ("Latest records", re.compile("corpus.items.*alerts", re.DOTALL)),
    "system": ("Services", re.compile("store.*dagster.*nothing listens there.*Remedy", re.DOTALL)),
}


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("name", PAGES)
def test_every_page_shows_what_it_is_about(opened, address, owner, name, screen):
    page = opened(f"{address}/{name}", screen)
    for text in PAGES[name]:
        shows(page.locator("[data-testid=stMainBlockContainer]"), text)
    page.wait_for_timeout(3000)
    assert page.evaluate("document.documentElement.scrollWidth") <= SCREENS[screen][0]
    keep(page, f"{name}-{screen}")


def test_pictures_are_dark_in_the_dark_and_a_wide_one_is_moved_sideways_on_a_phone(opened, address, owner):
    page = opened(f"{address}/topology", "phone")
    picture = page.locator("[data-testid=stImage] img").first
    page.emulate_media(color_scheme="light")
    page.reload()
    expect(picture).to_have_css("filter", "none", timeout=PATIENCE_MS)
    assert picture.evaluate("image => image.clientWidth > image.parentElement.clientWidth")
    page.emulate_media(color_scheme="dark")
    page.reload()
    expect(picture).to_have_css("filter", re.compile("invert"), timeout=PATIENCE_MS)
    keep(page, "topology-dark-phone")


def test_search_by_typing_finds_the_nearest_items(opened, address, owner):
    page = opened(f"{address}/corpus")
    page.get_by_role("textbox", name="Search").fill("trimming the sail of a boat")
    page.keyboard.press("Enter")
    first = page.locator(".au-hits tbody tr").first
    shows(first, "skipper")
    shows(first, "sailing")
    keep(page, "search")


def test_an_event_is_published_after_a_question_and_shows(opened, address, owner):
    page = opened(f"{address}/events")
    shows(page.locator("tr", has_text="corpus.items").first, "0 ever published")
    page.get_by_role("textbox", name="Key").fill("letters")
    page.get_by_role("textbox", name="Data, a JSON object").fill('{"source": "letters", "changed": [], "removed": []}')
    page.get_by_role("button", name="Publish ...").click()
    page.get_by_role("button", name="Yes, do it").click()
    shows(page.get_by_role("dialog"), "is durable at")
    page.keyboard.press("Escape")
    shows(page.locator("tr", has_text="corpus.items").first, "1 ever published")


def test_alerts_and_dead_letters_show_within_the_time_window(opened, address, owner, materialized):
    before = datetime.now(UTC) - timedelta(hours=3)
    raised = {"alert": "run/1", "severity": "critical", "failed": "the disk is full", "remedy": "make room"}
    poison = Poison("corpus.items", 0, 7, int(before.timestamp() * 1000), b"letters", (), b"{", "it is no JSON")
    log = open_event_log(Settings(home=materialized.path))
    log.publish("alerts", [new_event("alerts.raised", raised, source="disk", key="run/1", time=before)])
    log.publish("corpus.items.dead", [dead_letter(poison, "reader")])
    log.close()
    page = opened(address)
    shows(page.locator("tr", has_text="the disk is full"), "make room")
    page.get_by_text("10 min", exact=True).click()
    shows(page.locator("[data-testid=stMainBlockContainer]"), "No alert within the time window.")
    page = opened(f"{address}/events")
    page.get_by_text("Dead letters", exact=True).click()
    shows(page.locator("[data-testid=stDataFrame]"), "it is no JSON")


def test_the_accesses_of_the_store_are_replayed_through_the_policies(opened, address, owner, materialized):
    with materialized.joined() as store:
        keys = Catalog(store).find("text_embeddings", "letters").keys
        for _ in range(100):
            store.get_many(keys)
    page = opened(f"{address}/tiers")
    page.get_by_role("button", name="Replay ...").click()
    page.get_by_role("button", name="Yes, do it").click()
    shows(page.get_by_role("dialog"), "accesses were replayed")
    page.keyboard.press("Escape")
    expect(page.locator("[data-testid=stImage] img").last).to_be_visible(timeout=PATIENCE_MS)


def test_a_move_and_its_gets_show_without_a_reload(opened, address, owner, materialized):
    with materialized.joined() as store:
        store.move({entry.key: Tier.L3 for entry in store.entries()})
        keys = Catalog(store).find("text_embeddings", "letters").keys
        page = opened(f"{address}/tiers")
        held = page.locator("tr", has_text="text_embeddings").locator(".au-c-tiers")
        shows(held, "L3")
        arena = page.locator("[data-tier=L1]")
        shows(arena.locator(".au-big"), "0 B of")
        page.evaluate("window.stillTheSamePage = true")
        assert store.move(dict.fromkeys(keys, Tier.L1)).promoted == len(keys)
        for _ in range(200):
            store.get_many(keys)
    gets = arena.locator("dt", has_text="gets since opened").locator("xpath=following-sibling::dd[1]")
    shows(gets, f"{200 * len(keys):,}")
    expect(arena.locator(".au-big")).not_to_contain_text("0 B of", timeout=PATIENCE_MS)
    shows(held, "L1")
    assert page.evaluate("window.stillTheSamePage")


def test_a_paused_page_keeps_its_figures_until_it_is_live_again(opened, address, owner, materialized):
    page = opened(f"{address}/tiers")
    objects = page.locator("[data-tier=L2] dd").first
    shows(objects, "0")
    page.get_by_text("Live", exact=True).click()
    expect(page.get_by_role("switch", name="Live")).not_to_be_checked()
    page.wait_for_timeout(3000)
    with materialized.joined() as store:
        keys = Catalog(store).find("embedding_diagrams", "letters").keys
        store.move(dict.fromkeys(keys, Tier.L2))
    page.wait_for_timeout(6000)
    expect(objects).to_have_text("0")
    page.get_by_text("Live", exact=True).click()
    expect(objects).to_have_text(str(len(keys)), timeout=PATIENCE_MS)


@pytest.mark.parametrize("name", VIEWS)
def test_every_page_of_an_empty_project_opens(opened, empty_address, name):
    page = opened(f"{empty_address}/{name}")
    expect(page.locator(".au-remedy, .au-c-answer .au-alarm").first).to_be_visible(timeout=PATIENCE_MS)
    page.wait_for_timeout(1000)


def test_a_dashboard_for_reading_only_offers_no_action(opened, materialized, owner):
    with materialized.dashboard(AURA_SERVICES__DASHBOARD_READ_ONLY="true") as found:
        page = opened(f"{found}/events")
        shows(page.locator("[data-testid=stMainBlockContainer]"), "corpus.items")
        expect(page.get_by_role("button", name="Publish ...")).to_have_count(0)
        page.goto(found)
        shows(page.locator("[data-testid=stMainBlockContainer]"), "Latest runs")
        expect(page.get_by_text("Materialize an asset")).to_have_count(0)
        page.goto(f"{found}/tiers")
        shows(page.locator("[data-testid=stMainBlockContainer]"), "The last placement")
        expect(page.get_by_role("button", name="Replay ...")).to_have_count(0)


@pytest.mark.parametrize("screen", SCREENS)
def test_an_empty_project_says_how_to_begin(opened, empty, screen):
    with empty.dashboard() as found:
        page = opened(found, screen)
        shows(page.locator(".au-remedy", has_text="Nothing is materialized yet"), "make demo")
        shows(page.locator(".au-remedy", has_text="What is stored is not known"), "aura tiers serve")
        keep(page, f"empty-{screen}")
    assert not empty.path.exists()


@pytest.mark.parametrize(("kind", "place"), [("png", "images"), ("wav", "sounds")])
def test_a_file_finds_its_own_kind(opened, album, kind, place):
    item = next((album.path.parent / "album" / "one").glob(f"*.{kind}"))
    with album.owner(), album.dashboard() as found:
        page = opened(f"{found}/corpus")
        page.locator("input[type=file]").set_input_files(item)
        page.get_by_role("combobox", name="In").click()
        page.get_by_role("option", name=place).click()
        first = page.locator(".au-hits tbody tr").first
        shows(first, item.name)
        expect(first.locator("img, audio").first).to_be_visible(timeout=PATIENCE_MS)
        keep(page, f"search-{place}")
