"""The update that SAC and DDPG share: critics, actor, target networks, auxiliary losses."""

import functools
from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.algorithms.common.auxiliary_learner import AUXILIARY_OPTIMIZER, frozen, trainable
from rlssl.algorithms.off_policy.batches import weighted_mean
from rlssl.algorithms.off_policy.learner import OffPolicyLearner
from rlssl.auxiliary.base import RL_LATENTS
from rlssl.losses import critic_loss
from rlssl.networks.augmentation import AUGMENTED_OBS
from rlssl.schedules import value_at

#: Names of optimizers: for the critics and their encoder, for the actor, and for the encoder in
#: separate steps of auxiliary losses.
CRITIC, ACTOR, ENCODER = "critic", "actor", "encoder"

#: Keys of the metrics.
CRITIC_LOSS, ACTOR_LOSS = "critic_loss", "actor_loss"
Q_MEAN, TD_ERROR_MEAN = "q_mean", "td_error_mean"

#: Key of the augmented next observations, which the targets read.
_NEXT_VIEW = "next_view"


class OffPolicyActorCriticLearner(OffPolicyLearner):
    """Updates the critics, and less often the actor and the target networks.

    The order is that of CURL's code: critics (with the auxiliary losses, if ``auxiliary_step`` is
    ``joint``), actor, target networks, auxiliary losses (if it is ``separate``). A subclass
    defines ``targets`` and ``actor_losses``.

    Source:
        Lillicrap et al. 2015, arXiv:1509.02971; Yarats et al. 2019, arXiv:1910.01741; Laskin et al.
        2020, arXiv:2004.04136, published code.
    """

    def targets(self, batch: Mapping[str, Any], features: Any, target_features: Any) -> Tensor:
        """[N], the targets of the critics' values; called without gradients.

        Args:
            batch: A batch of the replay buffer.
            features: The module's ``features`` of the next observations.
            target_features: The module's ``target_features`` of the next observations.
        """
        raise NotImplementedError

    def actor_losses(
        self, batch: Mapping[str, Any], features: Any, critic_latents: Tensor
    ) -> dict[str, Tensor]:
        """Optimizer -> scalar loss; each loss reaches only the parameters of its optimizer.

        Args:
            batch: A batch of the replay buffer, with the views that the RL losses read.
            features: The module's ``features`` of the observations.
            critic_latents: [N, D], the critics' latents of the observations, without a graph.
        """
        raise NotImplementedError

    def configure_optimizers_for_module(
        self, module_id: str, config: AlgorithmConfig | None = None
    ) -> None:
        """Registers Adams for the critics, the actor, each loss's heads, and `more_optimizers`.

        With separate steps for auxiliary losses, the encoder has a second Adam for these steps, as
        in CURL's code.
        """
        config = config or self.config
        module = self.rl_module
        groups: dict[str, list[nn.Parameter]] = {
            CRITIC: [*trainable(module.encoder), *trainable(module.critic)],
            ACTOR: [*trainable(module.actor_encoder), *trainable(module.actor)],
        }
        heads = {name: trainable(loss) for name, loss in module.auxiliary.items()}
        self._heads = [AUXILIARY_OPTIMIZER + name for name, head in heads.items() if head]
        groups |= {AUXILIARY_OPTIMIZER + name: head for name, head in heads.items()}
        encoder = trainable(module.encoder)
        self._separate = config.auxiliary_step == "separate" and len(module.auxiliary) > 0
        if self._separate and encoder:
            groups[ENCODER] = encoder
            self._heads = [ENCODER, *self._heads]
        options: dict[str, dict[str, Any]] = {CRITIC: {"weight_decay": config.critic_weight_decay}}
        for name, (parameters, adam_options) in self.more_optimizers().items():
            groups[name], options[name] = parameters, adam_options
        self.register_adams(groups, eps=config.adam_epsilon, options=options)

    def more_optimizers(self) -> dict[str, tuple[list[nn.Parameter], dict[str, Any]]]:
        """Name -> parameters and Adam's options, for further parameters of an algorithm."""
        return {}

    def take_step(self, rows: Mapping[str, Any]) -> None:
        """One update, in the published order."""
        module: Any = self.rl_module
        self.last_minibatch = rows
        batch = self._with_views(rows)
        try:
            is_finite = self._update_networks(module, batch)
        finally:
            if module.shares_features:
                module.encoder.forget()
        self._finish_step(is_finite)

    def compute_rl_loss(self, batch: Mapping[str, Any], fwd_out: Mapping[str, Any]) -> Tensor:
        """The sum of the critics' squared errors, averaged over rows; sets ``td_errors``."""
        values, targets = fwd_out["values"], fwd_out["targets"]
        loss = weighted_mean(critic_loss(values, targets), batch, self.peers)
        with torch.no_grad():
            self.td_errors = (values - targets).abs().mean(dim=0)
        self._latest_values = values.detach()
        self.record({CRITIC_LOSS: loss.detach()})
        return loss

    def metrics_of_last_update(self) -> dict[str, Tensor]:
        """Means over the batch of the critics' values and of the sizes of their errors."""
        return {TD_ERROR_MEAN: self.td_errors.mean(), Q_MEAN: self._latest_values.mean()}

    def _with_views(self, rows: Mapping[str, Any]) -> dict[str, Any]:
        """The batch with the augmented views of its observations that the RL losses read."""
        module = self.rl_module
        batch = {**rows, _NEXT_VIEW: rows[Columns.NEXT_OBS]}
        if module.augmentation is not None and module.next_augmentation is not None:
            batch[AUGMENTED_OBS] = module.as_read(module.augmentation(rows[Columns.OBS]))
            batch[_NEXT_VIEW] = module.as_read(module.next_augmentation(rows[Columns.NEXT_OBS]))
        return batch

    def _update_networks(self, module: Any, batch: dict[str, Any]) -> bool:
        """Makes all steps of an update; stops and returns False at a nonfinite gradient."""
        config = self.config
        module.update_rng.begin()
        count = module.update_rng.num_updates + 1
        obs = batch.get(AUGMENTED_OBS, batch[Columns.OBS])
        features = module.encoder.keep(obs) if module.shares_features else obs
        loss = self._critic_step_loss(module, batch, features)
        if not self.optimizer_step(loss, [CRITIC, *([] if self._separate else self._heads)]):
            return False
        acts = count % config.actor_update_every_updates == 0
        if module.shares_features:
            # The kept features are out of date: the weights have changed.
            module.encoder.forget()
            if acts and not config.reuse_features:
                features = self._features_after_step(module, batch, obs)
        if acts and not self._actor_step(module, batch, features):
            return False
        if count % config.target_update_every_updates == 0:
            module.target.polyak_update()
        if self._has_separate_step:
            loss = self.compute_auxiliary_loss(batch, self._losses_beside_critics)
            return self.optimizer_step(loss, self._heads)
        return True

    def _critic_step_loss(self, module: Any, batch: dict[str, Any], features: Any) -> Tensor:
        with torch.no_grad():
            next_obs = batch[_NEXT_VIEW]
            after = module.features(next_obs)
            target_after = module.target_features(next_obs, after)
            targets = self.targets(batch, after, target_after)
        actions = module.critic_actions(batch[Columns.ACTIONS])
        latents = module.critic_latents(features)
        values = module.critic(latents, actions)
        loss = self.compute_rl_loss(batch, {"values": values, "targets": targets})
        if self._separate or not self._losses_beside_critics:
            return loss
        if self.isolates and module.shares_features:
            module.encoder.forget()
        given = {**batch, RL_LATENTS: latents}
        auxiliary = self.compute_auxiliary_loss(given, self._losses_beside_critics)
        return self.combine(loss, auxiliary, batch)

    def _features_after_step(self, module: Any, batch: dict[str, Any], obs: Any) -> Tensor:
        """Features of the convolutions after the critics' step."""
        if self._has_separate_step and AUGMENTED_OBS in batch:
            # Keeps the graph, so that a loss can reuse the features of the same views.
            return module.encoder.keep(obs)
        with torch.no_grad():
            return module.features(obs)

    def _actor_step(self, module: Any, batch: dict[str, Any], features: Any) -> bool:
        if module.shares_features:
            features = features.detach()
        with torch.no_grad():
            critic_latents = module.critic_latents(features)
        with frozen(self._parameters[CRITIC]):
            losses = self.actor_losses(batch, features, critic_latents)
            if self._losses_of_policy:
                of_policy = self.compute_auxiliary_loss(batch, self._losses_of_policy)
                losses[ACTOR] = losses[ACTOR] + of_policy
        total = functools.reduce(torch.add, losses.values())
        return self.optimizer_step(total, list(losses))

    def _learning_rate(self, optimizer_name: str) -> float:
        if optimizer_name == ACTOR and self.config.actor_lr is not None:
            return value_at(self.config.actor_lr, self.env_steps)
        rate = super()._learning_rate(optimizer_name)
        if optimizer_name == ENCODER and self._doubles:
            # In CURL's code two Adams make the same step, which equals one step of twice the size.
            return 2.0 * rate
        return rate

    @functools.cached_property
    def _losses_of_policy(self) -> list[str]:
        """The auxiliary losses that train the actor, in its step."""
        losses = self.rl_module.auxiliary.items()
        return [name for name, loss in losses if loss.trains == "policy"]

    @functools.cached_property
    def _losses_beside_critics(self) -> list[str]:
        """The other auxiliary losses."""
        return [name for name in self.rl_module.auxiliary if name not in self._losses_of_policy]

    @property
    def _has_separate_step(self) -> bool:
        """Whether this update has a separate step for auxiliary losses."""
        return self._separate and any(map(self.includes, self._losses_beside_critics))

    @property
    def _doubles(self) -> bool:
        losses = self.rl_module.auxiliary.values()
        return any(getattr(loss.config, "double_encoder_step", False) for loss in losses)
