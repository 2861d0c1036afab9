"""Base of DeepMDP and DBC: models of the next latent and of the reward, and their options."""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.auxiliary.base import EncoderLoss, EncoderLossConfig
from rlssl.auxiliary.normalization import RunningMoments, divisor
from rlssl.losses import gaussian_nll
from rlssl.networks.action_encoding import action_dim, encode_action
from rlssl.networks.dynamics import TRANSITION_KINDS, RewardModel, TransitionModel
from rlssl.networks.encoders import Encoder
from rlssl.peers import Peers

#: How latents are normalized before the loss uses them; None: not at all.
LATENT_NORMS = (None, "layer", "max")


@dataclasses.dataclass(frozen=True)
class LatentModelConfig(EncoderLossConfig):
    """Options of the losses that learn models of the next latent and of the reward."""

    # What the transition model predicts: "smooth_l1" (the published code's ''), "deterministic",
    # "probabilistic" or "ensemble"; see `rlssl.networks.dynamics.TransitionModel`.
    transition: str = "smooth_l1"
    # Features of the models' hidden layer; >= 1; 512 in the published code.
    hidden: int = 512
    # Members of an ensemble; >= 1; 5 in the published code.
    num_models: int = 5
    # Whether the transition loss trains the encoder (as published) or the models only.
    self_prediction: bool = True
    # How latents are normalized: "layer" (LayerNorm without weights), "max" (scaled down to
    # `max_norm` if larger) or null (not at all).
    latent_norm: str | None = None
    # Largest norm of a latent with latent_norm "max", in units of the metric; > 0. The largest
    # bisimulation distance is (max reward - min reward) / (1 - gamma); the paper takes half of it.
    max_norm: float = 1.0
    # Whether rewards are divided by their running standard deviation (std).
    normalize_rewards: bool = False
    # Whether losses of the next latent leave out transitions that terminate an episode; the
    # published code keeps these transitions.
    mask_terminals: bool = False
    # "shared": the RL encoder learns from the loss. "own": a copy of the RL encoder learns from it,
    # so the loss does not affect the RL encoder (the isolated metric of later studies).
    features: str = "shared"

    def idle_options(self) -> dict[str, str]:
        """The members of an ensemble and the largest norm, if they are not used."""
        idle = super().idle_options()
        if self.transition != "ensemble":
            idle["num_models"] = "transition: ensemble"
        if self.latent_norm != "max":
            idle["max_norm"] = "latent_norm: max"
        return idle

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            ValueError: If a value is out of range; the message names field and value.
        """
        super().__post_init__()
        for key, known in (
            ("transition", TRANSITION_KINDS),
            ("latent_norm", LATENT_NORMS),
            ("features", ("shared", "own")),
        ):
            if getattr(self, key) not in known:
                raise ValueError(f"{key} must be one of {list(known)}; got {getattr(self, key)!r}.")
        self._check_whole("hidden", "num_models")
        if not self.max_norm > 0:
            raise ValueError(f"max_norm must be > 0; got {self.max_norm}.")
        if self.isolated and self.features == "own":
            raise ValueError(
                "isolated=True trains the RL encoder by the auxiliary losses only; features='own' "
                "trains it by the RL loss only. Set one of the two."
            )


class Transitions(NamedTuple):
    """A batch of transitions, encoded."""

    # [N, D], latents of the observations, with gradients.
    latent: Tensor
    # [N, D], latents of the next observations, without gradients.
    next_latent: Tensor
    # [N, A], encoded by `encode_action`.
    action: Tensor
    # [N], float; normalized if the config says so.
    reward: Tensor
    # [N, ...], raw next observations; of other rows with `shuffled_positives`.
    next_obs: Any
    # [M], indices of the rows that have a future: all, or those that do not terminate.
    with_future: Tensor


class LatentModelLoss(EncoderLoss):
    """Base of the losses with a transition and a reward model.

    Args:
        config: Options of the loss.
        reward_reads_action: Whether the reward model reads (latent, action); else it reads one
            latent.
        size_order: ``ord`` of the norm that latent_norm "max" bounds; see torch's ``vector_norm``.
        **given: See `AuxiliaryLoss`.
    """

    config: LatentModelConfig

    reads = frozenset({Columns.OBS, Columns.NEXT_OBS, Columns.ACTIONS, Columns.REWARDS})

    def __init__(
        self,
        config: LatentModelConfig,
        *,
        reward_reads_action: bool,
        size_order: float = 2,
        **given: Any,
    ) -> None:
        super().__init__(config, **given)
        if config.mask_terminals:
            self.reads = self.reads | {Columns.TERMINATEDS}
        self.own_encoder: Encoder | None = None
        if config.features == "own":
            self.trains = "own"
            self.own_encoder = copy.deepcopy(self.encoder)
        latent_dim, actions = int(self.encoder.output_dim), action_dim(self.action_space)
        self.transition = TransitionModel(
            latent_dim,
            actions,
            kind=config.transition,
            hidden=config.hidden,
            num_models=config.num_models,
        )
        self.reward = RewardModel(
            latent_dim, actions if reward_reads_action else 0, hidden=config.hidden
        )
        self.latent_norm = LatentNorm(config.latent_norm, config.max_norm, size_order)
        self.reward_moments = RunningMoments()
        # Whether the moments hold two rows. Kept, because reading their count waits for the device.
        self._knows_rewards = False
        self._rewards_seen: Tensor | None = None

    def after_update(self) -> None:
        """Adds the rewards of this update to their running std, and renews the random draws."""
        if self._rewards_seen is not None and len(self._rewards_seen):
            self.reward_moments.update(self._rewards_seen)
        self._rewards_seen = None
        super().after_update()

    def encode(self, observations: Any) -> Tensor:
        """[N, D], latents by the encoder that this loss trains, normalized by ``latent_norm``."""
        network = self.encoder if self.own_encoder is None else self.own_encoder
        return self.latent_norm(network(observations))

    def transitions(self, batch: Mapping[str, Any], generator: torch.Generator) -> Transitions:
        """Encodes the observations, next observations and actions of a batch."""
        next_obs, rewards = batch[Columns.NEXT_OBS], batch[Columns.REWARDS].float()
        if self.config.shuffled_positives:
            next_obs, rewards = self.of_other_rows((next_obs, rewards), generator)
        with torch.no_grad():
            next_latent = self.encode(next_obs)
        if self.own_encoder is None:
            latent = self.latent_norm(self.latents(batch))
        else:
            latent = self.encode(batch[Columns.OBS])
        ends = batch.get(Columns.TERMINATEDS) if self.config.mask_terminals else None
        rows = torch.arange(len(rewards), device=rewards.device)
        return Transitions(
            latent,
            next_latent,
            encode_action(batch[Columns.ACTIONS], self.action_space),
            self._normalized(rewards),
            next_obs,
            rows if ends is None else rows[~ends.bool()],
        )

    def predict(self, encoded: Transitions) -> tuple[Tensor, Tensor | None]:
        """Mean and std of the next latents, [N, D] or [K, N, D] each; see `TransitionModel`."""
        latent = encoded.latent if self.config.self_prediction else encoded.latent.detach()
        return self.transition(latent, encoded.action)

    def transition_loss(self, encoded: Transitions, mean: Tensor, std: Tensor | None) -> Tensor:
        """[M], nats per feature, for the rows that have a future."""
        rows = encoded.with_future
        loss = gaussian_nll(
            mean[..., rows, :],
            None if std is None else std[..., rows, :],
            encoded.next_latent[rows],
        )
        return loss.mean(dim=0) if loss.ndim == 2 else loss

    def sample(self, mean: Tensor, std: Tensor | None, generator: torch.Generator) -> Tensor:
        """[N, D], next latents drawn from the prediction."""
        rows = self.peers.rows(mean.shape[-2])
        return self.transition.sample(mean, std, generator=generator, rows=rows)

    def _normalized(self, rewards: Tensor) -> Tensor:
        if not self.config.normalize_rewards:
            return rewards
        self._rewards_seen = self.peers.gather(rewards)
        mean, variance = self.reward_moments.mean, self.reward_moments.variance
        self._knows_rewards = self._knows_rewards or bool(self.reward_moments.count >= 2)
        if not self._knows_rewards and len(self._rewards_seen):
            mean, variance = self._rewards_seen.mean(), self._rewards_seen.var(correction=0)
        return rewards / divisor(mean, variance)


class LatentNorm(nn.Module):
    """Normalizes latents [N, D]: ``layer``, ``max`` or None; see `LatentModelConfig`.

    Source:
        max: Kemertas and Aumentado-Armstrong 2021, arXiv:2110.14096, which bounds latents by half
        of the largest bisimulation distance. Differs: here the bound is an option, and its norm is
        the norm of the distance.
    """

    def __init__(self, kind: str | None, max_norm: float, order: float) -> None:
        super().__init__()
        self.kind, self.max_norm, self.order = kind, max_norm, order

    def forward(self, latents: Tensor) -> Tensor:
        """[N, D], normalized latents from latents [N, D]."""
        if self.kind == "layer":
            return nn.functional.layer_norm(latents, latents.shape[-1:])
        if self.kind == "max":
            size = torch.linalg.vector_norm(latents, self.order, dim=-1, keepdim=True)
            return latents * (self.max_norm / size.clamp(min=self.max_norm))
        return latents


def gather_rows(value: Tensor, peers: Peers) -> Tensor:
    """[..., total, D], rows of all Learners, from this Learner's [..., N, D]; no gradients."""
    return peers.gather(value.detach().transpose(0, -2).contiguous()).transpose(0, -2)
