"""Two Learners with half of each batch get the weights of one, for every loss and its options."""

from pathlib import Path
from typing import Any

import pytest

from rlssl.registry import AUXILIARY_LOSSES
from tests.algorithms.rainbow.rainbow_bench import small_rainbow
from tests.algorithms.two_learners import assert_same_errors, assert_same_weights, learners_fixture
from tests.auxiliary.imitation.recorded import with_demonstrations

# The fast suite has the most important cases, in test_rainbow_two_learners.py.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: Larger than rounding errors of gradients that cancel, which Adam would amplify.
_SETTINGS = {"target_update_every_updates": 2, "adam_epsilon": 1e-4}
_VECTOR, _IMAGE = "CartPole-v1", "minatar/Breakout"
#: Loss -> its options. Each case runs on vectors.
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "atc": [
        {},
        {"delta": 3, "view_probability": 0.5},
        {"shuffled_positives": True},
        {"isolated": True},
    ],
    "arrow_of_time": [{}, {"shuffled_positives": True}],
    "autoencoder": [{}, {"variant": "vae"}, {"shuffled_positives": True}, {"every": 2}],
    "bisimulation": [
        {},
        {"mask_terminals": True},
        {"shuffled_positives": True},
        {"mask_terminals": True, "shuffled_positives": True, "normalize_rewards": True},
        {"variant": "paper", "mask_terminals": True, "transition": "ensemble"},
        {"mask_terminals": True, "transition": "probabilistic", "latent_norm": "layer"},
        {"mask_terminals": True, "transition": "deterministic", "self_prediction": False},
        {"variant": "paper", "features": "own", "latent_norm": "max", "shuffled_positives": True},
        {"isolated": True, "mask_terminals": True},
    ],
    "deepmdp": [
        {},
        {"mask_terminals": True},
        {"shuffled_positives": True},
        {"mask_terminals": True, "transition": "ensemble", "gradient_penalty": 1.0},
        {"mask_terminals": True, "decoder": "next_observation", "transition": "probabilistic"},
        {"decoder": "next_observation", "shuffled_positives": True},
        {"decoder": "observation", "normalize_rewards": True, "features": "own"},
    ],
    "cpc": [{}, {"actions": True}, {"shuffled_positives": True}, {"isolated": True}],
    "curl": [{}, {"variant": "atari"}, {"shuffled_positives": True}, {"isolated": True}],
    "disagreement": [{}],
    "episodic_count": [{}],
    "frame_order": [{}, {"shuffled_positives": True}],
    "behavior_cloning": [{}, {"rows": 16}],
    "demonstration_progress": [{}],
    "gail": [
        {},
        {"states": True, "features": "shared", "gradient_penalty": 1.0},
        {"bonus_when": "stored", "normalize": True, "intrinsic_coeff": 0.5},
    ],
    "icm": [{}, {"variant": "burda"}, {"features": "shared"}, {"features": "random"}],
    "inverse_dynamics": [{}, {"shuffled_positives": True}],
    "mico": [{}, {"normalize_rewards": True, "shuffled_positives": True}],
    "simsr": [{}, {"transition": "ensemble"}, {"normalize_rewards": True}],
    "spr": [{}, {"shuffled_positives": True, "distance": "l2"}],
    "noveld": [{}],
    "random_bonus": [{}],
    "ride": [{}],
    "rnd": [{}, {"update_share": 0.5}],
    "nt_xent": [{}, {"shuffled_positives": True}, {"isolated": True}],
    "moco": [
        {},
        {"mask_episode": True},
        {"shuffled_positives": True},
        {"queue_size": 70, "mask_equal": False},
    ],
    "barlow_twins": [{}, {"shuffled_positives": True}],
    "vicreg": [{}, {"shuffled_positives": True}],
    "time_contrastive": [{}, {"shuffled_positives": True}],
    "temporal_distance": [{}, {"classes": ((1, 1), (2, 5))}, {"shuffled_positives": True}],
}
#: Name -> environment, loss, its options, and settings of training.
CASES: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    f"{loss}-{'-'.join(f'{key}={value}' for key, value in options.items()) or 'default'}": (
        (_VECTOR, loss, options, {})
    )
    for loss, cases in OPTIONS.items()
    for options in cases
}
CASES |= {
    "sampled-bonus": (
        (_VECTOR, "icm", {"bonus_when": "sampled", "intrinsic_coeff": 0.5}, {"n_step": 1})
    ),
    "images-next": (
        (_IMAGE, "deepmdp", {"mask_terminals": True, "decoder": "next_observation"}, {})
    ),
    "images-rotation": (_IMAGE, "rotation", {}, {}),
    "images-rotation-shuffled": (_IMAGE, "rotation", {"shuffled_positives": True}, {}),
    "images-st_dim": (_IMAGE, "st_dim", {}, {}),
    "images-st_dim-places": (_IMAGE, "st_dim", {"places": 9, "same_episode": False}, {}),
    "images-st_dim-shuffled": (_IMAGE, "st_dim", {"shuffled_positives": True}, {}),
    "images-vae": (_IMAGE, "autoencoder", {"variant": "vae"}, {}),
    "images-shuffled": (_IMAGE, "bisimulation", {"shuffled_positives": True}, {}),
    "priorities": (
        (
            _VECTOR,
            "bisimulation",
            {"mask_terminals": True},
            {"auxiliary_in_priorities": True},
        )
    ),
}


def config_of(case: str) -> Any:
    env, loss, options, training = CASES[case]
    config = small_rainbow(env, **{**_SETTINGS, **training})
    hidden = {"encoder_config": {"hidden": [16]} if env == _VECTOR else {}}
    small = {"hidden": 16} if loss in ("autoencoder", "bisimulation", "deepmdp", "simsr") else {}
    losses = with_demonstrations({loss: {**small, **options}}, config.env_settings)
    return config.auxiliary(**losses).model(**hidden)


def test_every_registered_loss_is_tested() -> None:
    assert set(OPTIONS) <= set(AUXILIARY_LOSSES)


folder = learners_fixture(CASES, config_of)


@pytest.mark.parametrize("case", CASES)
def test_two_learners_get_the_weights_and_priorities_of_one(folder: Path, case: str) -> None:
    assert_same_weights(folder, case)
    assert_same_errors(folder, case)
