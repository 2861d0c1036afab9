"""Two Learners of pretraining with half of each batch get the weights of one."""

import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.algorithms.pretrain.pretrain_bench import PretrainBench, small_pretrain
from tests.algorithms.two_learners import assert_same_weights, learners_fixture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

_FOUR: dict[str, Any] = {"spr": {}, "inverse_dynamics": {}, "curl": {}, "atc": {"delta": 2}}
#: Name -> losses, and options of `small_pretrain`.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "vectors": (_FOUR, {"frame_stack": 2}),
    "frames and a target encoder": (
        ({**_FOUR, "autoencoder": {"hidden": 16}}),
        {"spaces": "hwc", "frame_stack": 2, "target_tau": 0.1},
    ),
    "a queue": ({"moco": {"queue_size": 70}}, {}),
    "dict": ({"inverse_dynamics": {}, "spr": {}}, {"spaces": "dict"}),
}


def config_of(case: str) -> Any:
    losses, options = CASES[case]
    # Every process writes the same episodes.
    folder = Path(tempfile.mkdtemp(prefix="rlssl-tests-")) / "data"
    return small_pretrain(folder, losses, adam_epsilon=1e-4, **options)


folder = learners_fixture(CASES, config_of, PretrainBench)


@pytest.mark.parametrize("case", CASES)
def test_two_learners_get_the_weights_of_one(folder: Path, case: str) -> None:
    assert_same_weights(folder, case)
