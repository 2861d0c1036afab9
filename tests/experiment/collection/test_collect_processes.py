"""`rlssl collect` in several processes, and killed or interrupted from outside."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlssl.data import EpisodeDataset
from rlssl.environments.env_check import EnvSpaces
from rlssl.errors import ResourceError
from rlssl.experiment.collection.collecting import Goal, checked, collect_episodes
from rlssl.experiment.collection.recording import Choices, PolicySource, Recording
from rlssl.plugins import load_plugins
from rlssl.registry import ENVIRONMENTS, register_env
from rlssl.zoo import zoo_folder
from tests.data.recorded import assert_same_episodes
from tests.experiment.collection.test_collect import Lives, files_of, recorded
from tests.experiment.command_line import rlssl

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Deadly(Lives):
    """Ends its process at the third reset, if the file ``alive`` is there; then it deletes it."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.alive, self.resets = Path(config["alive"]), 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.resets += 1
        if self.resets == 3 and self.alive.exists():
            if self.alive.is_file():
                self.alive.unlink()
            os._exit(1)
        return super().reset(seed=seed, options=options)


@pytest.fixture(autouse=True)
def _tables() -> Iterator[None]:
    load_plugins()
    with ENVIRONMENTS.undone_afterwards():
        register_env("test/Lives", Lives)
        register_env("test/Deadly", Deadly)
        yield


def _collect(recording: Recording, goal: Goal, path: Path, num_runners: int) -> None:
    collect_episodes(recording, checked(recording), goal, str(path), num_runners=num_runners)


@pytest.mark.ci
@pytest.mark.usefixtures("own_ray")
def test_a_data_set_is_the_same_bit_by_bit_for_any_number_of_runners(tmp_path: Path) -> None:
    lives = Recording({"id": "test/Lives"}, PolicySource("random"), 3)
    zoo = PolicySource("zoo", zoo_folder("zoo/ppo/CartPole-v1"))
    choices = Choices(explore=True, noise=0.2, max_episode_steps=30)
    trained = Recording({"id": "CartPole-v1"}, zoo, 1, choices)
    cases = [(lives, Goal(episodes=7), 3), (trained, Goal(env_steps=200), 2)]
    for number, (recording, goal, num_runners) in enumerate(cases):
        here, there = tmp_path / f"here{number}", tmp_path / f"there{number}"
        _collect(recording, goal, here, 0)
        _collect(recording, goal, there, num_runners)
        assert len(files_of(str(here))) == 2  # dataset.json and a shard
        assert files_of(str(there)) == files_of(str(here))


@pytest.mark.usefixtures("own_ray")
def test_a_runner_that_dies_is_replaced_and_plays_its_episodes_again(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    env = {"id": "test/Deadly", "alive": str(alive)}
    recording = Recording(env, PolicySource("random"))
    _collect(recording, Goal(episodes=9), tmp_path / "whole", 0)
    alive.touch()
    collect_episodes(recording, _spaces(), Goal(episodes=9), str(tmp_path / "data"), num_runners=2)
    assert not alive.exists()
    assert files_of(str(tmp_path / "data")) == files_of(str(tmp_path / "whole"))


@pytest.mark.usefixtures("own_ray")
def test_runners_that_always_die_end_the_command_in_words(tmp_path: Path) -> None:
    env = {"id": "test/Deadly", "alive": str(tmp_path)}
    recording = Recording(env, PolicySource("random"))
    with pytest.raises(ResourceError, match="fewer --env-runners"):
        collect_episodes(
            recording, _spaces(), Goal(episodes=40), str(tmp_path / "data"), num_runners=1
        )
    assert not EpisodeDataset(tmp_path / "data").is_complete


def _spaces() -> EnvSpaces:
    return EnvSpaces(Lives.observation_space, Lives.action_space)


COMMAND = ["collect", "BabyAI-GoToLocal-v0", "--policy", "expert/babyai-bot", "--to", "data"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    processes: list[subprocess.Popen[str]] = []

    def start_one(*flags: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "rlssl.cli", *COMMAND, *flags],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        processes.append(process)
        return process

    yield start_one
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _wait_for(process: subprocess.Popen[str], file: Path) -> None:
    deadline = time.monotonic() + 120
    while not file.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("runners", ["0", "2"])
def test_an_interrupt_leaves_what_was_played_and_ends_with_130(
    start: Any, tmp_path: Path, runners: str
) -> None:
    process = start("--episodes", "1000000", "--env-runners", runners)
    progress = next(line for line in process.stderr if "; until" in line)
    assert "until 1,000,000 episodes" in progress
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1] == "error: interrupted."
    dataset = EpisodeDataset(tmp_path / "data")
    assert not dataset.is_complete
    count = len(dataset)
    assert 0 < count < 1000000
    rlssl(*COMMAND, "--episodes", str(count + 3), cwd=tmp_path)
    rlssl(*COMMAND[:-1], "whole", "--episodes", str(count + 3), cwd=tmp_path)
    assert_same_episodes(recorded(str(tmp_path / "data")), recorded(str(tmp_path / "whole")))
    assert EpisodeDataset(tmp_path / "data").is_complete


@pytest.mark.ci
def test_a_killed_recorder_leaves_whole_shards_and_goes_on(start: Any, tmp_path: Path) -> None:
    """A shard of 20,000 rows is written every few seconds."""
    process = start("--episodes", "1000000")
    _wait_for(process, tmp_path / "data" / "episodes-00000.parquet")
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = recorded(str(tmp_path / "data"))
    assert len(kept) > 100
    count = str(len(kept) + 3)
    rlssl(*COMMAND, "--episodes", count, cwd=tmp_path)
    rlssl(*COMMAND[:-1], "whole", "--episodes", count, cwd=tmp_path)
    whole = recorded(str(tmp_path / "whole"))
    assert_same_episodes(kept, whole[:-3])
    assert_same_episodes(recorded(str(tmp_path / "data")), whole)
