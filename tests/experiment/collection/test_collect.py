"""`rlssl collect`: what is recorded, whoever acts, in how many processes, and after a stop."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import gymnasium as gym
import numpy as np
import pytest
from click.testing import CliRunner
from gymnasium.spaces import Box, Dict, MultiDiscrete

from rlssl.algorithms.pretrain.pretrain import PretrainConfig
from rlssl.algorithms.rainbow.rainbow import RainbowConfig
from rlssl.cli import main
from rlssl.data import DatasetWriter, Description, Episode, EpisodeDataset
from rlssl.environments.building import make_env
from rlssl.evaluation import evaluate_policy
from rlssl.experiment.commands.data.writing import only_writer
from rlssl.plugins import load_plugins
from rlssl.policy import Policy
from rlssl.registry import ENVIRONMENTS, EXPERTS, register_env, register_expert
from rlssl.zoo import zoo_folder
from tests.data.recorded import assert_same_episodes
from tests.experiment.command_line import restored_import_path
from tests.test_policy import make_policy


class Lives(gym.Env):
    """Counts steps in one array, which it changes; loses a life each ``life`` steps."""

    observation_space: gym.Space = Dict(
        {"image": Box(0, 255, (2, 3, 3), np.uint8), "count": Box(-9, 99, (1,), np.float32)}
    )
    action_space: gym.Space = MultiDiscrete([2, 3])

    def __init__(self, config: dict[str, Any]) -> None:
        self.life, self.length = config.get("life", 2), config.get("length", 5)
        self.training = config["split"] == "train"
        self.image = np.zeros((2, 3, 3), np.uint8)

    def _observed(self) -> dict[str, np.ndarray]:
        self.image[:] = self.count
        return {"count": np.array([self.count], np.float32), "image": self.image}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.count = int(self.np_random.integers(50))
        self.steps = 0
        return self._observed(), {}

    def step(self, action: Any) -> Any:
        self.steps, self.count = self.steps + 1, self.count + 1
        reward = float(action[1]) * 10
        action[:] = 0  # some environments clip in place
        over = self.steps == self.length
        info: dict[str, Any] = {"success": self.steps >= 3}
        if self.training:
            lost = self.steps % self.life == 0 and not over
            info |= {"soft_terminated": lost, "learning_reward": np.sign(reward)}
        return self._observed(), reward, over, False, info


@pytest.fixture(autouse=True)
def _tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty folder, and the registrations of a test undone afterwards."""
    load_plugins()
    monkeypatch.chdir(tmp_path)
    with ENVIRONMENTS.undone_afterwards(), EXPERTS.undone_afterwards(), restored_import_path():
        register_env("test/Lives", Lives)
        yield


def collect(*arguments: str, code: int = 0) -> str:
    """Runs the command here; returns what it prints."""
    done = CliRunner().invoke(main, ["collect", *arguments])
    assert done.exit_code == code, done.output + str(done.exception)
    return done.output


def recorded(path: str) -> list[Episode]:
    return list(EpisodeDataset(path))


def files_of(path: str) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in Path(path).iterdir()}


def played(path: str) -> dict[str, Any]:
    notes = EpisodeDataset(path).description.notes["played"]
    assert isinstance(notes, dict)
    return notes


def test_what_an_expert_does_is_recorded_with_its_description() -> None:
    arguments = ["CartPole-v1", "--policy", "expert/cartpole", "--max-episode-steps", "20"]
    printed = collect(*arguments, "--episodes", "3", "--to", "data", "--seed", "4")
    assert "return 20.0 (std 0.00), length 20.0 over 3 episodes, 60 env steps" in printed
    episodes = recorded("data")
    assert [len(episode) for episode in episodes] == [20] * 3
    assert not any(episode.terminated for episode in episodes)
    assert all(episode.truncated for episode in episodes)  # by the limit of the command
    weights = np.array([0.1, 0.3, 1.5, 0.5])
    for episode in episodes:
        np.testing.assert_array_equal(episode.actions, episode.observations[:-1] @ weights > 0)
        # The environment, begun at the same state, makes the same steps.
        env = make_env({"id": "CartPole-v1"})
        env.reset()
        env.unwrapped.state = episode.observations[0].astype(np.float64)  # type: ignore[attr-defined]
        observation, *_ = env.step(int(episode.actions[0]))
        np.testing.assert_allclose(observation, episode.observations[1], atol=1e-6)
    description = EpisodeDataset("data").description
    assert description.env == {"id": "CartPole-v1"}
    assert description.policy == {"name": "expert/cartpole"}
    assert description.seed == 4
    assert EpisodeDataset("data").is_complete


def test_in_training_learning_rewards_are_recorded_and_lost_lives_end_episodes() -> None:
    collect("test/Lives", "--policy", "random", "--episodes", "4", "--to", "data")
    episodes = recorded("data")
    # Five steps, and a life lost each 2: 2 + 2 + 1.
    assert [len(episode) for episode in episodes] == [2, 2, 1] * 4
    assert all(episode.terminated for episode in episodes)
    for first, second in zip(episodes[::3], episodes[1::3], strict=True):
        count = float(first.observations["count"][0, 0])
        assert first.observations["count"].ravel().tolist() == [count, count + 1, count + 2]
        assert first.observations["image"][:, 0, 0, 0].tolist() == [count, count + 1, count + 2]
        assert second.observations["count"][0] == first.observations["count"][-1]
    actions = np.concatenate([episode.actions for episode in episodes])
    assert actions.shape == (20, 2) and len(np.unique(actions, axis=0)) > 3
    rewards = np.concatenate([episode.rewards for episode in episodes])
    np.testing.assert_array_equal(rewards, actions[:, 1] > 0)
    # The statistics are those of the environment's own episodes and rewards.
    statistics = played("data")
    assert (statistics["episodes"], statistics["recorded"]) == (4, 12)
    assert statistics["return_sum"] == 10 * actions[:, 1].sum()
    assert statistics["success_rate"] == 1.0


def test_in_evaluation_whole_games_and_their_rewards_are_recorded() -> None:
    arguments = ["test/Lives", "--policy", "random", "--split", "eval", "--set", "env.length=4"]
    collect(*arguments, "--env-steps", "9", "--to", "data", "--seed", "2")
    episodes = recorded("data")
    assert [len(episode) for episode in episodes] == [4] * 3  # 8 steps are not yet 9
    for seed, episode in enumerate(episodes, 2):
        np.testing.assert_array_equal(episode.rewards, 10 * episode.actions[:, 1])
        observation, _ = make_env({"id": "test/Lives"}, split="eval").reset(seed=seed)
        assert episode.observations["count"][0] == observation["count"]


def test_episodes_of_one_step_and_no_actions() -> None:
    arguments = ["test/Lives", "--policy", "random", "--set", "env.length=1", "--episodes", "3"]
    collect(*arguments, "--without-actions", "--to", "data")
    dataset = EpisodeDataset("data")
    assert dataset.description.action_space is None
    for episode in dataset:
        assert (len(episode), episode.actions, episode.rewards.tolist()) == (1, None, [0.0])
        assert episode.terminated


@pytest.mark.parametrize("name", ["CartPole-v1", "MiniGrid-Empty-5x5-v0"])
@pytest.mark.parametrize("explore", [False, True])
def test_a_run_is_recorded_as_it_is_evaluated(name: str, explore: bool) -> None:
    policy = Policy.load(zoo_folder(f"zoo/ppo/{name}"))
    env = policy.settings["env"]
    wanted = evaluate_policy(policy, env, seeds=range(5, 9), explore=explore, max_steps=40)
    flags = ["--explore"] * explore
    arguments = [f"zoo/ppo/{name}", "--split", "eval", "--seed", "5", "--max-episode-steps", "40"]
    collect(*arguments, *flags, "--episodes", "4", "--to", "data")
    episodes = recorded("data")
    assert [len(episode) for episode in episodes] == [record.length for record in wanted]
    scores = [float(episode.rewards.sum()) for episode in episodes]
    assert scores == pytest.approx([record.score for record in wanted])
    for record, episode in zip(wanted, episodes, strict=True):
        # The recorded actions, taken again, lead to the recorded observations, bit by bit.
        replayed = make_env(env, split="eval", seed=record.seed)
        observation, _ = replayed.reset(seed=record.seed)
        for action, seen in zip(episode.actions, episode.observations, strict=False):
            np.testing.assert_array_equal(observation, seen)
            observation, *_ = replayed.step(action)
        np.testing.assert_array_equal(observation, episode.observations[-1])


class Steady(gym.Env):
    """Observes its clock and the seed's number; continuous actions in other units."""

    observation_space = Box(-1, 1, (3,), np.float32)
    action_space = Box(-2, 2, (2,), np.float32)

    def __init__(self, config: dict[str, Any]) -> None:
        pass

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        observation = self.np_random.uniform(-1, 1, 3).astype(np.float32)
        return observation, float(np.sum(action)), False, self.steps == 6, {}


@pytest.mark.parametrize("recurrent", [False, True])
def test_stacks_and_memory_of_a_policy_are_its_own(recurrent: bool) -> None:
    """Frames are recorded single; actions in the environment's units, as the policy took them."""
    register_env("test/Steady", Steady)
    spaces = (Steady.observation_space, Steady.action_space)
    policy = make_policy(*spaces, lstm={"hidden": 8}) if recurrent else make_policy(*spaces, 3)
    policy.settings["env"] = {"id": "test/Steady"}
    policy.save("policy")
    collect("policy", "--episodes", "3", "--to", "data")
    used = []
    for episode in recorded("data"):
        assert episode.observations.shape == (7, 3)
        assert (episode.terminated, episode.truncated) == (False, True)
        policy.reset()
        wanted = np.stack([policy.act(observation) for observation in episode.observations[:-1]])
        np.testing.assert_array_equal(episode.actions, wanted)
        used.append(wanted)
    assert 0 < np.abs(np.concatenate(used)).max() <= 2


def test_noise_replaces_a_share_of_the_actions_and_the_expert_learns_of_it() -> None:
    told: list[Any] = []

    @register_expert("lab-left")
    class Left:
        def __init__(self, env: gym.Env) -> None: ...

        def reset(self, observation: Any) -> None: ...

        def act(self, observation: Any, previous_action: Any) -> int:
            told.append(previous_action)
            return 0

    arguments = ["CartPole-v1", "--policy", "expert/lab-left", "--noise", "0.5"]
    collect(*arguments, "--episodes", "40", "--to", "data")
    episodes = recorded("data")
    actions = np.concatenate([episode.actions for episode in episodes])
    # Half of the actions are random, and half of these are 1: 0.25, +- 4 * sqrt(0.19 / n).
    assert abs(actions.mean() - 0.25) < 4 * (0.1875 / len(actions)) ** 0.5
    firsts = np.cumsum([0, *(len(episode) for episode in episodes)])[:-1]
    assert [told[i] for i in firsts] == [None] * 40
    taken = [None, *actions[:-1]]
    assert all(told[i] == taken[i] for i in range(len(actions)) if i not in set(firsts))


def test_seeds_of_training_are_far_from_those_of_evaluation_and_differ() -> None:
    starts: list[Any] = []
    for seed, split in ((0, "train"), (1, "train"), (0, "eval")):
        path = f"{split}{seed}"
        arguments = ["CartPole-v1", "--policy", "random", "--seed", str(seed), "--split", split]
        collect(*arguments, "--episodes", "5", "--to", path)
        starts += [tuple(episode.observations[0]) for episode in recorded(path)]
    assert len(set(starts)) == 15


NOISY = ["test/Lives", "--policy", "random", "--noise", "0.3"]


def test_the_same_command_adds_what_is_missing_and_nothing_twice() -> None:
    collect(*NOISY, "--episodes", "7", "--to", "once")
    for count in ("2", "3", "7"):
        collect(*NOISY, "--episodes", count, "--to", "often")
    assert_same_episodes(recorded("often"), recorded("once"))
    assert played("often") == played("once")
    before = files_of("often")
    assert "over 7 episodes" in collect(*NOISY, "--episodes", "7", "--to", "often")
    assert "over 7 episodes" in collect(*NOISY, "--episodes", "4", "--to", "often")
    assert files_of("often") == before


@pytest.mark.parametrize("stop", [1, 2, 3, 5, 8])
def test_an_error_leaves_a_readable_set_that_the_same_command_completes(
    stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error comes at any place: shards of 3 rows end in the middle of a game's lives."""
    from rlssl.data import writer

    monkeypatch.setattr(
        writer.DatasetWriter.__init__,
        "__kwdefaults__",
        {"resume": False, "keep_partial": True, "rows_per_shard": 3, "bytes_per_shard": 2**20},
    )
    collect(*NOISY, "--episodes", "4", "--to", "once")
    add, calls = writer.DatasetWriter.add, []

    def failing(self: Any, episode: Episode) -> None:
        calls.append(episode)
        if len(calls) == stop:
            raise OSError("No space left on device")
        add(self, episode)

    with monkeypatch.context() as patch:
        patch.setattr(writer.DatasetWriter, "add", failing)
        assert "No space left" in collect(*NOISY, "--episodes", "4", "--to", "data", code=3)
    assert len(EpisodeDataset("data")) == stop - 1
    assert not EpisodeDataset("data").is_complete
    assert_same_episodes(recorded("data"), recorded("once")[: stop - 1])
    collect(*NOISY, "--episodes", "4", "--to", "data")
    assert_same_episodes(recorded("data"), recorded("once"))
    assert played("data") == played("once")
    assert EpisodeDataset("data").is_complete


def test_a_second_recorder_of_a_folder_is_refused_until_the_first_has_ended() -> None:
    arguments = ["test/Lives", "--policy", "random", "--to", "data"]
    with only_writer("data"):
        error = collect(*arguments, "--episodes", "1", code=3)
        assert "data is being written: " in error and f"(process {os.getpid()})" in error
        assert not Path("data/dataset.json").exists()
    assert not Path("data").exists()
    collect(*arguments, "--episodes", "1")
    assert files_of("data").keys() == {"dataset.json", "episodes-00000.parquet"}


REFUSED: list[tuple[Sequence[str], str]] = [
    (["CartPole-v1", "--policy", "random"], "give --episodes N or --env-steps N"),
    (["CartPole-v1", "--episodes", "1"], "add --policy random, --policy expert/NAME"),
    (["CartPole-v1", "--policy", "expert/pendulum", "--episodes", "1"], "is for Pendulum-v1"),
    (["CartPole-v1", "--policy", "expert/crtpole", "--episodes", "1"], "'expert/cartpole'"),
    (["CartPole-v1", "--policy", "zoo/ppo/Acrobot-v1", "--episodes", "1"], "observation_space"),
    (["CartPole-v1", "--policy", "random", "--episodes", "1", "--noise", "2"], "in [0, 1]; got 2"),
    (["zoo/ppo/CartPole-v1", "--episodes", "1", "--set", "training.lr=1"], "write env.KEY=VALUE"),
    (["no-such-run", "--episodes", "1"], "no run 'no-such-run'"),
    (["MiniGrid-Empty-5x5-v0", "--policy", "expert/babyai-bot", "--episodes", "1"], "BabyAI level"),
    (["test/Unbounded", "--policy", "random", "--episodes", "1"], "random actions need bounds"),
]


@pytest.mark.parametrize(("arguments", "words"), REFUSED)
def test_wrong_commands_are_refused_before_anything_is_written(
    arguments: Sequence[str], words: str
) -> None:
    class Unbounded(Steady):
        action_space = Box(-np.inf, np.inf, (2,), np.float32)

    register_env("test/Unbounded", Unbounded)
    assert words in collect(*arguments, "--to", "data", code=2)
    assert not Path("data").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--seed", "1"], "seed 0, and this one has 1"),
        (["--noise", "0.1"], "noise 0.0, and this one has 0.1"),
        (["--split", "eval"], "split train, and this one has eval"),
        (["--set", "env.length=4"], "env {'id': 'test/Lives'}, and this one has"),
        (["--without-actions"], "action_space"),
    ],
)
def test_a_folder_of_another_recording_is_left_alone(flags: list[str], words: str) -> None:
    arguments = ["test/Lives", "--policy", "random", "--to", "data"]
    collect(*arguments, "--episodes", "1")
    before = files_of("data")
    assert words in collect(*arguments, *flags, "--episodes", "3", code=2)
    assert files_of("data") == before


def test_a_run_on_data_has_the_stack_that_the_environment_suggests() -> None:
    class Stacked(Lives):
        suggested_frame_stack = 4

    register_env("test/Stacked", Stacked)
    collect("test/Stacked", "--policy", "random", "--episodes", "1", "--to", "data")
    assert PretrainConfig().data(path="data").find_spaces().frame_stack == 4
    # A data set that was written by hand does not say it, but the environment does.
    with DatasetWriter("hand", Description(Lives.observation_space, Lives.action_space)) as writer:
        writer.add(recorded("data")[0])
    config = RainbowConfig().environment("test/Stacked").data(path="hand", offline=True)
    assert config.find_spaces().frame_stack == 4
    assert PretrainConfig().data(path="hand").find_spaces().frame_stack == 1


def test_a_wrong_action_of_an_expert_is_named() -> None:
    @register_expert("lab-wrong")
    class Wrong:
        def __init__(self, env: gym.Env) -> None: ...

        def reset(self, observation: Any) -> None: ...

        def act(self, observation: Any, previous_action: Any) -> int:
            return 2

    arguments = ["CartPole-v1", "--policy", "expert/lab-wrong", "--episodes", "1", "--to", "data"]
    assert "expert/lab-wrong gave the action 2, which is not in Discrete(2)" in collect(
        *arguments, code=2
    )


def test_json_has_the_statistics_alone() -> None:
    arguments = ["test/Lives", "--policy", "random", "--episodes", "2", "--to", "data", "--json"]
    done = CliRunner().invoke(main, ["collect", *arguments])
    found = json.loads(done.stdout)
    assert (found["dataset"], found["episodes"], found["agent_steps"]) == ("data", 2, 10)
    # Of two numbers, the standard deviation is their distance over the root of 2.
    distance = found["return_max"] - found["return_min"]
    assert found["return_std"] == pytest.approx(distance / 2**0.5)


def test_the_command_completes_runs_and_environments() -> None:
    command = main.commands["collect"]
    context = click.Context(command)
    (source,) = [param for param in command.params if param.name == "source"]
    found = {item.value for item in source.shell_complete(context, "zoo/ppo/C")}
    assert found == {"zoo/ppo/CartPole-v1"}
    assert "CartPole-v1" in {item.value for item in source.shell_complete(context, "CartP")}
