"""DeepMDP: latents that predict the reward and the next latent."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.auxiliary.latent_models import LatentModelConfig, LatentModelLoss, Transitions
from rlssl.auxiliary.reconstruction import Reconstruction
from rlssl.losses import lipschitz_penalty
from rlssl.networks.dynamics import draw_member, pick

#: What a decoder may reconstruct; None: no decoder.
DECODERS = (None, "observation", "next_observation")


class DeepMDP(LatentModelLoss):
    """DeepMDP, as in the published code of DBC.

    With the encoder phi, a transition model P and a reward model R::

        transition     = negative log-likelihood of sg(phi(s')) under P(phi(s), a)
        reward         = (R(phi(s), a) - r)^2
        penalty        = gradient_penalty * (max(0, |dP/dphi| - 1)^2 + max(0, |dR/dphi| - 1)^2)
        reconstruction = mean square of decoder(phi(s)) - s, or of decoder(z') - s'

    with z' drawn from P. The last two losses exist only if options ask for them.

    Source:
        Gelada et al. 2019, arXiv:1906.02736; published code of Zhang et al. 2020,
        arXiv:2006.10742. Differs: see PAPERS.md.
    """

    @dataclasses.dataclass(frozen=True)
    class Config(LatentModelConfig):
        """Options of DeepMDP."""

        # DBC's code uses this kind for DeepMDP.
        transition: str = "deterministic"
        # Weight of the penalty on slopes of the models above 1; >= 0; 0: no penalty.
        gradient_penalty: float = 0.0
        # What is decoded: "observation" (from its latent), "next_observation" (from the predicted
        # latent; 'pixel' in the published code) or null (nothing; 'identity' in that code).
        decoder: str | None = None

        def __post_init__(self) -> None:
            """Checks ranges.

            Raises:
                ValueError: If a value is out of range; the message names field and value.
            """
            super().__post_init__()
            if self.decoder not in DECODERS:
                raise ValueError(f"decoder must be one of {list(DECODERS)}; got {self.decoder!r}.")
            if not self.gradient_penalty >= 0:
                raise ValueError(f"gradient_penalty must be >= 0; got {self.gradient_penalty}.")

    config: Config

    def __init__(self, config: Config, **given: Any) -> None:
        super().__init__(config, reward_reads_action=True, **given)
        # Latents and next latents of the last update, [N, D] each, for `metrics`.
        self._step: tuple[Tensor, Tensor] | None = None
        self.reconstruction: Reconstruction | None = None
        if config.decoder is not None:
            self.reconstruction = Reconstruction(
                self.observation_space, self.encoder, hidden=config.hidden
            )

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``transition`` (nats per feature) and ``reward``; ``penalty``, ``reconstruction``.

        Each is [N]. With ``mask_terminals``, losses of the next latent or the next observation do
        not include the terminal rows.
        """
        generator = self.update_rng.generator(batch[Columns.ACTIONS].device)
        encoded = self.transitions(batch, generator)
        mean, std = self.predict(encoded)
        predicted = self.reward(encoded.latent, encoded.action)
        losses = {
            "transition": self.transition_loss(encoded, mean, std),
            "reward": (predicted - encoded.reward).square(),
        }
        self._step = encoded.latent.detach(), encoded.next_latent
        if self.config.gradient_penalty > 0:
            losses["penalty"] = self.config.gradient_penalty * self._penalty(encoded, generator)
        if self.reconstruction is not None:
            latent, observation = encoded.latent, batch[Columns.OBS]
            if self.config.decoder == "next_observation":
                rows = encoded.with_future
                latent = self.sample(mean, std, generator)[rows]
                observation = encoded.next_obs[rows]
            losses["reconstruction"] = self.reconstruction(
                latent, observation, generator, self.peers
            )
        return losses

    def metrics(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``step_distance``, mean distance from latent to next latent; empty if no rows."""
        del batch
        if self._step is None or not len(self._step[0]):
            return {}
        latent, next_latent = self._step
        return {"step_distance": (latent - next_latent).norm(dim=-1).mean()}

    def after_update(self) -> None:
        """Does what the base class does, and updates the scale of the decoder's targets."""
        super().after_update()
        if self.reconstruction is not None:
            self.reconstruction.after_update()

    def _penalty(self, encoded: Transitions, generator: torch.Generator) -> Tensor:
        """[N], slope penalty of both models at the latents; only the models get gradients."""
        latent = encoded.latent.detach().requires_grad_()
        mean, _ = self.transition(latent, encoded.action)
        if mean.ndim == 3:
            mean = pick(mean, draw_member(len(mean), generator))
        first, total = self.peers.rows(len(latent))
        shape = (total, latent.shape[1])
        drawn = torch.randn(shape, generator=generator, device=generator.device)
        direction = nn.functional.normalize(drawn[first : first + len(latent)], dim=-1)
        reward = self.reward(latent, encoded.action)
        return lipschitz_penalty(mean, latent, direction.to(latent)) + lipschitz_penalty(
            reward[:, None], latent, torch.ones_like(reward)[:, None]
        )
