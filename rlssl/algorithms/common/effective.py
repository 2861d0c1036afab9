"""The settings of a run as used: defaults, preset and variant included."""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from rlssl.algorithms.common.config import BaseConfig
from rlssl.algorithms.common.module import BaseModule
from rlssl.auxiliary.building import loss_configs
from rlssl.clocks import every_key
from rlssl.connectors.frame_stack import stacked_space
from rlssl.environments.env_check import EnvSpaces
from rlssl.environments.vector_infos import DEFAULT_SUCCESS
from rlssl.networks.augmentation import parse_augmentation, with_options
from rlssl.networks.encoders import default_encoder_name
from rlssl.networks.layers.vector_normalizer import parse_normalizer
from rlssl.networks.rl_encoder import seen_space
from rlssl.plugins import resolve
from rlssl.registry import ENCODERS

#: Options of an auxiliary loss that are the algorithm's where they are None.
_OF_THE_ALGORITHM = ("lr", "grad_clip")


def effective_settings(config: BaseConfig, spaces: EnvSpaces | None = None) -> dict[str, Any]:
    """Every setting of the algorithm as used, in the sections of a spec.

    Args:
        config: A config whose defaults are filled in; see `BaseConfig.adapt_to`.
        spaces: Spaces of one environment; None: unknown. Then what depends on them is None.

    Example:
        >>> import rlssl
        >>> config = rlssl.PPOConfig().environment("CartPole-v1").auxiliary(icm={})
        >>> config.adapt_to(None)
        >>> used = effective_settings(config)
        >>> used["training"]["gamma"], used["auxiliary"]["icm"]["coeff"]
        (0.99, 1.0)
    """
    training = config.effective_training(None if spaces is None else spaces.action_space)
    used = {
        "algorithm": config.algorithm_name,
        "env": {**config.env_settings, "action_repeat": config.action_repeat},
        "training": training,
        "auxiliary": _auxiliary(config, training),
        "model": _model(config, None if spaces is None else spaces.observation_space),
        "env_runners": {
            "env_runners": config.num_env_runners,
            "num_envs": config.num_envs_per_env_runner,
            "fragment_length": config.get_rollout_fragment_length(),
            "vectorize": config.vectorize,
            "double_buffering": _double_buffering(config, spaces),
        },
        "learners": config.num_learners,
        "evaluation": _evaluation(config),
        "diagnostics": config.latent_diagnostics,
        "env_step_timeout_s": config.env_step_timeout_s,
        "max_env_crashes_per_1000_env_steps": config.max_env_crashes_per_1000_env_steps,
        "watchdog_s": config.watchdog_s,
    }
    return {key: _readable(value) for key, value in used.items()}


def _evaluation(config: BaseConfig) -> dict[str, Any]:
    """The section with the period and the episodes that are used, if anything is measured."""
    used = {"success": DEFAULT_SUCCESS, **config.seeded_evaluation}
    if period := config.evaluation_period:
        used |= {every_key(config.clock): period, "episodes": config.evaluation_episodes}
    return used


def _double_buffering(config: BaseConfig, spaces: EnvSpaces | None) -> bool | None:
    """Whether EnvRunners use double buffering; None: that depends on the environment."""
    if config.double_buffering is not None:
        return config.double_buffering
    if config.num_envs_per_env_runner == 1 or config.vectorize == "sync":
        return False
    if config.vectorize == "async":
        return True
    return None if spaces is None else spaces.steps_async


def _auxiliary(config: BaseConfig, training: Mapping[str, Any]) -> dict[str, Any]:
    """All options of each auxiliary loss."""
    configs = loss_configs(config)
    used = {name: dataclasses.asdict(options) for name, options in configs.items()}
    for options in used.values():
        options |= {key: training[key] for key in _OF_THE_ALGORITHM if options[key] is None}
    return used


def _normalizer(config: BaseConfig) -> dict[str, float] | bool:
    """The options of the normalizer of vectors; False: there is none."""
    options = parse_normalizer(config.network.get("normalize_observations"))
    return False if options is None else dataclasses.asdict(options)


def _model(config: BaseConfig, observation_space: gym.Space | None) -> dict[str, Any]:
    """The settings of the networks; the encoder's if the observations are known."""
    used = {
        **config.network,
        "frame_stack": config.frame_stack if observation_space else config.network["frame_stack"],
        "augmentation": with_options(parse_augmentation(config.network["augmentation"])),
        "precision": config.network["precision"] or "float32",
        "normalize_observations": _normalizer(config),
        "freeze": bool(config.network.get("freeze")),
    }
    if observation_space is None:
        return used
    settings = {**config.network, "frame_stack": config.frame_stack}
    space = stacked_space(observation_space, config.frame_stack, settings["encoder_config"])
    module_class: type[BaseModule] = resolve(config.module_class)
    chosen = module_class.encoder_settings(settings, space)
    name = chosen["encoder"] or default_encoder_name(seen_space(space, settings))
    return {
        **used,
        "encoder": name,
        "encoder_config": {**_defaults_of(ENCODERS[name]), **chosen["encoder_config"]},
        "shared_encoder": module_class.shares_encoder(settings, space),
    }


def _readable(value: Any) -> Any:
    """The value as plain data. Other values, such as a class in encoder options, become text."""
    if isinstance(value, Mapping):
        return {str(key): _readable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_readable(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def _defaults_of(encoder_class: Any) -> dict[str, Any]:
    """The defaults of an encoder's keyword arguments."""
    parameters = list(inspect.signature(encoder_class).parameters.values())[1:]
    return {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.default is not parameter.empty
    }
