"""Files about the project: citation, templates of issues, tested versions."""

import datetime
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from rlssl import __version__
from rlssl.cli import main

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TEMPLATES = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
#: Keys of the Citation File Format 1.2.0 that this file uses, with the types of their values.
CITATION_KEYS = {
    "cff-version": str,
    "message": str,
    "type": str,
    "title": str,
    "abstract": str,
    "authors": list,
    "version": str,
    "license": str,
    "keywords": list,
    "date-released": datetime.date,
}

#: The folders of the project; what runs and tools leave is in none of them.
FOLDERS = {
    *(".ci", ".github", "benchmarks", "deploy", "docs", "envs", "examples", "rlssl", "tests"),
    "tune_configs",
}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a copy without its history")
def test_nothing_that_runs_leave_is_in_the_project() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    folders = {name.partition("/")[0] for name in listed.split("\0") if "/" in name}
    assert folders == FOLDERS


def test_the_citation_has_the_keys_of_its_format() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation.keys() >= {"cff-version", "message", "title", "authors"}  # required
    assert {
        key for key, value in citation.items() if type(value) is not CITATION_KEYS[key]
    } == set()
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] in ("software", "dataset")
    # An entity has a name; a person has names.
    for author in citation["authors"]:
        assert author.keys() & {"name", "family-names"}
    assert citation["version"] == __version__
    assert citation["license"] == PROJECT["license"]


@pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: file.stem)
def test_templates_of_issues_are_forms(file: Path) -> None:
    form: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    if file.stem == "config":
        assert form.keys() <= {"blank_issues_enabled", "contact_links"}
        return
    assert form.keys() >= {"name", "description", "body"}
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert {field["type"] for field in fields} <= {"input", "textarea", "dropdown", "checkboxes"}
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field["attributes"]["label"] for field in fields)


@pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: file.stem)
def test_commands_in_templates_exist(file: Path) -> None:
    named = re.findall(r"\brlssl ([a-z]+)\b", file.read_text(encoding="utf-8"))
    assert set(named) <= set(main.commands)


#: Package in the line of README.md -> its name in constraints.txt.
TESTED = {
    "Ray": "ray",
    "PyTorch": "torch",
    "gymnasium": "gymnasium",
    "NumPy": "numpy",
    "MuJoCo": "mujoco",
    "dm_control": "dm_control",
    "ale-py": "ale-py",
    "MiniGrid": "minigrid",
    "Optuna": "optuna",
}


def test_the_line_of_tested_versions_is_that_of_the_constraints() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    python = PROJECT["requires-python"].removeprefix(">=")
    words = [f"Python {python}", *(f"{name} {pins[key]}" for name, key in TESTED.items())]
    line = f"Tested with {', '.join(words)} on Linux (`constraints.txt` has the other versions)."
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert line in readme, f"README.md must say: {line}"
