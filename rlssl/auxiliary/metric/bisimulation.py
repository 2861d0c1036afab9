"""Deep bisimulation for control: distances of latents match those of rewards and futures."""

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

    With the encoder phi, a transition model P, a reward model R, and a random partner row j for
    each row i::

        transition   = negative log-likelihood of sg(phi(s')) under P(phi(s), a)
        reward       = (R(z') - r)^2        code            z' drawn from P(phi(s), a)
                       (R(phi(s)) - r)^2    paper
        bisimulation = weight * (distance of the latents i and j
                                 - distance of the rewards - gamma * distance of the futures)^2

    The variant ``code`` compares each feature by smooth L1; it uses the rewards and actions of the
    batch. The variant ``paper`` (eq. 4) compares whole latents by their L1 distance. It uses the
    rewards R(phi(s)) of the current latents, and the Gaussians P(phi(s), mean action of the
    policy), which it compares by their 2-Wasserstein distance. See
    ``rlssl.losses.bisimulation_loss``. The gradient flows into both latents of a pair, not into the
    distances of rewards and futures.

    If all rewards are equal, equal latents are a solution: the latents collapse. For rewards that
    are nearly equal, ``normalize_rewards`` and ``latent_norm`` help.

    Source:
        Zhang et al. 2020, arXiv:2006.10742, and its published code. Differs: see PAPERS.md.
    """

    @dataclasses.dataclass(frozen=True)
    class Config(LatentModelConfig):
        """Options of DBC."""

        # "code" (as published) or "paper" (eq. 4).
        variant: str = "code"
        # Weight of the bisimulation loss relative to the models' losses; >= 0; 0.5 as published.
        weight: float = 0.5
        # Discount of the metric, per agent step; in [0, 1]; 0.99 as published.
        gamma: float = 0.99

        def __post_init__(self) -> None:
            """Checks ranges.

            Raises:
                ValueError: If a value is out of range; the message names field and value.
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
        # Norm of the variant's distance: the largest feature (code) or the sum of them (paper).
        order = float("inf") if config.variant == "code" else 1
        super().__init__(config, reward_reads_action=False, size_order=order, **given)
        if config.variant == "paper":
            self.reads = self.reads | {MEAN_ACTION}
        # Arguments of `metric_distances` in the last update, for `metrics`.
        self._compared: dict[str, Any] = {}

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``transition`` (nats per feature), ``reward`` and the weighted ``bisimulation``.

        Each is [N]. With ``mask_terminals``, only ``reward`` includes the terminal rows.
        """
        generator = self.update_rng.generator(batch[Columns.ACTIONS].device)
        partners = self.draw_partners(batch, generator)
        encoded = self.transitions(batch, generator)
        mean, std = self.predict(encoded)
        predicted = self._predicted_reward(encoded, mean, std, generator)
        mean_action = batch[MEAN_ACTION] if self.config.variant == "paper" else None
        metric = self._metric(encoded, mean, std, mean_action, partners)
        return {
            "transition": self.transition_loss(encoded, mean, std),
            "reward": (predicted - encoded.reward).square(),
            "bisimulation": self.config.weight * metric,
        }

    def metrics(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Mean distances of latents, rewards and futures; empty if there were no rows."""
        del batch
        if not self._compared or not len(self._compared["reward_i"]):
            return {}
        distances = metric_distances(**self._compared, variant=self.config.variant)
        return {f"{key}_distance": value.mean() for key, value in distances.items()}

    def draw_partners(self, batch: Mapping[str, Any], generator: torch.Generator) -> Tensor:
        """[total], the partner of each row: a permutation of the rows of all Learners.

        With ``mask_terminals``, terminal rows are left out.
        """
        num = len(batch[Columns.ACTIONS])
        if self.config.mask_terminals:
            num = int((~batch[Columns.TERMINATEDS].bool()).sum())
        _, total = self.peers.rows(num)
        return torch.randperm(total, generator=generator, device=generator.device)

    def _predicted_reward(
        self,
        encoded: Transitions,
        mean: Tensor,
        std: Tensor | None,
        generator: torch.Generator,
    ) -> Tensor:
        """[N], the reward model's prediction, from the latent that the metric gives it."""
        if self.config.variant == "code":
            return self.reward(self.sample(mean, std, generator))
        latent = encoded.latent if self.config.self_prediction else encoded.latent.detach()
        return self.reward(latent)

    def _metric(
        self,
        encoded: Transitions,
        mean: Tensor,
        std: Tensor | None,
        mean_action: Tensor | None,
        partners: Tensor,
    ) -> Tensor:
        """[M], the bisimulation loss before ``weight``."""
        reward = encoded.reward
        if mean_action is not None:
            with torch.no_grad():
                mean, std = self.transition(encoded.latent, mean_action)
                reward = self.reward(encoded.latent)
        std = self.transition.comparable_std(mean, std)
        rows = encoded.with_future
        columns = {
            "latent": encoded.latent[rows],
            "reward": reward[rows],
            "mean": mean[..., rows, :].detach(),
            "std": None if std is None else std[..., rows, :].detach(),
        }
        partners = partners.to(rows.device)
        if self.peers.size == 1:
            return self._compare(columns, columns, partners)
        # A Learner has gradients for its own rows only. Each of them occurs twice: as the first row
        # of a pair and as the second. The second term adds a gradient, but nothing to the value.
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
        """[M], compares the rows of ``ours`` with the rows ``index`` of ``theirs``."""
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
