"""SimSR: cosine distances of latents match those of rewards and predicted futures."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.auxiliary.latent_models import gather_rows
from rlssl.auxiliary.metric.pairwise import Outcomes, PairwiseConfig, PairwiseMetricLoss
from rlssl.losses import cosine_distance, gaussian_nll, pairwise_metric_loss
from rlssl.losses.pairwise_metrics import metric_target, unit_vectors
from rlssl.networks.action_encoding import action_dim, encode_action
from rlssl.networks.dynamics import TRANSITION_KINDS, TransitionModel


class SimSR(PairwiseMetricLoss):
    """Simple distance-based state representations.

    With the encoder phi, its target network phi', unit vectors z = phi(s) / |phi(s)|, and a
    transition model P from which next latents are drawn::

        simsr_i    = mean_j huber( (1 - cos(z_i, z_j))
                                   - |r_i - r_j| - gamma * (1 - cos(next z_i, next z_j)) )
                     with next z drawn from P(z', a), z' by phi'
        transition = negative log-likelihood of sg(z of the next observation) under P(z, a)

    over all rows j of the batch, i included. Both latents of a pair have a gradient. Equal states
    have the distance 0.

    Source:
        Zang et al. 2022, arXiv:2112.15303, and its published code. Differs: see PAPERS.md.
    """

    @dataclasses.dataclass(frozen=True)
    class Config(PairwiseConfig):
        """Options of SimSR."""

        # What the transition model predicts; see `rlssl.networks.dynamics.TransitionModel`.
        transition: str = "probabilistic"
        # Features of the model's hidden layer; >= 1.
        hidden: int = 512
        # Members of an ensemble; >= 1.
        num_models: int = 5

        def idle_options(self) -> dict[str, str]:
            """The members of an ensemble, if there is none."""
            is_used = self.transition == "ensemble"
            return super().idle_options() | (
                {} if is_used else {"num_models": "transition: ensemble"}
            )

        def __post_init__(self) -> None:
            """Checks ranges.

            Raises:
                ValueError: If a value is out of range; the message names field and value.
            """
            super().__post_init__()
            if self.transition not in TRANSITION_KINDS:
                raise ValueError(
                    f"transition must be one of {list(TRANSITION_KINDS)}; got {self.transition!r}."
                )
            self._check_whole("hidden", "num_models")

    config: Config

    reads = PairwiseMetricLoss.reads | {Columns.ACTIONS}

    def __init__(self, config: Config, **given: Any) -> None:
        super().__init__(config, **given)
        self.transition = TransitionModel(
            int(self.encoder.output_dim),
            action_dim(self.action_space),
            kind=config.transition,
            hidden=config.hidden,
            num_models=config.num_models,
        )
        # Distances and targets [N, total] in the last update, for `metrics`.
        self._compared: tuple[Tensor, Tensor] | None = None

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``simsr``, units of the scaled reward, and ``transition``, nats per feature; [N] each."""
        generator = self.update_rng.generator(batch[Columns.REWARDS].device)
        outcomes = self.outcomes(batch, generator)
        action = encode_action(batch[Columns.ACTIONS], self.action_space)
        latent = unit_vectors(self.latents(batch))
        mean, std = self.transition(latent, action)
        with torch.no_grad():
            next_latent = unit_vectors(self.encoder(outcomes.next_obs))
        nll = gaussian_nll(mean, std, next_latent)
        return {
            "simsr": self._metric_loss(batch, outcomes, latent, action, generator),
            "transition": nll.mean(dim=0) if nll.ndim == 2 else nll,
        }

    @torch.no_grad()
    def metrics(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Means over all pairs of the last update; empty if there were no rows.

        ``distance`` and ``target``: of the latents, and what they should be. ``unreachable``: share
        of pairs whose target is above 2, the largest distance; a smaller ``reward_scale`` helps.
        """
        del batch
        if self._compared is None or not len(self._compared[0]):
            return {}
        distance, target = self._compared
        return {
            "distance": distance.mean(),
            "target": target.mean(),
            "unreachable": (target > 2.0).float().mean(),
        }

    def _metric_loss(
        self,
        batch: Mapping[str, Any],
        outcomes: Outcomes,
        latent: Tensor,
        action: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        gamma, reward, rewards = self.config.gamma, outcomes.reward, outcomes.rewards
        predicted = self._predicted(batch[Columns.OBS], action, generator)
        next_distance = cosine_distance(predicted, self.peers.gather(predicted))
        distance = cosine_distance(latent, gather_rows(latent, self.peers))
        target = metric_target(next_distance, reward, rewards, gamma=gamma)
        self._compared = distance.detach(), target
        loss = pairwise_metric_loss(distance, next_distance, reward, rewards, gamma=gamma)
        # Each row occurs in as many pairs (j, i) as in pairs (i, j), with the same loss. So twice
        # the gradient of the first row equals the gradient of both rows, also for other Learners'.
        return 2.0 * loss - loss.detach()

    @torch.no_grad()
    def _predicted(self, observations: Any, action: Tensor, generator: torch.Generator) -> Tensor:
        """[N, D], unit next latents that the model draws for the target encoder's latents."""
        latent = unit_vectors(self.target_latents(observations))
        mean, std = self.transition(latent, action)
        rows = self.peers.rows(len(latent))
        drawn = self.transition.sample(mean, std, generator=generator, rows=rows)
        return unit_vectors(drawn)
