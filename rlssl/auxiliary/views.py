"""Random views of observations, for losses that compare two of them."""

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlssl.augmentations import random_crop, random_shift
from rlssl.auxiliary.normalization import RunningMoments
from rlssl.errors import SpecError
from rlssl.networks.encoders import Encoder, image_layout
from rlssl.peers import ALONE, Peers

#: Every so many updates the deviation of vectors takes in rows, behind as many that all do: then it
#: hardly moves, and would take as long as the rest of what follows an update.
MOMENTS_EVERY = 16


class Views(nn.Module):
    """Random views of a batch of observations."""

    def forward(
        self,
        obs: Tensor,
        generator: torch.Generator,
        *,
        like: Tensor | None = None,
        peers: Peers = ALONE,
    ) -> Tensor:
        """Draws one view of each row.

        Args:
            obs: [N, ...], raw.
            generator: On the CPU.
            like: Observations of the size that the views must have; None: the usual size.
            peers: The Learners that share the batch.

        Returns:
            [N, ...], what the encoder takes.
        """
        raise NotImplementedError

    def after_update(self, number: int, peers: Peers = ALONE) -> None:
        """Called after every optimiser step; ``number``: of those before it."""


class ImageViews(Views):
    """Crops where another size is asked for, else shifts; of images in either layout.

    Args:
        layout: ``CHW`` or ``HWC``.
        pad: Largest shift, pixels.
        crop: Side of the crop, pixels; None: a shift.
        crop_first: Whether a shift starts from a random crop, ``pad`` pixels smaller than the image
            each way, as CURL's Atari code does: RandomCrop 80, ReplicationPad 4, RandomCrop 84.
    """

    def __init__(
        self, layout: str, *, pad: int, crop: int | None = None, crop_first: bool = False
    ) -> None:
        super().__init__()
        self.layout, self.pad, self.crop, self.crop_first = layout, pad, crop, crop_first

    def forward(
        self,
        obs: Tensor,
        generator: torch.Generator,
        *,
        like: Tensor | None = None,
        peers: Peers = ALONE,
    ) -> Tensor:
        """[N, C, H, W] or [N, H, W, C], the dtype of ``obs``."""
        images = self._channels_first(obs)
        rows = peers.rows(len(images))
        height, width = size = images.shape[2], images.shape[3]
        wanted = size if self.crop is None else (self.crop, self.crop)
        if like is not None:
            shape = self._channels_first(like).shape
            wanted = shape[2], shape[3]
        if wanted != size:
            images = random_crop(images, wanted, generator, rows=rows)
        else:
            if self.crop_first:
                smaller = height - self.pad, width - self.pad
                images = random_crop(images, smaller, generator, rows=rows)
            images = random_shift(images, self.pad, generator, size=size, rows=rows)
        return images if self.layout == "CHW" else images.permute(0, 2, 3, 1)

    def _channels_first(self, obs: Tensor) -> Tensor:
        return obs if self.layout == "CHW" else obs.permute(0, 3, 1, 2)


class NoisyViews(Views):
    """Gaussian noise on vectors, in running deviations of each element.

    Until the first update the deviation is the batch's; see ``MOMENTS_EVERY``.

    Args:
        shape: Of one observation.
        noise: Deviation of the noise, in running deviations.
    """

    def __init__(self, shape: tuple[int, ...], *, noise: float) -> None:
        super().__init__()
        self.noise = noise
        self.moments = RunningMoments(shape)
        self._seen: Tensor | None = None
        # Whether `moments` hold anything, which is not asked of a device in every update.
        self._has_moments = False

    def forward(
        self,
        obs: Tensor,
        generator: torch.Generator,
        *,
        like: Tensor | None = None,
        peers: Peers = ALONE,
    ) -> Tensor:
        """[N, ...], float32."""
        del like
        first, total = peers.rows(len(obs))
        self._seen = obs
        if not total:
            return obs.float()
        self._has_moments = self._has_moments or bool(self.moments.count)
        variance = self.moments.variance
        if not self._has_moments:
            variance = peers.gather(obs).float().var(0, correction=0)
        normal = torch.randn(total, *obs.shape[1:], generator=generator)[first : first + len(obs)]
        return obs.float() + self.noise * variance.sqrt() * normal.to(obs.device)

    def after_update(self, number: int, peers: Peers = ALONE) -> None:
        """Takes the rows of the update into the deviation, if it is their turn."""
        if self._seen is not None and (number < MOMENTS_EVERY or number % MOMENTS_EVERY == 0):
            rows = peers.gather(self._seen)
            if len(rows):
                self.moments.take_in(rows)
        self._seen = None


def make_views(
    space: gym.Space,
    encoder: Encoder,
    *,
    pad: int | None,
    crop: int | None,
    crop_first: bool,
    noise: float,
) -> Views:
    """The views that suit an observation space.

    Args:
        space: Of one stacked observation.
        encoder: Of that space; its ``layout``, where it has one, is the images'.
        pad: See ``ImageViews``; None: 4 of 84 pixels, in proportion, from 1 to 4.
        crop: See ``ImageViews``.
        crop_first: See ``ImageViews``.
        noise: See ``NoisyViews``.

    Raises:
        SpecError: If none do, or the encoder does not take the crops that are asked for.
    """
    if not isinstance(space, spaces.Box):
        raise SpecError(
            f"views are made of images and vectors; got {space}. Wrap the environment so that it "
            "gives a Box (gymnasium's FlattenObservation), or use the loss 'icm'."
        )
    if len(space.shape) != 3:
        if crop is not None:
            raise SpecError(f"crop={crop} needs images; got {space}.")
        return NoisyViews(space.shape, noise=noise)
    layout = getattr(encoder, "layout", None) or image_layout(space)
    side = min(space.shape[1:] if layout == "CHW" else space.shape[:2])
    pad = min(4, max(1, round(side * 4 / 84))) if pad is None else pad
    if pad >= side:
        raise SpecError(f"pad must be below {side} pixels, a side of {space}; got {pad}.")
    if crop is not None and not _takes_crops(encoder, crop, space, layout):
        raise SpecError(
            f"crop={crop}: the encoder of {space} does not take images of {crop} x {crop} pixels. "
            "Leave it out: views have the size that the RL loss sees."
        )
    return ImageViews(layout, pad=pad, crop=crop, crop_first=crop_first)


def _takes_crops(encoder: Encoder, crop: int, space: spaces.Box, layout: str) -> bool:
    channels, *sides = space.shape if layout == "CHW" else (space.shape[2], *space.shape[:2])
    if crop > min(sides):
        return False
    shape = (channels, crop, crop) if layout == "CHW" else (crop, crop, channels)
    try:
        with torch.no_grad():
            latent = encoder(torch.zeros(1, *shape))
    except RuntimeError:  # what torch raises for shapes that do not fit a layer
        return False
    return tuple(latent.shape) == (1, encoder.output_dim)
