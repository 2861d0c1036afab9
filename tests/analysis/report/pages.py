"""Reads the pages of reports."""

import json
from html.parser import HTMLParser
from typing import Any


class Page(HTMLParser):
    """The tables, texts and data of a page.

    Args:
        text: The HTML.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.ids: dict[str, str] = {}
        self.classes: dict[str, list[str]] = {}
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self._in_note = 0
        self.feed(text)

    @property
    def data(self) -> dict[str, Any]:
        """What the script reads."""
        found: dict[str, Any] = json.loads(self.ids["data"])
        return found

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.elements.append((tag, known))
        if tag in ("meta", "input", "br", "line"):
            return
        self._open.append((tag, known))
        self._in_note += known.get("class") == "note"
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        for name in (known.get("class") or "").split():
            self.classes.setdefault(name, []).append("")

    def handle_endtag(self, tag: str) -> None:
        opened, known = self._open.pop()
        assert opened == tag, f"</{tag}> closes <{opened}>"
        self._in_note -= known.get("class") == "note"

    def handle_data(self, data: str) -> None:
        for tag, known in self._open:
            if name := known.get("id"):
                self.ids[name] = self.ids.get(name, "") + data
            if tag in ("td", "th") and not self._in_note:
                self.tables[-1][-1][-1] += data
            for each in (known.get("class") or "").split():
                self.classes[each][-1] += data
