"""Remote EnvRunners that sample during the updates: a fixed lag, whatever their speed."""

import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics import WEIGHTS_SEQ_NO

from rlssl.algorithms.rainbow.rainbow import Rainbow, RainbowConfig
from rlssl.errors import EnvironmentFaultError
from rlssl.registry import register_env
from tests.algorithms.rainbow.rainbow_bench import small_rainbow

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ci,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("own_ray"),
]


class Recorder(Rainbow):
    """Remembers the weights of every fragment, and the updates made before it was stored."""

    def setup(self, config: Any) -> None:
        self.weights: list[set[int]] = []
        self.updates: list[int] = []
        super().setup(config)

    def _store(self, episodes: Sequence[SingleAgentEpisode]) -> None:
        columns = [episode.get_extra_model_outputs(WEIGHTS_SEQ_NO) for episode in episodes]
        self.weights.append(set(np.concatenate(columns).tolist()))
        self.updates.append(self.update_ratio.num_updates)
        super()._store(episodes)


def built(
    num_env_runners: int = 2, num_envs: int = 2, env: Any = "CartPole-v1", **training: Any
) -> Recorder:
    settings = {"agent_steps_per_iteration": 100, "learning_starts_agent_steps": 32}
    config: RainbowConfig = small_rainbow(env, **{**settings, **training})
    config.env_runners(num_env_runners=num_env_runners, num_envs_per_env_runner=num_envs)
    return Recorder(config=config)


def weights_of(algorithm: Any) -> dict[str, np.ndarray]:
    weights: dict[str, np.ndarray] = algorithm.learner_group.get_weights()[DEFAULT_MODULE_ID]
    return weights


@pytest.mark.parametrize("overlap", [False, True])
def test_a_fragment_comes_from_weights_that_are_one_fragment_older(overlap: bool) -> None:
    algorithm = built(overlap_sampling=overlap)
    for _ in range(3):
        algorithm.train()
    algorithm.stop()
    updates, weights = algorithm.updates, algorithm.weights
    # Two of 2 copies make 16 steps a fragment, and 4 updates; learning starts after 2 fragments.
    assert len(updates) > 15 and len(set(updates)) > 12
    assert weights == [{number} for number in ([0, *updates[:-1]] if overlap else updates)]


def slow_down(runner: Any, seconds: float) -> None:
    """Lets the runner wait before each fragment."""
    sample = runner.sample

    def slow_sample(**how_much: Any) -> Any:
        time.sleep(seconds)
        return sample(**how_much)

    runner.sample = slow_sample


def test_weights_do_not_depend_on_which_env_runner_is_slow() -> None:
    trained = []
    for slow in (1, 2):
        algorithm = built()
        algorithm.env_runner_group.foreach_env_runner(
            lambda runner, at=slow: slow_down(runner, 0.1 * (runner.worker_index == at)),
            local_env_runner=False,
        )
        results = [algorithm.train() for _ in range(2)]
        trained.append((weights_of(algorithm), [row["episodes"] for row in results]))
        algorithm.stop()
    (one, episodes), (other, same_episodes) = trained
    # Successes are nan.
    np.testing.assert_equal(episodes, same_episodes)
    assert episodes[0]
    assert [key for key in one if not np.array_equal(one[key], other[key])] == []


@pytest.mark.parametrize("overlap", [False, True])
def test_episodes_end_at_the_env_steps_at_which_they_ended(overlap: bool) -> None:
    algorithm = built(num_env_runners=1, num_envs=1, overlap_sampling=overlap)
    results = [algorithm.train() for _ in range(4)]
    algorithm.stop()
    episodes = [episode for row in results for episode in row["episodes"]]
    # One copy plays one episode after the other.
    ends = list(itertools.accumulate(length for _, _, length, _ in episodes))
    assert [env_steps for env_steps, *_ in episodes] == ends and len(ends) > 8


def test_a_run_asks_for_no_steps_after_its_end() -> None:
    config = small_rainbow(learning_starts_agent_steps=32).experiment(total_env_steps=203)
    algorithm = Recorder(config=config.env_runners(num_env_runners=2, num_envs_per_env_runner=1))
    while algorithm.train()["env_steps"] < 203:
        assert algorithm.fragment_requests.has_fragments
    assert not algorithm.fragment_requests.has_fragments
    assert 203 <= algorithm.clock <= 204
    # A user may train further.
    assert algorithm.train()["env_steps"] > 204
    algorithm.stop()


def test_a_restore_drops_the_fragments_in_progress(tmp_path: Path) -> None:
    algorithm = built()
    algorithm.train()
    path = algorithm.save_to_path(str(tmp_path / "saved"))
    saved = algorithm.clock
    kept = [fragment.episodes for fragment in algorithm.fragment_requests._arrived]
    algorithm.train()
    algorithm.restore_from_path(path)
    again = [fragment.episodes for fragment in algorithm.fragment_requests._arrived]
    assert algorithm.clock == saved == len(algorithm.replay)
    assert len(again) == len(kept) == 2
    for one, other in zip(itertools.chain(*kept), itertools.chain(*again), strict=True):
        assert one.id_ == other.id_
        np.testing.assert_array_equal(one.get_observations(), other.get_observations())
    algorithm.train()
    algorithm.stop()


class Breaks(gym.Wrapper[Any, Any, Any, Any]):
    """CartPole that fails in every step of its process after the first ``after`` steps."""

    taken = 0

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(gym.make("CartPole-v1"))
        self.after = config["after"]

    def step(self, action: Any) -> Any:
        Breaks.taken += 1
        if Breaks.taken > self.after:
            raise RuntimeError("out of order")
        return super().step(action)


register_env("tests/breaks", Breaks)


@pytest.mark.parametrize("after", [58, 62])
def test_an_error_of_environments_is_raised_in_training_and_not_in_saving(
    after: int, tmp_path: Path
) -> None:
    algorithm = built(1, 1, {"id": "tests/breaks", "after": after}, agent_steps_per_iteration=20)
    with pytest.raises(EnvironmentFaultError, match="out of order"):
        for iteration in range(20):
            algorithm.train()
            saved = algorithm.clock
            # The error is in the fragments that this call waits for, or in those of training.
            algorithm.save_to_path(str(tmp_path / str(iteration)))
    # The iteration in which the error was raised learned from all fragments before.
    assert saved <= algorithm.clock and after - 4 <= algorithm.clock <= after
    algorithm.stop()
