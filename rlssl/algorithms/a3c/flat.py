"""A module's parameters in one buffer, and their gradients in another.

So copying weights, sending a gradient and an optimizer step are one operation each, for any number
of layers.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from rlssl.errors import SpecError


class FlatModule:
    """Moves parameters into one buffer; each parameter becomes a view of it.

    Trainable parameters come first, group by group. Parameters without gradients (target networks)
    follow, because the workers need them for the loss.

    Args:
        groups: Name -> the trainable parameters that share an optimizer.
        frozen: All other parameters.

    Raises:
        SpecError: If parameters differ in dtype or device.
    """

    def __init__(
        self, groups: Mapping[str, Sequence[nn.Parameter]], frozen: Sequence[nn.Parameter]
    ) -> None:
        trained = [parameter for group in groups.values() for parameter in group]
        every = [*trained, *frozen]
        kinds = {(parameter.dtype, parameter.device) for parameter in every}
        if len(kinds) > 1:
            raise SpecError(f"A3C needs parameters of one dtype on one device; got {kinds}.")
        #: [P], all parameters.
        self.values = torch.cat([parameter.detach().reshape(-1) for parameter in every])
        #: [G], gradients of the trainable parameters; G <= P.
        self.gradient = torch.zeros_like(self.values[: sum(p.numel() for p in trained)])
        offset = 0
        for parameter in every:
            part = slice(offset, offset + parameter.numel())
            parameter.data = self.values[part].view(parameter.shape)
            if offset < len(self.gradient):
                parameter.grad = self.gradient[part].view(parameter.shape)
            offset = part.stop
        #: Name -> one flat parameter for the group; its data and gradient are views, too.
        self.groups: dict[str, nn.Parameter] = {}
        offset = 0
        for name, group in groups.items():
            part = slice(offset, offset + sum(parameter.numel() for parameter in group))
            self.groups[name] = nn.Parameter(self.values[part])
            self.groups[name].grad = self.gradient[part]
            offset = part.stop

    def pull(self, values: np.ndarray) -> None:
        """Copies [P] parameters into the buffer."""
        _copy(self.values, values)

    def take(self, gradient: np.ndarray) -> None:
        """Copies a [G] gradient into the buffer."""
        _copy(self.gradient, gradient)

    def take_mean(self, gradients: Sequence[np.ndarray]) -> None:
        """Copies the mean of [G] gradients into the buffer."""
        total = gradients[0].copy()
        for gradient in gradients[1:]:
            total += gradient
        _copy(self.gradient, total / np.float32(len(gradients)))


def _copy(target: Tensor, source: np.ndarray) -> None:
    if target.device.type == "cpu":
        # Arrays from Ray are read-only; torch.from_numpy would warn about that.
        np.copyto(target.numpy(), source)
    else:
        target.copy_(torch.from_numpy(np.array(source)))
