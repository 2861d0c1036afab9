"""What the RL loss sees of images: augmented in training, cut to the middle in acting."""

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlssl.augmentations import (
    center_crop,
    intensity,
    random_crop,
    random_shift,
    random_shift_bilinear,
)
from rlssl.errors import SpecError, suggest
from rlssl.networks.draws import Draws
from rlssl.networks.encoders import Encoder, Layout, build_encoder, image_layout, is_image
from rlssl.peers import ALONE, Peers, Rows

#: Column of the observations as the RL loss saw them, where they are augmented; Columns.OBS stays
#: raw.
AUGMENTED_OBS = "augmented_obs"

#: Name -> function, the name of its one option, what that must be, and its default.
AUGMENTATIONS: dict[str, tuple[Callable[..., Tensor], str, type, float]] = {
    "crop": (random_crop, "size", int, 84),
    "shift": (random_shift, "pad", int, 4),
    "shift_bilinear": (random_shift_bilinear, "pad", int, 4),
    "intensity": (intensity, "scale", float, 0.05),
}

#: A named augmentation and its option's value.
Step = tuple[str, Any]


def parse_augmentation(setting: str | Mapping[str, Any] | None) -> tuple[Step, ...]:
    """Reads ``model.augmentation``.

    Args:
        setting: ``"shift"``; or ``{"crop": {"size": 84}, "intensity": {"scale": 0.05}}``, applied
            in this order; None: nothing.

    Returns:
        (name, value of its option) of each.

    Raises:
        SpecError: Naming the key and the value.
    """
    if setting is None:
        return ()
    named = {setting: {}} if isinstance(setting, str) else setting
    if not isinstance(named, Mapping):
        raise SpecError(f"model.augmentation must be a name or a mapping; got {setting!r}.")
    return tuple(_parse_step(name, options) for name, options in named.items())


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
    """Draws a new view of every observation of a minibatch.

    What is drawn depends on the seed and the number of updates alone.

    Args:
        steps: Of ``parse_augmentation``; at least one.
        layout: Of the images, ``CHW`` or ``HWC``.
        seed: Of the draws; None: torch's.
    """

    #: The Learners that share the batch; set by the Learner.
    peers: Peers = ALONE

    def __init__(self, steps: tuple[Step, ...], layout: Layout, seed: int | None = None) -> None:
        super().__init__()
        self.steps = steps
        self.layout = layout
        self.draws = Draws(seed)

    @torch.no_grad()
    def forward(self, obs: Tensor) -> Tensor:
        """[N, C, H, W] or [N, H, W, C] raw, to views of the size that the encoder was built for."""
        generator, rows = self.draws.generator(), self.peers.rows(len(obs))
        images = obs if self.layout == "CHW" else obs.permute(0, 3, 1, 2)
        for step in self.steps:
            images = _apply(step, images, generator, rows)
        return images if self.layout == "CHW" else images.permute(0, 2, 3, 1)

    def after_update(self) -> None:
        """Turns to the next update's draws."""
        self.draws.after_update()


def _apply(step: Step, images: Tensor, generator: torch.Generator, rows: Rows) -> Tensor:
    name, value = step
    return AUGMENTATIONS[name][0](images, value, generator, rows=rows)


class CenterCropped(Encoder):
    """An encoder of crops, which cuts larger images to their middle.

    Args:
        encoder: Takes images of ``size`` pixels a side.
        size: Pixels.
        layout: Of the images.
    """

    def __init__(self, encoder: Encoder, size: int, layout: Layout) -> None:
        super().__init__()
        self.encoder, self.size, self.layout = encoder, size, layout
        self.output_dim = encoder.output_dim

    def forward(self, obs: Tensor) -> Tensor:
        """[N, C, H, W] or [N, H, W, C], of ``size`` pixels or more, to [N, output_dim]."""
        if self.layout == "CHW":
            return self.encoder(center_crop(obs, self.size))
        cropped = center_crop(obs.permute(0, 3, 1, 2), self.size)
        return self.encoder(cropped.permute(0, 2, 3, 1))


class BFloat16(Encoder):
    """An encoder that computes in bfloat16 where torch's autocast thinks it safe.

    Weights, gradients and latents stay float32.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.output_dim = encoder.output_dim
        self.layout = getattr(encoder, "layout", None)

    def forward(self, obs: Any) -> Tensor:
        """[N, ...] to [N, output_dim], float32."""
        device = next(self.encoder.parameters()).device.type
        with torch.autocast(device, torch.bfloat16):
            latents = self.encoder(obs)
        return latents.float()


def crop_size(setting: str | Mapping[str, Any] | None) -> int | None:
    """Side of the crop in ``model.augmentation``, pixels; None: no crop."""
    size: int | None = dict(parse_augmentation(setting)).get("crop")
    return size


def build_rl_encoder(space: gym.Space, settings: Mapping[str, Any]) -> Encoder:
    """The encoder of the RL loss, as ``.model()`` describes it.

    Args:
        space: Of one raw stacked observation, which the encoder takes; crops of it, too, where
            ``augmentation`` has a crop.
        settings: encoder, encoder_config, augmentation, precision.

    Raises:
        SpecError: If they do not fit each other, or the space.
    """
    size = crop_size(settings["augmentation"])
    seen = space if size is None else _cropped_space(space, size)
    encoder = build_encoder(seen, settings["encoder"], settings["encoder_config"])
    if settings["precision"] == "bfloat16":
        encoder = BFloat16(encoder)
    if size is None:
        return encoder
    return CenterCropped(encoder, size, getattr(encoder, "layout", None) or image_layout(space))


def build_augmentation(
    space: gym.Space, settings: Mapping[str, Any], encoder: Encoder, seed: int | None
) -> Augmentation | None:
    """What augments the RL loss's observations; None where nothing does.

    Raises:
        SpecError: If the observations are no images, or too small for the shift.
    """
    steps = parse_augmentation(settings["augmentation"])
    if not steps:
        return None
    if not is_image(space):
        raise SpecError(f"model.augmentation needs images, a Box of three dimensions; got {space}.")
    return Augmentation(steps, getattr(encoder, "layout", None) or image_layout(space), seed)


def _cropped_space(space: gym.Space, size: int) -> spaces.Box:
    if not is_image(space):
        raise SpecError(f"model.augmentation.crop needs images; got {space}.")
    sides = [1, 2] if image_layout(space) == "CHW" else [0, 1]
    if size > min(space.shape[side] for side in sides):
        raise SpecError(
            f"model.augmentation.crop.size must be at most the side of the images, {space.shape}; "
            f"got {size}. Render larger ones (env.size) or crop less."
        )
    shape = [size if axis in sides else length for axis, length in enumerate(space.shape)]
    low, high = float(space.low.min()), float(space.high.max())
    return spaces.Box(low, high, tuple(shape), space.dtype)  # type: ignore[arg-type]
