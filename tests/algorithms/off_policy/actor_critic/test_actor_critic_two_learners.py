"""Two Learners with half of each batch get the weights of one with the whole batch (gloo)."""

from pathlib import Path
from typing import Any

import pytest

from tests.algorithms.off_policy.actor_critic.actor_critic_bench import (
    CROPPED,
    on_pixels,
    small_ddpg,
    small_sac,
)
from tests.algorithms.two_learners import assert_same_weights, learners_fixture

# Several processes on a busy machine.
pytestmark = pytest.mark.timeout(300)

# Larger than rounding errors of gradients that cancel, which Adam would amplify.
_SEPARATE = {"auxiliary_step": "separate", "adam_epsilon": 1e-4}

#: Name -> config without losses, and losses.
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "sac": (lambda: small_sac(), {}),
    "sac-icm": (lambda: small_sac(), {"icm": {}}),
    "td3": (lambda: small_ddpg(num_critics=2, target_noise_std=0.2), {}),
    "crops": (
        lambda: on_pixels(small_sac("test/dot", **_SEPARATE), augmentation=CROPPED),
        {"curl": {}},
    ),
}


def config_of(case: str) -> Any:
    make, losses = CASES[case]
    return make().auxiliary(**losses)


folder = learners_fixture(CASES, config_of)


@pytest.mark.parametrize("case", CASES)
def test_two_learners_get_the_weights_of_one(folder: Path, case: str) -> None:
    assert_same_weights(folder, case)
