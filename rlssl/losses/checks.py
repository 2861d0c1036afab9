"""Checks of arguments that several losses share."""

from torch import Tensor


def check_vectors(**tensors: Tensor) -> None:
    """Raises unless all tensors are [N], of the same N.

    [N, 1] against [N] would broadcast to [N, N] without a word.

    Raises:
        ValueError: Naming every argument with its shape.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) != 1 or any(len(shape) != 1 for shape in shapes.values()):
        raise ValueError(f"all arguments must be [N], of the same N; got {shapes}.")
