"""Rainbow's settings: presets, ranges, defaults by kind of observations, memory."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlssl.algorithms.rainbow.rainbow import RainbowConfig
from rlssl.environments.env_check import EnvSpaces
from rlssl.errors import SpecError
from rlssl.experiment.spec.building import build_config
from rlssl.experiment.spec.loading import load_spec, resolved_dict
from tests.algorithms.rainbow.rainbow_bench import small_rainbow

FRAME = EnvSpaces(gym.spaces.Box(0, 255, (84, 84, 1), np.uint8), gym.spaces.Discrete(4), 4, 4)


def config_of(**spec: Any) -> RainbowConfig:
    """The config of a spec on an Atari game, adapted to its frames, and checked."""
    document = {"algorithm": "rainbow", "env": {"id": "atari/Pong"}, **spec}
    config: RainbowConfig = build_config(load_spec(document))
    config.adapt_to(FRAME)
    config.check_training()
    return config


@pytest.mark.parametrize(
    "layers, expected",
    [
        (
            {"preset": "rainbow", "training": {"replay_capacity": 1000}},
            {"n_step": 3, "lr": 6.25e-5, "target_update_every_updates": 2000, "v_max": 10.0},
        ),
        (
            {"preset": "data_efficient"},
            {"n_step": 20, "updates_per_agent_step": 1.0, "sigma0": 0.1, "bias_sigma_fan": "out"},
        ),
        (
            {"preset": "data_efficient", "variant": "kaixhin"},
            {"n_step": 20, "head_hidden": [256], "eval_epsilon": 0.001},
        ),
        (
            {
                "preset": "data_efficient",
                "variant": "dopamine",
                "training": {"replay_capacity": 1000},
            },
            {"n_step": 10, "head_hidden": [512], "bias_sigma_fan": "in", "sigma0": 0.1},
        ),
        (
            {"preset": "dqn", "training": {"replay_capacity": 1000}},
            {"n_step": 1, "noisy": False, "distributional": False, "double": False},
        ),
        ({"preset": "curl_atari100k"}, {"n_step": 20, "auxiliary_in_priorities": False}),
        (
            {"preset": "curl_atari100k", "variant": "code"},
            {"n_step": 20, "auxiliary_in_priorities": True},
        ),
    ],
)
def test_presets_and_variants(layers: dict[str, Any], expected: dict[str, Any]) -> None:
    config = config_of(**layers)
    for key, value in expected.items():
        assert getattr(config, key) == value, key
    assert ("curl" in config.auxiliary_losses) == layers["preset"].startswith("curl")
    assert config.replay_settings.prioritized == (layers["preset"] != "dqn")
    assert load_spec(
        resolved_dict(load_spec({"algorithm": "rainbow", "env": "atari/Pong", **layers}))
    )


def test_encoder_of_the_data_efficient_networks() -> None:
    assert config_of(preset="data_efficient").network["encoder"] == "data_efficient"
    dopamine = config_of(
        preset="data_efficient", variant="dopamine", training={"replay_capacity": 1000}
    )
    assert dopamine.network["encoder"] == "nature"
    assert dopamine.get_rollout_fragment_length() == 1


def test_spec_file_overrides_single_replay_options_of_a_preset() -> None:
    config = config_of(
        preset="rainbow", training={"replay": {"alpha": 0.7}, "replay_capacity": 1000}
    )
    assert (config.replay_settings.alpha, config.replay_settings.beta_start) == (0.7, 0.4)


def test_checkpoint_and_stop_reach_the_config() -> None:
    config = config_of(
        stop={"env_steps": 5000},
        checkpoint={"replay_buffer": False},
        training={"replay_capacity": 1000},
    )
    assert config.checkpoint_replay is False
    assert config.beta_anneal_env_steps == 5000
    assert RainbowConfig().checkpoint_replay is True


def test_fragments_are_short_by_default() -> None:
    config = small_rainbow()
    assert config.get_rollout_fragment_length() == 4
    assert config.env_runners(rollout_fragment_length=9).get_rollout_fragment_length() == 9


def test_support_comes_from_reward_and_horizon() -> None:
    # 1 / (1 - 0.99) = 100; 2 / (1 - 0.9) = 20.
    assert small_rainbow().support_bounds == pytest.approx((-100.0, 100.0))
    assert small_rainbow(gamma=0.9, reward_bound=2.0).support_bounds == pytest.approx((-20.0, 20.0))
    assert small_rainbow(v_min=0.0).support_bounds == pytest.approx((0.0, 100.0))


def test_default_epsilon_depends_on_observations_and_noise() -> None:
    frames = {"replay_capacity": 1000}
    assert config_of(training=frames).effective_epsilon == 0.0
    without = config_of(training={**frames, "noisy": False}).effective_epsilon
    assert without == [[0, 1.0], [1_000_000, 0.01]]
    vectors = RainbowConfig().environment("CartPole-v1")
    vectors.validate()
    assert vectors.effective_epsilon == [[0, 1.0], [5_000, 0.01]]
    assert vectors.training(noisy=False).effective_epsilon == [[0, 1.0], [10_000, 0.05]]
    assert vectors.training(epsilon=0.2).effective_epsilon == 0.2


@pytest.mark.parametrize(
    "training, message",
    [
        ({"n_step": 0}, "training.n_step must be > 0; got 0."),
        ({"gamma": 1.5}, "training.gamma must be >= 0 and <= 1; got 1.5."),
        ({"gamma": 1.0}, "training.v_min and training.v_max must be set if gamma is 1."),
        ({"v_min": 5.0, "v_max": 5.0}, "training.v_min must be < v_max; got 5.0 and 5.0."),
        ({"num_atoms": 1}, "training.num_atoms must be >= 2; got 1."),
        ({"td_loss": "l1"}, "training.td_loss must be one of ['huber', 'mse']; got 'l1'."),
        ({"epsilon": 1.5}, "training.epsilon must be <= 1; got 1.5."),
        ({"temperature": 0.0}, "training.temperature must be > 0; got 0.0."),
        ({"head_hidden": [0]}, "training.head_hidden must list sizes >= 1; got [0]."),
        ({"target_tau": 1.5}, "training.target_tau must be > 0 and <= 1; got 1.5."),
        ({"replay_capacity": 1}, "training.replay_capacity must be > model.frame_stack (1); got 1"),
        ({"replay": {"alfa": 1}}, "unknown key 'training.replay.alfa'; did you mean"),
        ({"replay": {"alpha": 2}}, "training.replay.alpha must be a number in [0, 1]; got 2."),
        ({"replay": {"prefetch": -1}}, "training.replay.prefetch must be a whole number >= 0"),
    ],
)
def test_bad_settings_name_key_value_and_fix(training: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as error:
        small_rainbow(**training).validate()
    assert message in str(error.value)


def test_replay_that_is_too_large_for_memory_is_refused_before_anything_starts() -> None:
    config = small_rainbow(replay_capacity=2 * 10**9, replay={"max_memory_share": 0.1})
    with pytest.raises(SpecError, match=r"training\.replay: .*GiB.*lower training.replay_capacity"):
        config.validate()


def test_custom_connectors_are_refused() -> None:
    config = small_rainbow().env_runners(env_to_module_connector=lambda *_: [])
    with pytest.raises(SpecError, match="have no effect on batches of a replay buffer"):
        config.validate()


def test_every_learner_must_get_a_chunk_for_intrinsic_rewards() -> None:
    for runners in ({"num_envs_per_env_runner": 1}, {"rollout_fragment_length": 1}):
        config = small_rainbow().auxiliary(icm={}).learners(num_learners=2).env_runners(**runners)
        with pytest.raises(
            SpecError, match="with intrinsic rewards and 2 Learners, every fragment needs a chunk"
        ):
            config.validate()
        config.auxiliary(curl={}).validate()


def test_settings_of_frames_are_the_published_ones(tmp_path: Path) -> None:
    config = config_of(training={"replay_capacity": 1000})
    assert (config.lr, config.adam_epsilon) == (6.25e-5, 1.5e-4)
    assert config.learning_starts_agent_steps == 20_000
    # Rewards are clipped to +-1.
    assert config.support_bounds == (-10.0, 10.0)


def test_config_survives_rllibs_copy() -> None:
    config = small_rainbow(double=False, replay={"alpha": 0.3}).auxiliary(icm={})
    config.validate()
    copy = RainbowConfig().update_from_dict(config.to_dict())
    for key in ("double", "replay", "n_step", "auxiliary_losses", "head_hidden", "lr"):
        assert getattr(copy, key) == getattr(config, key), key
    assert copy.replay_settings.alpha == 0.3
