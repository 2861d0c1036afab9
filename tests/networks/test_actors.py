"""Actors: bounds of actions and standard deviations, gradients, initial weights."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from rlssl.networks.actors import DeterministicActor, SquashedGaussianActor


def deterministic(latent_dim: int, action_dim: int, **options: Any) -> DeterministicActor:
    given = {"hidden": (8,), "init": "fan_in", "final_bound": None, **options}
    return DeterministicActor(latent_dim, action_dim, **given)


def squashed_gaussian(latent_dim: int, action_dim: int, **options: Any) -> SquashedGaussianActor:
    given = {
        "hidden": (8,),
        "log_std_bounds": (-20.0, 2.0),
        "log_std_mode": "clamp",
        "init": "fan_in",
        **options,
    }
    return SquashedGaussianActor(latent_dim, action_dim, **given)


def last_linear(actor: DeterministicActor | SquashedGaussianActor) -> nn.Linear:
    layer = actor.layers[-1]
    assert isinstance(layer, nn.Linear)
    return layer


def set_output(actor: DeterministicActor | SquashedGaussianActor, output: list[float]) -> None:
    with torch.no_grad():
        last_linear(actor).weight.zero_()
        last_linear(actor).bias.copy_(torch.tensor(output))


def test_deterministic_action_by_hand() -> None:
    actor = deterministic(3, 2)
    set_output(actor, [0.5, -100.0])
    assert actor(torch.ones(1, 3)).tolist() == [[pytest.approx(math.tanh(0.5)), -1.0]]


@pytest.mark.parametrize("hidden", [(), (8,), (8, 4)])
def test_shapes(hidden: tuple[int, ...]) -> None:
    latent = torch.randn(5, 3)
    assert deterministic(3, 2, hidden=hidden)(latent).shape == (5, 2)
    mean, log_std = squashed_gaussian(3, 2, hidden=hidden)(latent)
    assert mean.shape == log_std.shape == (5, 2)


@pytest.mark.parametrize(
    "mode, bounds, raw, expected",
    [
        ("clamp", (-20.0, 2.0), [-50.0, 1.0, 9.0], [-20.0, 1.0, 2.0]),
        # -10 + 0.5 * 12 * (tanh(x) + 1): tanh(0) = 0 gives -4; the ends are -10 and 2.
        ("tanh", (-10.0, 2.0), [-50.0, 0.0, 50.0], [-10.0, -4.0, 2.0]),
    ],
)
def test_log_std_by_hand(
    mode: str, bounds: tuple[float, float], raw: list[float], expected: list[float]
) -> None:
    actor = squashed_gaussian(3, 3, log_std_bounds=bounds, log_std_mode=mode)
    set_output(actor, [7.0, 8.0, 9.0, *raw])
    mean, log_std = actor(torch.ones(1, 3))
    assert mean.tolist() == [[7.0, 8.0, 9.0]]  # before the tanh
    assert log_std.tolist() == [pytest.approx(expected)]


@pytest.mark.parametrize("mode, has_gradient", [("clamp", False), ("tanh", True)])
def test_only_the_tanh_mode_has_a_gradient_near_the_bounds(mode: str, has_gradient: bool) -> None:
    # At 2.5, the clamp at 2 has no gradient; the tanh has 6 * (1 - tanh(2.5)^2) = 0.16.
    actor = squashed_gaussian(3, 1, hidden=(), log_std_mode=mode)
    set_output(actor, [0.0, 2.5])
    actor(torch.ones(1, 3))[1].sum().backward()
    gradient = last_linear(actor).bias.grad
    assert gradient is not None
    assert (gradient[1] > 0.1) == has_gradient


@pytest.mark.parametrize("build", [deterministic, squashed_gaussian])
def test_initial_weights(build: Any) -> None:
    actor = build(3, 2, hidden=(64, 32), init="orthogonal", final_bound=3e-3)
    first, final = actor.layers[0], last_linear(actor)
    assert isinstance(first, nn.Linear)
    torch.testing.assert_close(torch.linalg.svdvals(first.weight.detach()), torch.ones(3))
    assert 0 < final.weight.abs().max() <= 3e-3
    plain = build(3, 2, hidden=(64, 32))
    # 1 / sqrt(32) = 0.177: torch's default.
    assert 0.15 < last_linear(plain).weight.abs().max() <= 0.177


@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"log_std_mode": "softplus"}, "got 'softplus'"),
        ({"log_std_bounds": (2.0, -10.0)}, r"must ascend; got \(2.0, -10.0\)"),
        ({"action_dim": 0}, "action_dim must be a whole number >= 1; got 0"),
        ({"hidden": (0,)}, "hidden must list features"),
        ({"init": "zeros"}, "got 'zeros'"),
    ],
)
def test_bad_options_are_named(arguments: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        squashed_gaussian(**{"latent_dim": 4, "action_dim": 2, **arguments})
