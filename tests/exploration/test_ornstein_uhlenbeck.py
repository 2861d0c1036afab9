"""Ornstein-Uhlenbeck noise: by hand, stationary statistics, resets, restored state."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from rlssl.exploration import OrnsteinUhlenbeckNoise


def ou_noise(num_envs: int, action_dim: int, **options: Any) -> OrnsteinUhlenbeckNoise:
    given = {"theta": 0.15, "sigma": 0.2, "dt": 1.0, **options}
    return OrnsteinUhlenbeckNoise(num_envs, action_dim, **given)


def walk(noise: OrnsteinUhlenbeckNoise, steps: int) -> NDArray[np.float64]:
    """[steps, N, A]"""
    return np.stack([noise.sample() for _ in range(steps)]).astype(np.float64)


def test_recursion_by_hand() -> None:
    # With the same draws e: x_1 = 0.2 e_1, x_2 = 0.85 x_1 + 0.2 e_2.
    noise = ou_noise(2, 3, seed=5)
    rng = np.random.default_rng(5)
    first, second = (rng.standard_normal((2, 3), np.float32) for _ in range(2))
    np.testing.assert_allclose(noise.sample(), 0.2 * first, rtol=1e-5)
    np.testing.assert_allclose(noise.sample(), 0.85 * 0.2 * first + 0.2 * second, rtol=1e-4)


@pytest.mark.parametrize("theta, sigma, dt", [(0.15, 0.2, 1.0), (0.5, 0.4, 0.1)])
def test_stationary_mean_variance_and_autocorrelation(
    theta: float, sigma: float, dt: float
) -> None:
    # Variance sigma^2 / (2 theta - theta^2 dt): 0.04 / 0.2775 = 0.1441; 0.16 / 0.975 = 0.1641.
    # The correlation over k steps is (1 - theta dt)^k.
    noise = ou_noise(2000, 2, theta=theta, sigma=sigma, dt=dt, seed=0)
    burn_in = int(10 / (theta * dt))
    x = walk(noise, burn_in + 41)[burn_in:]
    variance = sigma**2 / (2 * theta - theta**2 * dt)
    assert x.mean() == pytest.approx(0.0, abs=0.02)
    assert x.var() == pytest.approx(variance, rel=0.03)
    for lag in (1, 5, 20):
        correlation = (x[0] * x[lag]).mean() / x.var()
        assert correlation == pytest.approx((1 - theta * dt) ** lag, abs=0.06)
    # Environments and dimensions are independent.
    assert np.corrcoef(x[0, :, 0], x[0, :, 1])[0, 1] == pytest.approx(0.0, abs=0.08)


def test_variance_for_small_dt_is_that_of_continuous_time() -> None:
    # sigma^2 / (2 theta) = 0.3^2 / 2 = 0.045, within 1 % at dt 0.02.
    noise = ou_noise(20_000, 1, theta=1.0, sigma=0.3, dt=0.02, seed=0)
    assert walk(noise, 300)[-1].var() == pytest.approx(0.045, rel=0.04)


@pytest.mark.parametrize("envs", [[True, False, True], [0, 2], np.array([0, 2])])
def test_reset_changes_only_the_named_environments(envs: ArrayLike) -> None:
    noise, other = (ou_noise(3, 2, sigma=0.2, seed=1) for _ in range(2))
    walk(noise, 10), walk(other, 10)
    noise.reset(envs)
    now, without_reset = noise.sample(), other.sample()
    np.testing.assert_array_equal(now[1], without_reset[1])
    assert (now[[0, 2]] != without_reset[[0, 2]]).all()
    fresh = ou_noise(3, 2, seed=1)
    steps = walk(fresh, 11)[-1] - 0.85 * walk(ou_noise(3, 2, seed=1), 10)[-1]
    np.testing.assert_allclose(now[[0, 2]], steps[[0, 2]], atol=1e-6)  # only the last draw


def test_none_resets_all_environments_and_an_empty_list_resets_none() -> None:
    noise, other = (ou_noise(2, 1, seed=1) for _ in range(2))
    walk(noise, 5), walk(other, 5)
    noise.reset([])
    np.testing.assert_array_equal(noise.sample(), other.sample())
    noise.reset()
    assert not noise.get_state()["walk"].any()


def test_scale_follows_its_schedule_and_does_not_change_the_walk() -> None:
    scaled = ou_noise(2, 1, scale=[[0, 1.0], [100, 0.0]], seed=3)
    plain = ou_noise(2, 1, seed=3)
    for env_steps, factor in [(0, 1.0), (50, 0.5), (100, 0.0), (25, 0.75)]:
        np.testing.assert_allclose(scaled.sample(env_steps), factor * plain.sample(), rtol=1e-6)


def test_restored_noise_continues_with_the_same_draws() -> None:
    noise = ou_noise(2, 3, seed=4)
    walk(noise, 7)
    state = noise.get_state()
    expected = walk(noise, 5)
    restored = ou_noise(2, 3, seed=99)
    restored.set_state(state)
    np.testing.assert_array_equal(walk(restored, 5), expected)
    with pytest.raises(ValueError, match=r"noise \(2, 3\); this noise is \(3, 3\)"):
        ou_noise(3, 3).set_state(state)


def test_samples_are_copies_of_the_walk() -> None:
    noise, other = (ou_noise(2, 1, seed=1) for _ in range(2))
    noise.sample()[:] = 99.0
    other.sample()
    np.testing.assert_array_equal(noise.sample(), other.sample())


@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"theta": 0.0}, "theta=0.0"),
        ({"theta": 2.0}, "theta=2.0, dt=1.0"),
        ({"dt": 0.0}, "dt must be > 0; got 0.0"),
        ({"sigma": -0.1}, "sigma must be >= 0; got -0.1"),
        ({"sigma": math.nan}, "sigma must be >= 0; got nan"),
        ({"scale": -1.0}, "scale must be finite and >= 0; got -1.0"),
        ({"num_envs": 0}, "num_envs must be >= 1; got 0"),
    ],
)
def test_bad_options_are_named(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        ou_noise(**{"num_envs": 2, "action_dim": 1, **arguments})
