"""Two Learners with half of each batch get the weights of one with the whole batch (gloo)."""

from pathlib import Path
from typing import Any

import pytest

from rlssl.algorithms.rainbow.rainbow import RainbowConfig
from tests.algorithms.rainbow.rainbow_bench import small_rainbow
from tests.algorithms.two_learners import assert_same_errors, assert_same_weights, learners_fixture
from tests.auxiliary.imitation.recorded import with_demonstrations

# About 20 s for two processes and all cases; several times as long on a busy machine.
pytestmark = pytest.mark.timeout(300)

# Larger than rounding errors of gradients that cancel, which Adam would amplify.
_LARGER_EPSILON = {"adam_epsilon": 1e-4}

#: Name -> environment, losses, and training.
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "rainbow": ("CartPole-v1", {}, {}),
    "soft": ("CartPole-v1", {}, {"target_tau": 0.1}),
    "plain": ("CartPole-v1", {}, {"distributional": False, "noisy": False}),
    "icm": ("CartPole-v1", {"icm": {}}, {}),
    "curl": ("CartPole-v1", {"curl": {}}, {}),
    # Losses whose rows differ between the Learners, and a control that mixes the rows of all.
    "masked dbc": ("CartPole-v1", {"bisimulation": {"mask_terminals": True}}, _LARGER_EPSILON),
    "masked deepmdp": (
        "CartPole-v1",
        {"deepmdp": {"mask_terminals": True, "decoder": "next_observation"}},
        _LARGER_EPSILON,
    ),
    "shuffled": ("CartPole-v1", {"bisimulation": {"shuffled_positives": True}}, _LARGER_EPSILON),
    # Draws from the demonstrations, and rewards of the single steps of n-step rows.
    "gail": ("CartPole-v1", {"gail": {}}, {"n_step": 3, **_LARGER_EPSILON}),
    "images": ("minatar/Breakout", {"curl": {}}, {}),
}


def config_of(case: str) -> RainbowConfig:
    env, losses, training = CASES[case]
    config = small_rainbow(env, **{"target_update_every_updates": 2, **training})
    hidden = {"encoder_config": {"hidden": [16]} if env == "CartPole-v1" else {}}
    return config.auxiliary(**with_demonstrations(losses, config.env_settings)).model(**hidden)


folder = learners_fixture(CASES, config_of)


@pytest.mark.parametrize("case", CASES)
def test_two_learners_get_the_weights_and_td_errors_of_one(folder: Path, case: str) -> None:
    assert_same_weights(folder, case)
    assert_same_errors(folder, case)
