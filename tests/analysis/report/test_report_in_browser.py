"""The page in headless Chromium, without a network: it draws, its pickers work, it fits."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rlssl.analysis.report import read_report, write_report
from tests.analysis.report.runs import large_search, one_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.slow, pytest.mark.ci]

LAPTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two variants, a search with importances, and another task."""
    folder = tmp_path_factory.mktemp("runs")
    names = {"none": [10.0, 12, 11, 9, 10], "icm " + "long" * 20: [20.0, 22, 21, 19, 25]}
    two = one_run(folder / "two", names)
    search = large_search(folder / "search", 20, 1)
    pong = one_run(folder / "pong", {"none": [1.0, 2, 3]}, env={"id": "atari/Pong"})
    return write_report(read_report([two, search, pong]), folder / "report.html").page


def opened(browser: "Browser", path: Path, **options: Any) -> tuple["Page", list[str]]:
    """The drawn page without a network, and what its console says."""
    context = browser.new_context(offline=True, **{"viewport": LAPTOP, **options})
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda one: said.append(one.text) if one.type != "log" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda one: said.append(one.url) if "file:" not in one.url[:6] else None)
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-drawn]", timeout=60_000)
    return page, [text for text in said if not text.startswith(("data:", "blob:"))]


@pytest.mark.parametrize("viewport", [LAPTOP, PHONE], ids=["laptop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_draws_without_errors_and_fits(
    browser: "Browser", report: Path, viewport: dict[str, int], scheme: str
) -> None:
    page, said = opened(browser, report, viewport=viewport, color_scheme=scheme)
    assert said == []
    plots = page.locator(".plot").count()
    assert plots >= 5
    assert page.locator(".plot svg, .plot canvas").count() >= plots
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    numbers = [int(part) for part in background.removeprefix("rgb(").rstrip(")").split(",")]
    assert (max(numbers) < 80) == (scheme == "dark")
    page.context.close()


def test_label_of_the_task_picker_is_one_line_on_a_phone(
    browser: "Browser", tmp_path: Path
) -> None:
    long = {"id": "MiniGrid-Empty-5x5-v0", "title": "Tür " * 30}
    runs = [one_run(tmp_path / "a", {"none": [1.0, 2, 3]}, env=long)]
    runs.append(one_run(tmp_path / "b", {"none": [1.0, 2, 3]}, env={**long, "title": "u"}))
    written = write_report(read_report(runs), tmp_path / "report.html").page
    page, _ = opened(browser, written, viewport=PHONE)
    label = page.locator("label:has(#group)").bounding_box()
    picker = page.locator("#group").bounding_box()
    assert label is not None and picker is not None
    assert picker["x"] - label["x"] > 25  # "Task" stands beside it, in one piece
    assert label["height"] < 50 and picker["x"] + picker["width"] <= PHONE["width"]
    assert "Tür" in page.locator("#group option").first.inner_text()
    page.context.close()


def test_pickers_change_the_plot(browser: "Browser", report: Path) -> None:
    page, said = opened(browser, report)
    plot = page.locator("#curves-0")

    def shown() -> str:
        return str(plot.inner_html()) + str(plot.get_attribute("aria-label"))

    before = shown()
    assert "return (mean of 20 training episodes)" in before
    page.get_by_label("Metric of plot 1").select_option("learners/default_policy/vf_loss")
    page.wait_for_function("document.getElementById('said').textContent.includes('vf_loss')")
    other_metric = shown()
    page.get_by_label("wall time").check()
    page.wait_for_function(
        "document.getElementById('curves-0').getAttribute('aria-label').includes('wall time')"
    )
    over_time = shown()
    first = page.locator("#variants label").first
    name = first.locator("span").first.inner_text().rsplit("  ")[0][:20]
    first.locator("input").uncheck()
    page.wait_for_function(
        "(name) => !document.getElementById('curves-0').getAttribute('aria-label').includes(name)",
        arg=name,
    )
    assert page.locator("#count").inner_text() == "(1 of 2)"
    assert len({before, other_metric, over_time, shown()}) == 4
    assert said == []
    page.context.close()


def test_it_can_be_used_with_the_keyboard(browser: "Browser", report: Path) -> None:
    page, _ = opened(browser, report)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the summary"
    names = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        names.add(page.evaluate("document.activeElement.id || document.activeElement.name || ''"))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none" or page.evaluate("document.activeElement === document.body")
    assert {"copy", "group", "axis", "bands", "filter", "add"} <= names
    page.context.close()


def test_tables_sort_and_another_task_can_be_chosen(browser: "Browser", report: Path) -> None:
    page, said = opened(browser, report)
    table = page.locator("#summary table").first
    rows = "[...document.querySelectorAll('#summary tbody')[0].rows]"
    means = f"{rows}.map((row) => Number(row.cells[3].dataset.value))"
    before = page.evaluate(means)
    assert before == sorted(before, reverse=True)
    heading = table.get_by_role("button", name="final return")
    heading.click()
    heading.click()
    assert page.evaluate(means) == sorted(before)
    page.get_by_label("Task").select_option(label="atari/Pong")
    page.wait_for_function("document.getElementById('count').textContent == '(1 of 1)'")
    assert said == []
    page.context.close()


@pytest.mark.timeout(300)
def test_a_search_of_500_trials_is_quick_and_small(browser: "Browser", tmp_path: Path) -> None:
    search = large_search(tmp_path / "search", 100, 5)
    before = time.process_time()
    path = write_report(read_report([search]), tmp_path / "report.html").page
    assert time.process_time() - before < 20
    assert path.stat().st_size < 10e6
    page, said = opened(browser, path)
    page.locator("#all").click()
    page.wait_for_selector("#curves-0 canvas")
    jumps = """() => new Promise((done) => {
      const longest = []; let last = performance.now(); let count = 0;
      const step = (now) => {
        longest.push(now - last); last = now; window.scrollBy(0, 40);
        if (++count < 90) requestAnimationFrame(step); else done(longest.sort((a, b) => a - b));
      };
      requestAnimationFrame(step);
    })"""
    frames = page.evaluate(jumps)
    assert frames[len(frames) // 2] < 100  # milliseconds; half of the frames are faster
    assert said == []
    page.context.close()
