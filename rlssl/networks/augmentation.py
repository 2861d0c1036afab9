"""Augments the images of the RL loss."""

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

from rlssl.augmentations import (
    intensity,
    random_crop,
    random_shift,
    random_shift_bilinear,
)
from rlssl.errors import SpecError, suggest
from rlssl.image_spaces import Layout, image_layout, is_image
from rlssl.networks.encoders import Encoder
from rlssl.networks.update_rng import UpdateRNG
from rlssl.peers import ALONE, Peers, RowRange

#: Column of the augmented observations that the RL loss reads; Columns.OBS stays raw.
AUGMENTED_OBS = "augmented_obs"

#: Name -> function, name of its one option, type and default of this option.
AUGMENTATIONS: dict[str, tuple[Callable[..., Tensor], str, type, float]] = {
    "crop": (random_crop, "size", int, 84),
    "shift": (random_shift, "pad", int, 4),
    "shift_bilinear": (random_shift_bilinear, "pad", int, 4),
    "intensity": (intensity, "scale", float, 0.05),
}

#: Name of an augmentation, and the value of its option.
Step = tuple[str, Any]


def parse_augmentation(setting: str | Mapping[str, Any] | None) -> tuple[Step, ...]:
    """Reads ``model.augmentation``.

    Args:
        setting: ``"shift"``; or ``{"crop": {"size": 84}, "intensity": {"scale": 0.05}}``, applied
            in this order; None: no augmentation.

    Returns:
        (name, value of its option) of each augmentation.

    Raises:
        SpecError: If the setting is invalid; the message names the key and the value.

    Example:
        >>> parse_augmentation({"crop": {"size": 84}, "intensity": None})
        (('crop', 84), ('intensity', 0.05))
    """
    if setting is None:
        return ()
    named = {setting: {}} if isinstance(setting, str) else setting
    if not isinstance(named, Mapping):
        raise SpecError(f"model.augmentation must be a name or a mapping; got {setting!r}.")
    return tuple(_parse_step(name, options) for name, options in named.items())


def with_options(steps: tuple[Step, ...]) -> dict[str, dict[str, Any]]:
    """The mapping that `parse_augmentation` reads, with every option.

    Example:
        >>> with_options(parse_augmentation("shift"))
        {'shift': {'pad': 4}}
    """
    return {name: {AUGMENTATIONS[name][1]: value} for name, value in steps}


def _parse_step(name: str, options: Any) -> Step:
    if name not in AUGMENTATIONS:
        hint = suggest(str(name), AUGMENTATIONS)
        raise SpecError(f"unknown augmentation 'model.augmentation.{name}'{hint}")
    _, option, kind, default = AUGMENTATIONS[name]
    if options is None:
        options = {}
    if not isinstance(options, Mapping) or not options.keys() <= {option}:
        raise SpecError(f"model.augmentation.{name} takes {{{option}: ...}}; got {options!r}.")
    value = options.get(option, default)
    number = isinstance(value, int | kind) and not isinstance(value, bool)
    if not number or value < (1 if name == "crop" else 0):
        least = ">= 1 pixels" if name == "crop" else ">= 0"
        raise SpecError(f"model.augmentation.{name}.{option} must be {least}; got {value!r}.")
    return name, value


class Augmentation(nn.Module):
    """Draws a random view of every observation of a minibatch.

    The draws depend only on the seed and the number of updates.

    Args:
        steps: From ``parse_augmentation``; at least one.
        layout: Layout of the images, ``CHW`` or ``HWC``.
        seed: Seed of the draws; None: the last seed of torch's global generator.
    """

    #: The Learners that share the batch; the Learner sets this attribute.
    peers: Peers = ALONE

    def __init__(self, steps: tuple[Step, ...], layout: Layout, seed: int | None = None) -> None:
        super().__init__()
        self.steps = steps
        self.layout = layout
        self.update_rng = UpdateRNG(seed)

    @torch.no_grad()
    def forward(self, obs: Tensor) -> Tensor:
        """[N, C, H, W] or [N, H, W, C], raw, to views of the size that the encoder reads."""
        generator = self.update_rng.generator(obs.device)
        rows = self.peers.rows(len(obs))
        images = obs if self.layout == "CHW" else obs.permute(0, 3, 1, 2)
        for step in self.steps:
            images = _apply(step, images, generator, rows)
        return images if self.layout == "CHW" else images.permute(0, 2, 3, 1)

    def after_update(self) -> None:
        """Starts the draws of the next update."""
        self.update_rng.after_update()


def _apply(step: Step, images: Tensor, generator: torch.Generator, rows: RowRange) -> Tensor:
    name, value = step
    return AUGMENTATIONS[name][0](images, value, generator, rows=rows)


def build_augmentation(
    space: gym.Space, settings: Mapping[str, Any], encoder: Encoder, seed: int | None
) -> Augmentation | None:
    """Builds the augmentation of the RL loss's observations; None if no setting asks for one.

    Args:
        space: Space of one raw stacked observation.
        settings: With the key ``augmentation``; see ``parse_augmentation``.
        encoder: Encoder of the RL loss; its ``layout`` is used if it has one.
        seed: See ``Augmentation``.

    Raises:
        SpecError: If the setting is invalid, or the observations are not images.
    """
    steps = parse_augmentation(settings["augmentation"])
    if not steps:
        return None
    if not is_image(space):
        raise SpecError(f"model.augmentation needs images, a Box of three dimensions; got {space}.")
    return Augmentation(steps, getattr(encoder, "layout", None) or image_layout(space), seed)
