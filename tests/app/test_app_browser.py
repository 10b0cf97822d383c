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
PATIENCE_MS = 60_000
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
    for tier in ("L1", "L2", "L3"):
        shows(page.locator(f"[data-tier={tier}]"), re.compile("objects.*gets since opened.*mean get", re.DOTALL))
    expect(page.locator("[data-testid=stVegaLiteChart] canvas, [data-testid=stVegaLiteChart] svg")).to_be_visible()
    assert page.locator(".au-remedy").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= SCREENS[screen][0]
    expect(page.get_by_role("link", name="Dagster")).to_have_attribute("href", "http://127.0.0.1:3000")
    keep(page, f"materialized-{screen}")


def test_a_move_and_its_gets_show_without_a_reload(opened, address, owner, materialized):
    with materialized.joined() as store:
        store.move({entry.key: Tier.L3 for entry in store.entries()})
        keys = Catalog(store).find("text_embeddings", "letters").keys
        page = opened(address)
        shows(row(page, "text_embeddings").locator(".au-c-stored"), "L3")
        arena = page.locator("[data-tier=L1]")
        shows(arena.locator(".au-big"), "0 B of")
        page.evaluate("window.stillTheSamePage = true")
        assert store.move(dict.fromkeys(keys, Tier.L1)).promoted == len(keys)
        for _ in range(200):
            store.get_many(keys)
    gets = arena.locator("dt", has_text="gets since opened").locator("xpath=following-sibling::dd[1]")
    shows(gets, f"{200 * len(keys):,}")
    expect(arena.locator(".au-big")).not_to_contain_text("0 B of", timeout=PATIENCE_MS)
    shows(row(page, "text_embeddings").locator(".au-c-stored"), "L1")
    assert page.evaluate("window.stillTheSamePage")


def test_a_paused_page_keeps_its_figures_until_it_is_live_again(opened, address, owner, materialized):
    page = opened(address)
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


def test_without_the_owner_one_panel_has_the_remedy_and_the_rest_stays(opened, address, owner, materialized):
    page = opened(address)
    shows(page.locator("[data-tier=L3]"), "RocksDB")
    owner.kill()
    shows(alarms(page), re.compile("The memory tiers are not known.*make up.*aura tiers serve"))
    shows(row(page, "text_embeddings").locator(".au-c-stored"), "store not reached")
    shows(row(page, "text_embeddings").locator(".au-c-energy"), "J")
    assert alarms(page).count() == 1
    keep(page, "without-owner")
    with materialized.owner():
        shows(page.locator("[data-tier=L3]"), "RocksDB")
        expect(page.locator(".au-remedy")).to_have_count(0, timeout=PATIENCE_MS)


@pytest.mark.parametrize("screen", SCREENS)
def test_an_empty_project_says_how_to_begin(opened, empty, screen):
    with empty.dashboard() as found:
        page = opened(found, screen)
        shows(page.locator(".au-remedy").first, re.compile("Nothing is materialized yet.*make demo"))
        shows(page.locator(".au-remedy").last, "aura tiers serve")
        keep(page, f"empty-{screen}")
    assert not empty.path.exists()
