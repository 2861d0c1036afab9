"""The column MEAN_ACTION: a policy's mean actions, which some auxiliary losses read."""

from typing import Any

import gymnasium as gym
import torch
import torch.nn.functional as F
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.errors import SpecError
from rlssl.networks.action_encoding import encode_action


@torch.no_grad()
def mean_actions(module: Any, obs: Any) -> Tensor:
    """[N, A] float, encoded as by ``encode_action``; draws no random numbers.

    Continuous policies: the mean or the deterministic action. Discrete policies: the action
    probabilities. Modules with action values: the best action, one-hot. A module may also define
    its own ``mean_actions(obs)``.

    Args:
        module: An RLModule that learns.
        obs: [N, ...], raw stacked observations.

    Raises:
        SpecError: If the module is recurrent: a batch of rows has no earlier observations.
    """
    own_method = getattr(module, "mean_actions", None)
    if own_method is not None:
        given: Tensor = own_method(obs)
        return given
    if callable(getattr(module, "values", None)):
        best = module.values(module.head(module.encoder(obs))).argmax(dim=1)
        return F.one_hot(best, int(module.action_space.n)).float()
    if module.is_stateful():
        raise SpecError(
            "the policy's mean action is not known for recurrent policies; choose a variant of "
            "the loss that does not read it (bisimulation: variant: code), or model.lstm: null."
        )
    outputs = module._forward_inference({Columns.OBS: obs})
    if Columns.ACTIONS in outputs:
        return encode_action(outputs[Columns.ACTIONS], module.action_space)
    inputs = outputs[Columns.ACTION_DIST_INPUTS]
    if isinstance(module.action_space, gym.spaces.Discrete):
        return inputs.softmax(dim=-1)
    if isinstance(module.action_space, gym.spaces.MultiDiscrete):
        parts = inputs.split([int(n) for n in module.action_space.nvec.reshape(-1)], dim=-1)
        return torch.cat([part.softmax(dim=-1) for part in parts], dim=-1)
    distribution = module.get_inference_action_dist_cls().from_logits(inputs)
    return encode_action(distribution.to_deterministic().sample(), module.action_space)
