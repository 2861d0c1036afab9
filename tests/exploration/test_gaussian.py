"""Gaussian noise: statistics, schedule, clip, bounds, restored state."""

from typing import Any

import numpy as np
import pytest

from rlssl.exploration import GaussianNoise, add_noise


def gaussian(num_envs: int, action_dim: int, **options: Any) -> GaussianNoise:
    return GaussianNoise(num_envs, action_dim, **{"std": 0.1, "clip": None, **options})


def test_statistics_and_schedule() -> None:
    noise = gaussian(50_000, 2, std=[[0, 1.0], [1000, 0.2]], seed=0)
    for env_steps, std in [(0, 1.0), (500, 0.6), (5000, 0.2)]:
        drawn = noise.sample(env_steps)
        assert drawn.shape == (50_000, 2) and drawn.dtype == np.float32
        assert drawn.std() == pytest.approx(std, rel=0.02)
        assert drawn.mean() == pytest.approx(0.0, abs=0.02)


def test_clip_limits_the_noise_and_changes_nothing_else() -> None:
    clipped = gaussian(1000, 1, std=1.0, clip=0.3, seed=0).sample()
    free = gaussian(1000, 1, std=1.0, seed=0).sample()
    np.testing.assert_array_equal(clipped, np.clip(free, np.float32(-0.3), np.float32(0.3)))
    assert np.abs(clipped).max() == pytest.approx(0.3)


def test_noise_of_successive_steps_and_environments_is_independent() -> None:
    noise = gaussian(20_000, 2, std=1.0, seed=0)
    first, second = noise.sample(), noise.sample()
    assert np.corrcoef(first[:, 0], second[:, 0])[0, 1] == pytest.approx(0.0, abs=0.03)
    assert np.corrcoef(first[:, 0], first[:, 1])[0, 1] == pytest.approx(0.0, abs=0.03)


def test_restored_noise_continues_with_the_same_draws() -> None:
    noise = gaussian(2, 3, seed=4)
    noise.sample()
    state = noise.get_state()
    expected = noise.sample()
    restored = gaussian(2, 3, seed=99)
    assert not np.array_equal(restored.sample(), expected)
    restored.set_state(state)
    restored.reset([0])  # no effect: the noise does not depend on earlier noise
    np.testing.assert_array_equal(restored.sample(), expected)


def test_actions_stay_in_bounds_by_hand() -> None:
    actions = np.array([[0.9, -0.9, 0.0]], np.float32)
    noise = np.array([[0.5, -0.5, 0.25]], np.float32)
    np.testing.assert_allclose(add_noise(actions, noise), [[1.0, -1.0, 0.25]])
    low, high = [-2.0, -1.0, 0.0], np.array([2.0, 1.0, 0.125])
    bounded = add_noise(actions, noise, low, high)
    np.testing.assert_allclose(bounded, [[1.4, -1.0, 0.125]], rtol=1e-6)
    assert bounded.dtype == np.float32


def test_shapes_that_would_broadcast_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got \(2, 1\) and \(2,\)"):
        add_noise(np.zeros((2, 1), np.float32), np.zeros(2, np.float32))


@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"std": -0.1}, "std must be finite and >= 0; got -0.1"),
        ({"clip": 0.0}, "clip must be > 0, or None; got 0.0"),
        ({"action_dim": 0}, "action_dim must be >= 1; got 0"),
    ],
)
def test_bad_options_are_named(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        gaussian(**{"num_envs": 2, "action_dim": 1, **arguments})
