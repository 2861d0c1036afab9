"""Distractors: the noise that they add, its seeds, and the refusal of unsupported spaces."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from rlssl_envs import distractors

from rlssl.environments.building import make_env, make_vector_env
from rlssl.environments.env_check import preflight
from rlssl.errors import SpecError
from rlssl.experiment.spec.loading import load_spec
from rlssl.registry import register_env

CARTPOLE: dict[str, Any] = {"id": "CartPole-v1"}
DIMS = 30


def noisy(**options: Any) -> dict[str, Any]:
    return {**CARTPOLE, "distractors": {"dims": DIMS, **options}}


def play(env: gym.Env, steps: int, seed: int | None = 0) -> np.ndarray:
    """[steps + 1, n], observations under one sequence of actions; episodes that end are reset."""
    rng = np.random.default_rng(7)
    seen = [env.reset(seed=seed)[0]]
    for _ in range(steps):
        observation, _, terminated, truncated, _ = env.step(int(rng.integers(2)))
        seen.append(env.reset()[0] if terminated or truncated else observation)
    return np.stack(seen)


def noise_of(env: Mapping[str, Any], steps: int = 4000, seed: int = 0) -> np.ndarray:
    return play(make_env(env), steps, seed)[:, 4:]


def test_noise_is_appended_to_the_unchanged_state() -> None:
    clean, seen = play(make_env(CARTPOLE), 50), play(make_env(noisy()), 50)
    assert seen.shape == (51, 4 + DIMS) and seen.dtype == np.float32
    np.testing.assert_array_equal(seen[:, :4], clean)
    space = make_env(noisy()).observation_space
    assert isinstance(space, gym.spaces.Box) and space.shape == (4 + DIMS,)
    assert preflight(noisy()).observation_space == space


def test_iid_noise_is_standard_and_independent_of_the_step_before() -> None:
    noise = noise_of(noisy())
    # 120,030 numbers: standard deviations of the mean and of a correlation are about 0.003.
    assert abs(noise.mean()) < 0.02 and noise.std() == pytest.approx(1.0, abs=0.02)
    assert abs(lag_correlation(noise)) < 0.02


def lag_correlation(noise: np.ndarray) -> float:
    return float(np.corrcoef(noise[:-1].ravel(), noise[1:].ravel())[0, 1])


def test_correlated_noise_is_stationary_and_correlated() -> None:
    env = gym.make("MountainCar-v0", max_episode_steps=5000)  # one long episode
    options = {"dims": DIMS, "kind": "correlated", "scale": 3.0, "correlation": 0.9}
    rows = play(distractors.wrap(env, options, {}), 4000)[:, 2:]
    # An effective number of 4,000 * 30 * (1 - 0.9) / (1 + 0.9) = 6,316 numbers.
    assert rows.std() == pytest.approx(3.0, rel=0.05)
    assert lag_correlation(rows) == pytest.approx(0.9, abs=0.02)
    # The first observation has the same standard deviation: the process starts stationary.
    first = np.stack([make_reset(options, seed) for seed in range(100)])
    assert first.std() == pytest.approx(3.0, rel=0.05)


def make_reset(options: dict[str, Any], seed: int) -> np.ndarray:
    env = make_env({**CARTPOLE, "distractors": options})
    return env.reset(seed=seed)[0][4:]


@pytest.mark.parametrize("kind", ["iid", "correlated"])
def test_noise_depends_on_the_seed_only(kind: str) -> None:
    first, again = noise_of(noisy(kind=kind), 20, 3), noise_of(noisy(kind=kind), 20, 3)
    other = noise_of(noisy(kind=kind), 20, 4)
    np.testing.assert_array_equal(first, again)
    assert not np.isclose(first, other).any(axis=0).all()
    # A later reset with the same seed starts the same noise again.
    env = make_env(noisy(kind=kind))
    play(env, 30, seed=9)
    np.testing.assert_array_equal(play(env, 20, seed=3)[:, 4:], first)


class _Still(gym.Env):
    """The state is constant; episodes end at given steps."""

    observation_space = gym.spaces.Box(-1, 1, (4,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        return np.zeros(4, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        return np.zeros(4, np.float32), 0.0, bool(action), False, {}


@pytest.mark.parametrize("kind", ["iid", "correlated"])
@pytest.mark.parametrize("vectorize", ["native", "sync", "async"])
def test_vector_environments_have_the_noise_of_single_ones(kind: str, vectorize: Any) -> None:
    num_envs, steps = 3, 150
    env = noisy(kind=kind)
    vector = make_vector_env(env, num_envs=num_envs, vectorize=vectorize)
    assert vector.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    singles = [distractors.wrap(_Still(), env["distractors"], {}) for _ in range(num_envs)]
    rng = np.random.default_rng(0)
    seen, _ = vector.reset(seed=5)
    expected = np.stack([single.reset(seed=5 + i)[0] for i, single in enumerate(singles)])
    np.testing.assert_array_equal(seen[:, 4:], expected[:, 4:])
    ended, resets = np.zeros(num_envs, bool), 0
    for _ in range(steps):
        seen, _, terminated, truncated, _ = vector.step(rng.integers(2, size=num_envs))
        for i, single in enumerate(singles):
            expected[i] = single.reset()[0] if ended[i] else single.step(0)[0]
        np.testing.assert_array_equal(seen[:, 4:], expected[:, 4:])
        resets += int(ended.sum())
        ended = np.logical_or(terminated, truncated)
    vector.close()
    assert resets > 5


def test_same_step_autoreset_keeps_the_last_observation_of_the_old_noise() -> None:
    vector = gym.make_vec(
        "CartPole-v1",
        num_envs=2,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
    )
    options = {"dims": 2, "kind": "correlated", "correlation": 0.999}
    wrapped = distractors.wrap_vec(vector, options, {})
    before, _ = wrapped.reset(seed=0)
    ends = 0
    for _ in range(100):
        seen, _, terminated, _, infos = wrapped.step(np.ones(2, np.int64))
        for i in np.flatnonzero(terminated):
            ends += 1
            last = infos["final_obs"][i]
            # A step of the walk moves by sqrt(1 - 0.999^2) = 0.045; the new episode's does not.
            assert np.abs(last[4:] - before[i, 4:]).max() < 0.25
            assert abs(last[2]) > 0.2 > abs(seen[i, 2])
            assert np.abs(seen[i, 4:] - before[i, 4:]).max() > 0.05
        before = seen
    assert ends > 10


def test_info_state_is_the_observation_without_noise() -> None:
    env = make_env(noisy(info_state=True))
    observation, info = env.reset(seed=0)
    np.testing.assert_array_equal(info["state"], observation[:4])
    assert "state" not in make_env(noisy()).reset(seed=0)[1]
    vector = make_vector_env(noisy(info_state=True), num_envs=2)
    seen, infos = vector.reset(seed=0)
    np.testing.assert_array_equal(infos["state"], seen[:, :4])


def test_null_adds_no_noise() -> None:
    assert make_env({**CARTPOLE, "distractors": None}).observation_space.shape == (4,)


class _Pixels(gym.Env):
    observation_space = gym.spaces.Box(0, 255, (3, 8, 8), np.uint8)
    action_space = gym.spaces.Discrete(2)


register_env("test_distractors/pixels", lambda config: _Pixels())


@pytest.mark.parametrize("name", ["test_distractors/pixels", "FrozenLake-v1"])
def test_other_observations_than_vectors_are_refused_by_the_preflight(name: str) -> None:
    with pytest.raises(SpecError, match="needs observations that are vectors of floats; got"):
        preflight({"id": name, "distractors": {"dims": 3}})


@pytest.mark.parametrize(
    "options, message",
    [
        (30, "env.distractors must be options, such as {dims: 30, kind: iid}; got 30"),
        ({}, "env.distractors needs dims, as {dims: 30}; got {}"),
        ({"dim": 3}, "unknown option env.distractors.dim; did you mean 'dims'?"),
        ({"dims": 0}, "env.distractors.dims must be an integer >= 1; got 0"),
        ({"dims": 2.5}, "env.distractors.dims must be an integer >= 1; got 2.5"),
        ({"dims": True}, "env.distractors.dims must be an integer >= 1; got True"),
        ({"dims": 3, "kind": "ii"}, "must be iid or correlated; got 'ii'; did you mean 'iid'?"),
        ({"dims": 3, "scale": 0}, "env.distractors.scale must be a number > 0; got 0"),
        ({"dims": 3, "correlation": 0.5}, "needs kind: correlated; remove it or set kind"),
        (
            {"dims": 3, "kind": "correlated", "correlation": 1.0},
            "env.distractors.correlation must be in (0, 1); got 1.0",
        ),
        ({"dims": 3, "info_state": 1}, "env.distractors.info_state must be true or false; got 1"),
    ],
)
def test_bad_options_are_refused_before_anything_starts(options: Any, message: str) -> None:
    env = {**CARTPOLE, "distractors": options}
    with pytest.raises(SpecError) as error:
        load_spec({"algorithm": "ppo", "env": env, "stop": {"env_steps": 100}}, [])
    assert message in str(error.value)
    with pytest.raises(SpecError) as error:
        make_env(env)
    assert message in str(error.value)
