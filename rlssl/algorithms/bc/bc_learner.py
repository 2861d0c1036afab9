"""Behavior cloning's loss, and its measures on held-out episodes."""

from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.learner import ENTROPY_KEY, POLICY_LOSS_KEY
from torch import Tensor

from rlssl.algorithms.bc.metrics import ACCURACY, ACTION_ERROR, NLL
from rlssl.algorithms.bc.sequences import rows_of_windows
from rlssl.algorithms.off_policy.batches import AUXILIARY_COLUMNS, weighted_mean
from rlssl.algorithms.off_policy.learner import OffPolicyLearner
from rlssl.auxiliary.windows import VALID
from rlssl.losses import behavior_cloning_loss
from rlssl.schedules import value_at


class BCTorchLearner(OffPolicyLearner):
    """Behavior cloning with auxiliary losses."""

    def take_step(self, rows: Mapping[str, Any]) -> None:
        """One gradient step; windows of a recurrent policy become rows first."""
        super().take_step(self.as_rows(rows))

    def as_rows(self, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        """The rows [N, ...] of windows [B, L, ...], or the batch as it is."""
        if VALID not in batch:
            return batch
        module = self.rl_module
        rows = rows_of_windows(
            batch, burn_in=self.config.used_burn_in, hidden=module.lstm.output_dim
        )
        others = {key: batch[key] for key in (AUXILIARY_COLUMNS,) if key in batch}
        return {**rows, **others}

    def compute_rl_loss(self, batch: Mapping[str, Any], fwd_out: Mapping[str, Any]) -> Tensor:
        """The mean of ``-log pi(a|s) - entropy_coeff * H(pi)`` over valid rows."""
        policy = self.rl_module.action_dist_cls.from_logits(fwd_out[Columns.ACTION_DIST_INPUTS])
        logp, entropy = policy.logp(batch[Columns.ACTIONS]), policy.entropy()
        entropy_coeff = value_at(self.config.entropy_coeff, self.env_steps)
        per_row = behavior_cloning_loss(logp, entropy, entropy_coeff=entropy_coeff)
        loss = weighted_mean(per_row, batch, self.peers)
        with torch.no_grad():
            measures = {
                POLICY_LOSS_KEY: loss,
                ENTROPY_KEY: weighted_mean(entropy, batch, self.peers),
                NLL: weighted_mean(-logp, batch, self.peers),
            }
            self.td_errors = -logp
        self.record({key: value.detach() for key, value in measures.items()})
        self.record({"entropy_coeff": entropy_coeff})
        return loss

    @torch.no_grad()
    def measure(self, batch: Mapping[str, Any]) -> dict[str, float]:
        """Sums of the measures over a batch's rows, and the number of rows; nothing is trained.

        Args:
            batch: Arrays of a replay buffer: OBS and ACTIONS [N, ...], or windows.
        """
        module = self.rl_module
        rows = self.as_rows(self.transfers.receive(batch))
        module.eval()
        inputs = module.policy_inputs(rows)
        module.train()
        policy, actions = module.action_dist_cls.from_logits(inputs), rows[Columns.ACTIONS]
        best = policy.to_deterministic().sample()
        everything = torch.ones(len(inputs), dtype=torch.bool, device=inputs.device)
        in_loss = rows.get(Columns.LOSS_MASK, everything)
        per_row = {NLL: -policy.logp(actions)}
        if actions.is_floating_point():
            per_row[ACTION_ERROR] = (best - actions).square().flatten(1).mean(dim=1)
        else:
            per_row[ACCURACY] = (best == actions).reshape(len(inputs), -1).all(dim=1).double()
        sums = {name: float(values[in_loss].double().sum()) for name, values in per_row.items()}
        return {**sums, "rows": int(in_loss.sum())}
