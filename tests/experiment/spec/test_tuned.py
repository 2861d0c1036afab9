"""Tuned settings are valid, and are used only when they are asked for."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from rlssl.cli import main
from rlssl.errors import SpecError
from rlssl.experiment.commands import train
from rlssl.experiment.spec.loading import load_spec
from rlssl.experiment.spec.schema import Spec
from rlssl.experiment.spec.tuned import list_tuned, tuned_settings


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Spec]:
    """The specs that `rlssl train` would train."""
    specs: list[Spec] = []

    def record(spec: Spec, **_: Any) -> int:
        specs.append(spec)
        return 0

    monkeypatch.setattr(train, "train", record)
    return specs


@pytest.mark.parametrize(("algorithm", "env"), list_tuned())
def test_tuned_settings_fit_their_algorithm(algorithm: str, env: str) -> None:
    found = tuned_settings(algorithm, env)
    assert found.keys() <= {"training", "env_runners", "model"}
    spec = load_spec({**found, "algorithm": algorithm, "env": env})
    assert found["training"].items() <= spec.training.items()


def invoke(*arguments: Any) -> Any:
    return CliRunner().invoke(main, ["train", "ppo", "CartPole-v1", *arguments])


def test_tuned_settings_are_used_when_asked_for(trained: list[Spec]) -> None:
    found = tuned_settings("ppo", "CartPole-v1")["training"]
    invoke()
    printed = invoke("--tuned", "--set", "training.lr=0.5").stdout
    plain, tuned = trained
    assert not plain.training
    assert tuned.training == {**found, "lr": 0.5}
    assert f"lr: {found['lr']}" in printed


def test_missing_tuned_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"no tuned settings of ppo on Acrobot-v1. Known: .*ppo Ca"):
        tuned_settings("ppo", "Acrobot-v1")
