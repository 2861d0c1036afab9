"""Encoders that actor and critics share, and the projections behind them."""

from typing import Any

from torch import Tensor, nn

from rlssl.networks.encoders import Encoder, check_size
from rlssl.networks.layers.ensemble import initialize
from rlssl.networks.layers.linear import Linear
from rlssl.networks.pixel_encoders import ImageEncoder

_CONVOLUTIONS = nn.Conv1d | nn.Conv2d | nn.Conv3d


class Trunk(nn.Sequential):
    """Linear layer, LayerNorm and an optional tanh: [N, in_dim] to [N, output_dim].

    CURL and SAC-AE have no tanh; DrQ-v2 has one.

    Example:
        >>> import torch
        >>> Trunk(100, 50, tanh=True)(torch.ones(2, 100)).shape
        torch.Size([2, 50])

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
            tanh: Whether a tanh follows the LayerNorm.
            init: See ``rlssl.networks.layers.ensemble.initialize``.

        Raises:
            ValueError: If a size is not a whole number >= 1, or ``init`` is unknown.
        """
        for name, size in (("in_dim", in_dim), ("output_dim", output_dim)):
            check_size(name, size)
        linear = Linear(in_dim, output_dim)
        initialize(linear, init)
        super().__init__(linear, nn.LayerNorm(output_dim), *([nn.Tanh()] if tanh else []))
        self.output_dim = output_dim


class SharedEncoder(Encoder):
    """An encoder in two parts: shared features, and a projection.

    ``encoder(obs) = projection(features(obs))``. Another network may also read the features.

    Args:
        body: Observations [N, ...] to features [N, F].
        projection: Features [N, F] to latents [N, D].
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
        """[N, F]; the kept features if ``obs`` is the object that they were computed from."""
        if self._kept is not None and self._kept[0] is obs:
            return self._kept[1]
        features: Tensor = self.body(obs)
        return features

    def keep(self, obs: Any) -> Tensor:
        """Computes features [N, F] and keeps them, with their graph, until ``forget``.

        Until then, ``features`` returns the kept features for the same object ``obs``.
        """
        self._kept = None
        features = self.features(obs)
        self._kept = (obs, features)
        return features

    def forget(self) -> None:
        """Drops kept features. Call it whenever weights or observations have changed."""
        self._kept = None


def share_convolutions(encoder: Encoder) -> Encoder:
    """Splits an encoder of images behind its convolutions, in place.

    Args:
        encoder: From ``build_encoder``, or a wrapper with the attribute ``encoder``.

    Returns:
        For an ImageEncoder: a SharedEncoder whose body is the convolutions and whose projection is
        the layers behind them. For another encoder with convolutions: a SharedEncoder whose body is
        the whole encoder and whose projection is empty. Without convolutions: ``encoder``.

    Example:
        >>> import gymnasium as gym
        >>> from rlssl.networks.pixel_encoders import CURLCNN
        >>> shared = share_convolutions(CURLCNN(gym.spaces.Box(0, 255, (3, 21, 21), "uint8")))
        >>> [type(layer).__name__ for layer in shared.projection]
        ['Linear', 'LayerNorm']
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
