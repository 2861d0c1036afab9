"""Inverse dynamics: the latents before and after an action must tell the action."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.auxiliary.base import EncoderLoss, EncoderLossConfig
from rlssl.losses import inverse_dynamics_loss
from rlssl.networks.action_encoding import inverse_target, likeliest_actions
from rlssl.networks.curiosity import InverseModel


class InverseDynamics(EncoderLoss):
    """Predicts the action from the RL encoder's latents before and after it.

    With the encoder phi and a network g::

        loss = loss of g(phi(s), phi(s')) against a
               discrete: cross-entropy; several parts: sum of their cross-entropies
               continuous: 0.5 ||mean - a||^2

    The gradient reaches phi(s) and phi(s'). At initialization the loss of a discrete action is
    log(number of actions) nats. It cannot fall below H(a | s, s'), the entropy of the actions with
    the same effect, for example of all actions that run into a wall. A constant latent reaches
    H(a), the entropy of the policy.

    ICM with ``features=shared`` has this loss beside its forward loss.

    Source:
        Pathak et al. 2017, arXiv:1705.05363, eq. 2 and 3; alone on the RL encoder: Hansen et al.
        2020, arXiv:2007.04309 (PAD). Differs: see PAPERS.md.
    """

    @dataclasses.dataclass(frozen=True)
    class Config(EncoderLossConfig):
        """Options of inverse dynamics."""

        # Features of the hidden layer of g; >= 1; 256 as in ICM.
        hidden: int = 256

        def __post_init__(self) -> None:
            """Checks ranges.

            Raises:
                ValueError: If a value is out of range; the message names field and value.
            """
            super().__post_init__()
            self._check_whole("hidden")

    config: Config

    reads = frozenset({Columns.OBS, Columns.NEXT_OBS, Columns.ACTIONS})

    def __init__(self, config: Config, **given: Any) -> None:
        super().__init__(config, **given)
        width = int(self.encoder.output_dim)
        self.inverse = InverseModel(width, self.action_space, hidden=config.hidden)
        # Predictions and targets of the last update, for `metrics`.
        self._compared: tuple[Tensor | list[Tensor], Tensor] | None = None

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``inverse``, [N], nats (continuous actions: half squared units of the action)."""
        target = inverse_target(batch[Columns.ACTIONS], self.action_space)
        if self.config.shuffled_positives:
            target = self.of_other_rows(target, self.update_rng.generator(target.device))
        prediction = self.inverse(self.latents(batch), self.encoder(batch[Columns.NEXT_OBS]))
        self._compared = _detached(prediction), target
        return {"inverse": inverse_dynamics_loss(prediction, target)}

    def metrics(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """How well actions are predicted; empty if there were no rows.

        Discrete: ``accuracy``, the share of actions that get the largest logit, averaged over the
        parts of an action. Continuous: ``explained_variance``, 1 - squared error / variance of the
        actions; 0 if all predictions are the mean action; 1 if they are perfect.
        """
        del batch
        if self._compared is None or not len(self._compared[1]):
            return {}
        prediction, target = self._compared
        if isinstance(self.action_space, gym.spaces.Box):
            assert isinstance(prediction, Tensor)  # for mypy
            spread = (target - target.mean(dim=0)).square().sum().clamp(min=1e-12)
            return {"explained_variance": 1.0 - (prediction - target).square().sum() / spread}
        parts = [prediction] if isinstance(prediction, Tensor) else prediction
        choices = torch.stack([part.argmax(dim=-1) for part in parts], dim=-1)  # [N, k]
        return {"accuracy": (choices == target.reshape(choices.shape)).float().mean()}

    @torch.no_grad()
    def predicted_actions(self, observations: Any, next_observations: Any) -> Tensor:
        """[N, ...], the likeliest action between two observations each, as the policy gives it."""
        before, after = self.encoder(observations), self.encoder(next_observations)
        return likeliest_actions(self.inverse(before, after), self.action_space)


def _detached(prediction: Tensor | list[Tensor]) -> Tensor | list[Tensor]:
    if isinstance(prediction, Tensor):
        return prediction.detach()
    return [part.detach() for part in prediction]
