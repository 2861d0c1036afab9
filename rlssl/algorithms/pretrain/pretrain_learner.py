"""The Learner of pretraining: no RL loss."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rlssl.algorithms.off_policy.learner import OffPolicyLearner


class PretrainTorchLearner(OffPolicyLearner):
    """Minimizes the weighted sum of the auxiliary losses."""

    def compute_rl_loss(self, batch: Mapping[str, Any], fwd_out: Mapping[str, Any]) -> Tensor:
        """Zero."""
        del batch, fwd_out
        return torch.zeros((), device=self.device)
