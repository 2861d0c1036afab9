"""Options that DeepMDP and DBC share, tested with DBC: rewards, norms, encoders, terminal rows."""

from typing import Any

import gymnasium as gym
import pytest
import torch
from ray.rllib.core.columns import Columns

from rlssl.auxiliary.metric.bisimulation import Bisimulation
from tests.auxiliary.latents import VECTOR, N, Scaled, dbc, transitions


def test_rewards_are_divided_by_their_running_std() -> None:
    loss = dbc(normalize_rewards=True)
    plain, batch = dbc(), transitions()
    tenfold = {**batch, Columns.REWARDS: 10.0 * batch[Columns.REWARDS]}
    first = loss.losses(tenfold)["bisimulation"]
    torch.testing.assert_close(first, loss.losses(batch)["bisimulation"])
    assert not torch.allclose(plain.losses(tenfold)["bisimulation"], first)
    loss.losses(tenfold)
    loss.after_update()
    std = tenfold[Columns.REWARDS].std(correction=0)
    torch.testing.assert_close(loss.reward_moments.variance.sqrt(), std)
    # Constant rewards have std 0 and are not divided.
    constant = dbc(normalize_rewards=True).losses({**batch, Columns.REWARDS: torch.full((N,), 3.0)})
    assert all(value.isfinite().all() for value in constant.values())


def test_latent_norms_bound_the_distance_of_the_variant() -> None:
    x = 10 * torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    paper = dbc(encoder=Scaled(), variant="paper", latent_norm="max", max_norm=2.0).encode(x)
    code = dbc(encoder=Scaled(), latent_norm="max", max_norm=2.0).encode(x)
    assert paper.abs().sum(1).max().item() == pytest.approx(2.0, rel=1e-4)
    assert code.abs().max().item() == pytest.approx(2.0, rel=1e-4)
    small = 0.01 * x
    assert torch.equal(dbc(encoder=Scaled(), latent_norm="max", max_norm=2.0).encode(small), small)
    layer = dbc(encoder=Scaled(), latent_norm="layer").encode(x)
    torch.testing.assert_close(layer.mean(1), torch.zeros(50), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "options, reached",
    [
        ({}, {"transition", "reward", "bisimulation"}),
        ({"self_prediction": False}, {"bisimulation"}),
    ],
)
def test_self_prediction_decides_whether_models_train_the_encoder(
    options: dict[str, Any], reached: set[str]
) -> None:
    loss = dbc(encoder=Scaled(), **options)
    found = loss.losses(transitions())
    weights = [loss.encoder.scale]
    gradients = {
        key: torch.autograd.grad(value.sum(), weights, allow_unused=True, retain_graph=True)[0]
        for key, value in found.items()
    }
    assert {key for key, gradient in gradients.items() if gradient is not None} == reached


def test_own_features_train_a_copy_of_the_encoder() -> None:
    loss = dbc(encoder=Scaled(), features="own")
    sum(value.sum() for value in loss.losses(transitions()).values()).backward()
    assert loss.trains == "own" and dbc().trains == "encoder"
    assert loss.encoder.scale.grad is None and loss.own_encoder.scale.grad is not None
    assert any(key.startswith("own_encoder") for key in loss.state_dict())


def test_shuffled_positives_pair_rows_with_futures_of_other_rows() -> None:
    loss, batch = dbc(encoder=Scaled(), shuffled_positives=True), transitions()
    order = torch.randperm(N, generator=loss.update_rng.generator())
    assert not torch.equal(order, torch.arange(N))
    encoded = loss.transitions(batch, loss.update_rng.generator())
    torch.testing.assert_close(encoded.next_latent, batch[Columns.NEXT_OBS][order])
    torch.testing.assert_close(encoded.reward, batch[Columns.REWARDS][order])
    torch.testing.assert_close(encoded.latent, batch[Columns.OBS])


def test_terminal_rows_have_no_future() -> None:
    batch = transitions()
    loss = dbc(mask_terminals=True)
    assert Columns.TERMINATEDS in loss.reads and Columns.TERMINATEDS not in Bisimulation.reads
    found = loss.losses(batch)
    assert {key: len(value) for key, value in found.items()} == {
        "transition": 4, "reward": 6, "bisimulation": 4,
    }  # fmt: skip
    spoiled = batch[Columns.NEXT_OBS].clone()
    spoiled[batch[Columns.TERMINATEDS]] = 50.0
    again = loss.losses({**batch, Columns.NEXT_OBS: spoiled})
    assert all(torch.equal(again[key], value) for key, value in found.items())
    plain = dbc()
    changed = plain.losses({**batch, Columns.NEXT_OBS: spoiled})["transition"]
    assert not torch.equal(changed, plain.losses(batch)["transition"])


def test_all_rows_terminal_give_empty_losses() -> None:
    batch = {**transitions(), Columns.TERMINATEDS: torch.ones(N, dtype=torch.bool)}
    found = dbc(mask_terminals=True).losses(batch)
    assert len(found["transition"]) == len(found["bisimulation"]) == 0
    assert found["bisimulation"].sum().requires_grad


def test_observations_may_be_nested() -> None:
    space = gym.spaces.Dict({"a": VECTOR, "b": gym.spaces.Discrete(3)})
    batch = transitions()
    for key in (Columns.OBS, Columns.NEXT_OBS):
        batch[key] = {"a": batch[key], "b": torch.arange(N) % 3}
    found = dbc(space, shuffled_positives=True).losses(batch)
    assert all(value.isfinite().all() for value in found.values())
