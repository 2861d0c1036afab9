"""`plugins_path:` in a spec: folders from which plug-ins are imported."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from rlssl.errors import SpecError
from rlssl.experiment.spec.loading import load_spec, resolved_dict
from tests.experiment.command_line import restored_import_path

SPEC = {"algorithm": "ppo", "env": "CartPole-v1", "stop": {"env_steps": 1000}}


@pytest.fixture(autouse=True)
def import_path() -> Iterator[None]:
    with restored_import_path():
        yield


def test_folder_is_relative_to_the_file_and_processes_inherit_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "specs").mkdir()
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "plugin_beside_specs.py").write_text("")
    spec = {**SPEC, "plugins": ["plugin_beside_specs"], "plugins_path": ["../code"]}
    (tmp_path / "specs" / "my.yaml").write_text(yaml.safe_dump(spec))
    monkeypatch.chdir("/")
    loaded = load_spec(tmp_path / "specs" / "my.yaml")
    code = str(tmp_path / "code")
    assert loaded.plugins_path == [code]
    assert code in sys.path and code in os.environ["PYTHONPATH"].split(os.pathsep)
    assert "plugin_beside_specs" in sys.modules


def test_missing_folder_is_refused_but_a_saved_spec_still_loads(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"plugins_path: no folder '/.*/nowhere'"):
        load_spec({**SPEC, "plugins_path": [str(tmp_path / "nowhere")]})
    (tmp_path / "code").mkdir()
    saved = resolved_dict(load_spec({**SPEC, "plugins_path": [str(tmp_path / "code")]}))
    (tmp_path / "code").rmdir()
    # On a node of a cluster, where the package of the folder is on the import path.
    assert load_spec(saved).plugins_path == [str(tmp_path / "code")]


def test_one_path_instead_of_a_list_is_refused() -> None:
    with pytest.raises(SpecError, match="plugins_path must be a list; got 'code'"):
        load_spec({**SPEC, "plugins_path": "code"})
