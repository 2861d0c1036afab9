"""CURL: contrastive learning; two views of one observation are a positive pair."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.auxiliary.contrastive.base import (
    KeyViewLoss,
    ViewConfig,
    spread,
    top_one_accuracy,
)
from rlssl.errors import SpecError
from rlssl.losses import bilinear_info_nce
from rlssl.losses.contrastive import bilinear_similarity
from rlssl.networks.layers.linear import Layers, Linear

#: Defaults of each variant.
_VARIANTS: dict[str, dict[str, Any]] = {
    "dmc": {"ema_tau": 0.05, "logits_scale": 1.0},
    "atari": {"ema_tau": 0.001, "logits_scale": 0.1},
}

# Sizes of the hidden and the output layer of the projection in `atari`.
_PROJECTION = (256, 128)


class CURL(KeyViewLoss):
    """Contrastive unsupervised representations for reinforcement learning.

    With two random views q, k of each observation, the encoder phi, its target network phi', a
    head h (the identity for ``dmc``, a projection for ``atari``) and a learned W::

        logits_ij = logits_scale * h(phi(q_i)) W h'(phi'(k_j))
        loss_i    = cross-entropy of softmax(logits_i) against i
        phi'      = (1 - ema_tau) * phi' + ema_tau * phi, and h' likewise, after every update

    The queries are the first views, the keys the second ones; see `ViewLoss`.

    Source:
        Laskin et al. 2020, arXiv:2004.04136, and its published code for DMControl (``dmc``) and
        Atari (``atari``). Differs: see PAPERS.md.
    """

    @dataclasses.dataclass(frozen=True)
    class Config(ViewConfig):
        """Options of CURL; None: the variant's default, or a value that suits the input."""

        # "dmc" (SAC on DMControl) or "atari" (data-efficient Rainbow); None: atari for environments
        # named `atari/...`, else dmc.
        variant: str | None = None
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

        def idle_options(self) -> dict[str, str]:
            """The normalization of the other variant's projection."""
            idle = {"normalize": "variant: dmc"} if self.variant == "atari" else {}
            return {**super().idle_options(), **idle}

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
            self._check_positive("logits_scale")
            if self.ema_tau is None or not 0.0 < self.ema_tau <= 1.0:
                raise ValueError(f"ema_tau must be in (0, 1]; got {self.ema_tau}.")
            if self.double_encoder_step and self.variant != "dmc":
                raise ValueError("double_encoder_step is an option of variant 'dmc' only.")
            if self.trained_layernorm and self.variant != "atari":
                raise ValueError("trained_layernorm is an option of variant 'atari' only.")

    config: Config

    def __init__(self, config: Config, **given: Any) -> None:
        is_atari = config.variant == "atari"
        super().__init__(config, tau=config.ema_tau or 1.0, crop_first=is_atari, **given)
        if config.double_encoder_step and self.key_encoder is None:
            raise SpecError(
                "auxiliary.curl.double_encoder_step=True needs an algorithm whose target critic "
                "has an encoder and whose auxiliary losses have their own optimizer (sac or ddpg "
                "with training.auxiliary_step: separate); use one of them or leave the option out."
            )
        dim = _PROJECTION[1] if is_atari else self.encoder.output_dim
        self.weight = nn.Parameter(torch.rand(dim, dim))
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
        queries, keys = self.draw_views(batch, generator)
        latents = self.encode(batch, queries)  # [N, D]
        query, key = self.head(latents), self.encode_keys(keys)
        positives = self.positives(len(query), generator, query.device)
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

    def make_head(self) -> nn.Module:
        """The identity or a LayerNorm (dmc), or a projection (atari)."""
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
        ``accuracy`` (see `top_one_accuracy`), ``effective_rank`` and ``feature_std`` (see
        `spread`).
    """
    scores = bilinear_similarity(query, key, weight)
    return {"accuracy": top_one_accuracy(scores, positives), **spread(latents)}
