"""Code of foreign origin is not executed without --trust, and no secret is saved."""

import base64
import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import rlssl
from rlssl import trust
from rlssl.cli import main
from rlssl.errors import SpecError
from rlssl.experiment.spec.loading import load_spec
from rlssl.policy import Policy
from rlssl.run_files import POLICY_FILE, WEIGHTS_FILE
from rlssl.system.secrets import is_secret_key
from tests.algorithms.bench import small_ppo
from tests.experiment.command_line import restored_import_path

ROOT = Path(__file__).parents[2]


class Malicious:
    """A pickle that creates a file when it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


@pytest.fixture(autouse=True)
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that an executed pickle or module would create; the record of runs is empty."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with restored_import_path():
        yield tmp_path / "executed"


@pytest.fixture(scope="module")
def saved_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained policy on CartPole."""
    algorithm = small_ppo({"id": "CartPole-v1"}).build_algo()
    policy = Policy.from_algorithm(algorithm)
    algorithm.stop()
    return policy.save(tmp_path_factory.mktemp("policy") / "export")


@pytest.fixture
def export(saved_policy: Path, tmp_path: Path) -> Path:
    """An exported policy of another user."""
    return shutil.copytree(saved_policy, tmp_path / "export")


def rewrite_settings(export: Path, **changes: Any) -> None:
    settings = json.loads((export / POLICY_FILE).read_text())
    (export / POLICY_FILE).write_text(json.dumps({**settings, **changes}))


def pickled_array(trace: Path) -> str:
    """An array of objects in the form of a space's bounds in RLlib; numpy would unpickle it."""
    buffer = io.BytesIO()
    np.save(buffer, np.array([Malicious(trace)], dtype=object), allow_pickle=True)
    return base64.b64encode(zlib.compress(buffer.getvalue())).decode()


def put_pickle(name: str) -> Callable[[Path, Path], None]:
    def put(export: Path, trace: Path) -> None:
        (export / name).write_bytes(pickle.dumps(Malicious(trace)))

    return put


def put_space(export: Path, trace: Path) -> None:
    box = {"space": "box", "low": pickled_array(trace), "high": pickled_array(trace)}
    space = {"space": "tuple", "spaces": [{**box, "shape": [1]}]}
    rewrite_settings(export, observation_space=space)


def put_plugin(export: Path, trace: Path) -> None:
    module = export / "not_yours.py"
    module.write_text(f"from pathlib import Path\nPath({str(trace)!r}).touch()\n")
    sys.path.append(str(export))
    rewrite_settings(export, plugins=["not_yours"])


# --- policies ------------------------------------------------------------------------------------


def test_malicious_pickle_executes_when_it_is_loaded(trace: Path) -> None:
    pickle.loads(pickle.dumps(Malicious(trace)))
    assert trace.exists()
    trace.unlink()
    np.load(io.BytesIO(zlib.decompress(base64.b64decode(pickled_array(trace)))), allow_pickle=True)
    assert trace.exists()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (put_pickle(WEIGHTS_FILE), "cannot be read: SafetensorError"),
        (put_pickle(POLICY_FILE), "cannot be read: UnicodeDecodeError"),
        (put_space, "cannot be read: ValueError: Object arrays cannot be loaded"),
        (put_plugin, "was not made here by you, and it names plug-ins to import, ['not_yours']"),
        (lambda export, _: rewrite_settings(export, algorithm="os"), "unknown algorithm 'os'"),
        (lambda export, _: rewrite_settings(export, model={}), "cannot be read: KeyError"),
        (lambda export, _: rewrite_settings(export, plugins=5), "cannot be read: TypeError"),
        (lambda export, _: (export / WEIGHTS_FILE).unlink(), "cannot be read: FileNotFoundError"),
    ],
)
def test_foreign_policy_is_read_as_data_or_refused(
    export: Path, trace: Path, spoil: Callable[[Path, Path], None], words: str
) -> None:
    spoil(export, trace)
    with pytest.raises(SpecError, match=re.escape(words)):
        rlssl.load_policy(export)
    assert not trace.exists()


def test_pickles_beside_a_foreign_policy_are_not_loaded(export: Path, trace: Path) -> None:
    for name in ("module_state.pkl", "class_and_ctor_args.pkl", "policy.pkl", "weights.pt"):
        put_pickle(name)(export, trace)
    action = rlssl.load_policy(export).act(np.zeros(4, np.float32))
    assert action in (0, 1)
    assert not trace.exists()


def test_plugins_of_a_trusted_policy_are_imported(export: Path, trace: Path) -> None:
    put_plugin(export, trace)
    rlssl.load_policy(export, trusted=True)
    assert trace.exists()
    trace.unlink()
    # A plug-in that this process has imported already needs no trust.
    untrusted = shutil.copytree(export, export.with_name("untrusted"))
    assert not trust.is_trusted(untrusted)
    rlssl.load_policy(untrusted)
    del sys.modules["not_yours"]


def test_module_of_the_environment_of_a_foreign_policy_stays_out(export: Path, trace: Path) -> None:
    put_plugin(export, trace)
    rewrite_settings(export, plugins=[], env={"id": "not_yours:X-v0"})
    result = CliRunner().invoke(main, ["evaluate", str(export)])
    assert result.exit_code == 2
    assert "its environment imports 'not_yours'" in result.output
    assert not trace.exists()


# --- runs ----------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path, trace: Path) -> Path:
    """A run of another user, with only malicious pickles."""
    folder = tmp_path / "run"
    checkpoint = folder / "trial" / "checkpoint_000000"
    checkpoint.mkdir(parents=True)
    description = {"is_sweep": False, "python_path": [str(folder)], "registered_by_script": []}
    (folder / "run.json").write_text(json.dumps(description))
    (folder / "trial" / "trial.json").write_text("{}")
    (checkpoint / "rlssl_checkpoint.json").write_text('{"env_steps": 1, "files": {}}')
    for name in ("tuner.pkl", "trainable.pkl", "trial/checkpoint_000000/state.pkl"):
        (folder / name).write_bytes(pickle.dumps(Malicious(trace)))
    return folder


@pytest.mark.parametrize(
    "command", [("resume",), ("train", "ppo", "CartPole-v1", "--from")], ids=lambda c: c[0]
)
@pytest.mark.parametrize("part", ["", "trial"])
def test_foreign_run_is_not_unpickled(
    command: tuple[str, ...], part: str, run: Path, trace: Path
) -> None:
    result = CliRunner().invoke(main, [*command, str(run / part)])
    assert result.exit_code == 2
    assert "was not made here by you, and its checkpoints are pickles" in result.output
    assert "repeat with --trust" in result.output
    assert not trace.exists()


def test_import_path_of_a_foreign_run_is_ignored(run: Path) -> None:
    from rlssl.experiment.runs import describe

    describe(run)
    assert str(run) not in sys.path
    trust.accept(run)
    describe(run)
    assert str(run) in sys.path


def test_folder_is_trusted_only_at_the_path_where_it_was_made(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "trial").mkdir(parents=True)
    assert not trust.is_trusted(mine)
    trust.record(mine)
    assert trust.is_trusted(mine) and trust.is_trusted(mine / "trial" / "..")
    assert trust.is_trusted(mine / "trial")
    moved = mine.rename(tmp_path / "moved")
    assert not trust.is_trusted(moved)
    assert not trust.is_trusted(tmp_path)


def test_folder_of_another_user_is_foreign_even_at_a_recorded_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust.record(tmp_path)
    assert trust.is_trusted(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    assert not trust.is_trusted(tmp_path)


def test_record_that_cannot_be_written_stops_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    trust.record(tmp_path)
    assert "resume needs --trust" in caplog.text
    assert not trust.is_trusted(tmp_path)


# --- Ray's authentication ------------------------------------------------------------------------


def test_code_only_reads_rays_authentication_and_deploy_only_turns_it_on() -> None:
    folders = ("rlssl", "envs", "tune_configs", "examples", "deploy", "benchmarks")
    files = [path for name in folders for path in (ROOT / name).rglob("*") if path.is_file()]
    settings: dict[str, set[bytes]] = {}
    for path in files:
        content = path.read_bytes() if path.suffix != ".pyc" else b""
        if b"RAY_AUTH" in content:
            # What is in braces is read: an f-string shows it.
            written = re.findall(rb"RAY_AUTH\w+[\"']?\]?\s*[=:]\s*(?!\{)([\w\"'/$]*)", content)
            settings[path.name] = set(written)
    assert settings == {
        "doctor.py": set(),
        "submit.py": set(),
        "slurm.sbatch": {b"token"},
        "ray-up-aws.yaml": {b"token"},
        "Dockerfile": {b"token"},
    }


# --- secrets -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "secret"),
    [
        *((key, True) for key in ("api_key", "apiKey", "API-KEY", "password", "db_password")),
        *((key, True) for key in ("token", "hf_token", "accessToken", "client_secret", "auth")),
        *((key, True) for key in ("WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "credentials")),
        *((key, False) for key in ("key", "keys", "num_tokens", "token_dim", "mask_token", "lr")),
        *((key, False) for key in ("api_key_env", "secretary", "author", "passes", "keyboard")),
    ],
)
def test_secrets_are_recognized_by_their_keys(key: str, secret: bool) -> None:
    assert is_secret_key(key) is secret


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"env": {"id": "CartPole-v1", "api_key": "hunter2!"}}, "env.api_key"),
        ({"env": {"id": "CartPole-v1", "login": {"token": ["hunter2!"]}}}, "env.login.token[0]"),
        ({"evaluation": {"env": {"password": "hunter2!"}}}, "evaluation.env.password"),
        (
            {"search": {"env.api_key": {"grid": ["hunter2!"]}}, "stop": {"env_steps": 1}},
            "search.env.api_key.grid[0]",
        ),
        ({"storage": "s3://me:hunter2!@bucket"}, "storage"),
        ({"env": {"id": "CartPole-v1", "harmless": "hunter2-from-the-shell"}}, "env.harmless"),
    ],
)
def test_secret_is_refused_by_its_key_and_not_shown(
    document: dict[str, Any], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_PASSWORD", "hunter2-from-the-shell")
    with pytest.raises(SpecError) as caught:
        load_spec({"algorithm": "ppo", "env": "CartPole-v1", **document})
    assert str(caught.value).startswith(f"{path} ")
    assert "hunter2" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.timeout(300)
def test_run_saves_no_secret_and_is_foreign_after_it_is_moved(
    tmp_path: Path,
) -> None:
    secrets = {
        "WANDB_API_KEY": "secret-of-wandb-5309",
        "AWS_SECRET_ACCESS_KEY": "secret-of-aws-5309",
        "MY_DATABASE": "secret-of-nobody-5309",
    }
    environment = {**os.environ, **secrets, "XDG_STATE_HOME": str(tmp_path / "state")}

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "rlssl.cli", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )

    done = command("train", "ppo", "CartPole-v1", "--stop", "env_steps=500", "--name", "mine")
    assert done.returncode == 0, done.stdout + done.stderr
    files = [path for path in (tmp_path / "results").rglob("*") if path.is_file()]
    assert any(path.suffix == ".pkl" for path in files)
    assert [path for path in files if b"-5309" in path.read_bytes()] == []
    (tmp_path / "results" / "mine").rename(tmp_path / "results" / "moved")
    again = ("train", "ppo", "CartPole-v1", "--stop", "env_steps=100", "--from", "moved")
    refused = command(*again)
    assert refused.returncode == 2 and "repeat with --trust" in refused.stderr
    trusted = command(*again, "--trust")
    assert trusted.returncode == 0, trusted.stdout + trusted.stderr
    # A policy is data and needs no trust.
    assert command("evaluate", "moved", "--episodes", "1").returncode == 0
