"""Every path that a command prints, and the name of the run, is accepted by every other command."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import rlssl
from rlssl.cli import main
from rlssl.errors import SpecError
from rlssl.run_files import ENV_FAULTS_FOLDER
from tests.experiment.command_line import only_trial, restored_import_path
from tests.experiment.command_line import rlssl as in_own_process

pytestmark = [pytest.mark.slow, pytest.mark.ci, pytest.mark.timeout(600)]

#: What the commands are given, below the current folder.
PLACES = {
    "name": "one",
    "run": "results/one",
    "run with a slash": "results/one/",
    "trial": "TRIAL",
    "checkpoint": "CHECKPOINT",
    "policy": "CHECKPOINT/policy",
    "export": "TRIAL/export",
    "file of a trial": "TRIAL/episodes.csv",
    "tracebacks": f"TRIAL/{ENV_FAULTS_FOLDER}",
    "file of tracebacks": f"TRIAL/{ENV_FAULTS_FOLDER}/env_crashes-ValueError.txt",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished run of a few hundred env steps, and its export."""
    folder = tmp_path_factory.mktemp("every_path")
    sizes = ("training.train_batch_size_per_learner=128", "training.minibatch_size=64")
    changes = [word for size in sizes for word in ("--set", size)]
    arguments = ("train", "ppo", "CartPole-v1", "--name", "one", "--stop", "env_steps=256")
    output, _ = in_own_process(*arguments, *changes, cwd=folder)
    printed = [line for line in output.splitlines() if line.startswith("/")]
    assert [Path(line) for line in printed] == [only_trial(folder / "results/one"), newest(folder)]
    in_own_process("export", printed[0], cwd=folder)
    faults = Path(printed[0]) / ENV_FAULTS_FOLDER
    faults.mkdir()
    (faults / "env_crashes-ValueError.txt").write_text("a traceback")
    return folder


def newest(folder: Path) -> Path:
    return sorted(folder.glob("results/one/*/checkpoint_*"))[-1]


@pytest.fixture
def place(run: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A name or an existing path; the current folder is that of ``run``."""
    monkeypatch.chdir(run)
    trial = str(only_trial(run / "results/one"))
    path = PLACES[request.param].replace("CHECKPOINT", str(newest(run))).replace("TRIAL", trial)
    assert path == "one" or Path(path).exists()
    return path


@pytest.fixture(autouse=True)
def import_path() -> Iterator[None]:
    with restored_import_path():
        yield


@pytest.mark.parametrize("place", PLACES, indirect=True)
@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["evaluate", "--episodes", "1"], r"return \d+, length .* over 1 episode from seed"),
        (["export"], r"^/.*/(export|policy)$|^/.*/export$"),
        (["summary"], r"return .* over the last \d+ episodes, [23]\d\d env steps"),
        (["resume"], r"has finished\. To train it further"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_the_commands_accept_it(place: str, command: list[str], words: str) -> None:
    result = CliRunner().invoke(main, [command[0], place, *command[1:]])
    assert result.exit_code == 0, result.output
    assert re.search(words, result.stdout, re.MULTILINE)


@pytest.mark.parametrize("place", PLACES, indirect=True)
def test_load_policy_accepts_it(place: str) -> None:
    policy = rlssl.load_policy(place)
    env = rlssl.make_env(**policy.settings["env"])
    assert policy.act(env.reset(seed=0)[0]) in env.action_space


def test_other_folders_are_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run)
    for command in ("evaluate", "export", "summary", "resume"):
        assert CliRunner().invoke(main, [command, "results"]).exit_code == 2
    with pytest.raises(SpecError):
        rlssl.load_policy(run / "results")
