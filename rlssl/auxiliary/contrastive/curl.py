"""CURL: contrastive learning; two views of one observation are a positive pair."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.auxiliary.base import AuxiliaryLoss, AuxiliaryLossConfig
from rlssl.auxiliary.latent_statistics import NUM_ROWS, effective_rank
from rlssl.auxiliary.views import make_views
from rlssl.errors import SpecError
from rlssl.losses import bilinear_info_nce
from rlssl.losses.contrastive import bilinear_similarity
from rlssl.networks.augmentation import AUGMENTED_OBS
from rlssl.networks.layers.linear import Layers, Linear
from rlssl.networks.target_networks import EMACopy
from rlssl.networks.update_rng import UpdateRNG

#: Defaults of each variant.
_VARIANTS: dict[str, dict[str, Any]] = {
    "dmc": {"ema_tau": 0.05, "logits_scale": 1.0},
    "atari": {"ema_tau": 0.001, "logits_scale": 0.1},
}

# Sizes of the hidden and the output layer of the projection in `atari`.
_PROJECTION = (256, 128)


class CURL(AuxiliaryLoss):
    """Contrastive unsupervised representations for reinforcement learning.

    With two random views q, k of each observation, the encoder phi, its target network phi', a
    head h (the identity for ``dmc``, a projection for ``atari``) and a learned W::

        logits_ij = logits_scale * h(phi(q_i)) W h'(phi'(k_j))
        loss_i    = cross-entropy of softmax(logits_i) against i
        phi'      = (1 - ema_tau) * phi' + ema_tau * phi, and h' likewise, after every update

    If the Learner augments the observations of the RL loss (column ``AUGMENTED_OBS``), these are
    the queries; else this loss draws the queries too. Views are shifts or crops of images, or
    vectors with noise. Draws depend only on the seed and the number of updates: the same update and
    batch give the same loss, and a restored run continues the sequence of draws.

    Source:
        Laskin et al. 2020, arXiv:2004.04136, and its published code for DMControl (``dmc``) and
        Atari (``atari``). Differs: see PAPERS.md.
    """

    @dataclasses.dataclass(frozen=True)
    class Config(AuxiliaryLossConfig):
        """Options of CURL; None: the variant's default, or a value that suits the input."""

        # "dmc" (SAC on DMControl) or "atari" (data-efficient Rainbow); None: atari for environments
        # named `atari/...`, else dmc.
        variant: str | None = None
        # Side of this loss's random crops, pixels; the encoder must accept this size. None: the
        # size of the RL loss's crop, or a shift if the RL loss has no crop.
        crop: int | None = None
        # Largest shift of an image without crop, pixels; >= 0; None: side * 4 / 84, rounded, from 1
        # to 4. The 4 is from DrQ (dmc) and from the published code (atari).
        pad: int | None = None
        # Standard deviation (std) of the noise on vectors, in units of each element's running std;
        # > 0.
        noise: float = 0.1
        # Fraction of the online weights that the key network copies after each update; in (0, 1];
        # None: 0.05 (dmc), 0.001 (atari).
        ema_tau: float | None = None
        # Factor on the logits; > 0; None: 1 (dmc), 0.1 (atari; in the code, not in the paper).
        logits_scale: float | None = None
        # Whether a LayerNorm without weights normalizes latents before W (dmc); None: only if the
        # encoder does not end in a LayerNorm, as the published encoder does.
        normalize: bool | None = None
        # Whether the projection's LayerNorms have trained weights (atari). The published code
        # creates new LayerNorms in every pass, so they are never trained.
        trained_layernorm: bool = False
        # Whether two Adam optimizers step on the encoder for every CURL loss, as in the published
        # dmc code: this doubles the step. Only for sac and ddpg with `auxiliary_step: separate`,
        # where the encoder has an Adam optimizer for the auxiliary losses.
        double_encoder_step: bool = False
        # Control: the positive of each query is a random key of the batch; the loss stays at
        # log(batch size).
        shuffled_positives: bool = False
        # Control: only the augmentation of the RL loss's observations is kept from CURL. This loss
        # trains W and the projection, not the encoder. Needs `model.augmentation`.
        augmentation_only: bool = False
        # Control: the auxiliary losses train the RL encoder; the RL loss does not.
        isolated: bool = False

        def __post_init__(self) -> None:
            """Fills in the variant's defaults, and checks ranges.

            Raises:
                ValueError: If a value is out of range; the message names field and value.
            """
            if self.variant is None:
                object.__setattr__(self, "variant", "dmc")
            if self.variant not in _VARIANTS:
                raise ValueError(f"variant must be one of {list(_VARIANTS)}; got {self.variant!r}.")
            for key, value in _VARIANTS[self.variant].items():
                if getattr(self, key) is None:
                    object.__setattr__(self, key, value)
            super().__post_init__()
            self._check()

        def _check(self) -> None:
            for key in ("noise", "logits_scale"):
                if not getattr(self, key) > 0:
                    raise ValueError(f"{key} must be > 0; got {getattr(self, key)}.")
            if self.ema_tau is None or not 0.0 < self.ema_tau <= 1.0:
                raise ValueError(f"ema_tau must be in (0, 1]; got {self.ema_tau}.")
            for key, least in (("crop", 1), ("pad", 0)):
                value = getattr(self, key)
                if value is not None and (type(value) is not int or value < least):
                    raise ValueError(f"{key} must be a whole number >= {least}; got {value!r}.")
            if self.double_encoder_step and self.variant != "dmc":
                raise ValueError("double_encoder_step is an option of variant 'dmc' only.")
            for key in ("shuffled_positives", "augmentation_only", "isolated"):
                if not isinstance(getattr(self, key), bool):
                    raise ValueError(f"{key} must be true or false; got {getattr(self, key)!r}.")
            if self.isolated and self.augmentation_only:
                raise ValueError(
                    "isolated=True trains the encoder by auxiliary losses only; "
                    "augmentation_only=True trains it by the RL loss only. Set one of the two."
                )
            if self.trained_layernorm and self.variant != "atari":
                raise ValueError("trained_layernorm is an option of variant 'atari' only.")

    config: Config

    reads = frozenset({Columns.OBS})
    trains = "encoder"
    controls = frozenset({"augmentation_only", "shuffled_positives", "isolated"})

    def __init__(self, config: Config, **given: Any) -> None:
        super().__init__(config, **given)
        if config.augmentation_only:
            self.trains = "own"
        if config.double_encoder_step and self.key_encoder is None:
            raise SpecError(
                "auxiliary.curl.double_encoder_step=True needs an algorithm whose target critic "
                "has an encoder and whose auxiliary losses have their own optimizer (sac or ddpg "
                "with training.auxiliary_step: separate); use one of them or leave the option out."
            )
        self.views = make_views(
            self.observation_space,
            self.encoder,
            pad=config.pad,
            crop=config.crop,
            crop_first=config.variant == "atari",
            noise=config.noise,
        )
        self.head = self._make_head()
        self.key_head = EMACopy(self.head)
        self.own_key_encoder = EMACopy(self.encoder) if self.key_encoder is None else None
        dim = _PROJECTION[1] if config.variant == "atari" else self.encoder.output_dim
        self.weight = nn.Parameter(torch.rand(dim, dim))
        self.update_rng = UpdateRNG()
        # Arguments of `diagnostics` in the last update, for `metrics`.
        self._compared: _Compared | None = None

    @classmethod
    def defaults_for(cls, env_id: str) -> dict[str, Any]:
        """Variant ``atari`` for environments named ``atari/...``."""
        return {"variant": "atari"} if env_id.startswith("atari/") else {}

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``info_nce``, [N], nats; zero, connected to the graph, for fewer than 2 keys.

        Raises:
            SpecError: If ``augmentation_only`` is set and the RL loss has no augmentation.
        """
        generator = self.update_rng.generator(batch[Columns.OBS].device)
        queries, keys = self._views(batch, generator)
        latents = self._encode_queries(batch, queries)  # [N, D]
        query, key = self.head(latents), self._encode_keys(keys)
        positives = self._positives(query, generator)
        key = self.peers.gather(key)
        self._compared = None
        if len(key) < 2:
            return {"info_nce": 0.0 * (query @ self.weight).sum(dim=-1)}
        if len(query):
            weight = self.weight.detach().clone()  # an optimizer step changes it before `metrics`
            self._compared = _Compared(latents.detach(), query.detach(), key, weight, positives)
        scale = self.config.logits_scale or 1.0
        loss = bilinear_info_nce(query, key, self.weight, scale=scale, positives=positives)
        return {"info_nce": loss}

    def metrics(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``accuracy``, ``effective_rank`` and ``feature_std``; see ``diagnostics``."""
        del batch
        return {} if self._compared is None else diagnostics(*self._compared)

    def after_update(self) -> None:
        """Updates the key network unless the algorithm does, and renews the random draws."""
        tau = self.config.ema_tau or 1.0
        self.key_head.update(self.head, tau)
        if self.own_key_encoder is not None:
            self.own_key_encoder.update(self.encoder, tau)
        self.views.after_update(self.update_rng.num_updates, self.peers)
        self.update_rng.after_update()

    def _views(self, batch: Mapping[str, Any], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        raw, augmented = batch[Columns.OBS], batch.get(AUGMENTED_OBS)
        if augmented is None and self.config.augmentation_only:
            raise SpecError(
                "auxiliary.curl.augmentation_only=True needs an augmentation of the RL loss's "
                "observations: set model.augmentation (shift, crop), or leave the option out."
            )
        if augmented is None:
            first = self.views(raw, generator, peers=self.peers)
            return first, self.views(raw, generator, peers=self.peers)
        return augmented, self.views(raw, generator, like=augmented, peers=self.peers)

    def _encode_queries(self, batch: Mapping[str, Any], queries: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.trains == "encoder"):
            if queries is batch.get(AUGMENTED_OBS):
                return self.latents(batch, AUGMENTED_OBS)
            latents: Tensor = self.encoder(queries)
            return latents

    @torch.no_grad()
    def _encode_keys(self, keys: Tensor) -> Tensor:
        encode = self.key_encoder if self.own_key_encoder is None else self.own_key_encoder
        assert encode is not None  # for mypy: one of the two exists
        latents: Tensor = self.key_head(encode(keys))
        return latents

    def _positives(self, query: Tensor, generator: torch.Generator) -> Tensor:
        first, total = self.peers.rows(len(query))
        if not self.config.shuffled_positives:
            return torch.arange(first, first + len(query), device=query.device)
        order = torch.randperm(total, generator=generator, device=generator.device)
        return order[first : first + len(query)].to(query.device)

    def _make_head(self) -> nn.Module:
        width = int(self.encoder.output_dim)
        if self.config.variant == "atari":
            return Projection(width, trained_layernorm=self.config.trained_layernorm)
        normalize = self.config.normalize
        if normalize is None:
            layers = [layer for layer in self.encoder.modules() if not list(layer.children())]
            normalize = not isinstance(layers[-1], nn.LayerNorm)
        return nn.LayerNorm(width, elementwise_affine=False) if normalize else nn.Identity()


class _Compared(NamedTuple):
    """Arguments of `diagnostics`."""

    latents: Tensor
    query: Tensor
    key: Tensor
    weight: Tensor
    positives: Tensor


class Projection(nn.Module):
    """Linear, LayerNorm, ReLU, Linear, LayerNorm: [N, D] to [N, 128].

    Initial weights are drawn from U[0, 1), as published; initial biases are 0.
    """

    def __init__(self, in_dim: int, *, trained_layernorm: bool) -> None:
        super().__init__()
        hidden, out = _PROJECTION
        self.layers = Layers(
            Linear(in_dim, hidden),
            nn.LayerNorm(hidden, elementwise_affine=trained_layernorm),
            nn.ReLU(),
            Linear(hidden, out),
            nn.LayerNorm(out, elementwise_affine=trained_layernorm),
        )
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, latents: Tensor) -> Tensor:
        """[N, 128], the projection of latents [N, D]."""
        return self.layers(latents)


@torch.no_grad()
def diagnostics(
    latents: Tensor, query: Tensor, key: Tensor, weight: Tensor, positives: Tensor
) -> dict[str, Tensor]:
    """Measures how well CURL works, and whether the latents collapse.

    Args:
        latents: [N, D], latents of the encoder.
        query: [N, E], the heads' output for these latents.
        key: [M, E].
        weight: [E, E], the matrix W.
        positives: [N], index of the positive key of each query.

    Returns:
        - ``accuracy``: share of queries whose positive scores highest; 1 / M by chance. A query
          whose positive ties with k - 1 other keys counts as 1 / k.
        - ``effective_rank``: effective rank of the first 128 latents; see `effective_rank`.
        - ``feature_std``: standard deviation (std) of a feature over the batch, mean over the
          features; 0 if the latents have collapsed.
    """
    scores = bilinear_similarity(query, key, weight)
    best = scores.amax(dim=1, keepdim=True)
    is_best = scores.gather(1, positives[:, None]) == best
    return {
        "accuracy": (is_best / (scores == best).sum(dim=1, keepdim=True)).mean(),
        "effective_rank": effective_rank(latents[:NUM_ROWS]),
        "feature_std": latents.std(dim=0, correction=0).mean(),
    }
