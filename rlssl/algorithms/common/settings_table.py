"""Writes the tables of settings into the docs: ``make docs-tables``.

Each page has two marker lines. What is between them is generated: on the page of an algorithm from
its training settings, on ``losses.md`` from the options of all auxiliary losses, on the page of a
suite from the options of its environments.
"""

import dataclasses
import inspect
import re
import sys
from pathlib import Path
from typing import Any

import yaml

from rlssl.algorithms.common.settings import ByInput, TrainingSettings
from rlssl.auxiliary.base import AuxiliaryLossConfig
from rlssl.environments.declared_options import declared_options
from rlssl.plugins import load_plugins
from rlssl.registry import ALGORITHMS, AUXILIARY_LOSSES, ENVIRONMENTS
from rlssl.system.annotations.comments import field_comments

#: Algorithm -> its page, where that has another name.
_PAGES = {"pretrain": "pretraining"}

#: The module with the options of rlssl's environments.
_ENVIRONMENT_OPTIONS = "rlssl_envs.options"

#: Page -> the environments of rlssl whose options it has.
_ENVIRONMENT_PAGES = {
    "environments/atari": ("atari/*",),
    "environments/dm_control": ("dmc/*", "dmc-pixels/*"),
    "environments/grids": ("MiniGrid-*", "BabyAI-*", "minatar/*"),
    "environments/vizdoom": ("vizdoom/*",),
    "goals": ("robotics/*", "goals/bit-flipping"),
    "recurrent": ("memory/*",),
    "faults": ("faulty/*",),
}

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


def losses_tables() -> str:
    """A heading and a Markdown table for the common options, and for each loss of rlssl."""
    parts = [f"## Every loss\n\n{_options_table(AuxiliaryLossConfig, frozenset())}"]
    common = {field.name: field.default for field in dataclasses.fields(AuxiliaryLossConfig)}
    for name in sorted(AUXILIARY_LOSSES):
        loss = AUXILIARY_LOSSES[name]
        if not loss.__module__.startswith("rlssl."):
            continue  # of a plug-in
        same = frozenset(
            field.name
            for field in dataclasses.fields(loss.Config)
            if field.name in common and field.default == common[field.name]
        )
        summary = (inspect.getdoc(loss) or "").splitlines()[0].replace("``", "`")
        parts.append(f"## {name}\n\n{summary}\n\n{_options_table(loss.Config, same)}")
    return "\n\n".join(parts)


def environments_tables() -> dict[str, str]:
    """Page -> a heading and a Markdown table for the options of each of its environments.

    Raises:
        ValueError: If an environment of rlssl with options has no page.
    """
    load_plugins()
    page_of_id = {name: page for page, names in _ENVIRONMENT_PAGES.items() for name in names}
    ids: dict[tuple[str, type], list[str]] = {}
    for name, entry in ENVIRONMENTS.items():
        of = declared_options(entry)
        if of is None or of.__module__ != _ENVIRONMENT_OPTIONS:
            continue
        if name not in page_of_id:
            raise ValueError(f"{name!r} needs a page in _ENVIRONMENT_PAGES.")
        ids.setdefault((page_of_id[name], of), []).append(f"`{name}`")
    tables: dict[str, list[str]] = {}
    for (page, of), names in ids.items():
        others = "\n\nOther options are passed on." if getattr(of, "takes_others", False) else ""
        table = f"## Options of {', '.join(names)}\n\n{_options_table(of, frozenset())}{others}"
        tables.setdefault(page, []).append(table)
    return {page: "\n\n".join(parts) for page, parts in tables.items()}


def _options_table(config: type[Any], skipped: frozenset[str]) -> str:
    """A row for each option that is not skipped: default, and the comment above its field.

    A field without a comment shares that of the field above it.
    """
    comments, meaning = field_comments(config), ""
    rows = ["| Option | Default | Meaning |", "| --- | --- | --- |"]
    for field in dataclasses.fields(config):
        meaning = comments.get(field.name, meaning)
        if field.name not in skipped:
            shown = meaning.replace("``", "`").replace("|", "\\|")
            cells = f"`{field.name}`", _value(_default(field)), shown
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _default(field: "dataclasses.Field[Any]") -> Any:
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    return list(default) if isinstance(default, tuple) else default


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


def page_of(name: str) -> str:
    """The file of an algorithm's page.

    Example:
        >>> page_of("ppo"), page_of("pretrain")
        ('ppo.md', 'pretraining.md')
    """
    return f"{_PAGES.get(name, name)}.md"


def main(docs: Path) -> None:
    """Rewrites the tables of all pages of algorithms, of the losses and of the environments."""
    tables = {name: settings_table(ALGORITHMS[name].settings_class) for name in ALGORITHMS}
    tables |= {"losses": losses_tables(), **environments_tables()}
    for name, table in tables.items():
        page = docs / page_of(name)
        page.write_text(with_table(page.read_text(encoding="utf-8"), table), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
