"""Hindsight reaches goals that the same agent without it does not reach."""

from typing import Any

import pytest

from rlssl.experiment.spec import load_spec
from tests.learning.training import final_success

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def document(sweep: str, relabel: dict[str, Any] | None) -> dict[str, Any]:
    """The settings of a sweep without its search."""
    spec = load_spec(sweep).model_dump(exclude_unset=True)
    keys = ("algorithm", "env", "model", "env_runners")
    kept = {key: spec[key] for key in keys if key in spec}
    training = {**spec["training"], "relabel": relabel}
    return {**kept, "training": training, "evaluation": {"success": "last"}}


# Measured: see docs/results/algorithms.md.
@pytest.mark.parametrize("seed", [11, 12])
def test_15_bits_are_flipped_only_with_hindsight(seed: int) -> None:
    scores = {
        name: final_success(
            document("her_bit_flipping", relabel), seed, env_steps=20_000, episodes=50
        )
        for name, relabel in (("with", {"k": 4}), ("without", None))
    }
    assert scores["with"] >= 0.98 and scores["without"] <= 0.05


# Measured: see docs/results/algorithms.md.
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_gripper_reaches_goals_within_4_000_env_steps(seed: int) -> None:
    pytest.importorskip("gymnasium_robotics", reason="needs rlssl[robotics]")
    settings = document("her_fetch_reach", {"k": 4})
    assert final_success(settings, seed, env_steps=4_000, episodes=20) >= 0.9
