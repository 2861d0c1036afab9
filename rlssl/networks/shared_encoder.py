"""The way from an encoder's features into actors and critics, and what they share of encoders."""

from typing import Any

from torch import Tensor, nn

from rlssl.networks.encoders import Encoder, check_size
from rlssl.networks.layers.ensemble import initialize
from rlssl.networks.layers.linear import Linear
from rlssl.networks.pixel_encoders import ImageEncoder

_CONVOLUTIONS = nn.Conv1d | nn.Conv2d | nn.Conv3d


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
            init: See ``rlssl.networks.layers.ensemble.initialize``.

        Raises:
            ValueError: If a size is no whole number >= 1, or ``init`` is unknown.
        """
        for name, size in (("in_dim", in_dim), ("output_dim", output_dim)):
            check_size(name, size)
        linear = Linear(in_dim, output_dim)
        initialize(linear, init)
        super().__init__(linear, nn.LayerNorm(output_dim), *([nn.Tanh()] if tanh else []))
        self.output_dim = output_dim


class SharedEncoder(Encoder):
    """An encoder in two parts: features that another network reads, too, and its own projection.

    ``encoder(obs) = projection(features(obs))``.

    Args:
        body: [N, ...] observations to features [N, F].
        projection: [N, F] to [N, D].
        output_dim: D.
    """

    def __init__(self, body: Encoder, projection: nn.Module, output_dim: int) -> None:
        super().__init__()
        self.body, self.projection = body, projection
        self.feature_dim, self.output_dim = body.output_dim, output_dim
        self.layout = getattr(body, "layout", None)
        self._kept: tuple[Any, Tensor] | None = None

    def forward(self, obs: Any) -> Tensor:
        """[N, ...] to [N, output_dim]."""
        latents: Tensor = self.projection(self.features(obs))
        return latents

    def features(self, obs: Any) -> Tensor:
        """[N, F]; those that were kept, if they are of this very object."""
        if self._kept is not None and self._kept[0] is obs:
            return self._kept[1]
        features: Tensor = self.body(obs)
        return features

    def keep(self, obs: Any) -> Tensor:
        """[N, F], with their graph, which ``features`` gives out until the next ``forget``."""
        self._kept = None
        features = self.features(obs)
        self._kept = (obs, features)
        return features

    def forget(self) -> None:
        """To be called whenever the weights or the observations have changed."""
        self._kept = None


def share_convolutions(encoder: Encoder) -> Encoder:
    """Splits an encoder of images behind its convolutions, in place.

    Args:
        encoder: One that ``build_encoder`` gave, or a wrapper with the attribute ``encoder``.

    Returns:
        A `SharedEncoder`: of the convolutions and what follows; or, of any other encoder that has
        convolutions, all of it and nothing. Without convolutions, ``encoder`` itself.
    """
    if not any(isinstance(layer, _CONVOLUTIONS) for layer in encoder.modules()):
        return encoder
    output_dim = encoder.output_dim
    wrappers: list[Any] = [encoder]
    while not isinstance(wrappers[-1], ImageEncoder) and hasattr(wrappers[-1], "encoder"):
        wrappers.append(wrappers[-1].encoder)
    head: nn.Module = nn.Sequential()
    if isinstance(wrappers[-1], ImageEncoder):
        head = wrappers[-1].take_head()
        for wrapper in wrappers:
            wrapper.output_dim = wrappers[-1].output_dim
    return SharedEncoder(encoder, head, output_dim)
