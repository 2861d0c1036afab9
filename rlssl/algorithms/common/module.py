"""The base of every algorithm's RLModule."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from torch import nn

from rlssl.image_spaces import stacked_with_layout
from rlssl.networks.augmentation import Augmentation
from rlssl.networks.encoders import Encoder
from rlssl.old_names import renamed_state


class BaseModule(TorchRLModule, InferenceOnlyAPI):
    """Has an encoder, an augmentation of its observations, and auxiliary losses."""

    encoder: Encoder
    # No defaults here: a class attribute would hide what nn.Module registers.
    augmentation: Augmentation | None
    auxiliary: nn.ModuleDict

    def __init__(
        self,
        *args: Any,
        observation_space: gym.Space | None = None,
        model_config: Any = None,
        **kwargs: Any,
    ) -> None:
        """Builds the module for observations whose images carry their layout.

        Args:
            *args: See RLModule.
            observation_space: Space of stacked observations.
            model_config: The settings, as a mapping.
            **kwargs: See RLModule.
        """
        if observation_space is not None and isinstance(model_config, Mapping):
            observation_space = stacked_with_layout(
                observation_space,
                model_config.get("frame_stack") or 1,
                model_config.get("encoder_config"),
            )
        super().__init__(
            *args, observation_space=observation_space, model_config=model_config, **kwargs
        )

    def set_state(self, state: dict[str, Any]) -> None:
        """Sets the weights, also from a checkpoint of an earlier version."""
        super().set_state(renamed_state(state))
