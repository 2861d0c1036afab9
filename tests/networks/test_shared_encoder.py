"""Trunks, and encoders that are split behind their convolutions."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from rlssl.networks.encoders import build_encoder
from rlssl.networks.shared_encoder import SharedEncoder, Trunk, share_convolutions

IMAGE = gym.spaces.Box(0, 255, (3, 21, 21), np.uint8)


def test_trunk_ends_in_a_layer_norm_or_a_tanh() -> None:
    x = 10 * torch.randn(6, 20)
    trunk = Trunk(20, 5)
    assert trunk.output_dim == 5 and trunk(x).shape == (6, 5)
    torch.testing.assert_close(trunk(x).mean(dim=1), torch.zeros(6), rtol=0, atol=1e-5)
    torch.testing.assert_close(trunk(x).std(dim=1, correction=0), torch.ones(6), rtol=0, atol=1e-3)
    squashed = Trunk(20, 5, tanh=True)
    squashed.load_state_dict(trunk.state_dict())
    torch.testing.assert_close(squashed(x), trunk(x).tanh())
    linear = trunk[0]
    assert isinstance(linear, nn.Linear)
    torch.testing.assert_close(torch.linalg.svdvals(linear.weight.detach()), torch.ones(5))


def test_trunk_refuses_sizes() -> None:
    with pytest.raises(ValueError, match="output_dim must be a whole number >= 1; got 0"):
        Trunk(4, 0)


@pytest.mark.parametrize("channels_last", [False, True])
def test_split_encoder_gives_the_same_latents(channels_last: bool) -> None:
    config = {"channels_last": channels_last}
    torch.manual_seed(0)
    whole = build_encoder(IMAGE, "curl", config)
    torch.manual_seed(0)
    split = share_convolutions(build_encoder(IMAGE, "curl", config))
    assert isinstance(split, SharedEncoder)
    obs = torch.randint(0, 256, (4, 3, 21, 21), dtype=torch.uint8)
    torch.testing.assert_close(split(obs), whole(obs), rtol=1e-4, atol=1e-5)
    # 21 -> 10 -> 8 -> 6 -> 4 pixels of 32 channels.
    assert (split.feature_dim, split.output_dim) == (32 * 4 * 4, 50)


def test_kept_features_are_used_for_the_same_object_until_they_are_dropped() -> None:
    shared = share_convolutions(build_encoder(IMAGE, "curl"))
    assert isinstance(shared, SharedEncoder)
    obs = torch.randint(0, 256, (2, 3, 21, 21), dtype=torch.uint8)
    kept = shared.keep(obs)
    assert shared.features(obs) is kept
    assert shared.features(obs.clone()) is not kept
    shared.forget()
    assert shared.features(obs) is not kept


def test_encoder_without_convolutions_is_not_split() -> None:
    encoder = build_encoder(gym.spaces.Box(-1, 1, (4,)))
    assert share_convolutions(encoder) is encoder
