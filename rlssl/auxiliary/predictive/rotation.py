"""Rotation prediction: the latent must tell by which angle the image was rotated."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.auxiliary.predictive.pretext import PretextConfig, PretextLoss
from rlssl.errors import SpecError
from rlssl.image_spaces import channels_first, image_layout, is_image


class Rotation(PretextLoss):
    """Each image is rotated by 0, 90, 180 or 270 degrees; the latent must tell which.

    With the encoder phi and a classifier g, the loss is the cross-entropy of softmax(g(phi(R x)))
    against the rotation R: log 4 nats at initialization. An image that is the same after a rotation
    cannot be told. Gravity, a floor or a score bar make the task easy: then the latent need not
    know what the policy needs.

    Source:
        Gidaris et al. 2018, arXiv:1803.07728; one random rotation a row: Hansen et al. 2020,
        arXiv:2007.04309 (PAD). Differs: see PAPERS.md.
    """

    @dataclasses.dataclass(frozen=True)
    class Config(PretextConfig):
        """Options of rotation prediction."""

    num_classes = 4

    def __init__(self, config: PretextConfig, **given: Any) -> None:
        super().__init__(config, num_latents=1, **given)
        space = self.observation_space
        if not is_image(space) or len(set(channels_first(space)[1:])) > 1:
            raise SpecError(
                f"auxiliary.rotation needs square images; got {space}. Use another loss, or make "
                "the images square (env.size, or a wrapper)."
            )
        layout = getattr(self.encoder, "layout", None) or image_layout(space)
        self._sides = (2, 3) if layout == "CHW" else (1, 2)

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``rotation``, [N], nats."""
        images = batch[Columns.OBS]
        generator = self.update_rng.generator(images.device)
        label = self.draw(images, self.num_classes, generator)
        latents = self.encoder(rotated(images, label, self._sides))
        counts = torch.ones_like(label, dtype=torch.bool)
        return {"rotation": self.classify(latents, label, counts, generator)}


def rotated(images: Tensor, quarter_turns: Tensor, sides: tuple[int, int] = (2, 3)) -> Tensor:
    """Rotates each image counterclockwise by its own number of quarter turns.

    Args:
        images: [N, ...], square.
        quarter_turns: [N], integers in [0, 4).
        sides: The dimensions of height and width.

    Returns:
        [N, ...], of the same shape.

    Example:
        >>> image = torch.tensor([[[[1, 2], [3, 4]]]])
        >>> rotated(image, torch.tensor([1])).tolist()
        [[[[2, 4], [1, 3]]]]
    """
    turned = torch.stack([torch.rot90(images, turns, sides) for turns in range(4)])
    return turned[quarter_turns, torch.arange(len(images), device=images.device)]
