"""What a person does day to day, in a real browser: against the server, worker, Ray and reports of `orchard up`.

A picture of every step is kept in test-output/browser, dark and light.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, Page, expect

from infra.settings import ROOT
from tests.fixtures.browser import overflow, picture
from tests.fixtures.commands import orchard
from tests.fixtures.prefect_ui import HEIGHT, WIDTH, PrefectUi
from tests.fixtures.seeds import give_two_versions
from tests.fixtures.up import Up
from tests.fixtures.workers import left_of_run, processes_of_run

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(1200)]

PICTURES = ROOT / "test-output" / "browser"
CANCEL_SECONDS = 60


@pytest.fixture(scope="module")
def ui(browser: Browser, up_service: Up) -> Iterator[PrefectUi]:
    """A window on Prefect's pages, logged in."""
    window = PrefectUi(browser, up_service.api, PICTURES)
    window.open("/dashboard", up_service.auth_string)
    yield window
    window.close()


@dataclass(frozen=True)
class Finished:
    """A run that was started from its form, and what its page said while it went."""

    flow_run: str
    key: str
    progress: list[str]
    version: str


@pytest.fixture(scope="module")
def finished(ui: PrefectUi) -> Finished:
    """The shortest of all runs: `tiny` of nqs."""
    ui.open_form("nqs", "tiny")
    ui.shoot("form", height=2000)
    flow_run = ui.start()
    progress: list[str] = []
    ui.wait(lambda: "finished" in _note(progress, ui.described("training")), "the training has not finished")
    ui.shoot("run-under-way", height=1500)
    ui.wait_for_state("Completed", "Failed", "Crashed")
    ui.wait(lambda: ui.described("result"), "there is no result")
    ui.shoot("run-finished", height=1500)
    ui.open_artifact("result")
    version = ui.page.get_by_role("link", name=re.compile(r"^nqs@v")).inner_text()
    return Finished(flow_run, ui.name(flow_run), progress, version)


def _note(seen: list[str], now: str) -> str:
    """What is shown now, noted where it is something else than before."""
    if now and now != (seen[-1] if seen else ""):
        seen.append(now)
    return now


def drawn(page: Page) -> list[int]:
    """The widths of the pictures on the page; 0 for one that is not shown."""
    images = page.get_by_role("article").get_by_role("img")
    expect(images.first).to_be_visible()
    return images.evaluate_all("all => all.map(one => one.naturalWidth)")


def test_only_the_login_that_up_tells_gets_in(browser: Browser, up_service: Up) -> None:
    window = PrefectUi(browser, up_service.api, PICTURES)
    window.page.goto("/")
    window.log_in("orchard:wrong")
    expect(window.page.get_by_text("Authentication failed").first).to_be_visible()
    assert "/login" in window.page.url
    window.shoot("login")
    window.log_in(up_service.auth_string)
    expect(window.page.get_by_role("button", name="Deployments")).to_be_visible()
    window.shoot("dashboard")
    window.close()


def test_a_form_refuses_what_is_out_of_range_at_its_field(ui: PrefectUi) -> None:
    before = ui.api.post("/flow_runs/count", {})
    ui.open_form("nqs", "tiny")
    ui.fill("Seed", "-1")
    ui.fill("Training: steps", "0")
    ui.fill("Lattice", "banana")
    ui.submit()
    expect(ui.field("Seed")).to_contain_text("-1 is less than the minimum of 0")
    expect(ui.field("Training: steps")).to_contain_text("0 is less than the minimum of 1")
    expect(ui.field("Lattice")).to_contain_text("does not match")
    ui.shoot("form-refused", height=2000)
    assert "/run?" in ui.page.url
    assert ui.api.post("/flow_runs/count", {}) == before


def test_a_run_shows_its_progress_its_curve_its_table_and_its_pictures(
    ui: PrefectUi, finished: Finished, up_service: Up
) -> None:
    assert re.fullmatch(r"nqs-tiny-0-[\w-]+", finished.key)
    assert len(finished.progress) >= 2, "progress never moved"
    assert finished.progress[-1].startswith("training: finished")

    ui.open_run(finished.flow_run)
    assert ui.state() == "Completed"
    expect(ui.card("curves")).to_be_visible()
    ui.open_artifact("curves")
    assert all(drawn(ui.page))
    ui.shoot("curves")

    ui.open_run(finished.flow_run)
    ui.open_artifact("result")
    expect(ui.page.get_by_role("table").first).to_contain_text("this state")
    assert all(drawn(ui.page))
    ui.shoot("result", height=2200)

    report = ui.page.get_by_role("link", name=finished.version).get_attribute("href") or ""
    assert report == f"{up_service.services.reports}/{finished.version.replace('@', '/')}/"
    ui.page.goto(report)
    expect(ui.page.get_by_role("heading", level=1)).to_contain_text("NQS")
    _shoot_report(ui.page, "report")


@pytest.fixture
def long_run(ui: PrefectUi) -> Iterator[str]:
    """A run that would train for hours; its page is open."""
    ui.open_form("nqs", "tiny")
    ui.fill("Training: steps", "100000")
    flow_run = ui.start()
    yield flow_run
    ui.api.post(f"/flow_runs/{flow_run}/set_state", {"state": {"type": "CANCELLING"}})  # no more than asked, if it is


def test_a_run_that_is_cancelled_moves_until_then_and_leaves_nothing(ui: PrefectUi, long_run: str) -> None:
    progress: list[str] = []
    ui.wait(lambda: _steps(_note(progress, ui.described("training"))) > 0, "the training has not begun")
    ui.wait(lambda: _note(progress, ui.described("training")) and len(progress) >= 4, "progress does not move")
    steps = [_steps(told) for told in progress]
    assert steps == sorted(steps)
    assert "steps/s" in progress[-1]
    assert "s left" in progress[-1]
    ui.open_run(long_run)
    ui.shoot("run-trains", height=1500)
    key = ui.name(long_run)
    assert processes_of_run(key) != []

    ui.page.get_by_role("button", name="Cancel", exact=True).click()
    ui.shoot("cancel")
    ui.page.get_by_role("dialog").get_by_role("button", name="Confirm").click()
    began = time.monotonic()
    ui.wait_for_state("Cancelled")
    assert time.monotonic() - began < CANCEL_SECONDS
    assert left_of_run(key) == []
    told = ui.wait(lambda: ui.described("cancelled"), "there is no record of the cancel")
    assert "none of them is left" in told
    ui.shoot("run-cancelled", height=1500)
    ui.open_artifact("cancelled")
    expect(ui.page.get_by_role("table")).to_contain_text("none")
    ui.shoot("cancelled")


def _steps(told: str) -> int:
    found = re.search(r"(\d+) of \d+ steps", told)
    return int(found[1]) if found else 0


def test_a_retraining_skips_where_nothing_has_changed_and_says_so(ui: PrefectUi, finished: Finished, up: Up) -> None:
    promoted = orchard("promote", finished.version)
    assert promoted.returncode == 0, promoted.stderr
    ui.open_form("retrain", "nqs")
    ui.choose("Preset", "tiny")
    ui.shoot("retrain-form", height=1500)
    ui.start()
    assert ui.wait_for_state("Skipped", "Kept", "Promoted", "Failed", "Crashed") == "Skipped"
    ui.wait(lambda: ui.described("nqs"), "there is no record of the decision")
    ui.shoot("retrain-skipped", height=1500)
    ui.open_artifact("nqs")
    said = ui.page.get_by_role("article").last
    expect(said).to_contain_text("skipped")
    expect(said).to_contain_text(finished.version)
    ui.shoot("retrain-decision")


def test_two_versions_are_chosen_in_the_index_and_compared(
    browser: Browser, up_service: Up, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first, second = give_two_versions(up_service, tmp_path_factory)
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    page.goto(up_service.services.reports or "")
    _shoot_report(page, "index")
    page.get_by_label(f"A: {first}").check()
    page.get_by_label(f"B: {second}").check()
    page.get_by_role("button", name="Compare A with B").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"{first} and {second}")
    expect(page.get_by_role("row", name=re.compile("gain over the control"))).to_contain_text("13.9")
    _shoot_report(page, "compare")
    page.close()


def _shoot_report(page: Page, name: str) -> None:
    """Pictures of a page of the reports, which follows what the reader's system prefers."""
    for theme in ("dark", "light"):
        page.emulate_media(color_scheme=theme)
        picture(page, PICTURES, f"{name}-{theme}")
        assert overflow(page) == 0, f"{name} is wider than its window"
