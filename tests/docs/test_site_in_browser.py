"""The site in headless Chromium, without the internet: its search works, and it fits a phone."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

LAPTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Logs nothing."""


@pytest.fixture(params=["as files", "from a server"])
def address(site: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """Where the site is: `make docs` opens it as files."""
    if request.param == "as files":
        yield site.as_uri()
        return
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=site)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def opened(
    browser: "Browser", address: str, name: str, viewport: dict[str, int]
) -> tuple["Page", list[str]]:
    """A page of the site; what its console says, and what it asks of other addresses."""
    page = browser.new_context(viewport=viewport).new_page()  # type: ignore[arg-type]
    said: list[str] = []

    def note(request: "Request") -> None:
        if not request.url.startswith((address, "data:")):
            said.append(request.url)

    page.on("console", lambda one: said.append(one.text) if one.type != "log" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", note)
    page.goto(f"{address}/{name}.html")
    return page, said


def test_the_search_finds_the_page_of_a_loss(browser: "Browser", address: str) -> None:
    page, said = opened(browser, address, "index", LAPTOP)
    page.locator(".sidebar-search").fill("bisimulation")
    page.keyboard.press("Enter")
    page.get_by_text("Search finished").wait_for()
    page.wait_for_load_state("networkidle")
    excerpts = page.locator("#search-results p.context").count()
    assert (excerpts > 3) == address.startswith("http:")  # a file may not read other files
    page.locator("#search-results li a").first.click()
    page.wait_for_url("**/bisimulation.html*")
    assert page.locator("h1").first.inner_text().startswith("Bisimulation: DBC")
    assert said == []
    page.context.close()


#: Boxes around the text that are wider than the screen: they scroll sideways, or cut the text off.
TOO_WIDE = """() => {
  const found = [];
  for (let box = document.querySelector("article"); box; box = box.parentElement)
    if (getComputedStyle(box).overflowX !== "visible" && box.scrollWidth > box.clientWidth)
      found.push(`${box.className || box.tagName}: ${box.scrollWidth} pixels`);
  return found;
}"""


@pytest.mark.parametrize("name", ["index", "losses", "results/algorithms", "genindex"])
def test_pages_fit_a_phone(browser: "Browser", site: Path, name: str) -> None:
    page, said = opened(browser, site.as_uri(), name, PHONE)
    assert page.locator("table").count() > 0  # a wide table scrolls alone, not with the page
    assert page.evaluate(TOO_WIDE) == []
    page.add_style_tag(content="article p, article li { min-width: 600px }")
    assert page.evaluate(TOO_WIDE) != []  # it can be seen
    assert said == []
    page.context.close()
