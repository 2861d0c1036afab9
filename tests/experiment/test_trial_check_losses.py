"""Losses that do not fit their batches are refused before anything starts."""

from typing import Any

import pytest

from rlssl.errors import SpecError
from rlssl.experiment.spec.loading import load_spec
from rlssl.experiment.trial_check import check_trial


@pytest.mark.parametrize(
    "algorithm, changes, words",
    [
        (
            "a3c",
            {"auxiliary": {"atc": {"delta": 10}}, "env_runners": {"fragment_length": 5}},
            r"auxiliary\.atc: its window has 11 frames, but a fragment has 6",
        ),
        (
            "ppo",
            {"auxiliary": {"moco": {"queue_size": 16}}, "training": {"minibatch_size": 128}},
            r"auxiliary\.moco\.queue_size must be at least 128, the rows of a gradient",
        ),
        (
            "a3c",
            {"auxiliary": {"moco": {"queue_size": 16}}},
            r"auxiliary\.moco\.queue_size must be at least 80",
        ),
        (
            "rainbow",
            {"auxiliary": {"moco": {"queue_size": 16}}},
            r"auxiliary\.moco\.queue_size must be at least 128",
        ),
    ],
)
def test_losses_that_do_not_fit_are_refused(
    algorithm: str, changes: dict[str, Any], words: str
) -> None:
    document = {"algorithm": algorithm, "env": "CartPole-v1", "stop": {"env_steps": 1_000}}
    with pytest.raises(SpecError, match=r"^auxiliary=.* does not fit CartPole-v1: .*" + words):
        check_trial(load_spec({**document, **changes}))
