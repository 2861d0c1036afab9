"""Encoders: from raw observations of a space to latents.

An encoder is a module ``Class(observation_space, **config)`` with an attribute ``output_dim``. Its
``forward`` reads a batch of stacked observations of the space, of any dtype including uint8 (a dict
or tuple of tensors for a composite space), and returns [N, output_dim]. The encoder itself scales,
encodes one-hot and moves channels to the front. Encoders of images are in ``pixel_encoders``.
"""

import inspect
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor, nn

from rlssl.errors import SpecError, unknown_name
from rlssl.image_spaces import Layout as Layout
from rlssl.image_spaces import channels_first, with_layout
from rlssl.image_spaces import image_layout as image_layout
from rlssl.image_spaces import is_image as is_image
from rlssl.networks.layers.initialization import orthogonal_init
from rlssl.networks.layers.linear import Layers, Linear
from rlssl.registry import ENCODERS

#: Smallest side for the Nature convolutions.
MIN_NATURE_PIXELS = 36

#: Name -> activation.
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "leaky_relu": nn.LeakyReLU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


class Encoder(nn.Module):
    """Base of the built-in encoders. A registered encoder may be any module with ``output_dim``.

    Example:
        >>> class Mean(Encoder):
        ...     output_dim = 1
        ...     def forward(self, obs):
        ...         return obs.float().mean(dim=1, keepdim=True)
        >>> Mean()(torch.tensor([[1, 3]]))
        tensor([[2.]])
    """

    #: D of the latents [N, D] that ``forward`` returns.
    output_dim: int


def build_encoder(
    observation_space: gym.Space, name: str | None = None, config: Mapping[str, Any] | None = None
) -> Encoder:
    """Builds an encoder by name, or the default encoder of the space.

    Args:
        observation_space: Space of one observation, without a batch dimension. For stacked frames,
            the space from ``stacked_space``, which carries the layout of the frames.
        name: Registered name; None: chosen by ``default_encoder_name``.
        config: Keyword arguments of the encoder. For images, ``layout`` may be given with every
            encoder: the space then carries this layout.

    Returns:
        A module from [N, ...] to [N, output_dim], with the attribute ``output_dim``.

    Raises:
        SpecError: If the name or a key of the config is unknown, or the encoder cannot read the
            space.

    Example:
        >>> encoder = build_encoder(spaces.Box(-1, 1, (4,)), "mlp", {"hidden": [32, 16]})
        >>> encoder.output_dim
        16
        >>> encoder(torch.zeros(5, 4)).shape
        torch.Size([5, 16])
    """
    config = dict(config or {})
    observation_space = with_layout(observation_space, config)
    name = name or default_encoder_name(observation_space)
    encoder_class = ENCODERS[name]
    if is_image(observation_space) and not _takes(encoder_class, "layout"):
        config.pop("layout", None)
    _check_keys(config, encoder_class, f"encoder {name!r}")
    encoder = encoder_class(observation_space, **config)
    if not isinstance(getattr(encoder, "output_dim", None), int):
        raise SpecError(f"encoder {name!r} has no integer attribute 'output_dim'; set it.")
    return cast(Encoder, encoder)


def default_encoder_name(observation_space: gym.Space) -> str:
    """Name of the encoder that is used for a space if the user names none.

    Vectors, single numbers and discrete spaces: ``mlp``. Images: ``small_cnn`` if a side is below
    36 pixels, else ``nature``. Dict and Tuple: ``dict``.

    Raises:
        SpecError: If the space has no default encoder.

    Example:
        >>> default_encoder_name(spaces.Box(0, 255, (84, 84, 3), "uint8"))
        'nature'
        >>> default_encoder_name(spaces.Discrete(5))
        'mlp'
    """
    match observation_space:
        case spaces.Dict() | spaces.Tuple():
            return "dict"
        case spaces.Discrete() | spaces.MultiDiscrete() | spaces.MultiBinary():
            return "mlp"
        case spaces.Box(shape=() | (_,)):
            return "mlp"
        case spaces.Box(shape=(_, _, _)):
            _, height, width = channels_first(observation_space)
            return "small_cnn" if min(height, width) < MIN_NATURE_PIXELS else "nature"
    raise SpecError(
        f"the observation space {observation_space} has no default encoder: wrap the environment "
        "so that it gives a vector or an image of three dimensions (gymnasium's "
        "FlattenObservation or ReshapeObservation), or name an encoder ('mlp' flattens any Box)."
    )


def are_frames(space: gym.Space | None) -> bool:
    """Whether observations are images large enough for the Nature convolutions."""
    return is_image(space) and default_encoder_name(space) == "nature"


def one_hot(values: Tensor, space: gym.Space) -> Tensor:
    """Encodes discrete values one-hot.

    Args:
        values: [N] for a Discrete, [N, ...] for a MultiDiscrete; any dtype, ``start`` included.
        space: The Discrete or MultiDiscrete.

    Returns:
        [N, flat_dim(space)], float, one block of columns per discrete part.

    Example:
        >>> one_hot(torch.tensor([[1, 0]]), spaces.MultiDiscrete([2, 3])).tolist()
        [[0.0, 1.0, 1.0, 0.0, 0.0]]
    """
    if isinstance(space, spaces.Discrete):
        return F.one_hot(values.long().reshape(-1) - int(space.start), int(space.n)).float()
    assert isinstance(space, spaces.MultiDiscrete)  # for mypy
    sizes, starts = space.nvec.reshape(-1).tolist(), space.start.reshape(-1).tolist()
    columns = values.long().reshape(-1, len(sizes)).unbind(dim=1)
    parts = [
        F.one_hot(column - start, size)
        for column, start, size in zip(columns, starts, sizes, strict=True)
    ]
    return torch.cat(parts, dim=1).float()


def flat_dim(space: gym.Space) -> int:
    """Number of features of a flattened element of a space, with discrete values one-hot.

    Raises:
        SpecError: If the space is not a Box, Discrete, MultiDiscrete or MultiBinary.

    Example:
        >>> flat_dim(spaces.Box(-1, 1, (2, 3))), flat_dim(spaces.MultiDiscrete([2, 3]))
        (6, 5)
    """
    match space:
        case spaces.Discrete():
            return int(space.n)
        case spaces.MultiDiscrete():
            return int(space.nvec.sum())
        case spaces.Box() | spaces.MultiBinary():
            return math.prod(space.shape)
    raise SpecError(
        f"the space {space} cannot be flattened into a vector; use Box, Discrete, MultiDiscrete or "
        "MultiBinary, and for a Dict or Tuple of them the encoder 'dict'."
    )


class MLP(Encoder):
    """Flattens observations of any Box or discrete space and applies linear layers.

    Discrete values are encoded one-hot. Integer images are scaled to [0, 1]. Integer vectors are
    cast to float but not scaled.

    Example:
        >>> encoder = MLP(spaces.Discrete(3), hidden=(8,), activation="relu")
        >>> encoder(torch.tensor([0, 2])).shape
        torch.Size([2, 8])
    """

    def __init__(
        self,
        observation_space: gym.Space,
        *,
        hidden: Sequence[int] = (64, 64),
        activation: str = "tanh",
        init: str = "orthogonal",
    ) -> None:
        """Builds the layers.

        Args:
            observation_space: Box of any shape, Discrete, MultiDiscrete or MultiBinary.
            hidden: Features of each layer; the last entry is ``output_dim``.
            activation: After every layer; a key of ``ACTIVATIONS``.
            init: ``orthogonal``: gain sqrt(2), biases zero. ``fan_in``: weights and biases uniform
                in +-1/sqrt(inputs of the layer) (Lillicrap et al. 2015; torch's default).

        Raises:
            SpecError: If the space, a size, the activation or the initialization is invalid.
        """
        super().__init__()
        self.observation_space = observation_space
        sizes = [flat_dim(observation_space), *check_sizes("hidden", hidden)]
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(sizes):
            layers += [Linear(fan_in, fan_out), make_activation(activation)]
        if init not in ("orthogonal", "fan_in"):
            raise SpecError(f"init must be orthogonal or fan_in; got {init!r}.")
        # A new Linear starts as ``fan_in`` says.
        self.layers = Layers(*layers) if init == "fan_in" else orthogonal_init(Layers(*layers))
        self.output_dim = sizes[-1]
        is_image = isinstance(observation_space, spaces.Box) and len(observation_space.shape) > 1
        self._scale = integer_scale(observation_space) if is_image else 1.0
        self._is_discrete = isinstance(observation_space, spaces.Discrete | spaces.MultiDiscrete)

    def forward(self, obs: Tensor) -> Tensor:
        """[N, ...] of the space, any dtype, to [N, output_dim]."""
        if self._is_discrete:
            return self.layers(one_hot(obs, self.observation_space))
        flat = (obs if obs.ndim == 2 else obs.reshape(len(obs), math.prod(obs.shape[1:]))).float()
        return self.layers(flat if self._scale == 1.0 else flat * self._scale)


class DictEncoder(Encoder):
    """Encodes each key, concatenates the latents and applies a linear layer and ReLU.

    A Tuple is read as a Dict with the keys "0", "1", ...

    Example:
        >>> space = spaces.Dict({"speed": spaces.Box(-1, 1, (2,)), "gear": spaces.Discrete(5)})
        >>> encoder = DictEncoder(space, hidden=32)
        >>> encoder({"speed": torch.zeros(4, 2), "gear": torch.tensor([0, 1, 2, 3])}).shape
        torch.Size([4, 32])
    """

    def __init__(
        self,
        observation_space: gym.Space,
        *,
        hidden: int = 256,
        encoders: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Builds one encoder per key, and the layer that mixes their latents.

        Args:
            observation_space: Dict or Tuple. A nested Dict or Tuple gets another DictEncoder.
            hidden: Features of the mixing layer: ``output_dim``.
            encoders: For some keys, ``{"name": ..., "config": {...}}``, both optional. Other keys
                get the default encoder of their space.

        Raises:
            SpecError: If the space is not a Dict or Tuple, a key is unknown, or the space of a key
                has no default encoder.
        """
        super().__init__()
        parts = _sub_spaces(observation_space)
        chosen = dict(encoders or {})
        _check_known(chosen, parts, "observation key of encoder 'dict':")
        for key, choice in chosen.items():
            _check_known(choice, ("name", "config"), f"key of the encoder of {key!r}:")
        check_size("hidden", hidden)
        self._keys = list(parts)
        built = [_build_part(key, part, chosen.get(key, {})) for key, part in parts.items()]
        # A ModuleList, because a ModuleDict does not accept keys with a dot.
        self.encoders = nn.ModuleList(built)
        width = sum(encoder.output_dim for encoder in built)
        self.mix = orthogonal_init(Layers(Linear(width, hidden), nn.ReLU()))
        self.output_dim = hidden

    def forward(self, obs: Mapping[str, Any] | Sequence[Any]) -> Tensor:
        """A dict or tuple of [N, ...], like the space, to [N, output_dim]."""
        parts = [obs[key] for key in self._keys] if isinstance(obs, Mapping) else list(obs)
        latents = [encoder(part) for encoder, part in zip(self.encoders, parts, strict=True)]
        return self.mix(torch.cat(latents, dim=-1))


def make_activation(name: str) -> nn.Module:
    """Builds an activation by name.

    Raises:
        SpecError: If the name is unknown; the message suggests a name.
    """
    _check_known([name], ACTIVATIONS, "activation")
    return ACTIVATIONS[name]()


def _build_part(key: str, space: gym.Space, choice: Mapping[str, Any]) -> Encoder:
    try:
        return build_encoder(space, choice.get("name"), choice.get("config"))
    except SpecError as error:
        raise SpecError(
            f"observation key {key!r}: {error} A wrapper (gymnasium's FilterObservation) can also "
            "remove the key."
        ) from error


def _sub_spaces(space: gym.Space) -> dict[str, gym.Space]:
    if isinstance(space, spaces.Dict):
        return dict(space.spaces)
    if isinstance(space, spaces.Tuple):
        return {str(index): part for index, part in enumerate(space.spaces)}
    raise SpecError(
        f"encoder 'dict' reads a Dict or Tuple; got {space}. Name another encoder, or none for the "
        "default of the space."
    )


def integer_scale(space: gym.Space) -> float:
    """1 / largest value for an integer or boolean Box; 1.0 for a floating Box.

    Raises:
        SpecError: If an integer Box is unbounded or its largest value is not > 0.
    """
    assert isinstance(space, spaces.Box)
    if np.issubdtype(space.dtype, np.floating):
        return 1.0
    highest = float(space.high.max())
    unbounded = space.dtype not in (np.bool_, np.uint8) and highest >= np.iinfo(space.dtype).max
    if unbounded or highest <= 0:
        raise SpecError(
            f"an integer image is scaled by 1 / high, but high is {highest:g} in {space}: set high "
            "to the largest value that occurs, or use floats."
        )
    return 1.0 / highest


def check_size(name: str, size: int) -> None:
    """Raises a SpecError unless ``size`` is a whole number >= 1."""
    if type(size) is not int or size < 1:
        raise SpecError(f"{name} must be a whole number >= 1; got {size!r}.")


def check_sizes(name: str, sizes: Sequence[int]) -> list[int]:
    """Returns the sizes as a list; raises a SpecError unless they are whole numbers >= 1."""
    is_list = isinstance(sizes, Sequence) and not isinstance(sizes, str)
    if not is_list or any(type(size) is not int or size < 1 for size in sizes):
        raise SpecError(f"{name} must list features, whole numbers >= 1, as [64, 64]; got {sizes}.")
    return list(sizes)


def _takes(encoder_class: Callable[..., Any], key: str) -> bool:
    return key in inspect.signature(encoder_class).parameters


def _check_keys(config: Mapping[str, Any], encoder_class: Callable[..., Any], owner: str) -> None:
    parameters = list(inspect.signature(encoder_class).parameters.values())[1:]
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        _check_known(config, [p.name for p in parameters], f"config key of {owner}:")


def _check_known(names: Iterable[str], known: Iterable[str], kind: str) -> None:
    known = list(known)
    for name in names:
        if name not in known:
            raise unknown_name(kind, str(name), known)
