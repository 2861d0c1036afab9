"""Installed packages have the content of the repository and the tested versions."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def name_of(requirement: str) -> str:
    """``ray[rllib]==2.60.*`` -> ``ray``, spelled as package indexes do."""
    found = re.match(r"[\w.-]+", requirement)
    assert found is not None, requirement
    return re.sub(r"[-_.]+", "-", found.group()).lower()


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {name_of(name): version for name, version in pinned}


def test_every_direct_dependency_is_pinned_to_the_tested_version() -> None:
    wanted = PROJECT["dependencies"] + [line for extra in EXTRAS.values() for line in extra]
    missing = {name_of(line) for line in wanted} - {"rlssl"} - pins().keys()
    assert not missing


def test_the_tested_versions_are_in_the_ranges_of_the_dependencies() -> None:
    lines = PROJECT["dependencies"] + [line for extra in EXTRAS.values() for line in extra]
    wanted = [Requirement(line) for line in lines if name_of(line) != "rlssl"]
    outside = [str(one) for one in wanted if pins()[name_of(one.name)] not in one.specifier]
    assert outside == []


def test_the_extra_all_has_every_extra_for_users() -> None:
    (everything,) = EXTRAS["all"]
    named = everything.removeprefix("rlssl[").removesuffix("]").split(",")
    assert set(named) == EXTRAS.keys() - {"all", "dev", "docs", "bench"}


@pytest.mark.parametrize("tool", ["ruff", "mypy"])
def test_tools_that_check_the_code_have_one_version(tool: str) -> None:
    assert f"{tool}=={pins()[tool]}" in EXTRAS["dev"]


def test_installed_packages_are_found_from_any_folder(tmp_path: Path) -> None:
    code = "import rlssl, rlssl_envs, rlssl_tune_configs"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_built_in_environments_are_a_plug_in() -> None:
    values = {entry.value for entry in entry_points(group="rlssl.plugins")}
    assert "rlssl_envs" in values
