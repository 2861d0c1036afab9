"""The base of every algorithm's RLModule."""

from typing import Any

from ray.rllib.core.rl_module.apis import InferenceOnlyAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from torch import nn

from rlssl.networks.augmentation import Augmentation
from rlssl.networks.encoders import Encoder
from rlssl.old_names import renamed_state


class BaseModule(TorchRLModule, InferenceOnlyAPI):
    """Has an encoder, an augmentation of its observations, and auxiliary losses."""

    encoder: Encoder
    # No defaults here: a class attribute would hide what nn.Module registers.
    augmentation: Augmentation | None
    auxiliary: nn.ModuleDict

    def set_state(self, state: dict[str, Any]) -> None:
        """Sets the weights, also from a checkpoint of an earlier version."""
        super().set_state(renamed_state(state))
