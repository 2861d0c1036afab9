"""Dormant units, by hand."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from rlssl.diagnostics.dormant import Activity, dormant, is_dormant
from rlssl.networks.encoders import build_encoder
from rlssl.networks.shared_encoder import share_convolutions


def test_one_of_four_units_is_dormant() -> None:
    # The mean of 0, 1, 1, 2 is 1: scores 0, 1, 1, 2.
    found = is_dormant(torch.tensor([0.0, 1.0, 1.0, 2.0]), tau=0.1)
    assert found.tolist() == [True, False, False, False]


def test_all_units_of_a_layer_of_zeros_are_dormant() -> None:
    assert is_dormant(torch.zeros(3), tau=0.0).all()
    assert dormant([torch.zeros(3)]) == {"share": 1.0, "layer_1": 1.0}


def test_a_larger_tau_counts_weak_units() -> None:
    # The mean of 0.2, 1, 1.8 is 1.
    sizes = torch.tensor([0.2, 1.0, 1.8])
    assert dormant([sizes], tau=0.1)["share"] == 0.0
    assert dormant([sizes], tau=0.25)["share"] == pytest.approx(1 / 3)


def test_shares_are_of_units_not_of_layers() -> None:
    found = dormant([torch.tensor([0.0, 4.0]), torch.ones(6)])
    assert found == {"share": 1 / 8, "layer_1": 0.5, "layer_2": 0.0}


def test_maps_are_averaged_over_rows_and_places() -> None:
    network = nn.Sequential(nn.ReLU())
    activity = Activity(network)
    maps = torch.zeros(2, 3, 4, 4)
    maps[0, 1, 2, 2] = 8.0  # of 32 places and rows: 0.25
    maps[:, 2] = -5.0
    with activity.measured():
        network(maps)
    (sizes,) = activity.sizes()
    assert sizes.tolist() == [0.0, 0.25, 0.0]


def test_passes_are_averaged_by_their_rows() -> None:
    network = nn.Sequential(nn.ReLU())
    activity = Activity(network)
    for rows in (torch.full((3, 1), 2.0), torch.full((1, 1), 6.0)):
        with activity.measured():
            network(rows)
    # (3 * 2 + 1 * 6) / 4
    assert activity.sizes()[0].item() == 3.0


def test_an_activation_used_twice_is_two_layers() -> None:
    relu = nn.ReLU()
    network = nn.Sequential(relu, nn.Linear(2, 3), relu)
    activity = Activity(network)
    for _ in range(2):
        with activity.measured():
            network(torch.ones(4, 2))
    assert [len(sizes) for sizes in activity.sizes()] == [2, 3]


def test_outputs_without_an_activation_are_no_layer() -> None:
    activity = Activity(nn.Linear(2, 2))
    assert activity.sizes() == []
    assert np.isnan(dormant(activity.sizes())["share"])


#: Encoder -> units of its layers, for 40 x 40 pixels.
PIXEL_LAYERS = {
    "nature": [32, 64, 64, 512],
    "curl": [32, 32, 32, 32],
    "data_efficient": [32, 64],
    "icm": [32, 32, 32, 32],
    "small_cnn": [16, 32, 128],
    # 2 residual blocks of 2 activations in each of 3 sections; before and behind the linear layer.
    "impala": [16] * 4 + [32] * 8 + [32, 256],
}


@pytest.mark.parametrize("name", PIXEL_LAYERS)
def test_every_layer_of_an_encoder_is_seen_and_the_latents_stay(name: str) -> None:
    space = gym.spaces.Box(0, 255, (3, 40, 40), np.uint8)
    encoder = share_convolutions(build_encoder(space, name))
    frames = torch.randint(0, 255, (3, 3, 40, 40), dtype=torch.uint8)
    activity = Activity(encoder)
    with torch.no_grad():
        plain = encoder(frames)
        with activity.measured():
            measured = encoder(frames)
    assert [len(sizes) for sizes in activity.sizes()] == PIXEL_LAYERS[name]
    torch.testing.assert_close(measured, plain)


def test_a_broken_layer_is_found() -> None:
    encoder = build_encoder(gym.spaces.Box(-1, 1, (4,)), "mlp", {"hidden": [8, 4]})
    with torch.no_grad():
        first = next(layer for layer in encoder.modules() if isinstance(layer, nn.Linear))
        first.weight[:3] = 0.0
        first.bias[:3] = 0.0
        activity = Activity(encoder)
        with activity.measured():
            encoder(torch.rand(16, 4))
    assert dormant(activity.sizes())["layer_1"] == 3 / 8
