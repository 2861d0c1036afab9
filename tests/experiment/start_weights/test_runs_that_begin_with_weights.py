"""Runs that begin with the encoder of another run, from the command line to the checkpoint."""

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlssl.algorithms.common.transfer.parts import encoder_tensors
from rlssl.algorithms.common.transfer.weights import StartWeights
from rlssl.experiment.checkpoints.checkpoint import newest_valid
from rlssl.experiment.start_weights.reading import WEIGHTS
from tests.algorithms.common.transfer.modules import module_of
from tests.algorithms.common.transfer.test_freezing import ALGORITHMS, bench_of
from tests.experiment.command_line import only_trial, rlssl


def weights_of(run: Path) -> dict[str, Any]:
    found = newest_valid(only_trial(run))
    assert found is not None
    state: dict[str, Any] = pickle.loads((found.path / WEIGHTS).read_bytes())
    return state


@pytest.mark.slow
@pytest.mark.ci
def test_run_with_the_frozen_encoder_of_a_run_that_is_gone_is_resumed(tmp_path: Path) -> None:
    stop = ("--stop", "env_steps=1000")
    rlssl("train", "ppo", "CartPole-v1", "--aux", "icm", *stop, "--name", "first", cwd=tmp_path)
    trained = weights_of(tmp_path / "results" / "first")
    settings = ("--set", "training.learning_starts_agent_steps=500", "--encoder", "first")
    train = ("train", "rainbow", "CartPole-v1", "--freeze", *settings)
    printed, _ = rlssl(*train, *stop, "--name", "short", cwd=tmp_path)
    assert "taken: encoder; new: head; left there:" in printed and "auxiliary.icm" in printed
    before = weights_of(tmp_path / "results" / "short")
    shutil.rmtree(tmp_path / "results" / "first")
    rlssl("resume", "short", "--stop", "env_steps=1500", cwd=tmp_path)
    resumed = weights_of(tmp_path / "results" / "short")
    moved = [name for name in resumed if not np.array_equal(resumed[name], before[name])]
    assert any(name.startswith("head.") for name in moved)
    names = [name for name in resumed if name.startswith("encoder.")]
    assert names and all(np.array_equal(resumed[name], trained[name]) for name in names)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_env_runner_gets_the_trained_weights(algorithm: str) -> None:
    model = {"encoder": "mlp", "encoder_config": {"hidden": [16], "activation": "tanh"}}
    bench = bench_of(algorithm, freeze=False, **model)
    trained = module_of("ppo", bench.module.observation_space, seed=9)
    StartWeights.of(trained).take(bench.module, "encoder")
    # What RLlib sends to the EnvRunners.
    weights = bench.module.get_state(inference_only=True)
    bench.runner.set_state({"rl_module": {"default_policy": weights}})
    # Of SAC and DDPG, only the actor's encoder acts.
    acting = getattr(bench.runner.module, "actor_encoder", None) or bench.runner.module.encoder
    for encoder in (bench.module.encoder, acting):
        own = encoder_tensors(encoder)
        for name, tensor in encoder_tensors(trained.encoder).items():
            assert own[name].equal(tensor)
