"""The way from an encoder's features into actors and critics, and what they share of encoders."""

from torch import nn

from rlssl.networks.encoders import check_size
from rlssl.networks.ensemble import initialise


class Trunk(nn.Sequential):
    """Linear layer, LayerNorm, and a tanh where asked: [N, in_dim] to [N, output_dim].

    CURL and SAC-AE have no tanh; DrQ-v2 has one.

    Source:
        Yarats et al. 2019, arXiv:1910.01741; Yarats et al. 2021, arXiv:2107.09645.
    """

    def __init__(
        self, in_dim: int, output_dim: int = 50, *, tanh: bool = False, init: str = "orthogonal"
    ) -> None:
        """Builds the layers.

        Args:
            in_dim: Features of the input.
            output_dim: Features of the output.
            tanh: Whether a tanh ends it.
            init: See ``rlssl.networks.ensemble.initialise``.

        Raises:
            ValueError: If a size is no whole number >= 1, or ``init`` is unknown.
        """
        for name, size in (("in_dim", in_dim), ("output_dim", output_dim)):
            check_size(name, size)
        linear = nn.Linear(in_dim, output_dim)
        initialise(linear, init)
        super().__init__(linear, nn.LayerNorm(output_dim), *([nn.Tanh()] if tanh else []))
        self.output_dim = output_dim


def tie_convolutions(target: nn.Module, source: nn.Module) -> None:
    """Gives ``target`` the convolutions of ``source``: the same Parameters, from now on.

    Layers are paired in the order of ``modules()``. The rest of ``target`` stays its own. Ties
    survive ``load_state_dict`` and a ``deepcopy`` of a module that holds both, not one of
    ``target`` alone; optimisers must be built after tying.

    Args:
        target: An encoder, changed in place.
        source: An encoder with the same convolutions.

    Raises:
        ValueError: If there are no convolutions, or they differ in number or shape.

    Source:
        Yarats et al. 2019, arXiv:1910.01741.
    """
    kinds = nn.Conv1d | nn.Conv2d | nn.Conv3d
    targets = [layer for layer in target.modules() if isinstance(layer, kinds)]
    sources = [layer for layer in source.modules() if isinstance(layer, kinds)]
    shapes = [_shapes(targets), _shapes(sources)]
    if not targets or shapes[0] != shapes[1]:
        raise ValueError(
            "target and source must have the same convolutions, one or more; got weights and "
            f"biases of {shapes[0]} and {shapes[1]}."
        )
    for mine, theirs in zip(targets, sources, strict=True):
        mine.weight, mine.bias = theirs.weight, theirs.bias


def _shapes(layers: list) -> list[tuple[tuple[int, ...], bool]]:
    """Shape of each weight, and whether there is a bias."""
    return [(tuple(layer.weight.shape), layer.bias is not None) for layer in layers]
