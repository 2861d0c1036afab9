"""Checks of arguments that several losses share."""

from torch import Tensor


def check_vectors(**tensors: Tensor) -> None:
    """Raises unless all tensors are [N], with the same N.

    Without this check, [N, 1] and [N] would silently broadcast to [N, N].

    Raises:
        ValueError: If a shape is wrong; the message names every argument with its shape.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) != 1 or any(len(shape) != 1 for shape in shapes.values()):
        raise ValueError(f"all arguments must be [N], with the same N; got {shapes}.")


def check_pairs(**tensors: Tensor) -> None:
    """Raises unless all tensors are [N, D], with the same N and D.

    Raises:
        ValueError: If a shape is wrong; the message names every argument with its shape.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) != 1 or any(len(shape) != 2 for shape in shapes.values()):
        raise ValueError(f"all arguments must be [N, D], with the same N and D; got {shapes}.")
