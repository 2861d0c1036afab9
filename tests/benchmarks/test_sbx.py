from pathlib import Path

import pytest

from benchmarks.harness.contests import UnavailableError
from benchmarks.peers import sbx


def install(package: str, version: str, environment: Path) -> None:
    """Makes the folder by which Python knows that a package is installed."""
    name = package.replace("-", "_")
    folder = environment / "lib" / "python3.11" / "site-packages" / f"{name}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Name: {package}\nVersion: {version}\n")


def test_without_its_environment_sbx_is_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sbx, "ENVIRONMENT", tmp_path)
    with pytest.raises(UnavailableError, match="make bench"):
        sbx.updates({})


def test_versions_are_those_of_the_environment_of_sbx(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sbx, "ENVIRONMENT", tmp_path)
    install("jax", "0.1", tmp_path)
    assert sbx.versions() == {}
    install("sbx-rl", "0.2", tmp_path)
    assert sbx.versions() == {"sbx-rl": "0.2", "jax": "0.1"}
