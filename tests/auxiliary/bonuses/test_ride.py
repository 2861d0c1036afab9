"""RIDE and disagreement: values by hand, degenerate cases, spaces, which parameters move."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.auxiliary.base import ChunkInfo
from rlssl.auxiliary.bonuses.disagreement import Disagreement
from rlssl.auxiliary.bonuses.ride import RIDE
from rlssl.networks import build_encoder
from tests.algorithms.bench import Bench, small_ppo
from tests.auxiliary.latents import ACTIONS, SPACES, VECTOR, N, Scaled, sample

ALL_SPACES = {
    **SPACES,
    "discrete": gym.spaces.Discrete(5),
    "dict": gym.spaces.Dict({"a": VECTOR, "b": gym.spaces.Discrete(3)}),
}
BOTH = pytest.mark.parametrize("loss_class", [RIDE, Disagreement])


def make(
    loss_class: Any,
    space: gym.Space = VECTOR,
    actions: gym.Space = ACTIONS["discrete"],
    **options: Any,
) -> Any:
    torch.manual_seed(0)
    return loss_class(
        loss_class.Config(**options),
        encoder=build_encoder(space),
        observation_space=space,
        action_space=actions,
    )


def batch_of(space: gym.Space, actions: gym.Space = ACTIONS["discrete"]) -> dict[str, Any]:
    return {
        Columns.OBS: sample(space),
        Columns.NEXT_OBS: sample(space),
        Columns.ACTIONS: sample(actions),
        "chunks": [ChunkInfo("a", 2, 0, False), ChunkInfo("b", N - 2, 0, False)],
    }


class Constant(nn.Module):
    """A model whose prediction does not depend on its input."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values))

    def forward(self, phi: Tensor, _: Tensor) -> Tensor:
        return self.values.expand(len(phi), -1)


#: A step of length 5, back, and the same step again.
HAND = {
    Columns.OBS: torch.tensor([[0.0, 0.0, 0.0], [0.0, 3.0, 4.0], [0.0, 0.0, 0.0]]),
    Columns.NEXT_OBS: torch.tensor([[0.0, 3.0, 4.0], [0.0, 0.0, 0.0], [0.0, 3.0, 4.0]]),
    Columns.ACTIONS: torch.tensor([0, 3, 0]),
    "chunks": [ChunkInfo("a", 3, 0, False)],
}


def test_ride_by_hand() -> None:
    loss = make(RIDE, inverse_coeff=0.1, forward_coeff=10.0)
    loss.features, loss.forward_model = Scaled(), Constant(0.0, 0.0, 0.0)
    loss.inverse = Constant(0.0, 0.0, 0.0, 0.0)
    # Visits 1, 2 (the start) and 2: 5, 5 / sqrt(2), 5 / sqrt(2).
    expected = torch.tensor([5.0, 3.5355339, 3.5355339])
    torch.testing.assert_close(loss.intrinsic_reward(HAND), expected)
    # 0.1 * log 4 = 0.1386294; 10 * 0.5 * 25 = 125, and 0 where the next latent is 0.
    losses = loss.losses(HAND)
    torch.testing.assert_close(losses["inverse"], torch.full((3,), 0.1386294))
    torch.testing.assert_close(losses["forward"], torch.tensor([125.0, 0.0, 125.0]))
    assert loss.metrics(HAND)["first_visits"] == pytest.approx(1 / 3)


def test_a_step_that_does_not_move_the_latent_has_no_impact() -> None:
    batch = {**batch_of(VECTOR), Columns.NEXT_OBS: sample(VECTOR)}
    assert make(RIDE).intrinsic_reward(batch).tolist() == [0.0] * N


def test_disagreement_by_hand() -> None:
    loss = make(Disagreement, num_models=2, gamma=0.5)
    loss.normalizer, loss.features = None, Scaled()
    loss.models = nn.ModuleList([Constant(0.0, 3.0, 4.0), Constant(2.0, 3.0, 4.0)])
    # Errors against (0, 3, 4): 0 and 4 / 3, mean 2 / 3. Against 0: 25 / 3 and 29 / 3, mean 9.
    expected = torch.tensor([2 / 3, 9.0, 2 / 3])
    torch.testing.assert_close(loss.losses(HAND)["forward"], expected)
    # The variance of 0 and 2 is 2, of the other features 0: 2 / 3. Returns 2 / 3, 1, 7 / 6 have
    # the mean 17 / 18 and the variance (25 + 1 + 16) / (3 * 18^2) = 0.0432099, std 0.2078698.
    reward = loss.intrinsic_reward(HAND)
    torch.testing.assert_close(reward, torch.full((3,), 2 / 3 / 0.2078698))
    assert loss.metrics(HAND)["return_std"] == pytest.approx(0.2078698)


def test_identical_models_give_no_reward() -> None:
    loss = make(Disagreement)
    for model in loss.models[1:]:
        model.load_state_dict(loss.models[0].state_dict())
    torch.testing.assert_close(loss.intrinsic_reward(batch_of(VECTOR)), torch.zeros(N))


def test_models_that_learned_a_batch_agree_on_it() -> None:
    loss = make(Disagreement)
    batch = batch_of(VECTOR)
    optimizer = torch.optim.Adam(loss.models.parameters(), lr=1e-3)
    before = loss._predictions(batch).var(dim=0).mean()
    for _ in range(200):
        optimizer.zero_grad()
        loss.losses(batch)["forward"].mean().backward()
        optimizer.step()
    assert loss._predictions(batch).var(dim=0).mean() < 0.05 * before


@BOTH
@pytest.mark.parametrize("actions", ACTIONS)
@pytest.mark.parametrize("name", ALL_SPACES)
def test_any_observation_and_action_space_works(loss_class: Any, name: str, actions: str) -> None:
    loss = make(loss_class, ALL_SPACES[name], ACTIONS[actions])
    batch = batch_of(ALL_SPACES[name], ACTIONS[actions])
    reward = loss.intrinsic_reward(batch)
    assert reward.shape == (N,) and reward.isfinite().all() and (reward >= 0).all()
    assert all(value.shape == (N,) for value in loss.losses(batch).values())


@pytest.mark.parametrize("features", ["random", "shared"])
def test_disagreement_trains_its_models_only(features: str) -> None:
    loss = make(Disagreement, features=features)
    sum(value.sum() for value in loss.losses(batch_of(VECTOR)).values()).backward()
    assert all(p.grad is not None for p in loss.models.parameters())
    assert all(p.grad is None for p in loss.encoder.parameters())
    assert loss.features is None or all(p.grad is None for p in loss.features.parameters())


def test_both_losses_of_ride_train_its_features_and_not_the_rl_encoder() -> None:
    for key in ("inverse", "forward"):
        loss = make(RIDE)
        loss.losses(batch_of(VECTOR))[key].sum().backward()
        assert any(np.any(p.grad.numpy()) for p in loss.features.parameters())
        assert all(p.grad is None for p in loss.encoder.parameters())


@pytest.mark.parametrize(
    "loss_class, options, message",
    [
        (RIDE, {"forward_coeff": -1.0}, "forward_coeff must be >= 0; got -1.0."),
        (RIDE, {"max_states": 0}, "max_states must be a whole number > 0; got 0."),
        (Disagreement, {"num_models": 1}, "num_models must be a whole number >= 2; got 1."),
        (Disagreement, {"features": "own"}, "features must be random or shared; got 'own'."),
        (Disagreement, {"gamma": -0.1}, "gamma must be in [0, 1); got -0.1."),
    ],
)
def test_bad_options_name_the_value(loss_class: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        loss_class.Config(**options)
    assert message in str(error.value)


@pytest.mark.slow
def test_features_of_ride_do_not_collapse_on_a_grid() -> None:
    config = small_ppo("MiniGrid-Empty-5x5-v0", train_batch_size_per_learner=512, num_epochs=4)
    config.training(minibatch_size=128).model(encoder_config={}).auxiliary(ride={})
    bench, rewards = Bench(config), []
    for _ in range(12):
        aux = bench.update(bench.sample(512))["default_policy"]["aux"]["ride"]
        rewards.append(float(aux["intrinsic_reward"].peek()))
    assert rewards[-1] > 0.1 and float(aux["inverse_accuracy"].peek()) > 0.25
