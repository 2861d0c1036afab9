"""A run continues from a checkpoint with other settings, and the new values are in use."""

import functools
import tempfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID

from rlssl.algorithms.ddpg.ddpg import DDPGConfig
from rlssl.algorithms.iql.iql import IQLConfig
from rlssl.algorithms.sac.sac import SACConfig
from rlssl.experiment.checkpoints import checkpoint
from rlssl.experiment.checkpoints.inherit import inherit
from rlssl.registry import ALGORITHMS
from tests.algorithms.a3c.a3c_bench import small_a3c
from tests.algorithms.bc.bc_bench import random_data, small_bc
from tests.algorithms.bench import small_ppo
from tests.algorithms.dagger.dagger_bench import small_dagger
from tests.algorithms.pretrain.pretrain_bench import small_pretrain
from tests.algorithms.rainbow.rainbow_bench import small_rainbow


def small_actor_critic(make: Any) -> Any:
    def small(**training: Any) -> Any:
        settings = {
            "train_batch_size_per_learner": 16,
            "critic_hidden": [16],
            "actor_hidden": [16],
            "replay_capacity": 1000,
            "learning_starts_agent_steps": 50,
            "random_agent_steps": 50,
            "agent_steps_per_iteration": 100,
            "updates_per_agent_step": 0.2,
        }
        config = make().environment("Pendulum-v1").env_runners(num_envs_per_env_runner=2)
        config = config.model(encoder_config={"hidden": [16]}).debugging(seed=0)
        return config.training(**{**settings, **training})

    return small


@functools.cache
def demonstrations() -> Path:
    folder = Path(tempfile.mkdtemp())
    return random_data(folder, gym.spaces.Box(-1.0, 1.0, (3,), np.float32), gym.spaces.Discrete(3))


MAKE: dict[str, Any] = {
    "ppo": small_ppo,
    "a3c": lambda **training: small_a3c(**{"optimizer": "rmsprop", **training}),
    "rainbow": lambda **training: small_rainbow(**{"agent_steps_per_iteration": 100, **training}),
    "sac": small_actor_critic(SACConfig),
    "ddpg": small_actor_critic(DDPGConfig),
    "iql": small_actor_critic(IQLConfig),
    "bc": lambda **training: small_bc(demonstrations(), **training),
    "dagger": small_dagger,
    "pretrain": lambda **training: small_pretrain(
        demonstrations(), {"inverse_dynamics": {}}, **training
    ),
}

ACTOR_CRITIC: dict[str, Any] = {
    "n_step": 3,
    "lr": 1e-2,
    "actor_lr": 1e-2,
    "adam_epsilon": 1e-2,
    "critic_weight_decay": 0.1,
    "train_batch_size_per_learner": 32,
    "grad_clip": 1e-3,
    "gamma": 0.5,
    "tau": 0.5,
    "encoder_tau": 0.5,
    "actor_update_every_updates": 2,
    "target_update_every_updates": 2,
}
CLONE: dict[str, Any] = {
    "lr": 1e-2,
    "adam_epsilon": 1e-2,
    "train_batch_size_per_learner": 8,
    "grad_clip": 1e-3,
    "entropy_coeff": 1.0,
}
#: Algorithm -> setting -> another value; with the settings that it needs besides.
NEW: dict[str, dict[str, Any]] = {
    "ppo": {
        "lr": 1e-2,
        "adam_epsilon": 1e-2,
        "gamma": 0.5,
        "lambda_": 0.1,
        "minibatch_size": 16,
        "num_epochs": 1,
        "clip_param": 1e-4,
        "kl_target": (1e-9, {"variant": "adaptive_kl"}),
        "vf_loss_coeff": 5.0,
        "entropy_coeff": 0.5,
        "normalize_advantages": False,
        "grad_clip": 1e-3,
    },
    "a3c": {
        "lr": [[0, 1e-2], [10_000, 1e-3]],
        "optimizer_epsilon": 1e-1,
        "rmsprop_alpha": 0.5,
        "gamma": 0.5,
        "lambda_": 0.1,
        "vf_loss_coeff": 5.0,
        "entropy_coeff": 0.5,
        "normalize_advantages": True,
        "grad_clip": 1e-3,
    },
    "rainbow": {
        "n_step": 1,
        "lr": 1e-2,
        "adam_epsilon": 1e-2,
        "train_batch_size_per_learner": 16,
        "grad_clip": 1e-3,
        "gamma": (0.5, {"v_min": -10.0, "v_max": 10.0}),
        "epsilon": 1.0,
        "temperature": (100.0, {"exploration": "boltzmann"}),
        "target_update_every_updates": 3,
        "target_tau": 0.5,
    },
    "sac": {**ACTOR_CRITIC, "alpha_lr": 1e-1, "alpha_beta1": 0.1, "target_entropy": 5.0},
    "ddpg": {
        **ACTOR_CRITIC,
        "exploration_std": 1.0,
        "exploration_clip": 1e-3,
        "target_noise_std": 0.5,
        "target_noise_clip": (1e-3, {"target_noise_std": 1.0}),
        "saturation_penalty": 10.0,
        "action_l2": 10.0,
        "random_action_share": 0.9,
        "target_min": -0.5,
        "target_max": -20.0,
    },
    "iql": {
        **ACTOR_CRITIC,
        "expectile": 0.95,
        "inverse_temperature": 0.1,
        "max_weight": 0.5,
    },
    "bc": CLONE,
    "dagger": CLONE,
    "pretrain": {key: value for key, value in CLONE.items() if key != "entropy_coeff"},
}


def test_every_setting_that_can_change_is_tested_below() -> None:
    changeable = {name: sorted(ALGORITHMS[name].settings_class.changeable()) for name in ALGORITHMS}
    assert changeable == {name: sorted(values) for name, values in NEW.items()}


def learner_of(algorithm: Any) -> Any:
    return algorithm.learner_group._learner


def weights_of(algorithm: Any) -> dict[str, torch.Tensor]:
    state = learner_of(algorithm).module[DEFAULT_MODULE_ID].unwrapped().state_dict()
    return {key: value.clone() for key, value in state.items() if torch.is_tensor(value)}


def save(algorithm: Any, folder: Path) -> checkpoint.CheckpointInfo:
    folder.mkdir(parents=True)
    env_steps = algorithm.clock
    checkpoint.save(algorithm, folder, env_steps)
    return checkpoint.check(folder)


def trained(config: Any, folder: Path) -> checkpoint.CheckpointInfo:
    """The checkpoint of a run with two results."""
    algorithm = config.build_algo()
    algorithm.train()
    algorithm.train()
    found = save(algorithm, folder)
    algorithm.stop()
    return found


def continued(config: Any, found: checkpoint.CheckpointInfo) -> torch.Tensor:
    """All weights of a run that continues from a checkpoint, after two more results."""
    algorithm = config.build_algo()
    checkpoint.restore(algorithm, found)
    algorithm.train()
    algorithm.train()
    weights = torch.cat([value.flatten().float() for value in weights_of(algorithm).values()])
    algorithm.stop()
    return weights


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NEW)
def test_a_changed_setting_is_in_use_after_a_restore(name: str, tmp_path: Path) -> None:
    make, unused = MAKE[name], []
    # Settings besides -> a checkpoint, and the weights of a run that continues without a change.
    known: dict[str, tuple[checkpoint.CheckpointInfo, torch.Tensor]] = {}
    for key, given in NEW[name].items():
        value, besides = given if isinstance(given, tuple) else (given, {})
        if str(besides) not in known:
            found = trained(make(**besides), tmp_path / key)
            known[str(besides)] = found, continued(make(**besides), found)
        found, same = known[str(besides)]
        if torch.equal(same, continued(make(**{**besides, key: value}), found)):
            unused.append(key)
    # A run that continues without a change is the same each time.
    assert torch.equal(known["{}"][1], continued(make(), known["{}"][0]))
    assert unused == []


@pytest.mark.slow
@pytest.mark.parametrize("replay", ["keep", "copy"])
@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_a_member_continues_from_another_one_with_other_values(
    name: str, replay: Any, tmp_path: Path
) -> None:
    make: Any = MAKE[name]
    source = make(lr=1e-3, gamma=0.9).build_algo()
    for _ in range(3):
        source.train()
    own = make(lr=1e-4, gamma=0.8).debugging(seed=1).build_algo()
    for _ in range(3):
        own.train()
    rows = {"keep": own, "copy": source}[replay]
    inherit(
        save(own, tmp_path / "own" / "checkpoint_000003"),
        save(source, tmp_path / "source" / "checkpoint_000003"),
        replay=replay,
        exploits=1,
    )
    new = {"lr": [[0, 2e-3], [10_000, 1e-3]], "gamma": 0.95, "adam_epsilon": 1e-4}
    member = make(**new).debugging(seed=1).build_algo()
    found = checkpoint.check(tmp_path / "own" / "checkpoint_000003")
    assert found.progress["exploits"] == 1
    assert checkpoint.restore(member, found) == 0  # no open episode is lost

    for key, value in weights_of(source).items():  # with the target networks
        assert torch.equal(weights_of(member)[key], value), key
    assert member.clock == source.clock
    for (_, old), (_, restored) in zip(optimizers(source), optimizers(member), strict=True):
        for old_state, state in zip(moments(old), moments(restored), strict=True):
            assert torch.equal(old_state, state)
        assert restored.param_groups[0]["eps"] == 1e-4
    if name == "sac":
        assert member.update_ratio.get_state() == source.update_ratio.get_state()
        drawn = [each.replay.gather(np.arange(60, 90)) for each in (rows, member)]
        assert np.array_equal(drawn[0]["obs"], drawn[1]["obs"])
    before = source.clock
    member.train()
    assert member.clock > before
    steps = learner_of(member).env_steps
    for _, optimizer in optimizers(member):
        assert optimizer.param_groups[0]["lr"] == np.interp(steps, [0, 10_000], [2e-3, 1e-3])
    assert learner_of(member).config.gamma == 0.95
    for algorithm in (source, own, member):
        algorithm.stop()


def optimizers(algorithm: Any) -> list[tuple[str, Any]]:
    return list(learner_of(algorithm).get_optimizers_for_module(DEFAULT_MODULE_ID))


def moments(optimizer: Any) -> list[torch.Tensor]:
    states = optimizer.state_dict()["state"].values()
    return [state[key] for state in states for key in ("exp_avg", "exp_avg_sq", "step")]
