"""Deep bisimulation for control: latents as far apart as rewards and futures are."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.auxiliary.base import MEAN_ACTION
from rlssl.auxiliary.latent_models import (
    LatentModelConfig,
    LatentModelLoss,
    Transitions,
    gather_rows,
)
from rlssl.losses import bisimulation_loss
from rlssl.losses.bisimulation import metric_distances

VARIANTS = ("code", "paper")


class Bisimulation(LatentModelLoss):
    """Deep bisimulation for control (DBC).

    With the encoder phi, a transition model P, a reward model R, and a random partner j of every
    row i::

        transition   = negative log-likelihood of sg(phi(s')) under P(phi(s), a)
        reward       = (R(z') - r)^2                        z' drawn from P(phi(s), a)
        bisimulation = weight * (distance of the latents i and j
                                 - distance of the rewards - gamma * distance of the futures)^2

    ``code`` compares feature by feature, by smooth L1, with the replayed rewards and actions.
    ``paper`` (eq. 4) compares whole latents by their L1 distance, with the rewards and the
    Gaussians that the models predict for the policy's mean action, by the 2-Wasserstein distance.
    See ``rlssl.losses.bisimulation_loss``. What latents are compared with has no gradient; both
    latents of a pair have.

    Where all rewards are equal, all latents being equal is a solution; ``normalize_rewards`` and
    ``latent_norm`` are there for rewards that are nearly so.

    Source:
        Zhang et al. 2020, arXiv:2006.10742, and its published code. Differs: see PAPERS.md.
    """

    @dataclasses.dataclass(frozen=True)
    class Config(LatentModelConfig):
        """Options of DBC."""

        # "code" (as published) or "paper" (eq. 4).
        variant: str = "code"
        # Weight of the bisimulation loss beside those of the models; >= 0; the published 0.5.
        weight: float = 0.5
        # Discount of the metric, per agent step; in [0, 1]; the published 0.99.
        gamma: float = 0.99

        def __post_init__(self) -> None:
            """Checks ranges.

            Raises:
                ValueError: Naming the field and the value.
            """
            super().__post_init__()
            if self.variant not in VARIANTS:
                raise ValueError(f"variant must be one of {list(VARIANTS)}; got {self.variant!r}.")
            if not self.weight >= 0:
                raise ValueError(f"weight must be >= 0; got {self.weight}.")
            if not 0.0 <= self.gamma <= 1.0:
                raise ValueError(f"gamma must be in [0, 1]; got {self.gamma}.")

    config: Config

    def __init__(self, config: Config, **given: Any) -> None:
        # Of the distance in which the variant measures: the largest feature, or their sum.
        order = float("inf") if config.variant == "code" else 1
        super().__init__(config, reward_reads_action=False, size_order=order, **given)
        if config.variant == "paper":
            self.reads = self.reads | {MEAN_ACTION}
        # Arguments of `metric_distances`, of the last update, for `metrics`.
        self._compared: dict[str, Any] = {}

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``transition`` (nats a feature), ``reward`` and the weighted ``bisimulation``.

        Each [N]; without the rows that ``mask_terminals`` leaves out, but for ``reward``.
        """
        generator = self.update_rng.generator()
        partners = self._partners(batch, generator)
        seen = self.transitions(batch, generator)
        mean, std = self.predict(seen)
        predicted = self.reward(self.sample(mean, std, generator))
        mean_action = batch[MEAN_ACTION] if self.config.variant == "paper" else None
        metric = self._metric(seen, mean, std, mean_action, partners)
        return {
            "transition": self.transition_loss(seen, mean, std),
            "reward": (predicted - seen.reward).square(),
            "bisimulation": self.config.weight * metric,
        }

    def metrics(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Means of the distances that the loss compared; none for no rows."""
        del batch
        if not self._compared or not len(self._compared["reward_i"]):
            return {}
        distances = metric_distances(**self._compared, variant=self.config.variant)
        return {f"{key}_distance": value.mean() for key, value in distances.items()}

    def _partners(self, batch: Mapping[str, Any], generator: torch.Generator) -> Tensor:
        """[total], a permutation of the rows of all Learners that have a future."""
        num = len(batch[Columns.ACTIONS])
        if self.config.mask_terminals:
            num = int((~batch[Columns.TERMINATEDS].bool()).sum())
        _, total = self.peers.rows(num)
        return torch.randperm(total, generator=generator)

    def _metric(
        self,
        seen: Transitions,
        mean: Tensor,
        std: Tensor | None,
        mean_action: Tensor | None,
        partners: Tensor,
    ) -> Tensor:
        """[M], unweighted."""
        reward = seen.reward
        if mean_action is not None:
            with torch.no_grad():
                mean, std = self.transition(seen.latent, mean_action)
                reward = self.reward(mean)
                reward = reward.mean(dim=0) if reward.ndim == 2 else reward
        std = self.transition.comparable_std(mean, std)
        rows = seen.lasting
        columns = {
            "latent": seen.latent[rows],
            "reward": reward[rows],
            "mean": mean[..., rows, :].detach(),
            "std": None if std is None else std[..., rows, :].detach(),
        }
        partners = partners.to(rows.device)
        if self.peers.size == 1:
            return self._compare(columns, columns, partners)
        # Each Learner has the gradient of its own rows: as the first of a pair, and as the second.
        everyone = self._gathered(columns)
        first, _ = self.peers.rows(len(rows))
        own = slice(first, first + len(rows))
        loss = self._compare(columns, everyone, partners[own])
        other = self._compare(columns, everyone, partners.argsort()[own], record=False)
        return loss + other - other.detach()

    def _gathered(self, columns: Mapping[str, Tensor | None]) -> dict[str, Tensor | None]:
        gathered = {
            key: None if value is None else gather_rows(value, self.peers)
            for key, value in columns.items()
            if key != "reward"
        }
        reward = columns["reward"]
        assert reward is not None  # for mypy
        return {**gathered, "reward": self.peers.gather(reward.detach())}

    def _compare(
        self, ours: Mapping[str, Any], theirs: Mapping[str, Any], index: Tensor, record: bool = True
    ) -> Tensor:
        """[M], of rows ``ours`` with the rows ``index`` of ``theirs``."""
        pairs = {f"{key}_i": value for key, value in ours.items()}
        pairs |= {
            f"{key}_j": None if value is None else _rows_of(key, value, index)
            for key, value in theirs.items()
        }
        variant = self.config.variant
        if record:
            self._compared = {k: None if v is None else v.detach() for k, v in pairs.items()}
        return bisimulation_loss(**pairs, gamma=self.config.gamma, variant=variant)


def _rows_of(key: str, value: Tensor, index: Tensor) -> Tensor:
    return value[index] if key == "reward" else value[..., index, :]
