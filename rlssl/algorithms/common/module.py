"""The base of every algorithm's RLModule."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import gymnasium as gym
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from ray.rllib.utils.numpy import convert_to_numpy
from torch import nn

from rlssl.algorithms.common.devices.transfers import HostTransfers
from rlssl.algorithms.common.transfer.freezing import freeze_encoder
from rlssl.image_spaces import stacked_with_layout
from rlssl.networks.augmentation import Augmentation
from rlssl.networks.encoders import Encoder
from rlssl.networks.layers.vector_normalizer import NORMALIZER, VectorNormalizer, parse_normalizer
from rlssl.networks.rl_encoder import NormalizedEncoder, build_rl_encoder
from rlssl.old_names import renamed_state


class BaseModule(TorchRLModule, InferenceOnlyAPI):
    """Has an encoder, an augmentation of its observations, and auxiliary losses."""

    encoder: Encoder
    # No defaults here: a class attribute would hide what nn.Module registers.
    augmentation: Augmentation | None
    auxiliary: nn.ModuleDict

    #: Normalizes the vectors of observations for all encoders; None: they are not normalized.
    normalizer: VectorNormalizer | None

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
        # Settings of an earlier version lack the key.
        if self.model_config.get("freeze") and not self.inference_only:
            self.frozen_layers = freeze_encoder(self)

    #: Layers that do not train and stay in evaluation mode; see ``model.freeze``.
    frozen_layers: Sequence[nn.Module] = ()

    def train(self, mode: bool = True) -> Self:
        """As torch's; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        for layer in self.frozen_layers:
            layer.training = False
        return self

    @classmethod
    def encoder_settings(cls, settings: Mapping[str, Any], space: gym.Space) -> dict[str, Any]:
        """The settings of ``model`` with the algorithm's own choice of encoder filled in.

        Args:
            settings: ``encoder`` and ``encoder_config`` as the user set them, besides others.
            space: Space of stacked observations.
        """
        del space
        return dict(settings)

    @classmethod
    def shares_encoder(cls, settings: Mapping[str, Any], space: gym.Space) -> bool | None:
        """Whether policy and value function share the encoder; None: there is only one network."""
        del settings, space
        return None

    def build_normalizer(self) -> None:
        """Sets ``normalizer``, as ``model.normalize_observations`` says; before any encoder."""
        self.normalizer = None
        # Settings of an earlier version lack the key.
        options = parse_normalizer(self.model_config.get("normalize_observations"))
        if options is not None:
            frame_stack = self.model_config.get("frame_stack") or 1
            self.normalizer = VectorNormalizer(self.observation_space, frame_stack, options)

    def build_encoder(self, settings: Mapping[str, Any]) -> Encoder:
        """An encoder of the RL loss; all of a module share its ``normalizer``."""
        encoder = build_rl_encoder(self.observation_space, settings)
        return encoder if self.normalizer is None else NormalizedEncoder(encoder, self.normalizer)

    #: How the weights of a module on a GPU come to the host: in one copy; None: it is on the CPU.
    transfers: HostTransfers | None = None

    def get_state(self, *args: Any, inference_only: bool = False, **kwargs: Any) -> dict[str, Any]:
        """The weights; statistics of observations are exact."""
        if self.transfers is None:
            state: dict[str, Any] = super().get_state(
                *args, inference_only=inference_only, **kwargs
            )
        else:
            only_acting = inference_only and not self.inference_only
            weights = self.acting_state() if only_acting else self.state_dict()
            state = convert_to_numpy(dict(self.transfers.weights(weights)))
        if self.normalizer is not None:
            # RLlib rounds float64 to float32, here and in `set_state`.
            for name, value in self.normalizer.statistics().items():
                state[NORMALIZER + name] = value
        return state

    def acting_state(self) -> dict[str, Any]:
        """The part of ``state_dict`` that a module which only acts has."""
        left_out = self.get_non_inference_attributes()
        return {
            key: value
            for key, value in self.state_dict().items()
            if not any(key == name or key.startswith(f"{name}.") for name in left_out)
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Sets the weights, also from a checkpoint of an earlier version."""
        state = renamed_state(state)
        super().set_state(state)
        if self.normalizer is not None and NORMALIZER + "count" in state:
            names = self.normalizer.statistics()
            self.normalizer.set_statistics({name: state[NORMALIZER + name] for name in names})
