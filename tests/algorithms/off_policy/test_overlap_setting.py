"""`training.overlap_sampling` of algorithms with a replay buffer."""

from typing import Any

import pytest

import rlssl
from rlssl.algorithms.common.effective import effective_settings
from rlssl.errors import SpecError


def used(config: Any) -> bool:
    overlaps: bool = effective_settings(config)["training"]["overlap_sampling"]
    return overlaps


@pytest.mark.parametrize("make", [rlssl.RainbowConfig, rlssl.SACConfig, rlssl.DDPGConfig])
def test_only_remote_env_runners_overlap(make: Any) -> None:
    config = make().environment("CartPole-v1")
    assert not used(config)
    config.env_runners(num_env_runners=1)
    assert used(config)
    config.training(overlap_sampling=False)
    assert not used(config)


def test_overlap_without_remote_env_runners_is_refused() -> None:
    config = rlssl.RainbowConfig().environment("CartPole-v1").training(overlap_sampling=True)
    with pytest.raises(SpecError, match=r"resources\.env_runners to 1 or more"):
        config.validate()
