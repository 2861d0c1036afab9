"""What the RLModule of every algorithm has."""

from typing import Any

from ray.rllib.core.rl_module.apis import InferenceOnlyAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from torch import nn

from rlssl.networks.augmentation import Augmentation
from rlssl.networks.encoders import Encoder
from rlssl.old_names import renamed_state


class BaseModule(TorchRLModule, InferenceOnlyAPI):
    """An encoder, what augments its observations, and the auxiliary losses that train it."""

    encoder: Encoder
    # No defaults here: a class attribute would hide what nn.Module registers.
    augmentation: Augmentation | None
    auxiliary: nn.ModuleDict

    def set_state(self, state: dict[str, Any]) -> None:
        """Sets the weights, also those of a checkpoint of an earlier version."""
        super().set_state(renamed_state(state))
