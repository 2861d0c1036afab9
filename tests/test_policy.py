"""A policy acts like its module, and can be saved, loaded and evaluated."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
import tree

import rlssl
from rlssl.environments.env_check import EnvSpaces
from rlssl.errors import EnvironmentFaultError, SpecError
from rlssl.evaluation import EpisodeRecord, evaluate_policy, slots, summarize
from rlssl.policy import Policy, _build_module
from rlssl.registry import ALGORITHMS, register_env

SPACES = {
    "vector-discrete": (gym.spaces.Box(-1, 1, (3,), np.float32), gym.spaces.Discrete(4)),
    "vector-continuous": (
        gym.spaces.Box(-np.inf, np.inf, (3,), np.float32),
        gym.spaces.Box(-2, 2, (2,), np.float32),
    ),
    "image-multi_discrete": (
        gym.spaces.Box(0, 255, (2, 12, 12), np.uint8),
        gym.spaces.MultiDiscrete([2, 3]),
    ),
    "dict-discrete": (
        gym.spaces.Dict({"a": gym.spaces.Box(0, 1, (2,), np.float32), "b": gym.spaces.Discrete(3)}),
        gym.spaces.Discrete(2),
    ),
}


#: Algorithm -> spaces it can act in.
SPACES_OF = {
    "a3c": list(SPACES),
    "bc": list(SPACES),
    "dagger": list(SPACES),
    "iql": [name for name in SPACES if "image" not in name],
    "ddpg": ["vector-continuous", "image-continuous"],
    "ppo": list(SPACES),
    "rainbow": ["vector-discrete", "dict-discrete"],
    "sac": ["vector-continuous", "image-continuous"],
}
SPACES["image-continuous"] = (SPACES["image-multi_discrete"][0], SPACES["vector-continuous"][1])


def make_policy(
    observation_space: gym.Space,
    action_space: gym.Space,
    frame_stack: int = 1,
    algorithm: str = "ppo",
    lstm: dict[str, int] | None = None,
) -> Policy:
    config = ALGORITHMS[algorithm]().model(frame_stack=frame_stack, lstm=lstm)
    config.adapt_to(EnvSpaces(observation_space, action_space))
    settings = {
        "algorithm": algorithm,
        "model": config.get_default_rl_module_spec().model_config,
        "observation_space": observation_space,
        "action_space": action_space,
        "normalize_actions": True,
        "clip_actions": False,
        "plugins": [],
        "env": {"id": "CartPole-v1"},
    }
    torch.manual_seed(3)
    policy = Policy(_build_module(settings), settings)
    for parameter in policy.module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return policy


CASES = [
    (algorithm, name, frame_stack)
    for algorithm in SPACES_OF
    for name in SPACES_OF[algorithm]
    # Stacking needs a Box.
    for frame_stack in ((1,) if "dict" in name else (1, 3))
]


def test_every_algorithm_with_a_policy_is_tested_below() -> None:
    without = {name for name in ALGORITHMS if not getattr(ALGORITHMS[name], "has_policy", True)}
    assert SPACES_OF.keys() == set(ALGORITHMS) - without


@pytest.mark.parametrize("algorithm, name, frame_stack", CASES)
def test_loaded_policy_acts_like_the_saved_one(
    tmp_path: Path, algorithm: str, name: str, frame_stack: int
) -> None:
    observation_space, action_space = SPACES[name]
    saved = make_policy(observation_space, action_space, frame_stack, algorithm)
    saved.save(tmp_path / "export")
    loaded = Policy.load(tmp_path / "export")
    observation_space.seed(0)
    for _ in range(5):
        observation = observation_space.sample()
        action = saved.act(observation)
        np.testing.assert_array_equal(action, loaded.act(observation))
        assert action_space.contains(action)
    assert loaded.observation_space == observation_space
    assert loaded.action_space == action_space


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.MultiDiscrete([3, 5], start=[1, -4]),
        gym.spaces.Discrete(5, start=-2),
        gym.spaces.MultiBinary((2, 3)),
        gym.spaces.Box(-1, 1, (), np.float64),
        gym.spaces.Dict([("z", gym.spaces.Discrete(2)), ("a", gym.spaces.Box(-1, np.inf, (2,)))]),
        gym.spaces.Tuple((gym.spaces.MultiDiscrete([2, 2], start=[5, 5]), gym.spaces.Discrete(2))),
    ],
    ids=str,
)
def test_a_saved_policy_reads_every_value_of_its_space(tmp_path: Path, space: gym.Space) -> None:
    saved = make_policy(space, gym.spaces.Discrete(4))
    saved.save(tmp_path)
    loaded = Policy.load(tmp_path)
    assert loaded.observation_space == space
    space.seed(0)
    for _ in range(20):  # every value of a discrete part
        rows = tree.map_structure(lambda leaf: np.asarray(leaf)[None], space.sample())
        latents = [
            of.module.encoder(tree.map_structure(torch.as_tensor, rows)) for of in (saved, loaded)
        ]
        assert torch.equal(*latents)


def test_saved_policy_has_no_pickle(tmp_path: Path) -> None:
    make_policy(*SPACES["vector-discrete"]).save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "policy.json",
        "weights.safetensors",
    ]


def test_reset_clears_the_frame_stack() -> None:
    policy = make_policy(*SPACES["image-multi_discrete"], frame_stack=3)
    space = SPACES["image-multi_discrete"][0]
    space.seed(0)
    first, second = space.sample(), space.sample()
    # The first frame fills the stack: three times the same two channels.
    filled = np.concatenate([first] * 3)[None]
    policy.act(first)
    np.testing.assert_array_equal(policy.seen(first), filled)
    policy.act(second)
    policy.reset()
    policy.act(first)
    np.testing.assert_array_equal(policy.seen(first), filled)


def test_the_modules_last_input_is_the_stack() -> None:
    policy = make_policy(*SPACES["vector-discrete"], frame_stack=2)
    first, second = np.array([1, 2, 3], np.float32), np.array([4, 5, 6], np.float32)
    for observation, expected in ((first, [1, 2, 3, 1, 2, 3]), (second, [1, 2, 3, 4, 5, 6])):
        policy.act(observation)
        assert policy.seen(observation).tolist() == [expected]
    assert make_policy(*SPACES["vector-discrete"]).seen(first).tolist() == [[1, 2, 3]]


class Counting(gym.Env):
    """Reward 1 per step; an episode has as many steps as its seed; the class counts instances."""

    observation_space = gym.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gym.spaces.Discrete(4)
    built = 0

    def __init__(self, config: Any) -> None:
        type(self).built += 1

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.left = seed or 1
        return np.zeros(3, np.float32), {}

    def step(self, action: Any) -> Any:
        self.left -= 1
        done = self.left == 0
        return np.zeros(3, np.float32), 1.0, done, False, {"success": done and True}


register_env("test/Counting", Counting)


def test_episode_k_runs_with_seed_k_and_short_episodes_are_not_favored() -> None:
    policy = make_policy(*SPACES["vector-discrete"])
    Counting.built = 0
    records = evaluate_policy(policy, {"id": "test/Counting"}, seeds=range(1, 21), explore=False)
    assert [record.score for record in records] == [float(seed) for seed in range(1, 21)]
    assert Counting.built == 8


def test_environment_that_uses_actions_as_keys_can_be_evaluated() -> None:
    policy = make_policy(gym.spaces.Discrete(16), gym.spaces.Discrete(4))
    records = evaluate_policy(policy, {"id": "FrozenLake-v1"}, seeds=range(2), explore=True)
    assert len(records) == 2


def test_evaluation_does_not_disturb_the_global_generator() -> None:
    policy = make_policy(*SPACES["vector-discrete"])
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    evaluate_policy(policy, {"id": "test/Counting"}, seeds=range(3), explore=True)
    assert torch.equal(torch.rand(1), expected)


def test_evaluation_ends_when_the_environment_times_out() -> None:
    space = gym.make("CartPole-v1").observation_space
    policy = make_policy(space, gym.spaces.Discrete(2))
    env = {"id": "faulty/CartPole-v1", "stall": 1.0, "after": 2, "stall_s": 60.0}
    with pytest.raises(EnvironmentFaultError, match=r"timed out after 0\.5 s in an eval"):
        evaluate_policy(policy, env, seeds=[0], explore=False, step_timeout_s=0.5)


def test_seeds_are_dealt_to_slots_in_turn() -> None:
    assert slots(range(10)) == [[0, 8], [1, 9], [2], [3], [4], [5], [6], [7]]
    assert slots([5]) == [[5]]


def test_summary_by_hand() -> None:
    records = [EpisodeRecord(0, 1.0, 10, 1.0), EpisodeRecord(1, 3.0, 20, 0.0)]
    # Mean 2; standard deviation sqrt(((1 - 2)^2 + (3 - 2)^2) / 1) = 1.4142136.
    assert summarize(records) == {
        "episode_return_mean": 2.0,
        "episode_return_std": pytest.approx(1.4142136),
        "episode_len_mean": 15.0,
        "success_rate": 0.5,
        "num_episodes": 2,
    }


def test_folder_without_a_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"has no policy\.json"):
        Policy.load(tmp_path)


@pytest.mark.parametrize("normalize, clip", [(True, False), (False, True)])
def test_actions_of_a_box_with_one_bound_are_in_the_space(normalize: bool, clip: bool) -> None:
    space = gym.spaces.Box(np.array([0, -np.inf]), np.array([np.inf, np.inf]), dtype=np.float32)
    policy = make_policy(SPACES["vector-continuous"][0], space)
    policy.settings |= {"normalize_actions": normalize, "clip_actions": clip}
    actions = np.stack([policy.act(np.zeros(3, np.float32), explore=True) for _ in range(50)])
    assert all(space.contains(action) for action in actions)
    # The bound is reached, and the element without a bound is not clipped.
    assert (actions[:, 0] == 0).any() and (actions[:, 1] < 0).any()


@pytest.mark.parametrize("algorithm, name, frame_stack", CASES)
def test_a_batch_acts_like_its_rows_one_by_one(algorithm: str, name: str, frame_stack: int) -> None:
    space, actions = SPACES[name]
    single = [make_policy(space, actions, frame_stack, algorithm) for _ in range(3)]
    batched = make_policy(space, actions, frame_stack, algorithm)
    space.seed(0)
    for step in range(4):
        rows = [space.sample() for _ in range(3)]
        if step == 2:  # the second environment begins an episode
            single[1].reset()
            batched.reset([False, True, False])
        expected = [policy.act(row) for policy, row in zip(single, rows, strict=True)]
        batch = tree.map_structure(lambda *parts: np.stack(parts), *rows)
        np.testing.assert_allclose(batched.act(batch), np.stack(expected), rtol=1e-4, atol=1e-5)


def test_rows_of_a_recurrent_policy_keep_their_own_state() -> None:
    space, actions = SPACES["vector-discrete"]
    config = ALGORITHMS["ppo"]().model(lstm={"hidden": 8})
    config.adapt_to(EnvSpaces(space, actions))
    model = config.get_default_rl_module_spec().model_config
    settings = {"algorithm": "ppo", "model": model, "observation_space": space}
    settings |= {"action_space": actions, "normalize_actions": True, "clip_actions": False}
    torch.manual_seed(3)
    policy = Policy(_build_module(settings), settings)
    for parameter in policy.module.parameters():
        torch.nn.init.normal_(parameter)
    rows = np.random.default_rng(0).uniform(-1, 1, (6, 2, 3)).astype(np.float32)
    together = np.stack([policy.act(row) for row in rows])
    for one in range(2):
        policy.reset()
        assert [policy.act(row[one : one + 1])[0] for row in rows] == together[:, one].tolist()
    with pytest.raises(ValueError, match=r"memory of 1 environments, and got observations of 2"):
        policy.act(rows[0])
    with pytest.raises(ValueError, match=r"rows must be 1 booleans"):
        policy.reset([True, False])


def test_a_policy_acts_in_the_environment_that_its_settings_name() -> None:
    policy = make_policy(gym.make("CartPole-v1").observation_space, gym.spaces.Discrete(2))
    env = rlssl.make_env(**{**policy.settings["env"], "max_episode_steps": 7})
    observation, _ = env.reset(seed=0)
    steps, ended = 0, False
    while not ended:
        observation, _, terminated, truncated, _ = env.step(policy.act(observation))
        steps, ended = steps + 1, terminated or truncated
    assert steps <= 7
    with pytest.raises(SpecError, match=r"unknown option env\.walls of memory/cue"):
        rlssl.make_env("memory/cue", walls=3)
