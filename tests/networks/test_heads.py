"""Heads: initial outputs, dueling by hand, noise."""

import functools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rlssl.errors import SpecError
from rlssl.networks.heads import DistanceClassifier, GaussianHead, QHead, linear_head
from rlssl.networks.layers.noisy import NoisyLinear, noisy_layers, set_use_noise

make_noisy = functools.partial(NoisyLinear, sigma0=0.1, noise="factorized", bias_sigma_fan="in")


def q_head(latent_dim: int, num_actions: int, **options: Any) -> QHead:
    given = {"num_atoms": None, "dueling": True, "hidden": (16,), **options}
    return QHead(latent_dim, num_actions, **given)


def test_linear_head_starts_with_the_given_gain_and_zero_bias() -> None:
    head = linear_head(8, 3, gain=0.5)
    torch.testing.assert_close(torch.linalg.svdvals(head.weight.detach()), torch.full((3,), 0.5))
    assert not head.bias.any()


def test_gaussian_head_gives_means_then_log_stds_that_do_not_depend_on_the_latent() -> None:
    head = GaussianHead(in_dim=8, action_dim=2)
    with torch.no_grad():
        head.log_std.copy_(torch.tensor([-1.0, 0.5]))
    output = head(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)))
    assert output.shape == (4, 4)
    assert output[:, 2:].tolist() == [[-1.0, 0.5]] * 4
    # Gain 0.01: |mean| <= 0.01 * |latent|, and |latent| is about sqrt 8.
    assert 0 < output[:, :2].abs().max() < 0.06


def test_standard_deviation_of_a_gaussian_head_is_trained() -> None:
    head = GaussianHead(in_dim=8, action_dim=2)
    head(torch.zeros(4, 8)).sum().backward()
    # Each of the 4 rows contributes 1.
    assert head.log_std.grad is not None
    assert head.log_std.grad.tolist() == [4.0, 4.0]


@pytest.mark.parametrize("num_atoms", [None, 1, 51])
@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("hidden", [(), (16,), (16, 8)])
@pytest.mark.parametrize("make_linear", [None, make_noisy])
def test_shapes_and_layers_of_q_heads(
    num_atoms: int | None, dueling: bool, hidden: tuple, make_linear: None
) -> None:
    head = q_head(
        12, 3, num_atoms=num_atoms, dueling=dueling, hidden=hidden, make_linear=make_linear
    )
    expected = (5, 3) if num_atoms is None else (5, 3, num_atoms)
    assert head(torch.zeros(5, 12)).shape == expected
    assert head(torch.zeros(0, 12)).shape == (0, *expected[1:])
    num_linear = sum(isinstance(layer, nn.Linear | NoisyLinear) for layer in head.modules())
    assert num_linear == (1 + len(hidden)) * (2 if dueling else 1)
    num_noisy = len(list(noisy_layers(head)))
    assert num_noisy == (0 if make_linear is None else num_linear)


def fill(layer: nn.Module, bias: list[float]) -> None:
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.tensor(bias))


def test_dueling_by_hand() -> None:
    # V = 10; B = 1, 2, 6 with mean 3: Q = 10 + (-2, -1, 3).
    head = q_head(4, 3, hidden=())
    assert head.state is not None
    fill(head.state[-1], [10.0])
    fill(head.actions[-1], [1.0, 2.0, 6.0])
    assert head(torch.ones(1, 4)).tolist() == [[8.0, 9.0, 13.0]]


def test_dueling_by_hand_is_centered_atom_by_atom() -> None:
    # V = (10, 20); B = (1, 2) and (3, 8) with means 2 and 5: (10 - 1, 20 - 3), (10 + 1, 20 + 3).
    head = q_head(4, 2, num_atoms=2, hidden=())
    assert head.state is not None
    fill(head.state[-1], [10.0, 20.0])
    fill(head.actions[-1], [1.0, 2.0, 3.0, 8.0])
    assert head(torch.ones(1, 4)).tolist() == [[[9.0, 17.0], [11.0, 23.0]]]


def test_a_constant_added_to_all_advantages_changes_nothing() -> None:
    head, latent = q_head(4, 3), torch.randn(6, 4)
    before = head(latent)
    with torch.no_grad():
        head.actions[-1].bias.add_(5.0)  # type: ignore[operator]
    torch.testing.assert_close(head(latent), before, rtol=1e-4, atol=1e-5)


def test_distributions_start_near_uniform() -> None:
    head = q_head(64, 4, num_atoms=51, hidden=(512,))
    probs = head(torch.randn(32, 64)).softmax(dim=-1)
    assert (probs * 51 - 1).abs().max() < 0.15


def test_noise_changes_the_values_and_can_be_switched_off() -> None:
    head, latent = q_head(8, 3, make_linear=make_noisy), torch.randn(2, 8)
    noisy = head(latent)
    set_use_noise(head, False)
    assert not torch.equal(head(latent), noisy)


@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"num_actions": 0}, "num_actions must be a whole number >= 1; got 0"),
        ({"num_atoms": 0}, "num_atoms must be a whole number >= 1; got 0"),
        ({"hidden": (0,)}, "hidden must list features"),
        ({"activation": "rleu"}, "did you mean 'relu'"),
    ],
)
def test_bad_options_of_q_heads_are_named(arguments: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        q_head(**{"latent_dim": 4, "num_actions": 2, **arguments})


def test_distances_are_symmetric_and_ignores_the_scale_of_embeddings() -> None:
    torch.manual_seed(0)
    classifier = DistanceClassifier(4, 6, hidden=16)
    first, second = torch.randn(2, 8, 4)
    logits = classifier(first, second)
    torch.testing.assert_close(classifier(second, first), logits)
    # The biases of the embedding start at zero.
    torch.testing.assert_close(classifier(3 * first, 0.5 * second), logits)
    assert logits.std() > 0


def test_the_cross_entropy_of_distances_starts_at_the_log_of_the_number_of_classes() -> None:
    torch.manual_seed(0)
    classifier = DistanceClassifier(4, 6, hidden=16)
    first, second = torch.randn(2, 60, 4)
    loss = F.cross_entropy(classifier(first, second), torch.arange(60) % 6)
    assert loss.item() == pytest.approx(math.log(6), abs=0.02)


def test_sizes_of_a_distance_classifier_must_be_positive() -> None:
    with pytest.raises(SpecError, match="num_classes must be a whole number >= 1; got 0"):
        DistanceClassifier(4, 0, hidden=8)
