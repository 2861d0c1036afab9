"""What the RLModule of every algorithm has for its Learner alone: views and auxiliary losses."""

from typing import Any

from torch import nn

from rlssl.auxiliary.base import build_auxiliary, seed_of
from rlssl.networks.augmentation import Augmentation, build_augmentation
from rlssl.networks.encoders import Encoder


def build_views(module: Any, name: str) -> Augmentation | None:
    """What augments observations, by ``model.augmentation``; None: nothing does.

    Args:
        module: With its ``encoder`` and settings (``model_config``).
        name: Of the draws: those of one name are independent of another's.
    """
    settings = module.model_config
    seed = seed_of(name, settings["seed"])
    return build_augmentation(module.observation_space, settings, module.encoder, seed=seed)


def build_losses(module: Any, key_encoder: Encoder | None = None) -> nn.ModuleDict:
    """The auxiliary losses of the settings, by name.

    Args:
        module: With its ``encoder`` and settings (``model_config``).
        key_encoder: A slow copy of the encoder, where the algorithm keeps one.
    """
    settings = module.model_config
    return build_auxiliary(
        settings["auxiliary"],
        encoder=module.encoder,
        observation_space=module.observation_space,
        action_space=module.action_space,
        seed=settings["seed"],
        key_encoder=key_encoder,
    )
