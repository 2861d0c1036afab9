"""Episodic count: values by hand, against a slow reference, and through whole Learners."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

import rlssl
from rlssl.auxiliary.base import ChunkInfo
from rlssl.auxiliary.bonuses.episodic_count import EpisodicCount
from tests.algorithms.bench import Bench, small_ppo
from tests.auxiliary.episodes import batches_of_pieces, columns, expected_visits
from tests.auxiliary.latents import ACTIONS, VECTOR


def make(**options: Any) -> EpisodicCount:
    return EpisodicCount(
        EpisodicCount.Config(**options),
        encoder=torch.nn.Identity(),
        observation_space=VECTOR,
        action_space=ACTIONS["discrete"],
    )


def test_rewards_by_hand() -> None:
    # A -> B -> A -> B: visits 1, 2 (A was the start), 2.
    path = torch.tensor([[0.0], [1.0], [0.0], [1.0]])
    batch = {
        Columns.OBS: path[:-1],
        Columns.NEXT_OBS: path[1:],
        "chunks": [ChunkInfo("a", 3, 0, True)],
    }
    loss = make()
    assert loss.intrinsic_reward(batch).tolist() == [1.0, 0.0, 0.0]
    assert loss.metrics(batch)["first_visits"] == pytest.approx(1 / 3)
    assert loss.metrics(batch)["num_states"] == 0
    # 2^-0.5 = 0.7071068.
    rewards = make(first_only=False).intrinsic_reward(batch)
    torch.testing.assert_close(rewards, torch.tensor([1.0, 0.7071068, 0.7071068]))


@pytest.mark.parametrize("first_only", [True, False])
def test_rewards_equal_a_slow_reference(first_only: bool) -> None:
    loss = make(first_only=first_only)
    for pieces in batches_of_pieces(1):
        visits = np.array(expected_visits(pieces))
        expected = (visits == 1) if first_only else visits**-0.5
        found = loss.intrinsic_reward(columns(pieces))
        np.testing.assert_allclose(found, expected, rtol=1e-6)


class Corridor(gym.Env):
    """Three fields; the observation is a Dict. An episode has 7 steps."""

    observation_space = gym.spaces.Dict(
        {
            "place": gym.spaces.Discrete(3),
            "door": gym.spaces.Box(0, 1, (2,), np.float32),
        }
    )
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[dict[str, Any], dict]:
        super().reset(seed=seed)
        self._place, self._steps = 1, 0
        return self._observation(), {}

    def step(self, action: int) -> tuple[dict[str, Any], float, bool, bool, dict]:
        self._place = int(np.clip(self._place + (1 if action else -1), 0, 2))
        self._steps += 1
        return self._observation(), 0.0, False, self._steps == 7, {}

    def _observation(self) -> dict[str, Any]:
        return {"place": self._place, "door": np.full(2, self._place == 2, np.float32)}


rlssl.register_env("test/corridor", lambda config: Corridor())


def test_a_learner_counts_along_the_episodes_that_its_runner_samples() -> None:
    config = small_ppo("test/corridor").model(encoder_config={})
    bench = Bench(config.auxiliary(episodic_count={"intrinsic_coeff": 0.5, "first_only": False}))
    places: dict[str, list[int]] = {}
    for steps in (5, 11, 8):
        episodes = bench.sample(steps)
        expected: list[float] = []
        for episode in episodes:
            path = [int(place) for place in episode.get_observations()["place"]]
            seen = places.setdefault(episode.id_, path[:1])
            for place in path[1:]:
                seen.append(place)
                expected.append(0.5 * seen.count(place) ** -0.5)
        found = bench.batch(episodes)["total_rewards"]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert any(len(path) == 8 for path in places.values())


@pytest.mark.parametrize(
    "options, message",
    [
        ({"first_only": 1}, "first_only must be true or false; got 1."),
        ({"max_states": 0}, "max_states must be a whole number > 0; got 0."),
        ({"max_states": 1e6}, "max_states must be a whole number > 0; got 1000000.0."),
    ],
)
def test_bad_options_name_the_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        EpisodicCount.Config(**options)
    assert message in str(error.value)
