"""The page in a real browser, served by a real process, on a project that was really materialized."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from aura.tiers.catalog import Catalog
from aura.tiers.records import Tier

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ARTIFACTS = Path(__file__).resolve().parents[2] / "test-artifacts"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip
SCREENS = {"desktop": (1360, 900, "light"), "phone": (400, 860, "dark")}
PATIENCE_MS = 120_000
ASSETS = (
    "corpus_manifest",
    "text_embeddings",
    "embedding_diagrams",
    "expert_model",
    "expert_routing_table",
    "tier_profile",
    "tier_placement",
)


@pytest.fixture(scope="module")
def browser(chromium):
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def address(materialized):
    with materialized.dashboard() as found:
        yield found


@pytest.fixture
def owner(materialized):
    with materialized.owner() as process:
        yield process


@pytest.fixture
def opened(browser):
    """Opens an address as a new visitor; no page may leave loopback or raise an exception."""
    contexts = []

    def open_page(address, screen="desktop"):
        width, height, scheme = SCREENS[screen]
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        return page

    asked = []
    yield open_page
    for context in contexts:
        for page in context.pages:
            assert page.locator("[data-testid=stException]").count() == 0
        context.close()
    foreign = [url for url in asked if not re.match(r"(https?|wss?)://127\.0\.0\.1:|data:|blob:", url)]
    assert not foreign


def row(page, asset):
    return page.locator("tr", has=page.get_by_role("link", name=asset, exact=True))


def alarms(page):
    """Panels that ask for a remedy, without those that only wait for their first figures."""
    return page.locator(".au-remedy[role=alert]")


def shows(locator, text):
    expect(locator).to_contain_text(text, timeout=PATIENCE_MS)


def keep(page, name):
    height = page.evaluate("document.querySelector('[data-testid=stMainBlockContainer]').scrollHeight")
    page.set_viewport_size({"width": page.viewport_size["width"], "height": int(height) + 60})
    page.wait_for_timeout(1500)
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"dashboard-{name}.png")


@pytest.mark.parametrize("screen", SCREENS)
def test_assets_with_their_costs_and_the_tiers_are_visible(opened, address, owner, screen):
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
    expect(page.get_by_role("link", name="Dagster")).to_have_attribute("href", "http://127.0.0.1:3000")
    keep(page, f"overview-{screen}")


PAGES = {
    "corpus": ("Search", re.compile("text.*ok", re.DOTALL)),
    "topology": ("Drift", "Diagrams of the texts"),
    "experts": ("Routing", re.compile("Experts against a dense twin.*language_models", re.DOTALL)),
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


def test_the_accesses_of_the_store_are_replayed_through_the_policies(opened, address, owner, materialized):
    with materialized.joined() as store:
        keys = Catalog(store).find("text_embeddings", "letters").keys
        for _ in range(100):
            store.get_many(keys)
    page = opened(f"{address}/tiers")
    page.get_by_role("button", name="Replay ...").click()
    page.get_by_role("button", name="Yes, do it").click()
    shows(page.get_by_role("dialog"), "accesses were replayed")


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


@pytest.mark.parametrize("name", ["", *PAGES])
def test_every_page_of_an_empty_project_opens(opened, empty_address, name):
    page = opened(f"{empty_address}/{name}")
    expect(page.locator(".au-remedy, .au-c-answer .au-alarm").first).to_be_visible(timeout=PATIENCE_MS)
    page.wait_for_timeout(1000)


def test_a_dashboard_for_reading_only_offers_no_action(opened, materialized, owner):
    with materialized.dashboard(AURA_SERVICES__DASHBOARD_READ_ONLY="true") as found:
        page = opened(f"{found}/events")
        shows(page.locator("[data-testid=stMainBlockContainer]"), "corpus.items")
        expect(page.get_by_role("button", name="Publish ...")).to_have_count(0)


@pytest.mark.parametrize("screen", SCREENS)
def test_an_empty_project_says_how_to_begin(opened, empty, screen):
    with empty.dashboard() as found:
        page = opened(found, screen)
        shows(page.locator(".au-remedy", has_text="Nothing is materialized yet"), "make demo")
        shows(page.locator(".au-remedy", has_text="What is stored is not known"), "aura tiers serve")
        keep(page, f"empty-{screen}")
    assert not empty.path.exists()
