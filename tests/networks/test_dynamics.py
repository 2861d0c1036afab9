"""Latent dynamics: shapes and bounds of every kind, ensembles, sampling, rewards."""

from typing import Any

import pytest
import torch
from torch import nn

from rlssl.losses import bisimulation_loss, gaussian_nll
from rlssl.networks.dynamics import TRANSITION_KINDS, RewardModel, TransitionModel
from rlssl.networks.layers.ensemble import EnsembleLayerNorm, EnsembleLinear


def transition(**options: Any) -> TransitionModel:
    given: dict[str, Any] = {"latent_dim": 4, "action_dim": 4, "hidden": 16, "num_models": 5}
    return TransitionModel(**{**given, **options})


LATENT, ACTION = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0)).unbind(0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", TRANSITION_KINDS)
def test_shapes_and_which_kinds_have_a_standard_deviation(kind: str) -> None:
    model = transition(kind=kind)
    mean, std = model(LATENT, ACTION)
    assert mean.shape == ((5, 6, 4) if kind == "ensemble" else (6, 4))
    assert (std is not None) == (kind in ("probabilistic", "ensemble"))
    if std is not None:
        assert std.shape == mean.shape
    assert model.sample(mean, std).shape == (6, 4)


@pytest.mark.parametrize("raw, expected", [(-100.0, 1e-4), (0.0, 5.00005), (100.0, 10.0)])
def test_standard_deviation_by_hand(raw: float, expected: float) -> None:
    # 1e-4 + (10 - 1e-4) * sigmoid(raw); sigmoid(0) = 0.5.
    model = transition(kind="probabilistic")
    last = model.layers[-1]
    assert isinstance(last, EnsembleLinear)
    with torch.no_grad():
        last.weight.zero_()
        last.bias[..., 4:] = raw
    torch.testing.assert_close(model(LATENT, ACTION)[1], torch.full((6, 4), expected))


def test_one_member_equals_separate_layers() -> None:
    model = transition(kind="probabilistic")
    first, norm, _, last = model.layers
    assert isinstance(first, EnsembleLinear) and isinstance(last, EnsembleLinear)
    assert isinstance(norm, EnsembleLayerNorm)
    x = torch.cat([LATENT, ACTION], dim=1) @ first.weight[0] + first.bias[0]
    x = nn.functional.layer_norm(x, (16,), norm.weight[0, 0], norm.bias[0, 0]).relu()
    x = x @ last.weight[0] + last.bias[0]
    mean, std = model(LATENT, ACTION)
    torch.testing.assert_close(mean, x[:, :4])
    torch.testing.assert_close(std, 1e-4 + (10 - 1e-4) * x[:, 4:].sigmoid())


def test_members_of_an_ensemble_are_independent() -> None:
    model = transition(kind="ensemble", num_models=3)
    mean, std = model(LATENT, ACTION)
    assert mean.shape == (3, 6, 4) and not torch.allclose(mean[0], mean[1])
    gaussian_nll(mean, std, LATENT)[1].sum().backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad[1].any() and not parameter.grad[[0, 2]].any()


def test_sample_draws_from_the_gaussian() -> None:
    model = transition(kind="probabilistic")
    mean, std = torch.full((50_000, 4), 2.0), torch.full((50_000, 4), 0.5)
    drawn = model.sample(mean, std, generator=generator())
    assert drawn.mean().item() == pytest.approx(2.0, abs=0.01)
    assert drawn.std().item() == pytest.approx(0.5, rel=0.01)
    assert torch.equal(drawn, model.sample(mean, std, generator=generator()))
    assert not torch.equal(drawn, model.sample(mean, std, generator=generator(1)))


def test_each_sample_of_an_ensemble_is_from_one_member_and_all_members_are_used() -> None:
    model = transition(kind="ensemble")
    mean = torch.arange(5.0).view(5, 1, 1).expand(5, 6, 4)
    draws = [model.sample(mean, torch.full_like(mean, 1e-4)) for _ in range(100)]
    members = [{round(value) for value in draw.flatten().tolist()} for draw in draws]
    assert all(len(member) == 1 for member in members)
    assert set.union(*members) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("kind", ["smooth_l1", "deterministic"])
def test_sample_without_a_standard_deviation_is_the_mean(kind: str) -> None:
    model = transition(kind=kind)
    mean, std = model(LATENT, ACTION)
    assert torch.equal(model.sample(mean, std), mean)


def test_gradients_flow_through_a_sample_into_mean_and_standard_deviation() -> None:
    model = transition(kind="ensemble")
    model.sample(*model(LATENT, ACTION)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("kind", TRANSITION_KINDS)
def test_bisimulation_loss_accepts_every_kind(kind: str) -> None:
    model = transition(kind=kind)
    mean, std = model(LATENT, ACTION)
    comparable = model.comparable_std(mean, std)
    if kind == "smooth_l1":
        assert comparable is None
    elif kind == "deterministic":
        assert comparable is not None and not comparable.any()
    else:
        assert comparable is std
    order = torch.tensor([1, 2, 3, 4, 5, 0])
    std_j = None if comparable is None else comparable[..., order, :]
    reward = torch.zeros(6)
    loss = bisimulation_loss(
        LATENT,
        LATENT[order],
        reward,
        reward,
        mean,
        comparable,
        mean[..., order, :],
        std_j,
        gamma=0.9,
        variant="code",
    )
    assert loss.shape == (6,) and loss.isfinite().all()


def test_reward_of_a_latent_and_of_a_latent_with_its_action() -> None:
    assert RewardModel(4, hidden=16)(LATENT).shape == (6,)
    model = RewardModel(4, 4, hidden=16)
    action = ACTION.clone().requires_grad_()
    model(LATENT, action).sum().backward()
    assert action.grad is not None and action.grad.any()


def test_reward_model_refuses_an_unexpected_action_and_a_missing_action() -> None:
    with pytest.raises(ValueError, match="reads no action"):
        RewardModel(4, hidden=16)(LATENT, ACTION)
    with pytest.raises(ValueError, match="needs an action"):
        RewardModel(4, 4, hidden=16)(LATENT)
    with pytest.raises(ValueError, match="action_dim must be >= 0; got -1"):
        RewardModel(4, -1, hidden=16)


@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"kind": ""}, "got ''"),
        ({"num_models": 0}, "num_models must be a whole number >= 1; got 0"),
        ({"latent_dim": 0}, "latent_dim must be a whole number >= 1; got 0"),
    ],
)
def test_bad_options_are_named(arguments: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        transition(**{"kind": "ensemble", **arguments})
