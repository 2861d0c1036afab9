"""Demonstrations in memory: stacks, actions, draws, checksums, and what is refused."""

import copy
import shutil
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns

from rlssl.auxiliary.imitation.demonstrations import Demonstrations
from rlssl.connectors.frame_stack import FrameStack, stacked_space
from rlssl.data import DatasetWriter, Description, Episode
from rlssl.errors import SpecError
from rlssl.experiment.spec.loading import load_spec
from rlssl.experiment.trial_check import check_trial
from rlssl.peers import Peers
from rlssl.system.random_state import generators, set_generators
from tests.algorithms.bench import Bench, small_ppo
from tests.auxiliary.imitation.recorded import record

CPU = torch.device("cpu")
PUSH = spaces.Box(-2.0, 2.0, (1,), np.float32)


def episode(space: gym.Space, length: int, seed: int = 0) -> Episode:
    space.seed(seed)
    frames = np.stack([space.sample() for _ in range(length + 1)])
    actions = np.linspace(-2, 2, length, dtype=np.float32)[:, None]
    return Episode(frames, actions, np.zeros(length, np.float32), truncated=True)


def slow_stacks(space: Any, episode: Episode, frame_stack: int) -> np.ndarray:
    """As an EnvRunner sees the episode, step by step."""
    stack = FrameStack(frame_stack, 1, space)
    stack.reset(episode.observations[:1], np.array([True]))
    seen = [stack.stacked()[0]]
    for frame in episode.observations[1:]:
        stack.push(frame[None])
        seen.append(stack.stacked()[0])
    return np.stack(seen)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1, 1, (3,), np.float32),
        spaces.Box(0, 255, (2, 9, 9), np.uint8),
        spaces.Box(0, 255, (9, 9, 1), np.uint8),
    ],
    ids=str,
)
def test_stacks_are_those_that_an_env_runner_sees(space: Any) -> None:
    episodes = [episode(space, length, seed=length) for length in (1, 5, 3)]
    steps = Demonstrations(episodes, stacked_space(space, 3), PUSH, frame_stack=3)
    assert len(steps) == 9
    columns = [Columns.OBS, Columns.NEXT_OBS, Columns.ACTIONS]
    rows = steps.rows(np.arange(9), columns, CPU)
    slow = [slow_stacks(space, one, 3) for one in episodes]
    assert np.array_equal(rows[Columns.OBS], np.concatenate([seen[:-1] for seen in slow]))
    assert np.array_equal(rows[Columns.NEXT_OBS], np.concatenate([seen[1:] for seen in slow]))
    assert rows[Columns.OBS].numpy().dtype == space.dtype
    # Actions in [-2, 2] are the policy's in [-1, 1].
    expected = np.concatenate([one.actions for one in episodes]) / 2
    assert np.array_equal(rows[Columns.ACTIONS], expected)
    assert np.array_equal(steps.observations(1, CPU), slow[1])


def test_parts_of_dict_observations_are_kept_and_float64_becomes_float32() -> None:
    space = spaces.Dict({"a": spaces.Box(-1, 1, (2,), np.float64), "b": spaces.Discrete(3)})
    frames = {"a": np.arange(6.0).reshape(3, 2), "b": np.array([0, 2, 1])}
    one = Episode(frames, np.array([1, 0]), np.zeros(2, np.float32))
    steps = Demonstrations([one], space, spaces.Discrete(2))
    rows = steps.rows(np.array([1]), [Columns.OBS, Columns.ACTIONS], CPU)
    assert rows[Columns.OBS]["a"].dtype == torch.float32
    assert rows[Columns.OBS]["a"].tolist() == [[2.0, 3.0]]
    assert rows[Columns.OBS]["b"].tolist() == [2] and rows[Columns.ACTIONS].tolist() == [0]


def test_checksums_differ_with_frames_actions_and_lengths() -> None:
    space = spaces.Box(-1, 1, (3,), np.float32)
    one, other = episode(space, 4), episode(space, 4, seed=1)
    moved = Episode(one.observations, -one.actions, one.rewards, truncated=True)
    sets = [[one], [other], [moved], [one, one]]
    sums = [tuple(Demonstrations(it, space, PUSH).checksum.tolist()) for it in sets]
    assert len(set(sums)) == 4
    assert sums[0] == tuple(Demonstrations([one], space, PUSH).checksum.tolist())
    assert all(0 <= number < 2**31 for number in sums[0])


@pytest.fixture(scope="module")
def pendulum(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("data") / "pendulum"
    return record(path, {"id": "Pendulum-v1"}, [None] * 3, most=50)


def bench_with(path: Any, seed: int = 0, **options: Any) -> Bench:
    losses = {"gail": {"demonstrations": str(path), **options}}
    return Bench(small_ppo("Pendulum-v1").debugging(seed=seed).auxiliary(**losses))


class SecondOfTwo(Peers):
    rank, size = 1, 2

    def rows(self, num: int) -> tuple[int, int]:
        return num, 2 * num


def test_draws_change_with_updates_and_two_learners_draw_what_one_draws(pendulum: str) -> None:
    loss = bench_with(pendulum).module.auxiliary["gail"]
    first, again = (loss.draw(8, [Columns.OBS], CPU)[Columns.OBS] for _ in range(2))
    assert torch.equal(first, again)
    loss.peers = SecondOfTwo()
    assert torch.equal(loss.draw(4, [Columns.OBS], CPU)[Columns.OBS], first[4:])
    loss.after_update()
    assert not torch.equal(loss.draw(4, [Columns.OBS], CPU)[Columns.OBS], first[4:])


def test_a_restored_learner_continues_bit_for_bit(pendulum: str) -> None:
    trained, restored = bench_with(pendulum), bench_with(pendulum, seed=9)
    episodes = [trained.sample() for _ in range(2)]
    trained.update(episodes[0])
    restored.learner.set_state(trained.learner.get_state())
    kept = generators()  # an exact resume restores them; they draw the minibatches
    for bench in (trained, restored):
        set_generators(kept)
        bench.env_steps = 128
        bench.update(copy.deepcopy(episodes[1]))  # the connectors change episodes
    for key, value in trained.module.state_dict().items():
        assert torch.equal(value, restored.module.state_dict()[key]), key


def test_a_checkpoint_is_refused_with_other_demonstrations(pendulum: str, tmp_path: Path) -> None:
    other = record(tmp_path / "other", {"id": "Pendulum-v1"}, [None] * 3, most=50, seed=7)
    state = bench_with(pendulum).learner.get_state()
    with pytest.raises(SpecError, match="is not the data set with which the checkpoint was"):
        bench_with(other).learner.set_state(state)


def test_acting_needs_no_demonstrations(pendulum: str, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(pendulum, folder)
    bench = bench_with(folder)
    shutil.rmtree(folder)
    assert sum(map(len, bench.sample())) == 64
    spaces = bench.runner.get_spaces()
    module = bench.config.get_rl_module_spec(
        spaces={DEFAULT_MODULE_ID: spaces["__env_single__"]}, inference_only=True
    ).build()
    module.set_state(bench.module.get_state(inference_only=True))


def checked(path: Any, env: str = "Pendulum-v1", **options: Any) -> None:
    given = {"demonstrations": str(path), **options}
    document = {"algorithm": "ppo", "env": env, "auxiliary": {"gail": given}, "stop": {}}
    check_trial(load_spec(document))


def test_bad_data_sets_are_refused_before_a_run_starts(pendulum: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="demonstrations is missing; give the folder"):
        checked("")
    with pytest.raises(SpecError, match="nowhere is no data set"):
        checked("nowhere")
    checked(pendulum)
    with pytest.raises(SpecError, match=r"has observations Box.* but those of the environment"):
        checked(pendulum, "CartPole-v1")
    shutil.copytree(pendulum, tmp_path / "damaged")
    (shard,) = (tmp_path / "damaged").glob("*.parquet")
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(SpecError, match=r"shard .* \(rows 0 to 152, .* is damaged"):
        checked(tmp_path / "damaged")


def without_actions(source: str, target: Path) -> Path:
    """A copy of a data set without its actions."""
    from rlssl.data import EpisodeDataset

    given = EpisodeDataset(source)
    with DatasetWriter(target, Description(given.description.observation_space)) as writer:
        for one in given:
            writer.add(Episode(one.observations, None, one.rewards, one.terminated, one.truncated))
    return target


def test_demonstrations_without_actions_are_refused_where_actions_are_read(
    pendulum: str, tmp_path: Path
) -> None:
    bare = without_actions(pendulum, tmp_path / "bare")
    with pytest.raises(SpecError, match=r"has no actions, which this loss needs\. Label them"):
        checked(bare)
    checked(bare, states=True)


def test_other_action_ranges_are_refused(pendulum: str, tmp_path: Path) -> None:
    from rlssl.data import EpisodeDataset

    given = EpisodeDataset(pendulum)
    wide = Description(given.description.observation_space, spaces.Box(-3, 3, (1,), np.float32))
    with DatasetWriter(tmp_path / "wide", wide) as writer:
        for one in given:
            writer.add(one)
    with pytest.raises(SpecError, match=r"has actions Box\(-3\.0.* but those of the environment"):
        checked(tmp_path / "wide")
