"""What the Markdown pages name exists: files, links, modules, commands, options."""

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest

from rlssl.cli import main as command_line
from rlssl.experiment.names import KINDS
from rlssl.experiment.spec.yaml_reader import list_sweeps

ROOT = Path(__file__).resolve().parents[1]

PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md")
    for path in ROOT.glob(pattern)
)
#: Pages of the site that show a file at the top of the repository, or the tables of the index.
SHOWN = {"index.md", "README.md", "project/changelog.md", "project/contributing.md"} | {
    "project/papers.md"
}
#: The changelog names modules that no longer exist.
PRESENT_PAGES = [page for page in PAGES if page != "CHANGELOG.md"]
FOLDERS = ("rlssl", "envs", "tests", "docs", "benchmarks", "tune_configs", "examples", "deploy")


@cache
def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def fenced(page: str, *languages: str) -> list[str]:
    """The code blocks of a page in some languages."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL)
    return [code for language, code in blocks if language in languages]


def prose_of(page: str) -> str:
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```", "", text_of(page), flags=re.MULTILINE | re.DOTALL)


def inline_code(page: str) -> list[str]:
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose_of(page))]


# Links.


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them.

    "## What is trusted" gives "what-is-trusted".
    """
    headings = re.findall(r"^#+ (.*)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def broken(page: str, link: str) -> bool:
    target, _, anchor = link.partition("#")
    path = (ROOT / page).parent / target if target else ROOT / page
    if not path.exists():
        return True
    return bool(anchor) and anchor not in anchors(path.resolve().relative_to(ROOT).as_posix())


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_lead_to_files_and_headings(page: str) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", prose_of(page))
    relative = [link for link in links if "://" not in link]
    assert [link for link in relative if broken(page, link)] == []


def test_every_page_of_docs_is_in_the_index() -> None:
    """A new page needs a row in a table of docs/README.md: the site's sidebar is made of them."""
    rows = re.findall(r"^\| \[[^]]+\]\(([^)]+)\)", text_of("docs/README.md"), re.MULTILINE)
    folder = ROOT / "docs"
    pages = {path.relative_to(folder).as_posix() for path in folder.glob("**/*.md")} - SHOWN
    assert {row for row in rows if not row.startswith("../")} == pages
    assert len(rows) == len(set(rows))


def test_the_readme_has_a_row_for_each_loss() -> None:
    rows = re.findall(r"^\| (`[^|]*) \|", text_of("README.md"), re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    names = {row["name"] for row in KINDS["losses"]()}
    assert sorted(name for name in names - listed if not name.startswith("test_")) == []


# Files and modules.


@pytest.mark.parametrize("page", PRESENT_PAGES)
def test_paths_in_the_repository_exist(page: str) -> None:
    pattern = rf"(?<![\w/.-])(?:{'|'.join(FOLDERS)})/[\w./-]+"
    paths = {path.rstrip(".") for path in re.findall(pattern, prose_of(page))}
    assert sorted(path for path in paths if not (ROOT / path).exists()) == []


def resolves(dotted: str) -> bool:
    """Whether a name can be imported: "rlssl.losses.info_nce" is an attribute of a module."""
    module: Any = importlib.import_module(dotted.partition(".")[0])
    path = module.__name__
    for part in dotted.split(".")[1:]:
        path = f"{path}.{part}"
        try:
            module = importlib.import_module(path)
        except ModuleNotFoundError:
            if not hasattr(module, part):
                return False
            module = getattr(module, part)
    return True


@pytest.mark.parametrize("page", PRESENT_PAGES)
def test_dotted_names_of_rlssl_can_be_imported(page: str) -> None:
    names = set(re.findall(r"(?<![\w/.-])rlssl(?:_envs)?(?:\.[A-Za-z_]\w*)+", text_of(page)))
    assert sorted(name for name in names if not resolves(name)) == []


@cache
def names_defined() -> set[str]:
    """Functions, classes, and "Class.method" of rlssl."""
    names: set[str] = set()
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for path in (ROOT / "rlssl").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, kinds):
                names.add(node.name)
            if isinstance(node, ast.ClassDef):
                names |= {f"{node.name}.{one.name}" for one in node.body if isinstance(one, kinds)}
    return names


def test_functions_and_classes_of_the_architecture_page_exist() -> None:
    rows = [line for line in text_of("docs/architecture.md").splitlines() if line.startswith("|")]
    where = [row.split("|")[2] for row in rows]
    names = [name for cell in where for name in re.findall(r"`([A-Za-z_][\w.]*)`", cell)]
    assert len(names) > 30
    assert sorted(set(names) - names_defined()) == []


# Commands.


def commands_of(page: str) -> Iterator[list[str]]:
    """The words of every ``rlssl ...`` command of a page, in blocks and in the prose."""
    lines = [line for block in fenced(page, "bash") for line in block.splitlines()]
    for line in [*lines, *inline_code(page)]:
        command = re.sub(r"\s+#.*", "", line).strip()
        if command.startswith("rlssl "):
            yield command.split()[1:]


def wrong_words(words: list[str]) -> list[str]:
    """The command, its options and its sweep that do not exist."""
    name, *rest = words
    if name.startswith("-"):
        return []
    known = command_line.commands.get(name)
    if known is None:
        return [name]
    if name == "submit" and (inner := [word for word in rest if word in command_line.commands]):
        start = rest.index(inner[0])  # the command of the job, with its own options
        return wrong_words([name, *rest[:start]]) + wrong_words(rest[start:])
    if isinstance(known, click.Group):
        if not rest:
            return []
        inner_name, *rest = rest
        if inner_name not in known.commands:
            return [inner_name]
        known = known.commands[inner_name]
    options = {opt for param in known.params for opt in param.opts} | {"--help"}
    wrong = [word for word in rest if word.startswith("--") and word not in options]
    if name == "list" and rest:
        wrong += [rest[0]] if rest[0] not in KINDS else []
    if name == "sweep" and rest and re.fullmatch(r"[a-z_0-9]+", rest[0]):
        wrong += [rest[0]] if rest[0] not in list_sweeps() else []
    return wrong


@pytest.mark.parametrize("page", PRESENT_PAGES)
def test_commands_have_the_options_that_pages_name(page: str) -> None:
    wrong = {" ".join(words): wrong_words(words) for words in commands_of(page)}
    assert {command: words for command, words in wrong.items() if words} == {}


#: Options of other programs: Ray's, Slurm's and CleanRL's.
FOREIGN_OPTIONS = {
    *("--dashboard-agent-grpc-port", "--dashboard-agent-listen-port", "--dashboard-host"),
    *("--capture-video", "--dashboard-port", "--exclusive", "--max-worker-port"),
    *("--metrics-export-port", "--track"),
    *("--min-worker-port", "--node-manager-port", "--object-manager-port"),
    *("--ray-client-server-port", "--runtime-env-agent-port", "--save-model", "--signal"),
}


@pytest.mark.parametrize("page", PRESENT_PAGES)
def test_options_without_a_command_belong_to_one(page: str) -> None:
    commands = [*command_line.commands.values()]
    commands += [
        inner
        for group in commands
        if isinstance(group, click.Group)
        for inner in group.commands.values()
    ]
    options = {opt for command in commands for param in command.params for opt in param.opts}
    named = {code.split()[0].split("=")[0] for code in inline_code(page) if code.startswith("--")}
    assert sorted(named - options - FOREIGN_OPTIONS) == []


@pytest.mark.parametrize("page", PRESENT_PAGES)
def test_targets_of_make_exist(page: str) -> None:
    targets = set(re.findall(r"^([\w-]+):", text_of("Makefile"), re.MULTILINE))
    lines = [line for block in fenced(page, "bash") for line in block.splitlines()]
    found = [re.match(r"make ([\w-]+)", line) for line in [*lines, *inline_code(page)]]
    assert {match[1] for match in found if match} <= targets


@pytest.mark.parametrize("page", PRESENT_PAGES)
def test_rows_of_the_benchmarks_exist(page: str) -> None:
    rows = [row for code in inline_code(page) for row in re.findall(r"--only ([\w ]+)", code)]
    if not rows:
        return
    # By its name: mypy would follow the import to libraries that are not installed.
    known = {row.name for row in importlib.import_module("benchmarks.__main__").ROWS}
    assert [name for row in rows for name in row.split() if name not in known] == []
