"""Writes the tables of training settings into the docs: ``make docs-tables``.

Each page has two marker lines; the table between them is generated from the algorithm's settings.
"""

import re
import sys
from pathlib import Path
from typing import Any

import yaml

from rlssl.algorithms.common.settings import ByInput, TrainingSettings
from rlssl.registry import ALGORITHMS

BEGIN, END = "<!-- settings begin -->", "<!-- settings end -->"


def settings_table(settings_class: type[TrainingSettings]) -> str:
    """A Markdown table: a row for each argument of ``.training()``."""
    settings = settings_class()
    described = settings_class.descriptions()
    rows = ["| `training.` | Default | Meaning |", "| --- | --- | --- |"]
    for name in settings_class.arguments():
        meaning = described[name].meaning.replace("``", "`").replace("None", "null")
        rows.append(f"| `{name}` | {_shown(getattr(settings, name))} | {meaning} |")
    return "\n".join(rows)


def with_table(page: str, table: str) -> str:
    """The page's text with the table between its markers.

    Raises:
        ValueError: If the page lacks the markers.
    """
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"the page needs the lines {BEGIN} and {END}.")
    return pattern.sub(lambda _: f"{BEGIN}\n\n{table}\n\n{END}", page)


def _shown(default: Any) -> str:
    if isinstance(default, ByInput) and default.vectors != default.frames:
        return f"{_value(default.vectors)}; frames: {_value(default.frames)}"
    return _value(default.vectors if isinstance(default, ByInput) else default)


def _value(value: Any) -> str:
    """As a spec file has it; large numbers with separators, words as code."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1_000:
        return f"{value:,}"
    text = yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
    return f"`{text}`" if isinstance(value, str | dict) else text


def main(docs: Path) -> None:
    """Rewrites the tables of all algorithms' pages."""
    for name in ALGORITHMS:
        page = docs / f"{name}.md"
        table = settings_table(ALGORITHMS[name].settings_class)
        page.write_text(with_table(page.read_text(encoding="utf-8"), table), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
