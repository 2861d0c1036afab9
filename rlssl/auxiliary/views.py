"""Random views of observations, for losses that compare two views."""

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlssl.augmentations import random_crop, random_shift
from rlssl.auxiliary.normalization import RunningMoments
from rlssl.errors import SpecError
from rlssl.image_spaces import image_layout
from rlssl.networks.encoders import Encoder
from rlssl.peers import ALONE, Peers

#: After 16 updates, the running standard deviation (std) of vectors is refreshed only in every 16th
#: update: it barely changes, and a refresh takes as long as all other work after an update.
REFRESH_EVERY = 16


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
            obs: [N, ...], raw observations.
            generator: Generator of the draws, on any device.
            like: Observations of the size that the views must have; None: the default size.
            peers: The Learners that share the batch.

        Returns:
            [N, ...], input of the encoder.
        """
        raise NotImplementedError

    def after_update(self, number: int, peers: Peers = ALONE) -> None:
        """Called after every optimizer step; ``number`` steps came before it."""


class ImageViews(Views):
    """Random crops of images if the views must have another size; else random shifts.

    Args:
        layout: ``CHW`` or ``HWC``.
        pad: Largest shift, pixels.
        crop: Side of the crop, pixels; None: a shift.
        crop_first: Whether a shift starts with a random crop that is ``pad`` pixels smaller than
            the image in height and width. CURL's Atari code does: RandomCrop 80, ReplicationPad 4,
            RandomCrop 84.
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
        """[N, C, H, W] or [N, H, W, C], with the dtype of ``obs``."""
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
    """Adds Gaussian noise to vectors, in proportion to each element's running std.

    Until the first update, the std of the batch is used. See ``REFRESH_EVERY``.

    Args:
        shape: Shape of one observation.
        noise: Standard deviation (std) of the noise, in units of the running std.
    """

    def __init__(self, shape: tuple[int, ...], *, noise: float) -> None:
        super().__init__()
        self.noise = noise
        self.moments = RunningMoments(shape)
        self._seen: Tensor | None = None
        # Whether `moments` hold rows. Kept here, because reading their count waits for the device.
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
        shape = (total, *obs.shape[1:])
        normal = torch.randn(shape, generator=generator, device=generator.device)
        normal = normal[first : first + len(obs)].to(obs.device)
        return obs.float() + self.noise * variance.sqrt() * normal

    def after_update(self, number: int, peers: Peers = ALONE) -> None:
        """Adds the rows of this update to the running std; see ``REFRESH_EVERY``."""
        if self._seen is not None and (number < REFRESH_EVERY or number % REFRESH_EVERY == 0):
            rows = peers.gather(self._seen)
            if len(rows):
                self.moments.update(rows)
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
    """Returns the views for an observation space.

    Args:
        space: The space of one stacked observation.
        encoder: An encoder of that space. If it has a ``layout``, the images have that layout.
        pad: See ``ImageViews``; None: side * 4 / 84 pixels, rounded, from 1 to 4.
        crop: See ``ImageViews``.
        crop_first: See ``ImageViews``.
        noise: See ``NoisyViews``.

    Raises:
        SpecError: If the space is no Box, or ``pad`` or ``crop`` does not fit the images.
    """
    if not isinstance(space, spaces.Box):
        raise SpecError(
            f"random views need images or vectors; got {space}. Wrap the environment so that it "
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
        raise SpecError(f"pad must be below {side} pixels, the side of {space}; got {pad}.")
    if crop is not None and not _takes_crops(encoder, crop, space, layout):
        raise SpecError(
            f"crop={crop}: the encoder of {space} does not take images of {crop} x {crop} pixels. "
            "Leave crop out: then views have the size of the RL loss's images."
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
    except RuntimeError:  # torch raises it for shapes that do not fit a layer
        return False
    return tuple(latent.shape) == (1, encoder.output_dim)
