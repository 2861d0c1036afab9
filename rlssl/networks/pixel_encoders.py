"""Encoders of images: stacked frames of any integer or floating dtype to latents."""

import itertools
import math
from collections.abc import Sequence

import gymnasium as gym
import torch
from torch import Tensor, nn

from rlssl.errors import SpecError
from rlssl.image_spaces import Layout, channels_first, image_layout, with_layout
from rlssl.networks.encoders import (
    MIN_NATURE_PIXELS,
    Encoder,
    check_size,
    check_sizes,
    integer_scale,
)
from rlssl.networks.layers.initialization import (
    HIDDEN_GAIN,
    delta_orthogonal_,
    orthogonal_init,
)
from rlssl.networks.layers.linear import Linear, MapLinear
from rlssl.networks.layers.residual import ResidualBlock
from rlssl.networks.layers.scaling import cast_and_scale

#: Smallest side for two 5x5 convolutions of stride 5.
MIN_DATA_EFFICIENT_PIXELS = 25

#: Pixels whose feature maps fit the cache of a core: 8 images of 84 x 84. A forward pass over
#: pieces of this size takes 10 % less time than over a batch of 128.
_PIECE_PIXELS = 8 * 84 * 84


class ImageEncoder(Encoder):
    """Base of the encoders of images: layout, scaling and output size.

    A subclass defines ``_make_layers(channels, height, width)``. It sets the attributes that this
    method reads before it calls ``super().__init__``.
    """

    #: Added to scaled images.
    _shift = 0.0

    def __init__(
        self,
        observation_space: gym.Space,
        *,
        layout: Layout | None = None,
        channels_last: bool = False,
    ) -> None:
        """Builds the layers.

        Args:
            observation_space: Box of three dimensions. Integer images are scaled to [0, 1];
                floating images are not scaled.
            layout: ``CHW`` or ``HWC``; None: the layout that the space carries, else
                ``image_layout`` of the space.
            channels_last: Whether convolutions use torch's channels-last memory format. It changes
                the speed, and the numbers only by rounding.

        Raises:
            SpecError: If the space is not an image, is too small for the encoder, or carries
                another layout.
        """
        super().__init__()
        observation_space = with_layout(observation_space, {"layout": layout})
        self.layout: Layout = image_layout(observation_space)
        self._scale = integer_scale(observation_space)
        self._image_shape = channels_first(observation_space)
        self.layers = self._initialize(self._make_layers(*self._image_shape))
        self.output_dim = _output_dim(self.layers, *self._image_shape)
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.layers.to(memory_format=self._memory_format)  # type: ignore[call-overload]
        self._in_pieces = False

    def _make_layers(self, channels: int, height: int, width: int) -> nn.Sequential:
        raise NotImplementedError

    def _initialize(self, layers: nn.Sequential) -> nn.Sequential:
        return orthogonal_init(layers)

    def forward(self, obs: Tensor) -> Tensor:
        """[N, C, H, W] or [N, H, W, C], any dtype, to [N, output_dim] (see ``take_head``)."""
        if not self._in_pieces or obs.device.type != "cpu":
            return self._encode(obs)
        pieces = [self._encode(piece) for piece in obs.split(self._piece_rows())]
        return torch.cat(pieces) if len(pieces) > 1 else pieces[0]

    def _encode(self, obs: Tensor) -> Tensor:
        images = obs if self.layout == "CHW" else obs.permute(0, 3, 1, 2)
        if images.device.type != "cpu" and not images.is_floating_point():
            return self.layers(
                cast_and_scale(images, self._scale, self._shift, self._memory_format)
            )
        images = images.to(torch.float32, memory_format=self._memory_format)
        if self._scale != 1.0:
            # In place if the images are already a copy.
            images = images * self._scale if images.dtype == obs.dtype else images.mul_(self._scale)
        if self._shift != 0.0:
            images = images + self._shift if images.dtype == obs.dtype else images.add_(self._shift)
        return self.layers(images)

    def head_start(self) -> int:
        """Index in ``layers`` of the first layer behind the convolutions and the Flatten."""
        kinds = [type(layer) for layer in self.layers]
        return kinds.index(nn.Flatten) + 1 if nn.Flatten in kinds else len(kinds)

    def take_head(self) -> nn.Sequential:
        """Removes the layers behind the convolutions, so that features become the latents.

        In channels-last format, features for a linear layer stay maps, [N, C, H, W].

        Returns:
            The removed layers: features to [N, former output_dim]. Empty if the encoder has no
            layers behind its convolutions.
        """
        layers, end = list(self.layers), self.head_start()
        body, head = layers[:end], layers[end:]
        self._in_pieces = self._memory_format is torch.channels_last
        if self._in_pieces and head and isinstance(head[0], nn.Linear):
            body = body[:-1]
            maps = _output_shape(nn.Sequential(*body), *self._image_shape)
            head[0] = MapLinear(head[0], maps)
        self.layers = nn.Sequential(*body)
        self.output_dim = _output_dim(self.layers, *self._image_shape)
        return nn.Sequential(*head)

    def map_layers(self) -> list[tuple[nn.Module, tuple[int, int, int]]]:
        """For each convolution, the layer with its feature maps, and C, H, W of these maps.

        Maps are taken after the activation and what else comes before the next convolution.
        """
        layers = list(self.layers)
        ends = [index for index, layer in enumerate(layers) if isinstance(layer, nn.Flatten)]
        body = layers[: ends[0]] if ends else layers
        starts = [index for index, layer in enumerate(body) if isinstance(layer, nn.Conv2d)]
        # The padding of ICM's convolutions belongs to the convolution after it.
        starts = [at - isinstance(body[max(at - 1, 0)], nn.ZeroPad2d) for at in starts]
        found = []
        for end in [*starts[1:], len(body)]:
            channels, height, width = _output_shape(nn.Sequential(*body[:end]), *self._image_shape)
            found.append((body[end - 1], (channels, height, width)))
        return found

    def _piece_rows(self) -> int:
        _, height, width = self._image_shape
        return max(1, _PIECE_PIXELS // (height * width)) * torch.get_num_threads()


def map_shape(encoder: nn.Module) -> tuple[int, int, int] | None:
    """C, H, W of the feature maps that an encoder's latents are; None if they are not maps.

    Example:
        >>> space = gym.spaces.Box(0, 255, (4, 84, 84), "uint8")
        >>> map_shape(DataEfficientCNN(space)), map_shape(NatureCNN(space))
        ((64, 3, 3), None)
    """
    for part in encoder.modules():
        if isinstance(part, ImageEncoder) and isinstance(part.layers[-1], nn.Flatten):
            channels, height, width = _output_shape(part.layers[:-1], *part._image_shape)
            return channels, height, width
    return None


class SmallCNN(ImageEncoder):
    """Two 3x3 convolutions (16, 32) and one linear layer (128), for grids of a few dozen cells.

    Images that are too small for the convolutions are padded by one pixel, so every size works.

    Example:
        >>> encoder = SmallCNN(gym.spaces.Box(0, 255, (7, 7, 3), "uint8"))
        >>> encoder(torch.zeros(2, 7, 7, 3, dtype=torch.uint8)).shape
        torch.Size([2, 128])

    Source:
        Ours. MinAtar's network (Young and Tian 2019, arXiv:1903.03176) has only the first
        convolution and the linear layer.
    """

    def __init__(
        self,
        observation_space: gym.Space,
        *,
        channels: Sequence[int] = (16, 32),
        kernel_size: int = 3,
        hidden: int = 128,
        layer_norm: bool = False,
        init: str = "orthogonal",
        layout: Layout | None = None,
        channels_last: bool = False,
    ) -> None:
        """Builds the layers.

        Args:
            observation_space: See ``ImageEncoder``.
            channels: Channels of each convolution.
            kernel_size: Pixels per side of every kernel: 2 or 3.
            hidden: Features of the linear layer: ``output_dim``.
            layer_norm: Whether the linear layer is followed by a LayerNorm, instead of a ReLU.
            init: ``orthogonal`` or ``fan_in``, as of `MLP`.
            layout: See ``ImageEncoder``.
            channels_last: See ``ImageEncoder``.

        Raises:
            SpecError: If a size is invalid.
        """
        check_size("hidden", hidden)
        if kernel_size not in (2, 3):
            raise SpecError(f"kernel_size must be 2 or 3; got {kernel_size!r}.")
        if init not in ("orthogonal", "fan_in"):
            raise SpecError(f"init must be orthogonal or fan_in; got {init!r}.")
        self._channels, self._kernel_size = check_sizes("channels", channels), kernel_size
        self._hidden, self._layer_norm, self._init = hidden, layer_norm, init
        super().__init__(observation_space, layout=layout, channels_last=channels_last)

    def _make_layers(self, channels: int, height: int, width: int) -> nn.Sequential:
        # Without padding, each convolution shortens each side by kernel_size - 1 pixels.
        least = len(self._channels) * (self._kernel_size - 1) + 1
        padding = 1 if min(height, width) < least else 0
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise([channels, *self._channels]):
            layers += [nn.Conv2d(fan_in, fan_out, self._kernel_size, padding=padding), nn.ReLU()]
        convolutions = nn.Sequential(*layers, nn.Flatten())
        features = _output_dim(convolutions, channels, height, width)
        last = nn.LayerNorm(self._hidden) if self._layer_norm else nn.ReLU()
        return nn.Sequential(*convolutions, Linear(features, self._hidden), last)

    def _initialize(self, layers: nn.Sequential) -> nn.Sequential:
        return orthogonal_init(layers) if self._init == "orthogonal" else layers


class NatureCNN(ImageEncoder):
    """Three convolutions (32 8x8/4, 64 4x4/2, 64 3x3/1) and one linear layer, ReLU.

    Example:
        >>> encoder = NatureCNN(gym.spaces.Box(0, 255, (4, 84, 84), "uint8"))
        >>> encoder(torch.zeros(2, 4, 84, 84, dtype=torch.uint8)).shape
        torch.Size([2, 512])

    Source:
        Mnih et al. 2015, Nature 518. Differs: orthogonal initialization.
    """

    def __init__(
        self,
        observation_space: gym.Space,
        *,
        hidden: int | None = 512,
        layout: Layout | None = None,
        channels_last: bool = False,
    ) -> None:
        """Builds the layers.

        Args:
            observation_space: See ``ImageEncoder``.
            hidden: Features of the linear layer: ``output_dim``. None: no linear layer, so that the
                latents are the feature maps.
            layout: See ``ImageEncoder``.
            channels_last: See ``ImageEncoder``.

        Raises:
            SpecError: If ``hidden`` is invalid.
        """
        if hidden is not None:
            check_size("hidden", hidden)
        self._hidden = hidden
        super().__init__(observation_space, layout=layout, channels_last=channels_last)

    def _make_layers(self, channels: int, height: int, width: int) -> nn.Sequential:
        _check_pixels("nature", height, width, least=MIN_NATURE_PIXELS)
        convolutions = nn.Sequential(
            nn.Conv2d(channels, 32, 8, stride=4),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3),
            nn.ReLU(),
            nn.Flatten(),
        )
        if self._hidden is None:
            return convolutions
        features = _output_dim(convolutions, channels, height, width)
        return nn.Sequential(*convolutions, Linear(features, self._hidden), nn.ReLU())


class ICMCNN(ImageEncoder):
    """Four convolutions (32 3x3/2, SAME padding), ELU: 288 features for 42 x 42 pixels.

    Example:
        >>> ICMCNN(gym.spaces.Box(0, 255, (42, 42, 4), "uint8")).output_dim
        288

    Source:
        Pathak et al. 2017, arXiv:1705.05363, section 4 and published code (``universeHead``).
        Differs: orthogonal instead of Glorot initialization.
    """

    def _make_layers(self, channels: int, height: int, width: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for fan_in in (channels, 32, 32, 32):
            # TensorFlow's SAME padding at stride 2: odd sides get a pixel at both ends, even sides
            # get one only at the far end.
            padding = (width % 2, 1, height % 2, 1)
            layers += [nn.ZeroPad2d(padding), nn.Conv2d(fan_in, 32, 3, stride=2), nn.ELU()]
            height, width = (height + 1) // 2, (width + 1) // 2
        return nn.Sequential(*layers, nn.Flatten())


class CURLCNN(ImageEncoder):
    """Encoder of SAC-AE and CURL: 3x3 convolutions with ReLU, a linear layer, LayerNorm.

    The first convolution has stride 2, the others have stride 1. 84 x 84 pixels become 35 x 35.

    Example:
        >>> encoder = CURLCNN(gym.spaces.Box(0, 255, (9, 84, 84), "uint8"))
        >>> encoder(torch.zeros(2, 9, 84, 84, dtype=torch.uint8)).shape
        torch.Size([2, 50])

    Source:
        Yarats et al. 2019, arXiv:1910.01741; Laskin et al. 2020, arXiv:2004.04136, published code,
        which has no tanh. The pseudocode of the paper has a hidden layer of 1024 and a tanh.
    """

    def __init__(
        self,
        observation_space: gym.Space,
        *,
        feature_dim: int = 50,
        num_layers: int = 4,
        num_filters: int = 32,
        tanh: bool = False,
        centered: bool = False,
        init: str = "delta_orthogonal",
        layout: Layout | None = None,
        channels_last: bool = False,
    ) -> None:
        """Builds the layers.

        Args:
            observation_space: See ``ImageEncoder``.
            feature_dim: Features after the linear layer: ``output_dim``.
            num_layers: Number of convolutions. Each convolution after the first one shortens each
                side by 2 pixels.
            num_filters: Channels of every convolution.
            tanh: Whether a tanh follows the LayerNorm.
            centered: Whether integer images are scaled to [-0.5, 0.5], as in DrQ-v2.
            init: Initialization of the convolutions: ``delta_orthogonal`` (SAC-AE, CURL) or
                ``orthogonal`` (DrQ-v2), both with gain sqrt(2).
            layout: See ``ImageEncoder``.
            channels_last: See ``ImageEncoder``.

        Raises:
            SpecError: If a size is invalid, or the images are too small for ``num_layers``.
        """
        for name, size in (
            ("feature_dim", feature_dim),
            ("num_layers", num_layers),
            ("num_filters", num_filters),
        ):
            check_size(name, size)
        if init not in ("delta_orthogonal", "orthogonal"):
            raise SpecError(f"init must be delta_orthogonal or orthogonal; got {init!r}.")
        self._feature_dim, self._tanh, self._init = feature_dim, tanh, init
        self._num_layers, self._num_filters = num_layers, num_filters
        super().__init__(observation_space, layout=layout, channels_last=channels_last)
        self._shift = -0.5 if centered and self._scale != 1.0 else 0.0

    def _make_layers(self, channels: int, height: int, width: int) -> nn.Sequential:
        _check_pixels(
            "curl", height, width, least=4 * self._num_layers - 1, fix="Lower 'num_layers', or use"
        )
        layers: list[nn.Module] = []
        sizes = [channels, *[self._num_filters] * self._num_layers]
        for index, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
            # In place, to save memory: the maps before the ReLU are not needed again.
            layers += [
                nn.Conv2d(fan_in, fan_out, 3, stride=1 if index else 2),
                nn.ReLU(inplace=True),
            ]
        convolutions = nn.Sequential(*layers, nn.Flatten())
        features = _output_dim(convolutions, channels, height, width)
        head = [Linear(features, self._feature_dim), nn.LayerNorm(self._feature_dim)]
        return nn.Sequential(*convolutions, *head, *([nn.Tanh()] if self._tanh else []))

    def _initialize(self, layers: nn.Sequential) -> nn.Sequential:
        orthogonal_init(layers, gain=1.0)
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                if self._init == "delta_orthogonal":
                    delta_orthogonal_(layer.weight)
                else:
                    nn.init.orthogonal_(layer.weight, HIDDEN_GAIN)
        return layers


class DataEfficientCNN(ImageEncoder):
    """Two convolutions (32 5x5/5, 64 5x5/5), ReLU: 576 features for 84 x 84 pixels.

    Example:
        >>> DataEfficientCNN(gym.spaces.Box(0, 255, (4, 84, 84), "uint8")).output_dim
        576

    Source:
        van Hasselt et al. 2019, arXiv:1906.05243 (data-efficient Rainbow). Differs: orthogonal
        initialization.
    """

    def _make_layers(self, channels: int, height: int, width: int) -> nn.Sequential:
        _check_pixels("data_efficient", height, width, least=MIN_DATA_EFFICIENT_PIXELS)
        return nn.Sequential(
            nn.Conv2d(channels, 32, 5, stride=5),
            nn.ReLU(),
            nn.Conv2d(32, 64, 5, stride=5),
            nn.ReLU(),
            nn.Flatten(),
        )


class ImpalaResNet(ImageEncoder):
    """Residual network of IMPALA.

    Each section has a 3x3 convolution, max-pooling 3x3/2 and two residual blocks
    ``x + conv(relu(conv(relu(x))))``. After the sections: ReLU, one linear layer, ReLU. Each
    section halves the sides and rounds up, so every size works.

    Example:
        >>> ImpalaResNet(gym.spaces.Box(0, 255, (4, 84, 84), "uint8")).output_dim
        256

    Source:
        Espeholt et al. 2018, arXiv:1802.01561, figure 3, right, without the LSTM. Differs:
        orthogonal initialization. The second convolution of a block is divided by the square root
        of the number of blocks, so the latents have the same scale as without blocks.
    """

    _num_blocks = 2

    def __init__(
        self,
        observation_space: gym.Space,
        *,
        channels: Sequence[int] = (16, 32, 32),
        hidden: int = 256,
        layout: Layout | None = None,
        channels_last: bool = False,
    ) -> None:
        """Builds the layers.

        Args:
            observation_space: See ``ImageEncoder``.
            channels: Channels of each section.
            hidden: Features of the linear layer: ``output_dim``.
            layout: See ``ImageEncoder``.
            channels_last: See ``ImageEncoder``.

        Raises:
            SpecError: If a size is invalid.
        """
        check_size("hidden", hidden)
        self._channels, self._hidden = check_sizes("channels", channels), hidden
        super().__init__(observation_space, layout=layout, channels_last=channels_last)

    def _make_layers(self, channels: int, height: int, width: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise([channels, *self._channels]):
            layers += [nn.Conv2d(fan_in, fan_out, 3, padding=1), nn.MaxPool2d(3, 2, padding=1)]
            layers += [ResidualBlock(fan_out) for _ in range(self._num_blocks)]
        convolutions = nn.Sequential(*layers, nn.ReLU(), nn.Flatten())
        features = _output_dim(convolutions, channels, height, width)
        return nn.Sequential(*convolutions, Linear(features, self._hidden), nn.ReLU())

    def _initialize(self, layers: nn.Sequential) -> nn.Sequential:
        orthogonal_init(layers)
        blocks = [layer for layer in layers if isinstance(layer, ResidualBlock)]
        for block in blocks:
            orthogonal_init(block.second, gain=HIDDEN_GAIN / math.sqrt(len(blocks)))
        return layers


def _check_pixels(name: str, height: int, width: int, *, least: int, fix: str = "Use") -> None:
    if min(height, width) < least:
        raise SpecError(
            f"encoder '{name}' needs images of {least} pixels per side or more; got "
            f"{height} x {width}. {fix} the encoder 'small_cnn'."
        )


def _output_dim(layers: nn.Module, channels: int, height: int, width: int) -> int:
    return math.prod(_output_shape(layers, channels, height, width))


def _output_shape(layers: nn.Module, channels: int, height: int, width: int) -> tuple[int, ...]:
    with torch.no_grad():
        return tuple(layers(torch.zeros(1, channels, height, width)).shape[1:])
