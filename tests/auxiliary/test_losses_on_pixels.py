"""Losses on the pixels of SAC and DDPG: crops, the algorithm's key encoder, separate steps."""

from typing import Any

import pytest
import torch

from rlssl.algorithms.common.auxiliary_learner import trainable
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import (
    BOTH,
    CROPPED,
    Small,
    pixel_bench,
)

LOSSES: list[tuple[str, dict[str, Any]]] = [
    ("autoencoder", {}),
    ("autoencoder", {"variant": "vae"}),
    ("inverse_dynamics", {}),
    ("mico", {}),
    ("simsr", {"hidden": 16}),
    ("rotation", {}),
    ("st_dim", {}),
]


@BOTH
@pytest.mark.parametrize("augmentation", [None, CROPPED], ids=["whole", "cropped"])
@pytest.mark.parametrize(
    "name, options", LOSSES, ids=[" ".join([name, *map(str, it.values())]) for name, it in LOSSES]
)
def test_separate_step_trains_the_encoder_and_the_heads(
    small: Small, augmentation: Any, name: str, options: dict[str, Any]
) -> None:
    bench = pixel_bench(small, augmentation, auxiliary={name: options}, auxiliary_step="separate")
    loss = bench.module.auxiliary[name]
    if hasattr(loss, "own_key_encoder"):
        assert (loss.own_key_encoder is None) == (loss.key_encoder is not None)
    bench.update_once()
    optimizers = dict(bench.learner.get_optimizers_for_module("default_policy"))
    assert all(bool(state["exp_avg"].any()) for state in optimizers["encoder"].state.values())
    heads = trainable(loss)
    assert all(p in optimizers[f"auxiliary_{name}"].state for p in heads)
    assert all(torch.isfinite(p).all() for p in [*heads, *trainable(bench.module.encoder)])
    assert "faults" not in bench.learner.report()
