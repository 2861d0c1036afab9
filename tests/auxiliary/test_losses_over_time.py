"""Losses over time on images, and with the default fragments of the algorithms."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from rlssl.algorithms.a3c.a3c import A3CConfig
from rlssl.networks import build_encoder
from rlssl.registry import AUXILIARY_LOSSES
from tests.algorithms.bench import Bench, small_ppo
from tests.algorithms.rainbow.rainbow_bench import RainbowBench, small_rainbow

#: Loss -> options that make it small.
LOSSES: dict[str, dict[str, Any]] = {
    "arrow_of_time": {"hidden": 16},
    "atc": {"hidden": 16},
    "cpc": {"hidden": 16},
    "frame_order": {"hidden": 16},
    "st_dim": {"places": 16},
    "temporal_distance": {"hidden": 16},
    "time_contrastive": {"embedding_dim": 16},
}
IMAGES = "minatar/Breakout"


def bench_of(algorithm: str, loss: str, options: dict[str, Any]) -> Any:
    small, bench = {"ppo": (small_ppo, Bench), "rainbow": (small_rainbow, RainbowBench)}[algorithm]
    config = small(IMAGES).model(encoder_config={}).auxiliary(**{loss: options})
    return bench(config)


@pytest.mark.parametrize("algorithm", ["ppo", "rainbow"])
@pytest.mark.parametrize("loss", LOSSES)
def test_updates_on_images_are_finite_and_move_the_encoder(algorithm: str, loss: str) -> None:
    bench = bench_of(algorithm, loss, LOSSES[loss])
    encoder = [p for p in bench.module.encoder.parameters() if p.requires_grad]
    mean = bench.learner.compute_auxiliary_loss(bench.batch(bench.sample()))
    gradients = torch.autograd.grad(mean, encoder)
    assert all(gradient.isfinite().all() and gradient.any() for gradient in gradients)
    before = [parameter.clone() for parameter in encoder]
    result = bench.update(bench.sample())
    metrics = result["default_policy"]["aux"][loss]
    assert all(np.isfinite(value.peek()) for value in metrics.values())
    assert 0.0 < metrics["valid_share"].peek() <= 1.0
    assert any(not torch.equal(a, b) for a, b in zip(before, encoder, strict=True))


@pytest.mark.parametrize("loss", LOSSES)
def test_default_windows_fit_the_default_fragments_of_a3c(loss: str) -> None:
    loss_class: Any = AUXILIARY_LOSSES[loss]
    images = gym.spaces.Box(0, 255, (4, 10, 10), np.uint8)
    built = loss_class(
        loss_class.Config(**loss_class.defaults_for("atari/Pong")),
        encoder=build_encoder(images),
        observation_space=images,
        action_space=gym.spaces.Discrete(2),
    )
    assert built.window.length <= A3CConfig().rollout_fragment_length + 1
