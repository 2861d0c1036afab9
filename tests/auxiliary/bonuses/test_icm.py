"""ICM: values by hand, variants, spaces, and which gradients flow."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.auxiliary.base import ChunkInfo
from rlssl.auxiliary.bonuses.icm import ICM
from rlssl.losses import forward_dynamics_loss
from rlssl.networks import build_encoder
from tests.auxiliary.latents import ACTIONS, VECTOR, N, sample

SPACES = {
    "vector": VECTOR,
    "grid": gym.spaces.Box(0, 1, (5, 7, 7), np.uint8),
    "frames": gym.spaces.Box(0, 255, (4, 42, 42), np.uint8),
    "dict": gym.spaces.Dict({"a": VECTOR, "b": gym.spaces.Discrete(3)}),
}


def make(
    observation_space: gym.Space = VECTOR,
    action_space: gym.Space = ACTIONS["discrete"],
    **options: Any,
) -> ICM:
    torch.manual_seed(0)
    return ICM(
        ICM.Config(**options),
        encoder=build_encoder(observation_space),
        observation_space=observation_space,
        action_space=action_space,
    )


def transitions(observation_space: gym.Space, action_space: gym.Space) -> dict[str, Any]:
    return {
        Columns.OBS: sample(observation_space),
        Columns.NEXT_OBS: sample(observation_space),
        Columns.ACTIONS: sample(action_space),
        "chunks": [ChunkInfo("a", 2, 0, False), ChunkInfo("b", N - 2, 0, False)],
    }


class Identity(nn.Module):
    """Features that equal the observation, so that numbers can be computed by hand."""

    output_dim = 3

    def forward(self, observation: Tensor) -> Tensor:
        return observation


class Constant(nn.Module):
    """A model whose prediction does not depend on its input."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values))

    def forward(self, phi: Tensor, _: Tensor) -> Tensor:
        return self.values.expand(len(phi), -1)


def by_hand(variant: str) -> Any:
    icm: Any = make(variant=variant, features="own" if variant == "burda" else None)
    icm.normalizer = None
    icm.features = Identity()
    icm.forward_model = Constant(1.0, 0.0, 0.0)
    icm.inverse = Constant(0.0, 0.0, 0.0, 0.0)
    return icm


HAND = {
    Columns.OBS: torch.zeros(2, 3),
    Columns.NEXT_OBS: torch.tensor([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]]),
    Columns.ACTIONS: torch.tensor([0, 3]),
}


def test_pathak_losses_and_reward_by_hand() -> None:
    # Forward errors 0.5 * (0 + 4 + 4) = 4 and 0.5 * 1 = 0.5; inverse errors log 4 = 1.386294 each.
    # Weighted: 10 * 0.2 * error = 8 and 1; 10 * 0.8 * 1.386294 = 11.090355.
    icm = by_hand("pathak")
    losses = icm.losses(HAND)
    torch.testing.assert_close(losses["forward"], torch.tensor([8.0, 1.0]))
    torch.testing.assert_close(losses["inverse"], torch.full((2,), 11.090355))
    torch.testing.assert_close(icm.intrinsic_reward(HAND), torch.tensor([4.0, 0.5]))
    assert icm.metrics(HAND)["forward_error"] == pytest.approx(2.25)


def test_burda_losses_and_reward_by_hand() -> None:
    # Mean squares (0 + 4 + 4) / 3 = 2.666667 and 1 / 3. Both rows are one-step episodes, so the
    # returns are the errors: mean 1.5, std 1.1666667. Rewards: 2.2857143 and 0.2857143.
    icm = by_hand("burda")
    losses = icm.losses(HAND)
    torch.testing.assert_close(losses["forward"], torch.tensor([8 / 3, 1 / 3]))
    torch.testing.assert_close(losses["inverse"], torch.full((2,), 1.386294))
    reward = icm.intrinsic_reward(
        {**HAND, "chunks": [ChunkInfo("a", 1, 0, False), ChunkInfo("b", 1, 0, False)]}
    )
    torch.testing.assert_close(reward, torch.tensor([2.2857143, 0.2857143]))


def test_the_first_reward_of_burda_is_not_divided_by_the_std_of_one_row() -> None:
    # The forward error is (0 + 4 + 4) / 3 = 2.666667. It is the only return so far, and one row has
    # no std. Then the second row's error of 1 / 3 makes the returns 2.666667 and
    # 0.99 * 2.666667 + 0.333333 = 2.973333: half of their difference, 0.153333, is the std, and
    # 0.333333 / 0.153333 = 2.173913.
    icm = by_hand("burda")
    rows = [{key: value[[row]] for key, value in HAND.items()} for row in (0, 1)]
    first = icm.intrinsic_reward({**rows[0], "chunks": [ChunkInfo("a", 1, 0, False)]})
    torch.testing.assert_close(first, torch.tensor([8 / 3]))
    second = icm.intrinsic_reward({**rows[1], "chunks": [ChunkInfo("a", 1, 1, False)]})
    torch.testing.assert_close(second, torch.tensor([2.173913]))


@pytest.mark.parametrize("observations", SPACES)
@pytest.mark.parametrize("actions", ACTIONS)
@pytest.mark.parametrize("variant", ["pathak", "burda"])
def test_any_observation_and_action_space_works(
    observations: str, actions: str, variant: str
) -> None:
    space, action_space = SPACES[observations], ACTIONS[actions]
    icm = make(space, action_space, variant=variant)
    batch = transitions(space, action_space)
    losses = icm.losses(batch)
    reward = icm.intrinsic_reward(batch)
    assert all(loss.shape == (N,) and loss.isfinite().all() for loss in losses.values())
    assert reward.shape == (N,) and reward.isfinite().all() and (reward >= 0).all()


def test_untrained_inverse_loss_is_the_log_of_the_number_of_actions() -> None:
    icm = make(SPACES["grid"], ACTIONS["discrete"])
    inverse = icm.losses(transitions(SPACES["grid"], ACTIONS["discrete"]))["inverse"] / 8
    assert inverse.mean().item() == pytest.approx(np.log(4), rel=0.05)


def test_forward_loss_trains_the_features_in_pathak_but_not_in_burda() -> None:
    batch = transitions(VECTOR, ACTIONS["discrete"])
    moved = {}
    for variant in ("pathak", "burda"):
        icm: Any = make(variant=variant, features="own")
        icm.losses(batch)["forward"].sum().backward()
        moved[variant] = any(p.grad is not None for p in icm.features.parameters())
    assert moved == {"pathak": True, "burda": False}


def test_42_pixels_give_288_features() -> None:
    icm: Any = make(SPACES["frames"])
    assert icm.features.output_dim == 288


def test_permuting_the_batch_permutes_the_losses() -> None:
    icm = make()
    batch = transitions(VECTOR, ACTIONS["discrete"])
    del batch["chunks"]
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    permuted = icm.losses({key: value[order] for key, value in batch.items()})
    for key, loss in icm.losses(batch).items():
        torch.testing.assert_close(permuted[key], loss[order])


def test_forward_error_equals_a_loop_over_samples() -> None:
    icm: Any = make()
    batch = transitions(VECTOR, ACTIONS["discrete"])
    phi, phi_next = icm.features(batch[Columns.OBS]), icm.features(batch[Columns.NEXT_OBS])
    one_hot = torch.nn.functional.one_hot(batch[Columns.ACTIONS], 4).float()
    prediction = icm.forward_model(phi, one_hot)
    expected = [0.5 * sum((prediction[i] - phi_next[i]) ** 2) for i in range(N)]
    torch.testing.assert_close(icm.intrinsic_reward(batch), torch.stack(expected).detach())
    torch.testing.assert_close(
        forward_dynamics_loss(prediction, phi_next, reduction="half_sum"), torch.stack(expected)
    )


def test_variant_sets_the_defaults() -> None:
    pathak, burda = ICM.Config(), ICM.Config(variant="burda")
    assert (pathak.features, pathak.intrinsic_coeff, pathak.reward_clip) == ("own", 0.01, 1.0)
    assert (burda.features, burda.intrinsic_coeff, burda.reward_clip) == ("random", 1.0, None)
    assert ICM.Config(reward_clip=None).reward_clip is None


@pytest.mark.parametrize(
    "options, message",
    [
        ({"variant": "mario"}, "variant must be one of"),
        ({"features": "none"}, "features must be own, shared or random; got 'none'"),
        ({"forward_weight": 1.5}, "forward_weight must be in [0, 1]; got 1.5"),
        ({"scale": 0.0}, "scale must be > 0; got 0.0"),
        ({"lr": -1.0}, "lr must be > 0 or null; got -1.0"),
    ],
)
def test_bad_options_name_the_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        ICM.Config(**options)
    assert message in str(error.value)
