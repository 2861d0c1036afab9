"""From recorded episodes to a pretrained encoder and a policy that begins with it."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from rlssl.cli import main
from rlssl.experiment.checkpoints.checkpoint import newest_valid
from rlssl.experiment.start_weights.reading import WEIGHTS
from rlssl.policy import Policy
from tests.experiment.command_line import only_trial, restored_import_path, results, rlssl


def weights_of(run: Path) -> dict[str, Any]:
    found = newest_valid(only_trial(run))
    assert found is not None
    state: dict[str, Any] = pickle.loads((found.path / WEIGHTS).read_bytes())
    return {key: value for key, value in state.items() if key.startswith("encoder.")}


def in_this_process(*words: str, code: int = 0) -> str:
    """Runs a command that starts no Ray; returns what it prints."""
    with restored_import_path():
        result = CliRunner().invoke(main, [*words])
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.timeout(300)
def test_policy_begins_with_the_encoder_that_a_data_set_has_trained(tmp_path: Path) -> None:
    demos, storage = str(tmp_path / "demos"), ("--storage", str(tmp_path / "results"))
    policy = ("--policy", "expert/cartpole", "--noise", "0.2")
    in_this_process("collect", "CartPole-v1", *policy, "--env-steps", "600", "--to", demos)
    losses = ("--aux", "inverse_dynamics", "--aux", "spr")
    rlssl("pretrain", "demos", *losses, "--stop", "updates=40", "--name", "pre", cwd=tmp_path)
    pretrained = tmp_path / "results" / "pre"
    assert results(only_trial(pretrained))[-1]["updates"] == 40
    for command in (["evaluate"], ["evaluate", "--probe"], ["record"]):
        error = in_this_process(*command, "pre", *storage, code=2)
        assert "a pretrained encoder has no policy that could act" in error
        assert "diagnostics: [ranks, action_probe, reward_probe] in the spec" in error
    out = tmp_path / "exported"
    in_this_process("export", "pre", "--out", str(out), *storage)
    assert Policy.load(out).module.encoder is not None

    clone = ("train", "bc", "CartPole-v1", "--set", "data.path=demos", "--encoder", "pre")
    rlssl(*clone, "--freeze", "--stop", "updates=40", "--name", "clone", cwd=tmp_path)
    trained, taken = weights_of(pretrained), weights_of(tmp_path / "results" / "clone")
    assert trained and trained.keys() == taken.keys()
    assert [key for key in trained if not np.array_equal(trained[key], taken[key])] == []
    printed = in_this_process("evaluate", "clone", "--episodes", "2", "--json", *storage)
    assert len(json.loads(printed[printed.index("[") :])[0]["episodes"]) == 2
