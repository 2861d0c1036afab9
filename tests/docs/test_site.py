"""The site: `make docs` in a temporary folder."""

import doctest
import importlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from rlssl import analysis, environments
from tests.test_docstring_examples import public_names

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.ci, pytest.mark.timeout(400)]


class Links(HTMLParser):
    """The targets of links and pictures of a page, and the ids in it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.ids: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.ids.add(named.get("id") or "")
        target = named.get("href" if tag == "a" else "src")
        if target:
            self.targets.append(target)


def search_index(site: Path) -> dict[str, Any]:
    text = (site / "searchindex.js").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(re.sub(r"^Search\.setIndex\((.*)\)$", r"\1", text.strip()))
    return found


def test_every_page_of_docs_is_in_the_sidebar(site: Path) -> None:
    sidebar = set(Links(site / "index.html").targets)
    pages = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").glob("**/*.md")}
    wanted = {page.with_suffix(".html").as_posix() for page in pages} - {"index.html"}
    # A page that is missing here needs a row in a table of docs/README.md.
    assert wanted - sidebar == set()


def test_links_lead_to_pages_and_anchors_of_the_site(site: Path) -> None:
    pages = {page.resolve(): Links(page) for page in site.glob("**/*.html")}
    broken = []
    for page, links in pages.items():
        for target in links.targets:
            path, _, anchor = target.partition("#")
            if "://" in target or target.startswith(("data:", "mailto:")):
                continue
            aim = (page.parent / path.partition("?")[0]).resolve() if path else page
            if not aim.exists() or (anchor and aim in pages and anchor not in pages[aim].ids):
                broken.append((page.name, target))
    assert broken == []


@pytest.mark.parametrize(
    ("word", "page"),
    [
        ("ornstein", "ddpg"),
        ("slurm", "clusters"),
        ("barlow", "contrastive"),
        ("atari", "project/papers"),
    ],
)
def test_the_search_finds_words_in_pages(site: Path, word: str, page: str) -> None:
    index = search_index(site)
    found = [index[kind].get(word, []) for kind in ("terms", "titleterms")]
    numbers = [n for one in found for n in ([one] if isinstance(one, int) else one)]
    assert page in [index["docnames"][number] for number in numbers]


def test_every_public_name_has_its_docstring_on_a_page_of_the_api(site: Path) -> None:
    documented = {id_ for page in (site / "api").glob("*.html") for id_ in Links(page).ids}
    names = {f"{module}.{name}" for module, name in public_names()}
    names |= {f"rlssl.environments.{name}" for name in environments.__all__}
    names |= {f"rlssl.analysis.{name}" for name in analysis.__all__}
    assert names - documented == set()


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    text = (site / "index.html").read_text(encoding="utf-8")
    fetched = re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=\"(https?:[^\"]+)", text)
    assert fetched == []


def test_links_to_files_of_the_repository_become_links_of_the_site(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_ext"))
    failed, tried = doctest.testmod(importlib.import_module("repository_pages"))
    assert (failed, tried > 2) == (0, True)
