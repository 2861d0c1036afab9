"""The spec of a trial is parsed once for each point and seed."""

from typing import Any

import pytest

from rlssl.experiment.spec.loading import load_spec, resolved_dict
from rlssl.experiment.tuning import trial_config
from rlssl.experiment.tuning.trial_config import SEED_KEY, SPEC_KEY, trial_spec

DOCUMENT = {
    "algorithm": "ppo",
    "env": {"id": "CartPole-v1"},
    "search": {"training.lr": {"grid": [0.1, 0.2]}},
    "seeds": [0, 1],
    "stop": {"env_steps": 100},
}


def config_of(lr: float, seed: int) -> dict[str, Any]:
    return {SPEC_KEY: resolved_dict(load_spec(DOCUMENT)), "training.lr": lr, SEED_KEY: seed}


def test_a_spec_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = [trial_spec(config_of(lr, seed)) for lr in (0.1, 0.2) for seed in (0, 1)]
    assert [(one.training["lr"], one.seed) for one in first] == [
        (0.1, 0),
        (0.1, 1),
        (0.2, 0),
        (0.2, 1),
    ]
    monkeypatch.setattr(trial_config, "at_point", None)
    monkeypatch.setattr(trial_config, "load_spec", None)
    again = trial_spec(config_of(0.2, 0))
    assert again == first[2]
    # The next one does not see what a trial does to its spec.
    again.env["id"] = "Acrobot-v1"
    assert trial_spec(config_of(0.2, 0)) == first[2]
