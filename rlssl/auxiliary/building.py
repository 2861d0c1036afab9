"""Builds the parts of an RLModule that only the Learner has: augmentation, auxiliary losses."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium as gym
import torch
from ray.rllib.core.columns import Columns
from torch import nn

from rlssl.auxiliary.base import (
    CONTROLS,
    MEAN_ACTION,
    POLICY,
    TRAINS,
    AuxiliaryLoss,
    AuxiliaryLossConfig,
)
from rlssl.auxiliary.imitation.policies import check_cloned
from rlssl.auxiliary.windows import Window
from rlssl.errors import SpecError, suggest
from rlssl.networks.augmentation import Augmentation, build_augmentation
from rlssl.networks.encoders import Encoder
from rlssl.registry import AUXILIARY_LOSSES
from rlssl.system.seeding import seed_of


def build_views(module: Any, name: str) -> Augmentation | None:
    """Builds the augmentation of observations that ``model.augmentation`` asks for, or None.

    Args:
        module: RLModule with ``encoder`` and ``model_config``.
        name: Name of the random draws. Draws of different names are independent.
    """
    settings = module.model_config
    seed = seed_of(name, settings["seed"])
    return build_augmentation(module.observation_space, settings, module.encoder, seed=seed)


def build_losses(
    module: Any, key_encoder: Encoder | None = None, rl_projection: Encoder | None = None
) -> nn.ModuleDict:
    """Builds the auxiliary losses of ``model_config``, by name.

    Args:
        module: RLModule with ``encoder`` and ``model_config``.
        key_encoder: The algorithm's target network of the encoder; None if it has none.
        rl_projection: See ``AuxiliaryLoss``.
    """
    settings = module.model_config
    losses = build_auxiliary(
        settings["auxiliary"],
        encoder=module.encoder,
        observation_space=module.observation_space,
        action_space=module.action_space,
        seed=settings["seed"],
        key_encoder=key_encoder,
        rl_projection=rl_projection,
        frame_stack=settings.get("frame_stack") or 1,
    )
    built: dict[str, Any] = dict(losses.items())
    for name, loss in built.items():
        if POLICY in loss.reads:
            check_cloned(name, module)
            loss.check_policy(module)
    return losses


def options_for(
    losses: Mapping[str, Any], env_id: str, *, has_replay: bool = False
) -> dict[str, Any]:
    """``{name: options}``, with the losses' defaults for this use filled in.

    Args:
        losses: ``{name: options}``, as the user set them.
        env_id: The environment.
        has_replay: Whether the algorithm learns from a replay buffer.

    Raises:
        SpecError: For an unknown loss.
    """

    def defaults(name: str) -> dict[str, Any]:
        loss = AUXILIARY_LOSSES[name]
        of_replay = loss.defaults_with_replay if has_replay else {}
        return {**loss.defaults_for(env_id), **of_replay}

    return {
        name: {**defaults(name), **options} if isinstance(options, Mapping) else options
        for name, options in losses.items()
    }


def loss_options(config: Any) -> dict[str, Any]:
    """``{name: options}`` of a config of rlssl, with the defaults for its use filled in."""
    has_replay = not config.windows_end_with_fragments
    return options_for(config.auxiliary_losses, str(config.env), has_replay=has_replay)


def loss_configs(config: Any) -> dict[str, AuxiliaryLossConfig]:
    """The options of each auxiliary loss of a config of rlssl."""
    return parse_auxiliary(loss_options(config))


def parse_auxiliary(losses: Mapping[str, Any]) -> dict[str, AuxiliaryLossConfig]:
    """Turns ``{name: {field: value}}`` into the frozen config of each loss.

    Raises:
        SpecError: For an unknown loss, an unknown field, an undeclared control, or a bad value.
    """
    return {name: _parse_one(name, options) for name, options in losses.items()}


def _parse_one(name: str, options: Any) -> AuxiliaryLossConfig:
    loss_class = AUXILIARY_LOSSES[name]
    if isinstance(options, AuxiliaryLossConfig):
        options = dataclasses.asdict(options)
    if not isinstance(options, Mapping):
        raise SpecError(f"auxiliary.{name} must be a mapping of options; got {options!r}.")
    known = {field.name for field in dataclasses.fields(loss_class.Config)}
    for key in options:
        if key in CONTROLS and key not in loss_class.controls:
            declared = sorted(loss_class.controls) or "none"
            raise SpecError(
                f"auxiliary.{name}.{key}: loss '{name}' has no such control; its controls: "
                f"{declared}."
            )
        if key not in known:
            hint = suggest(str(key), known)
            raise SpecError(f"unknown option 'auxiliary.{name}.{key}'{hint}")
    try:
        return loss_class.Config(**options)
    except (TypeError, ValueError) as error:
        raise SpecError(f"auxiliary.{name}: {error}") from error


def ineffective_options(losses: Mapping[str, Any]) -> dict[str, str]:
    """Given options that change nothing, as the weight of a loss that gives only a bonus.

    Args:
        losses: {name: options}, as in ``.auxiliary()``. An option with its default counts as not
            given.

    Returns:
        Dotted path -> what would give the option an effect.

    Example:
        >>> import rlssl.auxiliary
        >>> ineffective_options({"rnd": {"stream_gamma": 0.9}})
        {'auxiliary.rnd.stream_gamma': 'stream: own'}
        >>> ineffective_options({"episodic_count": {"coeff": 0.1}})
        {'auxiliary.episodic_count.coeff': 'a loss with `losses`; its weight is intrinsic_coeff'}
    """
    found = {}
    for name, config in parse_auxiliary(losses).items():
        idle = {**idle_by_class(AUXILIARY_LOSSES[name]), **config.idle_options()}
        defaults = {field.name: field.default for field in dataclasses.fields(config)}
        for key, value in losses[name].items():
            if key in idle and value != defaults[key] and value not in (None, {}):
                found[f"auxiliary.{name}.{key}"] = idle[key]
    return found


def no_effect_words(path: str, value: Any, needed: str) -> str:
    """Why an option of `ineffective_options` is refused.

    Example:
        >>> no_effect_words("auxiliary.rnd.stream_gamma", 0.9, "stream: own")
        'auxiliary.rnd.stream_gamma: 0.9 has no effect here: the option needs stream: own. Leave \
it out.'
    """
    return f"{path}: {value!r} has no effect here: the option needs {needed}. Leave it out."


def idle_by_class(loss_class: type[AuxiliaryLoss]) -> dict[str, str]:
    """Options of every loss that a class does not use -> what would use them."""
    idle: dict[str, str] = {}
    if loss_class.losses is AuxiliaryLoss.losses:
        of_losses = ("coeff", "schedule", "lr", "grad_clip", "every")
        words = "a loss with `losses`; its weight is intrinsic_coeff"
        idle |= dict.fromkeys(of_losses, words)
    if loss_class.intrinsic_reward is AuxiliaryLoss.intrinsic_reward:
        idle["intrinsic_coeff"] = "a loss with an intrinsic reward; its weight is coeff"
    return idle


def build_auxiliary(
    losses: Mapping[str, Any],
    *,
    encoder: Encoder,
    observation_space: gym.Space,
    action_space: gym.Space,
    seed: int | None,
    key_encoder: Encoder | None = None,
    rl_projection: Encoder | None = None,
    frame_stack: int = 1,
) -> nn.ModuleDict:
    """Builds the losses without drawing from torch's global generator.

    Adding a loss therefore does not change the initialization or the draws of other parts.

    Args:
        losses: {name: options}, as in ``.auxiliary()``.
        encoder: See ``AuxiliaryLoss``.
        observation_space: See ``AuxiliaryLoss``.
        action_space: See ``AuxiliaryLoss``.
        seed: Seed of initial weights and augmentations; None: not reproducible.
        key_encoder: See ``AuxiliaryLoss``.
        rl_projection: See ``AuxiliaryLoss``.
        frame_stack: See ``AuxiliaryLoss``.

    Raises:
        SpecError: If a loss cannot be built for these spaces; the message names the loss.
    """
    optional = {
        "key_encoder": key_encoder,
        "rl_projection": rl_projection,
        "frame_stack": frame_stack if frame_stack > 1 else None,
    }
    built = nn.ModuleDict()
    with torch.random.fork_rng(devices=[]):
        for name, config in parse_auxiliary(losses).items():
            torch.default_generator.manual_seed(seed_of(name, seed))
            with _naming(name):
                loss = AUXILIARY_LOSSES[name](
                    config,
                    encoder=encoder,
                    observation_space=observation_space,
                    action_space=action_space,
                    **{key: value for key, value in optional.items() if value is not None},
                )
            _check_declaration(name, loss)
            built[name] = loss
    return built


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    """Says in a SpecError which loss is wrong, since a run may have several."""
    try:
        yield
    except SpecError as error:
        words = str(error)
        if f"auxiliary.{name}" in words or f"loss '{name}'" in words:
            raise
        raise SpecError(f"auxiliary.{name}: {words}") from error


def _check_declaration(name: str, loss: AuxiliaryLoss) -> None:
    _check_methods(name, loss)
    if loss.trains not in TRAINS:
        raise SpecError(f"loss '{name}': trains must be one of {TRAINS}; got {loss.trains!r}.")
    if (loss.trains == "policy") != (POLICY in loss.reads):
        raise SpecError(
            f"loss '{name}' must both read '{POLICY}' and declare trains='policy', or do neither."
        )
    if loss.trains == "none" and any(p.requires_grad for p in loss.parameters()):
        raise SpecError(f"loss '{name}' declares trains='none', but has parameters to train.")
    if loss.window is not None:
        _check_window(name, loss, loss.window)
    if unknown := loss.controls - CONTROLS:
        raise SpecError(f"loss '{name}' declares unknown controls {sorted(unknown)}.")


def _check_methods(name: str, loss: AuxiliaryLoss) -> None:
    """Refuses a class that does nothing, and one that declares to train without losses."""
    if type(loss).losses is not AuxiliaryLoss.losses:
        return
    if type(loss).intrinsic_reward is AuxiliaryLoss.intrinsic_reward:
        raise SpecError(
            f"loss '{name}' has neither `losses` nor `intrinsic_reward`; implement one of them."
        )
    if loss.trains != "none":
        raise SpecError(
            f"loss '{name}' declares trains={loss.trains!r}, but has no `losses`; set trains to "
            "'none', or implement `losses`."
        )


def _check_window(name: str, loss: AuxiliaryLoss, window: Any) -> None:
    if not isinstance(window, Window) or any(type(n) is not int or n < 0 for n in window):
        raise SpecError(
            f"loss '{name}': window must be a Window(before, after) of whole numbers >= 0; got "
            f"{window!r}."
        )
    if refused := loss.reads & {Columns.NEXT_OBS, MEAN_ACTION, POLICY}:
        raise SpecError(
            f"loss '{name}' has a window and reads {sorted(refused)}, which windows do not have; "
            "read OBS: the observation after a step stands at the next place of the window."
        )


def check_losses(config: Any, losses: Mapping[str, AuxiliaryLoss]) -> None:
    """Checks the losses of a module against the config that it was built from.

    Args:
        config: A config of rlssl, adapted to its environment.
        losses: Name -> loss.

    Raises:
        SpecError: Naming the key, the value and the fix.
    """
    for name, loss in losses.items():
        for column in sorted(loss.reads & config.absent_columns.keys()):
            raise SpecError(f"auxiliary.{name} reads {column!r}: {config.absent_columns[column]}.")
        if loss.one_learner_only and config.num_learners > 1:
            raise SpecError(
                f"auxiliary.{name} needs all rows of a batch in one Learner, and "
                f"resources.learners is {config.num_learners}; set it to 1."
            )
        if config.windows_end_with_fragments:
            _check_window_length(name, loss, int(config.get_rollout_fragment_length()))
        loss.check_batch(config.rows_of_step)


def _check_window_length(name: str, loss: AuxiliaryLoss, fragment_length: int) -> None:
    if loss.window is not None and loss.window.length > fragment_length + 1:
        raise SpecError(
            f"auxiliary.{name}: its window has {loss.window.length} frames, but a fragment has "
            f"{fragment_length + 1}: {fragment_length} steps and the observation after them. Raise "
            "env_runners.fragment_length, or shorten the window by the options of the loss."
        )
