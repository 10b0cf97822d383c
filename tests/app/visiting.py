"""What a visitor sees of a page, for the tests in a browser."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect

ARTIFACTS = Path(__file__).resolve().parents[2] / "test-artifacts"
SCREENS = {"desktop": (1360, 900, "light"), "phone": (400, 860, "dark")}
PATIENCE_MS = 120_000
VIEWS = ("", "corpus", "topology", "experts", "tiers", "events", "system")
"""The pages by their addresses."""


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
