"""DeepMDP: losses by hand and against loops, the slope penalty, decoders, options."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.auxiliary.predictive.deepmdp import DeepMDP
from rlssl.auxiliary.reconstruction import Reconstruction
from rlssl.errors import SpecError
from rlssl.losses import lipschitz_penalty
from rlssl.networks import build_encoder
from rlssl.networks.action_encoding import encode_action
from rlssl.networks.decoders import quantize_pixels
from rlssl.peers import ALONE
from tests.auxiliary.latents import ACTIONS, KINDS, SPACES, N, Scaled, make, take, transitions


def deepmdp(*args: Any, **options: Any) -> Any:
    return make(DeepMDP, *args, **options)


class _Unchanged(nn.Module):
    """Predicts the latent as the next latent, or its first feature as the reward."""

    def __init__(self, reward: bool = False) -> None:
        super().__init__()
        self.scale, self.is_reward = nn.Parameter(torch.ones(())), reward

    def forward(self, latent: Tensor, action: Tensor) -> Any:
        return self.scale * latent[:, 0] if self.is_reward else (self.scale * latent, None)


def test_losses_by_hand() -> None:
    # transition: 0.5 * mean of (1 + 4 + 4) = 1.5, and 0. reward: (1 - 3)^2 = 4 and 0.
    # step_distance: (3 + 0) / 2.
    loss = deepmdp(encoder=Scaled())
    loss.transition, loss.reward = _Unchanged(), _Unchanged(reward=True)
    batch = {
        Columns.OBS: torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]),
        Columns.NEXT_OBS: torch.tensor([[0.0, 2.0, 2.0], [0.0, 0.0, 0.0]]),
        Columns.ACTIONS: torch.tensor([0, 3]),
        Columns.REWARDS: torch.tensor([3.0, 0.0]),
    }
    found = loss.losses(batch)
    assert set(found) == {"transition", "reward"}
    torch.testing.assert_close(found["transition"], torch.tensor([1.5, 0.0]))
    torch.testing.assert_close(found["reward"], torch.tensor([4.0, 0.0]))
    assert loss.metrics(batch)["step_distance"] == 1.5


@pytest.mark.parametrize("kind", KINDS)
def test_losses_equal_a_loop_over_rows_and_features(kind: str) -> None:
    loss, batch = deepmdp(transition=kind), transitions()
    found = loss.losses(batch)
    for i in range(N):
        row = take(batch, [i])
        latent, target = loss.encoder(row[Columns.OBS]), loss.encoder(row[Columns.NEXT_OBS])
        action = encode_action(row[Columns.ACTIONS], ACTIONS["discrete"])
        mean, std = loss.transition(latent, action)
        std = torch.ones_like(mean) if std is None else std
        terms = [
            0.5 * ((m - t) / s) ** 2 + s.log()
            for means, stds in zip(mean.reshape(-1, 1, 64), std.reshape(-1, 1, 64), strict=True)
            for m, s, t in zip(means[0], stds[0], target[0], strict=True)
        ]
        torch.testing.assert_close(found["transition"][i], torch.stack(terms).mean())
        error = loss.reward(latent, action) - row[Columns.REWARDS]
        torch.testing.assert_close(found["reward"][i], error[0] ** 2)


def test_kinds_without_a_std_give_the_same_loss() -> None:
    batch = transitions()
    found = [deepmdp(transition=kind).losses(batch)["transition"] for kind in KINDS]
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[1], found[2]) and not torch.allclose(found[2], found[3])


@pytest.mark.parametrize("decoder", [None, "observation", "next_observation"])
def test_permuting_the_batch_permutes_the_losses(decoder: str | None) -> None:
    loss, batch = deepmdp(decoder=decoder), transitions()
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    permuted = loss.losses(take(batch, order))
    for key, value in loss.losses(batch).items():
        torch.testing.assert_close(permuted[key], value[order])


def test_next_latent_has_no_gradient() -> None:
    loss, batch = deepmdp(encoder=Scaled()), transitions()
    batch[Columns.NEXT_OBS] = torch.rand(N, 3, requires_grad=True)
    total = sum(value.sum() for value in loss.losses(batch).values())
    assert torch.autograd.grad(total, batch[Columns.NEXT_OBS], allow_unused=True) == (None,)


def test_slope_penalty_by_hand() -> None:
    # y = (3 x_1, 4 x_2): along (1, 0) the slope is 3: (3 - 1)^2 = 4; along (0.6, 0.8) it is
    # |(1.8, 3.2)| = 3.6715120: 7.1369760. y = x / 2 has a slope below 1: 0.
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    y = x * torch.tensor([3.0, 4.0])
    direction = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    torch.testing.assert_close(
        lipschitz_penalty(y, x, direction), torch.tensor([4.0, 7.1369760, 9.0])
    )
    torch.testing.assert_close(lipschitz_penalty(x / 2, x, direction), torch.zeros(3))
    torch.testing.assert_close(
        lipschitz_penalty(y, x, direction, limit=3.0), torch.tensor([0.0, 0.4509284, 1.0])
    )


@pytest.mark.parametrize(
    "shapes, limit, message",
    [
        (((3, 2), (3, 2), (2, 2)), 1.0, "latent [N, D]; got (3, 2), (3, 2) and (2, 2)"),
        (((3,), (3,), (3, 2)), 1.0, "must be [N, E]"),
        (((3, 2), (3, 2), (3, 2)), 0.0, "limit must be > 0; got 0.0"),
    ],
)
def test_slope_penalty_refuses_wrong_arguments(shapes: Any, limit: float, message: str) -> None:
    output, direction, latent = (torch.zeros(shape) for shape in shapes)
    with pytest.raises(ValueError) as error:
        lipschitz_penalty(output, latent, direction, limit=limit)
    assert message in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_penalty_reaches_only_the_models_and_lowers_their_slopes(kind: str) -> None:
    loss, batch = deepmdp(encoder=Scaled(), transition=kind, gradient_penalty=2.0), transitions()
    with torch.no_grad():
        for parameter in [*loss.transition.parameters(), *loss.reward.parameters()]:
            parameter.mul_(3.0)
    before = loss.losses(batch)["penalty"]
    assert before.shape == (N,) and before.mean() > 0.1
    before.sum().backward()
    assert loss.encoder.scale.grad is None
    assert any(p.grad is not None for p in loss.transition.parameters())
    assert any(p.grad is not None for p in loss.reward.parameters())
    adam = torch.optim.Adam(loss.parameters(), lr=3e-3)
    for _ in range(200):
        adam.zero_grad()
        loss.losses(batch)["penalty"].mean().backward()
        adam.step()
    assert loss.losses(batch)["penalty"].mean() < 0.1 * before.mean()


@pytest.mark.parametrize("observations", SPACES)
@pytest.mark.parametrize("decoder", ["observation", "next_observation"])
def test_decoders_take_vectors_and_images_of_both_layouts(observations: str, decoder: str) -> None:
    space = SPACES[observations]
    loss = deepmdp(space, ACTIONS["continuous"], decoder=decoder, transition="probabilistic")
    batch = transitions(space, ACTIONS["continuous"])
    found = loss.losses(batch)["reconstruction"]
    assert found.shape == (N,) and found.isfinite().all()
    encoder = [p for p in loss.encoder.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(found.sum(), encoder, allow_unused=True)
    assert any(gradient is not None and gradient.any() for gradient in gradients)


def test_reconstruction_of_vectors_by_hand() -> None:
    # The first element is 0 and 4 (mean 2, std 2): standardized -1 and 1. The second is constant: 0
    # and 0. The decoder gives zeros: mean of (1 + 0) = 0.5 each.
    space = gym.spaces.Box(-9, 9, (2,))
    encoder: Any = Scaled(2)
    decoder = Reconstruction(space, encoder)
    decoder.decoder = _Gives(torch.zeros(2))
    rows = torch.tensor([[0.0, 1.0], [4.0, 1.0]])
    found = decoder(rows, rows, torch.Generator(), ALONE)
    torch.testing.assert_close(found, torch.tensor([0.5, 0.5]))
    # After an update, its moments are used: mean 2, std 2.
    decoder.after_update()
    again = decoder(rows[:1] + 4.0, rows[:1] + 4.0, torch.Generator(), ALONE)
    # (0 + 4 - 2) / 2 = 1, and 1 + 4 - 1 = 4: (1 + 16) / 2.
    torch.testing.assert_close(again, torch.tensor([8.5]))


class _Gives(nn.Module):
    """A decoder that gives the same tensor for any latents."""

    def __init__(self, decoded: Tensor) -> None:
        super().__init__()
        self.decoded = decoded

    def forward(self, latents: Tensor) -> Tensor:
        return self.decoded


def test_targets_of_images_are_quantized_or_scaled() -> None:
    # The error is 0 if and only if the decoder gives the target.
    frames, grid = SPACES["frames"], SPACES["grid"]
    images, ones = (transitions(space)[Columns.OBS] for space in (frames, grid))
    quantized = quantize_pixels(images, generator=torch.Generator().manual_seed(0))
    for space, observations, target in (
        (frames, images, quantized),
        (grid, ones, ones.float() - 0.5),
    ):
        decoder = Reconstruction(space, build_encoder(space))
        decoder.decoder = _Gives(target)
        generator = torch.Generator().manual_seed(0)
        error = decoder(torch.zeros(N, 3), observations, generator, ALONE)
        torch.testing.assert_close(error, torch.zeros(N), atol=1e-12, rtol=0)


def test_terminal_rows_are_left_out_of_losses_of_the_next_latent() -> None:
    loss = deepmdp(mask_terminals=True, decoder="next_observation")
    found = loss.losses(transitions())
    lengths = {key: len(value) for key, value in found.items()}
    assert lengths == {"transition": 4, "reward": 6, "reconstruction": 4}


@pytest.mark.parametrize("decoder", [None, "observation"])
def test_no_rows_give_no_losses_and_no_error(decoder: str | None) -> None:
    loss = deepmdp(decoder=decoder)
    empty = take(transitions(), slice(0))
    found = loss.losses(empty)
    loss.after_update()
    assert all(len(value) == 0 and value.sum() == 0.0 for value in found.values())
    assert not loss.metrics(empty)


def test_spaces_without_a_decoder_are_refused() -> None:
    space = gym.spaces.Dict({"a": SPACES["vector"]})
    with pytest.raises(SpecError, match="a decoder gives vectors and images; got Dict"):
        deepmdp(space, decoder="observation")
    tiny = gym.spaces.Box(0, 255, (1, 2, 2), np.uint8)
    with pytest.raises(SpecError, match="images of 2 x 2 pixels are too small for a decoder"):
        Reconstruction(tiny, build_encoder(SPACES["vector"]))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"decoder": "pixel"}, "decoder must be one of [None, 'observation', 'next_obs"),
        ({"gradient_penalty": -1.0}, "gradient_penalty must be >= 0; got -1.0"),
        ({"transition": "gaussian"}, "transition must be one of ['smooth_l1', "),
        ({"num_models": 0}, "num_models must be a whole number >= 1; got 0"),
    ],
)
def test_bad_options_name_the_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        DeepMDP.Config(**options)
    assert message in str(error.value)
