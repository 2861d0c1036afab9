"""SPR: predicts its own latents several steps ahead, from the actions that were taken."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
import tree
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.augmentations import intensity
from rlssl.auxiliary.base import EncoderLoss, EncoderLossConfig
from rlssl.auxiliary.views import ImageViews, Views, make_views
from rlssl.auxiliary.windows import VALID, Window, over_time
from rlssl.errors import SpecError
from rlssl.losses.self_prediction import DISTANCES, latent_prediction_loss
from rlssl.networks.action_encoding import action_dim, encode_action
from rlssl.networks.augmentation import AUGMENTED_OBS
from rlssl.networks.latent_rollout import ConvTransition, MLPTransition, min_max_normalized
from rlssl.networks.layers.linear import Linear
from rlssl.networks.pixel_encoders import map_shape
from rlssl.networks.target_networks import EMACopy

VARIANTS = ("latent", "code")


class SPR(EncoderLoss):
    """Self-predictive representations.

    With the encoder phi, a transition g, a projection p, a predictor q, and copies phi', p' whose
    weights follow phi and p::

        z_0 = phi(s_t),   z_k = g(z_{k-1}, a_{t+k-1})
        loss = sum_{k=1..steps} distance(q(p(z_k)), p'(phi'(s_{t+k})))

    A step after the end of the episode adds 0 to the sum. The gradient does not flow into phi' and
    p': otherwise all latents become equal.

    The variant ``code`` is the published one, for Rainbow on pixels: latents are feature maps, g is
    convolutional with BatchNorm (so one Learner only), and p is the first layer of each stream of
    the dueling head. The variant ``latent`` works everywhere: g is an MLP with LayerNorm, and p is
    a layer of this loss.

    If the RL loss augments images, z_0 is the latent of its view, and targets are views of their
    own. Else there are no views.

    Source:
        Schwarzer et al. 2021, arXiv:2007.05929, and its published code. Differs: see PAPERS.md.
        ``distance: l2`` with ``steps: 1`` is the minimal form of Ni et al. 2024, arXiv:2401.08898.
    """

    @dataclasses.dataclass(frozen=True)
    class Config(EncoderLossConfig):
        """Options of SPR; None: a value that suits the variant and the input."""

        # "latent" (everywhere) or "code" (as published: Rainbow on pixels).
        variant: str = "latent"
        # Steps ahead; >= 1; 5 as published.
        steps: int = 5
        # "cosine" (as published) or "l2".
        distance: str = "cosine"
        # Features of the hidden layer of the transition and of the projection (latent); >= 1.
        hidden: int = 256
        # Fraction of the online weights that the targets copy after each update; in (0, 1]; None:
        # 1 if the RL loss augments images, else 0.01, as published.
        ema_tau: float | None = None
        # Largest shift of a target's view, pixels; >= 0; None: side * 4 / 84, from 1 to 4.
        pad: int | None = None
        # Scale of the random brightness of a target's view; >= 0; 0.05 as published.
        intensity: float = 0.05

        def idle_options(self) -> dict[str, str]:
            """The hidden layers that the published networks do not have."""
            idle = {} if self.variant == "latent" else {"hidden": "variant: latent"}
            return {**super().idle_options(), **idle}

        def __post_init__(self) -> None:
            """Checks ranges.

            Raises:
                ValueError: If a value is out of range; the message names field and value.
            """
            super().__post_init__()
            for key, known in (("variant", VARIANTS), ("distance", DISTANCES)):
                if getattr(self, key) not in known:
                    raise ValueError(
                        f"{key} must be one of {list(known)}; got {getattr(self, key)!r}."
                    )
            self._check_whole("steps", "hidden")
            if self.pad is not None:
                self._check_whole("pad", least=0)
            if self.ema_tau is not None and not 0.0 < self.ema_tau <= 1.0:
                raise ValueError(f"ema_tau must be in (0, 1]; got {self.ema_tau}.")
            if not self.intensity >= 0.0:
                raise ValueError(f"intensity must be >= 0; got {self.intensity}.")

    config: Config

    reads = frozenset({Columns.OBS, Columns.ACTIONS})

    def __init__(self, config: Config, **given: Any) -> None:
        super().__init__(config, **given)
        self.window = Window(after=config.steps)
        build = self._build_as_published if config.variant == "code" else self._build
        projection, width = build()
        self.target_encoder = EMACopy(self.encoder)
        self.target_projection = EMACopy(projection)
        self.predictor = Linear(width, width)
        # Whether the RL loss augmented the last batch; from the last update, for `metrics`: the
        # predictions and targets [N, steps, D], and the valid places [N, steps].
        self._is_augmented = False
        self._compared: tuple[Tensor, Tensor, Tensor] | None = None

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``prediction``, [N]: the sum over the steps, each in [0, 4] with ``cosine``."""
        generator = self.update_rng.generator(batch[VALID].device)
        valid = batch[VALID][:, 1:]
        predicted = self._predictions(batch)
        target = self._targets(batch, generator)
        if self.config.shuffled_positives:
            target = self.of_other_rows(target, generator)
        distance = latent_prediction_loss(predicted, target, self.config.distance)
        self._compared = predicted.detach(), target, valid
        return {"prediction": torch.where(valid, distance, 0.0).sum(dim=1)}

    def metrics(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Mean cosines of predictions and targets: of all steps, and of the last step."""
        del batch
        if self._compared is None:
            return {}
        predicted, target, valid = self._compared
        cosines = 1.0 - 0.5 * latent_prediction_loss(predicted, target)
        names = {"cosine": slice(None), "cosine_of_last_step": slice(-1, None)}
        return {
            name: cosines[:, steps][valid[:, steps]].mean()
            for name, steps in names.items()
            if valid[:, steps].any()
        }

    def after_update(self) -> None:
        """Updates the target networks, and renews the random draws."""
        tau = self.config.ema_tau or (1.0 if self._is_augmented else 0.01)
        self.target_encoder.update(self.encoder, tau)
        self.target_projection.update(self._projection, tau)
        super().after_update()

    def _build(self) -> tuple[nn.Module, int]:
        """An MLP transition; the projection, and its features."""
        width, hidden = int(self.encoder.output_dim), self.config.hidden
        self.transition: nn.Module = MLPTransition(width, action_dim(self.action_space), hidden)
        self.views = self._make_views()
        self.projection = Linear(width, hidden)
        return self.projection, hidden

    def _build_as_published(self) -> tuple[nn.Module, int]:
        """A convolutional transition; the head's projection, and its features."""
        maps = map_shape(self.encoder)
        if self.rl_projection is None or maps is None:
            raise SpecError(
                "auxiliary.spr.variant 'code' needs rainbow with dueling streams, and an encoder "
                "of images that ends in its convolutions (model.encoder: data_efficient, or nature "
                "with encoder_config: {hidden: null}; 25 and 36 pixels a side or more); or use "
                "variant 'latent'."
            )
        self.one_learner_only = True  # BatchNorm
        self.maps = maps
        self.transition = ConvTransition(maps[0], action_dim(self.action_space))
        self.views = self._make_views()
        return self.rl_projection, int(self.rl_projection.output_dim)

    def _make_views(self) -> Views | None:
        if len(self.observation_space.shape or ()) != 3:
            return None
        return make_views(
            self.observation_space,
            self.encoder,
            pad=self.config.pad,
            crop=None,
            crop_first=False,
            noise=0.1,
        )

    @property
    def _projection(self) -> Any:
        return self.rl_projection if self.config.variant == "code" else self.projection

    def _predictions(self, batch: Mapping[str, Any]) -> Tensor:
        """[N, steps, D], predicted projections of the latents 1 to ``steps`` ahead."""
        latent = self._latent_of_row(batch)
        actions = over_time(self._encoded_action, batch[Columns.ACTIONS])
        latents = []
        for k in range(self.config.steps):
            latent = self.transition(latent, actions[:, k])
            latents.append(latent.flatten(1))
        return over_time(
            lambda rows: self.predictor(self._projection(rows)), torch.stack(latents, dim=1)
        )

    def _encoded_action(self, actions: Tensor) -> Tensor:
        return encode_action(actions, self.action_space)

    def _latent_of_row(self, batch: Mapping[str, Any]) -> Tensor:
        """The online latents of the rows: [N, D], or maps [N, C, H, W] scaled to [0, 1]."""
        self._is_augmented = AUGMENTED_OBS in batch
        column = AUGMENTED_OBS if self._is_augmented else Columns.OBS
        latent = self.shared_latents(batch, column)
        if latent is None:
            obs = (
                batch[column]
                if self._is_augmented
                else tree.map_structure(lambda leaf: leaf[:, 0], batch[Columns.OBS])
            )
            latent = self.encoder(obs)
        return self._scaled(latent)

    def _scaled(self, latent: Tensor) -> Tensor:
        if self.config.variant != "code":
            return latent
        return min_max_normalized(latent.reshape(len(latent), *self.maps))

    @torch.no_grad()
    def _targets(self, batch: Mapping[str, Any], generator: torch.Generator) -> Tensor:
        """[N, steps, D], projections of the latents that came."""

        def project(observations: Any) -> Tensor:
            seen = self._view(observations, batch, generator)
            latent = self._scaled(self.target_encoder(seen))
            return self.target_projection(latent.flatten(1))

        after = tree.map_structure(lambda leaf: leaf[:, 1:], batch[Columns.OBS])
        return over_time(project, after)

    def _view(self, observations: Any, batch: Mapping[str, Any], generator: torch.Generator) -> Any:
        if not self._is_augmented or self.views is None:
            return observations
        like = batch[AUGMENTED_OBS]
        views = self.views(observations, generator, like=like, peers=self.peers)
        if not self.config.intensity or not isinstance(self.views, ImageViews):
            return views
        rows = self.peers.rows(len(views))
        return intensity(views, self.config.intensity, generator, rows=rows)
