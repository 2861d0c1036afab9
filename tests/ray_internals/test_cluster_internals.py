"""Private names of ray. If ray renames one, a test fails and shows the name."""

import ast
import importlib
import inspect
import json
import os
from pathlib import Path

import pytest
from ray._private import services
from ray._private import worker as ray_worker
from ray._private.node import Node
from ray._private.runtime_env import packaging, working_dir
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
from ray._private.state import GlobalState
from ray._raylet import ActorID, CoreWorker  # type: ignore[attr-defined]
from ray.actor import ActorHandle
from ray.experimental import internal_kv
from ray.runtime_env.runtime_env import _merge_runtime_env

from rlssl.ray_internals import cluster


def test_ray_still_prints_logs_by_the_function_of_this_name() -> None:
    # Ray looks it up for every batch of lines, so a replacement takes effect.
    assert callable(getattr(ray_worker, cluster.PRINT_LOGS))
    assert f"{cluster.PRINT_LOGS}," in inspect.getsource(ray_worker)


def test_ray_still_handles_sigterm_by_the_function_of_this_name() -> None:
    called = f"ray._private.utils.{cluster.SET_HANDLER}("
    assert called in inspect.getsource(ray_worker) and called in inspect.getsource(Node)


def test_ray_still_finds_the_cluster_of_this_machine() -> None:
    parameters = inspect.signature(services.canonicalize_bootstrap_address).parameters
    assert list(parameters)[:1] == ["addr"]


def test_ray_still_counts_the_restarts_of_an_actor() -> None:
    assert hasattr(ActorHandle, cluster.ACTOR_ID)
    # Read, not run: an actor needs a running Ray.
    source = inspect.getsource(GlobalState)
    assert f'"{cluster.NUM_RESTARTS}": actor_table_data.num_restarts' in source


def test_restarts_are_those_of_the_actor_with_the_handles_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Id:
        def hex(self) -> str:
            return "0a1b"

    class Handle:
        _actor_id = Id()

    table = {"0a1b": {"NumRestarts": "2"}, "ffff": {"NumRestarts": "7"}}
    monkeypatch.setattr(cluster, "actors", table.__getitem__)
    assert cluster.num_restarts(Handle()) == 2


def test_what_the_greeting_imports_and_calls_exists() -> None:
    script = ast.parse(cluster.GREETING_SCRIPT.format(address="127.0.0.1:6379"))
    imports = [node for node in script.body if isinstance(node, ast.ImportFrom)]
    found = {
        name.asname or name.name: getattr(importlib.import_module(str(node.module)), name.name)
        for node in imports
        for name in node.names
    }
    assert list(found) == ["authentication", "GcsClient"]
    called = [node.func for node in ast.walk(script) if isinstance(node, ast.Call)]
    methods = [func.attr for func in called if isinstance(func, ast.Attribute)]
    assert len(methods) == 2
    assert all(callable(getattr(found["authentication"], method)) for method in methods)


@pytest.mark.parametrize("name", cluster.KV_FUNCTIONS)
def test_ray_still_keeps_short_texts_on_the_head_node(name: str) -> None:
    assert "namespace" in inspect.signature(getattr(internal_kv, name)).parameters


@pytest.mark.parametrize(
    "name", [cluster.CLASS_NAME, cluster.STATE, cluster.ADDRESS, cluster.NODE_ID]
)
def test_ray_still_tells_the_class_state_and_node_of_an_actor(name: str) -> None:
    assert f'"{name}":' in inspect.getsource(GlobalState)


def test_ray_still_names_the_nodes_that_are_drained() -> None:
    assert callable(getattr(GlobalState, cluster.DRAINING_NODES))


def test_ray_still_knows_whether_this_process_started_the_cluster() -> None:
    assert hasattr(ray_worker, cluster.OWN_NODE)
    assert callable(Node.is_head)


def test_ray_still_kills_actors_by_their_id() -> None:
    assert callable(CoreWorker.kill_actor)
    assert ActorID.from_hex("ab" * ActorID.size()).hex() == "ab" * ActorID.size()


def test_a_job_keeps_its_modules_beside_those_of_its_driver(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(cluster.REPLACES_ENVIRONMENT_OF_JOB, "0")
    own = {"env_vars": {"PYTHONPATH": "/a"}, "py_modules": ["gcs://own.zip"]}
    assert cluster.joined_with_job(own) == own  # outside of a job
    assert os.environ[cluster.REPLACES_ENVIRONMENT_OF_JOB] == "0"
    of_job = {"env_vars": {"PYTHONPATH": "/b", "OTHER": "1"}, "working_dir": "gcs://dir.zip"}
    config = {"runtime_env": {**of_job, "py_modules": ["gcs://job.zip", "gcs://own.zip"]}}
    monkeypatch.setenv(RAY_JOB_CONFIG_JSON_ENV_VAR, json.dumps(config))
    joined = cluster.joined_with_job(own)
    assert joined["py_modules"] == ["gcs://job.zip", "gcs://own.zip"]
    assert os.environ[cluster.REPLACES_ENVIRONMENT_OF_JOB] == "1"
    # What Ray makes of the two.
    merged = _merge_runtime_env(config["runtime_env"], joined, override=True)
    assert merged["env_vars"] == {"PYTHONPATH": "/a", "OTHER": "1"}
    assert merged["working_dir"] == "gcs://dir.zip"
    assert f'"{cluster.REPLACES_ENVIRONMENT_OF_JOB}"' in inspect.getsource(ray_worker)


def test_a_folders_package_is_named_by_its_content(tmp_path: Path) -> None:
    assert list(inspect.signature(getattr(internal_kv, cluster.USE_HEAD_NODE)).parameters)
    for name in ("one", "other"):
        (tmp_path / name / ".git").mkdir(parents=True)
        (tmp_path / name / "my_lab.py").write_text("x = 1")
        (tmp_path / name / ".git" / "HEAD").write_text(name)  # is not sent

    def uri(name: str) -> str:
        left_out = list(cluster.NOT_SENT)
        return str(packaging.get_uri_for_directory(str(tmp_path / name), True, left_out))

    assert uri("one") == uri("other")
    (tmp_path / "other" / "my_lab.py").write_text("x = 2")
    assert uri("one") != uri("other")


def test_a_folder_of_an_earlier_job_is_looked_up_in_this_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    earlier = "/tmp/ray/session_1/runtime_resources/working_dir_files/_ray_pkg_0a/specs/code"
    assert cluster.in_this_job(earlier) == str(tmp_path / "specs" / "code")
    assert cluster.in_this_job("/home/me/code") == "/home/me/code"
    assert f'"{cluster.WORKING_DIRS}"' in inspect.getsource(working_dir)
