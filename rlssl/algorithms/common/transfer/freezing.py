"""Encoders that do not train: ``model.freeze``."""

from typing import Any

from torch import nn

from rlssl.algorithms.common.transfer.parts import encoder_parts
from rlssl.errors import SpecError
from rlssl.networks.target_networks import EMACopy


def freeze_encoder(module: Any) -> list[nn.Module]:
    """Takes the encoder of a new module, with all its copies, out of training.

    Its parameters get no gradient, and so no optimizer. The statistics of observations stop.

    Args:
        module: A ``BaseModule`` whose ``setup`` has run.

    Returns:
        The layers that must stay in evaluation mode, in which batch norms do not change: those of
        the encoder, its copies and its target networks.

    Raises:
        SpecError: If an auxiliary loss trains the encoder.
    """
    for name, loss in module.auxiliary.items():
        if loss.trains == "encoder":
            raise SpecError(
                f"auxiliary.{name} trains the encoder, and model.freeze: true keeps the encoder as "
                f"it is; leave out auxiliary.{name}, or model.freeze. Losses that train only "
                "networks of their own, as icm, work with a frozen encoder."
            )
    parts = encoder_parts(module).values()
    for part in parts:
        part.requires_grad_(False)
    if module.normalizer is not None:
        module.normalizer.is_frozen = True
    frozen = {id(layer): layer for part in parts for layer in part.modules()}
    copies = [part for part in module.modules() if isinstance(part, EMACopy)]
    targets = [layer for part in copies for layer, online in part.layers() if id(online) in frozen]
    return [*frozen.values(), *targets]
