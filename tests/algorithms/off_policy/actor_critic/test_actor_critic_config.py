"""Settings of SAC and DDPG: presets, ranges, defaults by kind of observations."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlssl.algorithms.common.action_spaces import check_actions
from rlssl.algorithms.ddpg.ddpg import DDPGConfig
from rlssl.algorithms.off_policy.actor_critic.config import OffPolicyActorCriticConfig
from rlssl.algorithms.sac.presets import PRESETS as SAC_PRESETS
from rlssl.algorithms.sac.sac import SACConfig
from rlssl.environments.env_check import EnvSpaces
from rlssl.errors import SpecError
from rlssl.experiment.spec.building import build_config
from rlssl.experiment.spec.loading import load_spec, resolved_dict
from rlssl.schedules import value_at
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import (
    BOTH,
    ActorCriticBench,
    Small,
    on_pixels,
    small_ddpg,
    small_sac,
)

FRAME = EnvSpaces(
    gym.spaces.Box(0, 255, (3, 100, 100), np.uint8), gym.spaces.Box(-1, 1, (6,)), 2, 3
)

LARGEST = float(np.finfo(np.float32).max)


def config_of(algorithm: str, **spec: Any) -> Any:
    """The config of a spec on pixels, adapted to its frames, and checked."""
    document = {"algorithm": algorithm, "env": {"id": "dmc-pixels/cheetah-run"}, **spec}
    config = build_config(load_spec(document))
    config.adapt_to(FRAME)
    config.check_training()
    return config


SMALL = {"training": {"replay_capacity": 1000}}


@pytest.mark.parametrize(
    "algorithm, layers, expected",
    [
        (
            "sac",
            {"preset": "curl"},
            {"auxiliary_step": "separate", "encoder_tau": 0.05, "tau": 0.01, "alpha_beta1": 0.5},
        ),
        ("sac", {"preset": "curl", "variant": "paper"}, {"_train_batch_size_per_learner": 512}),
        (
            "sac",
            {"preset": "sac_ae", **SMALL},
            {"auxiliary_step": "separate", "log_std_mode": "tanh", "updates_at_start": 1_000},
        ),
        (
            "ddpg",
            {"preset": "td3", "env": {"id": "Pendulum-v1"}},
            {"num_critics": 2, "target_noise_std": 0.2, "actor_update_every_updates": 2},
        ),
        (
            "ddpg",
            {"preset": "lillicrap", "env": {"id": "Pendulum-v1"}},
            {"num_critics": 1, "actor_lr": 1e-4, "critic_weight_decay": 1e-2, "tau": 1e-3},
        ),
        (
            "ddpg",
            {"preset": "drq_v2", **SMALL},
            {"n_step": 3, "target_encoder": False, "reuse_features": True, "tau": 0.01},
        ),
    ],
)
def test_presets(algorithm: str, layers: dict[str, Any], expected: dict[str, Any]) -> None:
    config = config_of(algorithm, **layers)
    for key, value in expected.items():
        assert getattr(config, key) == value, key
    document = {"algorithm": algorithm, "env": {"id": "dmc-pixels/cheetah-run"}, **layers}
    assert load_spec(resolved_dict(load_spec(document)))


def test_preset_of_curl_renders_100_pixels_for_crops_of_84() -> None:
    config = config_of("sac", preset="curl")
    assert config.env_config["size"] == 100
    assert config.network["augmentation"] == {"crop": {"size": 84}}
    assert list(config.auxiliary_losses) == ["curl"]
    assert "curl" not in config_of("sac", preset="curl", auxiliary={"curl": None}).auxiliary_losses
    code = config_of("sac", preset="curl", variant="code")
    assert code.auxiliary_losses["curl"]["double_encoder_step"] is True


@pytest.mark.parametrize(
    "variant, agent_steps",
    [(None, 500_000), ("easy", 100_000), ("medium", 500_000), ("hard", 2_000_000)],
)
@pytest.mark.parametrize("action_repeat", [1, 2, 4])
def test_noise_of_drq_v2_falls_over_the_agent_steps_of_its_variant(
    variant: str | None, agent_steps: int, action_repeat: int
) -> None:
    layers = {"preset": "drq_v2", **SMALL} | ({} if variant is None else {"variant": variant})
    config = config_of("ddpg", **layers)
    config.action_repeat = action_repeat
    # Half of the way from 1 to 0.1, at any action repeat; all other code uses env steps.
    env_steps = agent_steps * action_repeat
    assert value_at(config.effective_exploration_std, env_steps / 2) == pytest.approx(0.55)
    assert value_at(config.effective_exploration_std, env_steps) == pytest.approx(0.1)
    assert config.effective_target_noise_std == config.effective_exploration_std
    module = {**config.network_settings}
    assert module["exploration_std"] == [[0, 1.0], [env_steps, 0.1]]
    assert module["action_repeat"] == action_repeat


def test_own_noise_is_in_env_steps_and_replaces_that_of_a_preset() -> None:
    points = [[0, 1.0], [100, 0.5], [400, 0.0]]
    config = small_ddpg(exploration_std_by_agent_steps=points)
    config.action_repeat = 4
    assert config.effective_exploration_std == [[0, 1.0], [400, 0.5], [1_600, 0.0]]
    config.training(exploration_std=points)
    assert config.effective_exploration_std == points
    training = {**SMALL["training"], "exploration_std": points}
    config = config_of("ddpg", preset="drq_v2", variant="hard", training=training)
    assert config.effective_exploration_std == points
    assert small_ddpg(exploration_std_by_agent_steps=0.3).effective_exploration_std == 0.3
    with pytest.raises(SpecError, match="exploration_std_by_agent_steps"):
        small_ddpg(exploration_std_by_agent_steps=[[0, -1.0]]).check_training()


def test_sac_ae_has_the_codes_decoder_and_the_tanh_of_its_encoder() -> None:
    config = config_of("sac", preset="sac_ae", **SMALL)
    assert config.auxiliary_losses == {
        "autoencoder": {"variant": "deterministic", "latent_penalty": 1e-6}
    }
    assert config.network["encoder_config"]["tanh"]


def test_replay_of_sac_ae_is_the_codes() -> None:
    assert SAC_PRESETS["sac_ae"]["training"]["replay_capacity"] == 1_000_000
    assert SAC_PRESETS["curl"]["training"]["replay_capacity"] == 100_000
    assert "updates_at_start" not in SAC_PRESETS["curl"]["training"]


def test_defaults_depend_on_observations_and_draws_are_uniform() -> None:
    vectors = SACConfig().environment("Pendulum-v1")
    vectors.validate()
    assert (vectors.lr, vectors.train_batch_size_per_learner, vectors.tau) == (1e-3, 256, 0.005)
    frames = config_of("sac")
    assert (frames.critic_hidden, frames.encoder_tau) == ([1024, 1024], 0.05)
    assert not frames.replay_settings.prioritized
    assert small_sac(replay={"prioritized": True}).replay_settings.prioritized
    assert DDPGConfig().effective_exploration_std == 0.1
    assert small_ddpg(exploration="ornstein_uhlenbeck").effective_exploration_std == 1.0


@pytest.mark.parametrize("config_class", [SACConfig, DDPGConfig])
def test_arguments_are_the_algorithms_own_and_the_shared_ones(
    config_class: type[OffPolicyActorCriticConfig],
) -> None:
    arguments = config_class.training_arguments()
    assert {"tau", "encoder_tau", "lr", "replay", "n_step"} <= arguments.keys()
    assert ("initial_alpha" in arguments) == (config_class is SACConfig)
    assert ("exploration" in arguments) == (config_class is DDPGConfig)
    with pytest.raises(TypeError):
        config_class().training(nothing=1)


@pytest.mark.parametrize(
    "training, message",
    [
        ({"tau": 0.0}, "training.tau must be > 0 and <= 1; got 0.0."),
        ({"encoder_tau": 1.5}, "training.encoder_tau must be > 0 and <= 1; got 1.5."),
        ({"critic_hidden": [0]}, "training.critic_hidden must list sizes >= 1; got [0]."),
        ({"num_critics": 0}, "training.num_critics must be >= 1; got 0."),
        (
            {"auxiliary_step": "both"},
            "training.auxiliary_step must be one of ['joint', 'separate']",
        ),
        ({"actor_update_every_updates": 0}, "training.actor_update_every_updates must be >= 1"),
        ({"random_agent_steps": -1}, "training.random_agent_steps must be >= 0; got -1."),
        ({"replay": {"alfa": 1}}, "unknown key 'training.replay.alfa'; did you mean"),
    ],
)
@pytest.mark.parametrize("small", [small_sac, small_ddpg], ids=["sac", "ddpg"])
def test_bad_settings_name_key_value_and_fix(
    small: Any, training: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError) as error:
        small(**training).validate()
    assert message in str(error.value)


@pytest.mark.parametrize(
    "small, training, message",
    [
        (small_sac, {"initial_alpha": 0.0}, "training.initial_alpha must be > 0; got 0.0."),
        (small_sac, {"alpha_beta1": 1.0}, "training.alpha_beta1 must be in [0, 1); got 1.0."),
        (small_sac, {"log_std_bounds": [2.0, 1.0]}, "log_std_bounds must be two ascending numbers"),
        (small_sac, {"log_std_mode": "no"}, "log_std_mode must be one of ['clamp', 'tanh']"),
        (small_ddpg, {"exploration": "no"}, "must be one of ['gaussian', 'ornstein_uhlenbeck']"),
        (small_ddpg, {"exploration_std": -1.0}, "training.exploration_std must be finite and >= 0"),
        (small_ddpg, {"target_noise_clip": 0.0}, "training.target_noise_clip must be > 0; got 0.0"),
        (small_ddpg, {"ou_theta": 3.0}, "training.ou_theta must be in (0, 2 / ou_dt); got 3.0"),
    ],
)
def test_bad_settings_of_one_algorithm(small: Any, training: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as error:
        small(**training).validate()
    assert message in str(error.value)


def test_actions_that_are_not_normalized_are_refused() -> None:
    config = small_sac()
    config.normalize_actions = False
    with pytest.raises(SpecError, match=r"acts in \[-1, 1\]"):
        config.validate()


@pytest.mark.parametrize("small", [small_sac, small_ddpg], ids=["sac", "ddpg"])
def test_config_survives_rllibs_copy(small: Any) -> None:
    config = small(tau=0.3, replay={"alpha": 0.3}).auxiliary(icm={})
    config.validate()
    copy = type(config)().update_from_dict(config.to_dict())
    for key in ("tau", "replay", "n_step", "auxiliary_losses", "critic_hidden", "lr"):
        assert getattr(copy, key) == getattr(config, key), key


def test_double_encoder_step_needs_a_separate_step_and_a_target_encoder() -> None:
    losses = {"curl": {"double_encoder_step": True}}
    with pytest.raises(SpecError, match=r"needs training\.auxiliary_step: separate"):
        on_pixels(small_sac("test/dot")).auxiliary(**losses).validate()
    config = small_ddpg(target_encoder=False, auxiliary_step="separate").auxiliary(**losses)
    with pytest.raises(SpecError, match="needs an algorithm whose target critic has an encoder"):
        ActorCriticBench(config)


@pytest.mark.parametrize(
    "space, message",
    [
        (gym.spaces.Discrete(3), "got Discrete\\(3\\). Choose an algorithm for discrete actions"),
        (gym.spaces.Box(-1, 1, (2, 2)), "a floating Box of one dimension; got Box.*Flatten"),
        (gym.spaces.Box(0, 5, (2,), np.int64), "a floating Box of one dimension"),
        (gym.spaces.Box(-np.inf, np.inf, (2,)), "needs actions with finite bounds"),
        (gym.spaces.Box(0.0, np.inf, (2,)), "needs actions with finite bounds"),
        (
            gym.spaces.Box(-LARGEST, LARGEST, (2,), np.float32),
            "needs actions with finite bounds",
        ),
    ],
)
def test_other_actions_are_refused(space: gym.Space, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        check_actions(space, "sac", "continuous")


@BOTH
def test_discrete_actions_are_refused_before_anything_starts(small: Small) -> None:
    with pytest.raises(SpecError, match="needs continuous actions"):
        small("CartPole-v1").validate()
