"""Base of the losses that compare two random views of each observation."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.auxiliary.base import EncoderLoss, EncoderLossConfig
from rlssl.auxiliary.latent_statistics import NUM_ROWS, effective_rank
from rlssl.auxiliary.views import make_views
from rlssl.errors import SpecError
from rlssl.networks.augmentation import AUGMENTED_OBS
from rlssl.networks.target_networks import EMACopy


@dataclasses.dataclass(frozen=True)
class ViewConfig(EncoderLossConfig):
    """Options of the losses that compare views; None: a value that suits the input."""

    # Side of this loss's random crops, pixels; the encoder must accept this size. None: the
    # size of the RL loss's crop, or a shift if the RL loss has no crop.
    crop: int | None = None
    # Largest shift of an image without crop, pixels; >= 0; None: side * 4 / 84, rounded, from 1
    # to 4. The 4 is from DrQ and from CURL's code.
    pad: int | None = None
    # Standard deviation (std) of the noise on vectors, in units of each element's running std;
    # > 0.
    noise: float = 0.1
    # Control: only the augmentation of the RL loss's observations is kept from the method. The
    # loss trains its heads, not the encoder. Needs `model.augmentation`.
    augmentation_only: bool = False

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            ValueError: If a value is out of range; the message names field and value.
        """
        super().__post_init__()
        self._check_positive("noise")
        for key, least in (("crop", 1), ("pad", 0)):
            if getattr(self, key) is not None:
                self._check_whole(key, least=least)
        if self.isolated and self.augmentation_only:
            raise ValueError(
                "isolated=True trains the encoder by auxiliary losses only; "
                "augmentation_only=True trains it by the RL loss only. Set one of the two."
            )

    def _check_positive(self, key: str) -> None:
        if not getattr(self, key) > 0:
            raise ValueError(f"{key} must be > 0; got {getattr(self, key)}.")


class ViewLoss(EncoderLoss):
    """Base of the losses that compare two random views of each observation.

    If the Learner augments the observations of the RL loss (column ``AUGMENTED_OBS``), these are
    the first views; else this loss draws the first views too. Views are shifts or crops of images,
    or vectors with noise. Draws depend only on the seed and the number of updates: the same update
    and batch give the same loss, and a restored run continues the sequence of draws.

    Args:
        config: Options of the loss.
        crop_first: See `rlssl.auxiliary.views.ImageViews`.
        **given: See `AuxiliaryLoss`.
    """

    config: ViewConfig

    reads = frozenset({Columns.OBS})
    controls = EncoderLoss.controls | {"augmentation_only"}

    def __init__(self, config: ViewConfig, *, crop_first: bool = False, **given: Any) -> None:
        super().__init__(config, **given)
        if config.augmentation_only:
            self.trains = "own"
        self.views = make_views(
            self.observation_space,
            self.encoder,
            pad=config.pad,
            crop=config.crop,
            crop_first=crop_first,
            noise=config.noise,
        )

    def after_update(self) -> None:
        """Adds this update's rows to the statistics of views, and renews the random draws."""
        self.views.after_update(self.update_rng.num_updates, self.peers)
        super().after_update()

    def draw_views(
        self, batch: Mapping[str, Any], generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Two views of each observation, inputs of the encoder.

        Raises:
            SpecError: If ``augmentation_only`` is set and the RL loss has no augmentation.
        """
        raw, augmented = batch[Columns.OBS], batch.get(AUGMENTED_OBS)
        if augmented is None and self.config.augmentation_only:
            raise SpecError(
                "augmentation_only=True needs an augmentation of the RL loss's observations: set "
                "model.augmentation (shift, crop), or leave the option out."
            )
        if augmented is None:
            first = self.views(raw, generator, peers=self.peers)
            return first, self.views(raw, generator, peers=self.peers)
        return augmented, self.views(raw, generator, like=augmented, peers=self.peers)

    def encode(self, batch: Mapping[str, Any], views: Tensor) -> Tensor:
        """[N, D], latents of views; the RL loss's own latents if these are its observations."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.trains == "encoder"):
            if views is batch.get(AUGMENTED_OBS):
                return self.latents(batch, AUGMENTED_OBS)
            latents: Tensor = self.encoder(views)
            return latents


class KeyViewLoss(ViewLoss):
    """Base of the losses whose first views are queries and whose second views are keys.

    Keys are encoded without gradients, by a moving average of the encoder and of the head. If the
    algorithm has a target network of its encoder, that network encodes the keys.

    Args:
        config: Options of the loss.
        tau: Fraction of the online weights that the key network copies after each update.
        **given: See `ViewLoss`.
    """

    def __init__(self, config: ViewConfig, *, tau: float, **given: Any) -> None:
        super().__init__(config, **given)
        self._tau = tau
        self.head = self.make_head()
        self.key_head = EMACopy(self.head)
        self.own_key_encoder = EMACopy(self.encoder) if self.key_encoder is None else None

    def make_head(self) -> nn.Module:
        """The network from latents to queries; a copy of it gives the keys."""
        raise NotImplementedError

    @torch.no_grad()
    def encode_keys(self, views: Tensor) -> Tensor:
        """[N, E], keys of views."""
        encode = self.key_encoder if self.own_key_encoder is None else self.own_key_encoder
        assert encode is not None  # for mypy: one of the two exists
        latents: Tensor = self.key_head(encode(views))
        return latents

    def after_update(self) -> None:
        """Updates the key network unless the algorithm does, and renews the random draws."""
        self.key_head.update(self.head, self._tau)
        if self.own_key_encoder is not None:
            self.own_key_encoder.update(self.encoder, self._tau)
        super().after_update()


@torch.no_grad()
def top_one_accuracy(scores: Tensor, positives: Tensor) -> Tensor:
    """Share of queries whose positive scores highest; 1 / M by chance.

    A query whose positive ties with k - 1 other keys counts as 1 / k.

    Args:
        scores: [N, M], of each query and key.
        positives: [N], index of the positive key of each query.

    Returns:
        Scalar in [0, 1].

    Example:
        The first query is right, the second one ties with one other key.

        >>> scores = torch.tensor([[1.0, 0.0], [2.0, 2.0]])
        >>> top_one_accuracy(scores, torch.tensor([0, 1]))
        tensor(0.7500)
    """
    best = scores.amax(dim=1, keepdim=True)
    is_best = scores.gather(1, positives[:, None]) == best
    return (is_best / (scores == best).sum(dim=1, keepdim=True)).mean()


@torch.no_grad()
def spread(latents: Tensor) -> dict[str, Tensor]:
    """Whether latents [N, D] collapse.

    Returns:
        - ``effective_rank``: effective rank of the first 128 latents; see `effective_rank`.
        - ``feature_std``: standard deviation (std) of a feature over the batch, mean over the
          features; 0 if the latents have collapsed.
    """
    return {
        "effective_rank": effective_rank(latents[:NUM_ROWS]),
        "feature_std": latents.std(dim=0, correction=0).mean(),
    }
