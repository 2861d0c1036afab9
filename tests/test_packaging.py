"""Installed packages have the content of the repository and the tested versions."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

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


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.timeout(300)
def test_a_wheel_has_every_module_and_every_sweep(tmp_path: Path) -> None:
    source, wheels = tmp_path / "source", tmp_path / "wheels"
    shutil.copytree(
        ROOT,
        source,
        ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "results"),
    )
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", str(wheels), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = wheels.iterdir()
    installed = set(zipfile.ZipFile(wheel).namelist())
    for folder, package, pattern in [
        ("rlssl", "rlssl", "*.py"),
        ("rlssl/analysis", "rlssl/analysis", "report/templates/*"),
        ("envs", "rlssl_envs", "*.py"),
        ("tune_configs", "rlssl_tune_configs", "*.yaml"),
    ]:
        files = (ROOT / folder).rglob(pattern)
        wanted = {f"{package}/{file.relative_to(ROOT / folder).as_posix()}" for file in files}
        assert wanted <= installed
