"""Autoencoders: a decoder must make the observation of its latent."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.auxiliary.base import EncoderLoss, EncoderLossConfig
from rlssl.auxiliary.reconstruction import Reconstruction
from rlssl.losses import standard_normal_kl
from rlssl.networks.layers.linear import Linear

VARIANTS = ("deterministic", "vae")

#: Nats from which on a feature of the VAE counts as used.
KL_FLOOR = 0.01


class Autoencoder(EncoderLoss):
    """Reconstructs observations from the RL encoder's latents.

    With the encoder phi and a decoder g::

        deterministic: reconstruction = mean square over elements of g(phi(s)) - s
                       penalty        = latent_penalty * 0.5 ||phi(s)||^2
        vae:           reconstruction = the same for g(m + exp(v / 2) * noise)
                       kl             = beta * sum over features of KL(N(m, exp(v)) || N(0, 1))

    where m and v are linear in phi(s). In both variants the policy reads phi(s); it never reads m
    or the noise. Observations are in the units of `Reconstruction`: images have 5 bits and a
    dither, vectors are in running standard deviations.

    The reconstruction averages over elements, and the KL sums over features. In nats, with P
    elements and a unit-variance Gaussian decoder, ``beta = 2 / P`` is the evidence lower bound.

    Source:
        deterministic: Yarats et al. 2019, arXiv:1910.01741, and its published code (SAC-AE).
        vae: Kingma and Welling 2013, arXiv:1312.6114; Higgins et al. 2017 (beta-VAE).
        Differs: see PAPERS.md.
    """

    @dataclasses.dataclass(frozen=True)
    class Config(EncoderLossConfig):
        """Options of autoencoders."""

        # "deterministic" (SAC-AE) or "vae" (noise on the decoder's input, and a KL divergence).
        variant: str = "deterministic"
        # Weight of half the squared norm of the latent; >= 0; None: 1e-6 as published
        # (deterministic), 0 (vae).
        latent_penalty: float | None = None
        # Weight of the KL divergence (vae), relative to the mean square over elements; >= 0.
        beta: float = 1e-5
        # Features of the hidden layer of a decoder of vectors; >= 1.
        hidden: int = 512

        def idle_options(self) -> dict[str, str]:
            """The weight of the KL divergence, if there is none."""
            idle = {} if self.variant == "vae" else {"beta": "variant: vae"}
            return {**super().idle_options(), **idle}

        def __post_init__(self) -> None:
            """Fills in the variant's defaults, and checks ranges.

            Raises:
                ValueError: If a value is out of range; the message names field and value.
            """
            super().__post_init__()
            if self.variant not in VARIANTS:
                raise ValueError(f"variant must be one of {list(VARIANTS)}; got {self.variant!r}.")
            if self.latent_penalty is None:
                default = 1e-6 if self.variant == "deterministic" else 0.0
                object.__setattr__(self, "latent_penalty", default)
            for key in ("latent_penalty", "beta"):
                if not getattr(self, key) >= 0:
                    raise ValueError(f"{key} must be >= 0; got {getattr(self, key)}.")
            if type(self.hidden) is not int or self.hidden < 1:
                raise ValueError(f"hidden must be a whole number >= 1; got {self.hidden!r}.")

    config: Config

    reads = frozenset({Columns.OBS})

    def __init__(self, config: Config, **given: Any) -> None:
        super().__init__(config, **given)
        width = int(self.encoder.output_dim)
        self.reconstruction = Reconstruction(
            self.observation_space, self.encoder, hidden=config.hidden
        )
        self.posterior = Posterior(width) if config.variant == "vae" else None
        # [N, D], nats, in the last update; for `metrics`.
        self._kl: Tensor | None = None

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``reconstruction``, squared units of the target; ``penalty`` or ``kl``; each is [N]."""
        observations = batch[Columns.OBS]
        generator = self.update_rng.generator(observations.device)
        latent = self.latents(batch)
        losses: dict[str, Tensor] = {}
        if self.config.latent_penalty:
            losses["penalty"] = self.config.latent_penalty * 0.5 * latent.square().sum(dim=-1)
        if self.posterior is not None:
            mean, log_variance = self.posterior(latent)
            divergence = standard_normal_kl(mean, log_variance)
            self._kl = divergence.detach()
            losses["kl"] = self.config.beta * divergence.sum(dim=-1)
            latent = mean + (0.5 * log_variance).exp() * self._noise(mean, generator)
        if self.config.shuffled_positives:
            observations = self.of_other_rows(observations, generator)
        error = self.reconstruction(latent, observations, generator, self.peers)
        return {"reconstruction": error, **losses}

    def metrics(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Empty if there were no rows.

        ``error_of_mean``: the reconstruction error of the mean observation of the minibatch, which
        a decoder that learns something stays below. For ``vae``: ``kl_per_feature``, nats, before
        ``beta``; ``used_features``, the share of features whose KL divergence, averaged over rows,
        is above 0.01 nats. At 0 the posterior has collapsed: the decoder ignores the latent.
        """
        observations = batch[Columns.OBS]
        if not len(observations):
            return {}
        generator = self.update_rng.generator(observations.device)
        error = self.reconstruction.error_of_mean(observations, generator)
        metrics = {"error_of_mean": error}
        if self._kl is not None:
            metrics["kl_per_feature"] = self._kl.mean()
            metrics["used_features"] = (self._kl.mean(dim=0) > KL_FLOOR).float().mean()
        return metrics

    def after_update(self) -> None:
        """Updates the scale of the decoder's targets, and renews the random draws."""
        self.reconstruction.after_update()
        super().after_update()

    def _noise(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """[N, D], standard normal: this Learner's rows of the draw for the rows of all Learners."""
        first, total = self.peers.rows(len(like))
        shape = (total, like.shape[1])
        drawn = torch.randn(shape, generator=generator, device=generator.device)
        return drawn[first : first + len(like)].to(like)


class Posterior(nn.Module):
    """Mean and log-variance of a diagonal Gaussian, each linear in the latent."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean, self.log_variance = Linear(width, width), Linear(width, width)

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """[N, D] and [N, D], from latents [N, D]."""
        return self.mean(latent), self.log_variance(latent)
