"""What DeepMDP and DBC share: models of the next latent and of the reward, and their options."""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.auxiliary.base import AuxiliaryLoss, AuxiliaryLossConfig
from rlssl.auxiliary.normalization import RunningMoments
from rlssl.batches import take_rows
from rlssl.losses import gaussian_nll
from rlssl.networks.action_encoding import action_dim, encode_action
from rlssl.networks.dynamics import TRANSITION_KINDS, RewardModel, TransitionModel
from rlssl.networks.encoders import Encoder
from rlssl.networks.update_rng import UpdateRNG
from rlssl.peers import Peers

#: How latents are normalised before the loss sees them; None: not.
LATENT_NORMS = (None, "layer", "max")


@dataclasses.dataclass(frozen=True)
class LatentModelConfig(AuxiliaryLossConfig):
    """Options of the losses that learn models of the next latent and of the reward."""

    # What the transition model predicts: "smooth_l1" (the published code's ''), "deterministic",
    # "probabilistic" or "ensemble"; see `rlssl.networks.dynamics.TransitionModel`.
    transition: str = "smooth_l1"
    # Features of the models' hidden layer; >= 1; the published code's 512.
    hidden: int = 512
    # Members of an ensemble; >= 1; the published code's 5.
    num_models: int = 5
    # Whether the transition loss trains the encoder, as published, or the models alone.
    self_prediction: bool = True
    # Of latents: "layer" (LayerNorm without weights), "max" (scaled down to `max_norm`), or null.
    latent_norm: str | None = None
    # Largest size of a latent under latent_norm "max", units of the metric; > 0. Half of
    # (largest - least reward) / (1 - gamma) bounds every bisimulation distance.
    max_norm: float = 1.0
    # Whether rewards are divided by their running deviation.
    normalize_rewards: bool = False
    # Whether transitions that end an episode by termination are left out of what concerns the
    # next latent; the published code keeps them.
    mask_terminals: bool = False
    # "shared": the RL encoder learns from the loss. "own": a copy of it does, beside the RL loss,
    # which then sees nothing of it (the isolated metric of later studies).
    features: str = "shared"
    # Control: next observations and rewards are those of other rows.
    shuffled_positives: bool = False
    # Control: the RL loss trains no encoder; this one and the other losses do.
    isolated: bool = False

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            ValueError: Naming the field and the value.
        """
        super().__post_init__()
        for key, known in (
            ("transition", TRANSITION_KINDS),
            ("latent_norm", LATENT_NORMS),
            ("features", ("shared", "own")),
        ):
            if getattr(self, key) not in known:
                raise ValueError(f"{key} must be one of {list(known)}; got {getattr(self, key)!r}.")
        for key in ("hidden", "num_models"):
            value = getattr(self, key)
            if type(value) is not int or value < 1:
                raise ValueError(f"{key} must be a whole number >= 1; got {value!r}.")
        if not self.max_norm > 0:
            raise ValueError(f"max_norm must be > 0; got {self.max_norm}.")
        flags = ("self_prediction", "normalize_rewards", "mask_terminals")
        for key in (*flags, "shuffled_positives", "isolated"):
            if not isinstance(getattr(self, key), bool):
                raise ValueError(f"{key} must be true or false; got {getattr(self, key)!r}.")
        if self.isolated and self.features == "own":
            raise ValueError(
                "isolated=True trains the RL encoder by the losses alone, which features='own' "
                "leaves to the RL loss; choose one."
            )


class Transitions(NamedTuple):
    """A batch as the losses see it."""

    # [N, D], with gradients, and [N, D] of the next observations, without.
    latent: Tensor
    next_latent: Tensor
    # [N, A], coded.
    action: Tensor
    # [N], float; normalised where that is asked for.
    reward: Tensor
    # [M], the rows that have a future.
    lasting: Tensor


class LatentModelLoss(AuxiliaryLoss):
    """Base of the losses with a transition and a reward model.

    Args:
        config: Its options.
        reward_reads_action: Whether the reward model reads (latent, action), or the predicted next
            latent.
        size_order: Of the norm that latent_norm "max" bounds, as torch's ``vector_norm`` has it.
        **given: As for every `AuxiliaryLoss`.
    """

    config: LatentModelConfig

    reads = frozenset({Columns.OBS, Columns.NEXT_OBS, Columns.ACTIONS, Columns.REWARDS})
    controls = frozenset({"shuffled_positives", "isolated"})

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
        self.update_rng = UpdateRNG()
        self._rewards_seen: Tensor | None = None

    def after_update(self) -> None:
        """Takes the rewards of the update into their deviation, and turns to new draws."""
        if self._rewards_seen is not None and len(self._rewards_seen):
            self.reward_moments.take_in(self._rewards_seen)
        self._rewards_seen = None
        self.update_rng.after_update()

    def encode(self, observations: Any) -> Tensor:
        """[N, D], latents as the loss compares them."""
        network = self.encoder if self.own_encoder is None else self.own_encoder
        return self.latent_norm(network(observations))

    def transitions(self, batch: Mapping[str, Any], generator: torch.Generator) -> Transitions:
        """Encodes a batch."""
        next_obs, rewards = batch[Columns.NEXT_OBS], batch[Columns.REWARDS].float()
        if self.config.shuffled_positives:
            order = torch.randperm(len(rewards), generator=generator).to(rewards.device)
            next_obs, rewards = take_rows(next_obs, order), rewards[order]
        with torch.no_grad():
            next_latent = self.encode(next_obs)
        if self.own_encoder is None:
            latent = self.latent_norm(self.latents(batch))
        else:
            latent = self.encode(batch[Columns.OBS])
        ends = batch.get(Columns.TERMINATEDS) if self.config.mask_terminals else None
        lasting = torch.arange(len(rewards), device=rewards.device)
        return Transitions(
            latent,
            next_latent,
            encode_action(batch[Columns.ACTIONS], self.action_space),
            self._normalized(rewards),
            lasting if ends is None else lasting[~ends.bool()],
        )

    def predict(self, seen: Transitions) -> tuple[Tensor, Tensor | None]:
        """Mean and deviation of the next latents, [N, D] or [K, N, D]; see `TransitionModel`."""
        latent = seen.latent if self.config.self_prediction else seen.latent.detach()
        return self.transition(latent, seen.action)

    def transition_loss(self, seen: Transitions, mean: Tensor, std: Tensor | None) -> Tensor:
        """[M], of the rows with a future; nats a feature."""
        rows = seen.lasting
        loss = gaussian_nll(
            mean[..., rows, :],
            None if std is None else std[..., rows, :],
            seen.next_latent[rows],
        )
        return loss.mean(dim=0) if loss.ndim == 2 else loss

    def sample(self, mean: Tensor, std: Tensor | None, generator: torch.Generator) -> Tensor:
        """[N, D], next latents as predicted."""
        rows = self.peers.rows(mean.shape[-2])
        return self.transition.sample(mean, std, generator=generator, rows=rows)

    def _normalized(self, rewards: Tensor) -> Tensor:
        if not self.config.normalize_rewards:
            return rewards
        self._rewards_seen = self.peers.gather(rewards)
        variance = self.reward_moments.variance
        if not self.reward_moments.count and len(self._rewards_seen):
            variance = self._rewards_seen.var(correction=0)
        return rewards / torch.where(variance > 0, variance, 1.0).sqrt()


class LatentNorm(nn.Module):
    """Normalises latents [N, D]: ``layer``, ``max`` or None; see `LatentModelConfig`.

    Source:
        max: Kemertas and Aumentado-Armstrong 2021, arXiv:2110.14096, which bounds latents by half
        of the largest bisimulation distance. Differs: the bound is an option, and its norm that of
        the distance.
    """

    def __init__(self, kind: str | None, max_norm: float, order: float) -> None:
        super().__init__()
        self.kind, self.max_norm, self.order = kind, max_norm, order

    def forward(self, latents: Tensor) -> Tensor:
        """[N, D] to the same."""
        if self.kind == "layer":
            return nn.functional.layer_norm(latents, latents.shape[-1:])
        if self.kind == "max":
            size = torch.linalg.vector_norm(latents, self.order, dim=-1, keepdim=True)
            return latents * (self.max_norm / size.clamp(min=self.max_norm))
        return latents


def gather_rows(value: Tensor, peers: Peers) -> Tensor:
    """[..., total, D] of all Learners from [..., N, D]; without gradients."""
    return peers.gather(value.detach().transpose(0, -2).contiguous()).transpose(0, -2)
