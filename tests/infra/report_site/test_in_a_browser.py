"""The site in a real browser: pages fit narrow and wide windows, light and dark, and comparing works by clicks."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.fixtures.browser import overflow, picture
from tests.fixtures.report_site import LONG, Site

PAGES = {
    "index": "/",
    "report": "/relay/v0.2.0/",
    "damaged": "/damaged/v0.1.0/",
    "compare": "/compare?a=relay@v0.1.0&b=relay@v0.3.0",
    "compare-long": f"/compare?a={LONG}&b=hostile@v0.1.0",
    "lineage": "/lineage",
    "lineage-of": "/lineage?of=relay@v0.2.0",
}


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_its_window(
    scheme: str, width: int, site: Site, browser: Browser, tmp_path: Path
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # pyright: ignore[reportArgumentType]
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    wider = {}
    for name, path in PAGES.items():
        page.goto(site.server.address + path)
        picture(page, tmp_path, f"{name}-{width}-{scheme}")
        wider[name] = overflow(page)
    context.close()
    assert wider == dict.fromkeys(PAGES, 0)
    assert [text for text in said if "502" not in text] == []


def test_two_versions_are_found_and_compared_by_clicks(site: Site, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(site.server.address)
    page.get_by_role("searchbox").fill("relay")
    page.get_by_role("button", name="Search").click()
    page.get_by_label("A: relay@v0.1.0").check()
    page.get_by_label("B: relay@v0.2.0").check()
    page.get_by_role("button", name="Compare A with B").click()
    assert page.get_by_role("heading", level=1).inner_text() == "relay@v0.1.0 and relay@v0.2.0"
    page.get_by_role("link", name="relay@v0.2.0").click()
    page.get_by_role("link", name="Lineage").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Lineage of relay@v0.2.0"
    page.close()
