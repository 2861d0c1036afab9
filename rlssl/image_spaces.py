"""Which axis of an image holds the channels: decided once, and carried by the space.

Everything that reads images asks ``image_layout``: frame stacks, replay, encoders, augmentations,
views, decoders. The layout is decided on the space of one frame. A stack of frames cannot tell: a
stack of four [10, 8, 3] images is [10, 8, 12], where the channels are no longer the smallest axis.
So the spaces of stacks and crops are ``ImageSpace``, which carry the layout of their frames.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeGuard

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlssl.errors import SpecError

#: [channels, height, width] or [height, width, channels].
Layout = Literal["CHW", "HWC"]

#: An axis is short enough to be the channels if it has at most 4 elements (RGB and alpha), or at
#: most a quarter of those of the axis at the other end of the shape.
_FEW_CHANNELS, _SHORTER = 4, 4


class ImageSpace(spaces.Box):
    """A Box of three dimensions that carries the layout of its images.

    Example:
        >>> low = np.zeros((5, 7, 24), np.float32)
        >>> image_layout(ImageSpace(low, low + 1, "HWC"))
        'HWC'
    """

    def __init__(self, low: np.ndarray, high: np.ndarray, layout: Layout) -> None:
        """Creates the space.

        Args:
            low: [C, H, W] or [H, W, C], lower bounds, with the dtype of the images.
            high: The same shape and dtype, upper bounds.
            layout: ``CHW`` or ``HWC``.
        """
        super().__init__(low, high, dtype=low.dtype.type)
        self.layout: Layout = layout


def is_image(space: gym.Space | None) -> TypeGuard[spaces.Box]:
    """Whether a space is a Box of three dimensions.

    Example:
        >>> is_image(spaces.Box(0, 255, (84, 84, 3), "uint8"))
        True
    """
    return isinstance(space, spaces.Box) and len(space.shape) == 3


def image_layout(space: gym.Space) -> Layout:
    """The layout of images: the layout that the space carries, else decided from its shape.

    The rule for a shape, which must be that of one frame:

    1. If exactly two neighboring axes are equal, they are the sides of a square image; the other
       axis holds the channels.
    2. Otherwise the smaller one of the first and the last axis holds the channels.
    3. If the first and the last axis are equal: CHW.

    The rule can be wrong, see ``is_ambiguous``. The user's word, ``model.encoder_config.layout``,
    comes before it.

    Raises:
        SpecError: If the space is not a Box of three dimensions.

    Example:
        >>> image_layout(spaces.Box(0, 255, (84, 84, 3), "uint8"))
        'HWC'
        >>> image_layout(spaces.Box(0, 255, (80, 7, 7), "uint8"))
        'CHW'
        >>> image_layout(spaces.Box(0, 255, (5, 7, 6), "uint8"))
        'CHW'
    """
    if not is_image(space):
        raise SpecError(
            f"an image must be a Box of three dimensions; got {space}. For vectors use the encoder "
            "'mlp', for composite spaces 'dict'."
        )
    if isinstance(space, ImageSpace):
        return space.layout
    first, _, last = space.shape
    return _square(space.shape) or ("CHW" if first <= last else "HWC")


def is_ambiguous(space: gym.Space) -> bool:
    """Whether the shape of a frame does not show clearly which axis holds the channels.

    It is clear if the image is square, or if exactly one of the first and the last axis is short:
    at most 4 elements, or at most a quarter of the other one. If both signs exist, they must agree.

    Example:
        >>> [is_ambiguous(spaces.Box(0, 1, shape)) for shape in [(84, 84, 3), (10, 8, 3)]]
        [False, False]
        >>> [is_ambiguous(spaces.Box(0, 1, shape)) for shape in [(5, 7, 6), (3, 64, 3), (4, 4, 4)]]
        [True, True, True]
    """
    if not is_image(space) or isinstance(space, ImageSpace):
        return False
    first, _, last = space.shape
    short = [
        one <= _FEW_CHANNELS < other or one * _SHORTER <= other
        for one, other in ((first, last), (last, first))
    ]
    signs = {_square(space.shape), "CHW" if short[0] else None, "HWC" if short[1] else None}
    return len(signs - {None}) != 1


def ambiguous_images(
    space: gym.Space, encoder_config: Mapping[str, Any] | None = None
) -> list[str]:
    """Warnings about the images of a frame whose channels are only guessed, one for each image.

    Args:
        space: The space of one frame.
        encoder_config: See ``with_layout``. An image with a ``layout`` gets no warning.

    Example:
        >>> ambiguous_images(spaces.Box(0, 255, (5, 7, 6), "uint8"))
        ["the image (5, 7, 6) does not show which axis holds the channels; it is read as CHW, with \
5 channels. Set model.encoder_config.layout to 'CHW' or 'HWC'."]
    """
    return list(_ambiguous_images(space, encoder_config or {}, "encoder_config"))


def frame_layout(space: gym.Space, encoder_config: Mapping[str, Any] | None = None) -> Layout:
    """The layout of the images of one frame: the user's word, else ``image_layout``.

    Args:
        space: The space of one frame, a Box of three dimensions.
        encoder_config: ``model.encoder_config``, whose ``layout`` is the user's word.

    Raises:
        SpecError: If the word is neither ``CHW`` nor ``HWC``, or contradicts the carried layout.

    Example:
        >>> frame_layout(spaces.Box(0, 255, (5, 7, 6), "uint8"), {"layout": "HWC"})
        'HWC'
    """
    word: Layout | None = (encoder_config or {}).get("layout")
    if word not in (None, "CHW", "HWC"):
        raise SpecError(f"layout must be 'CHW' or 'HWC'; got {word!r}.")
    if isinstance(space, ImageSpace):
        _refuse_contradiction(space, word)
    return word or image_layout(space)


def with_layout(space: gym.Space, encoder_config: Mapping[str, Any] | None = None) -> gym.Space:
    """The space of one frame; its images carry their layout. Other spaces are returned unchanged.

    Args:
        space: The space of one frame. In a Dict or Tuple, each image gets its own layout.
        encoder_config: ``model.encoder_config``. Its ``layout``, or the ``layout`` of the encoder
            of a key, is the user's word. Without it: ``image_layout``.

    Raises:
        SpecError: If the word is neither ``CHW`` nor ``HWC``, or contradicts the carried layout.

    Example:
        >>> frame = spaces.Box(0, 255, (5, 7, 6), "uint8")
        >>> image_layout(with_layout(frame, {"layout": "HWC"}))
        'HWC'
    """
    config = encoder_config or {}
    if is_image(space):
        layout = frame_layout(space, config)
        return space if isinstance(space, ImageSpace) else ImageSpace(space.low, space.high, layout)
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return _with_layouts(space, config)
    return space


def stacked_with_layout(
    space: gym.Space, frame_stack: int, encoder_config: Mapping[str, Any] | None = None
) -> gym.Space:
    """The space of stacked observations; its images carry the layout of their frames.

    Args:
        space: From ``stacked_space``, which carries the layout. A Box of an earlier version does
            not carry the layout. Then the layout is the one whose frames give this stack.
        frame_stack: Frames in a stack; with 1: the same as ``with_layout``.
        encoder_config: See ``with_layout``.

    Raises:
        SpecError: As ``with_layout``; or if frames of both layouts, or of none, give this stack.

    Example:
        Only [10, 8, 3] frames give this stack, because 10 is not a multiple of 4:

        >>> image_layout(stacked_with_layout(spaces.Box(0, 255, (10, 8, 12), "uint8"), 4))
        'HWC'
    """
    config = dict(encoder_config or {})
    if frame_stack == 1 or not is_image(space) or isinstance(space, ImageSpace):
        return with_layout(space, config)
    if config.get("layout") is None:
        first, middle, last = space.shape
        fitting: list[str] = []
        if first % frame_stack == 0:
            shape = (first // frame_stack, middle, last)
            fitting += ["CHW"] * (image_layout(spaces.Box(0, 1, shape)) == "CHW")
        if last % frame_stack == 0:
            shape = (first, middle, last // frame_stack)
            fitting += ["HWC"] * (image_layout(spaces.Box(0, 1, shape)) == "HWC")
        if len(fitting) != 1:
            raise SpecError(
                f"the shape {space.shape} of {frame_stack} stacked frames does not show which axis "
                "holds the channels: set model.encoder_config.layout to 'CHW' or 'HWC', or make "
                "the space with rlssl.connectors.frame_stack.stacked_space."
            )
        config["layout"] = fitting[0]
    return with_layout(space, config)


def channels_first(space: gym.Space) -> tuple[int, int, int]:
    """Channels, height and width of an image space.

    Example:
        >>> channels_first(spaces.Box(0, 255, (84, 96, 3), "uint8"))
        (3, 84, 96)
    """
    layout = image_layout(space)
    assert space.shape is not None  # image_layout refuses other spaces
    first, middle, last = space.shape
    return (first, middle, last) if layout == "CHW" else (last, first, middle)


def _square(shape: tuple[int, ...]) -> Layout | None:
    """The layout of a square image; None if not exactly two neighboring axes are equal."""
    first, middle, last = shape
    if (middle == last) == (first == middle):
        return None
    return "CHW" if middle == last else "HWC"


def _refuse_contradiction(space: ImageSpace, word: Layout | None) -> None:
    if word not in (None, space.layout):
        raise SpecError(
            f"layout {word!r} contradicts the layout {space.layout!r} of the observations, "
            f"{space.shape}. Set model.encoder_config.layout, which all parts of a run read."
        )


def _ambiguous_images(space: gym.Space, config: Mapping[str, Any], key: str) -> Iterator[str]:
    if is_image(space) and config.get("layout") is None and is_ambiguous(space):
        yield (
            f"the image {space.shape} does not show which axis holds the channels; it is read as "
            f"{image_layout(space)}, with {channels_first(space)[0]} channels. Set "
            f"model.{key}.layout to 'CHW' or 'HWC'."
        )
    if isinstance(space, spaces.Dict | spaces.Tuple):
        for name, (part, part_config) in _parts(space, config).items():
            yield from _ambiguous_images(part, part_config, f"{key}.encoders.{name}.config")


def _parts(
    space: spaces.Dict | spaces.Tuple, config: Mapping[str, Any]
) -> dict[str, tuple[gym.Space, Mapping[str, Any]]]:
    """Key -> space and encoder_config of each part; the keys of a Tuple are "0", "1", ..."""
    encoders = config.get("encoders") or {}
    named = space.spaces if isinstance(space, spaces.Dict) else dict(enumerate(space.spaces))
    return {
        str(key): (part, (encoders.get(str(key)) or {}).get("config") or {})
        for key, part in named.items()
    }


def _with_layouts(
    space: spaces.Dict | spaces.Tuple, config: Mapping[str, Any]
) -> spaces.Dict | spaces.Tuple:
    parts = [with_layout(part, part_config) for part, part_config in _parts(space, config).values()]
    if isinstance(space, spaces.Tuple):
        return spaces.Tuple(parts)
    # An OrderedDict, because gymnasium sorts the keys of a dict.
    return spaces.Dict(OrderedDict(zip(space.spaces, parts, strict=True)))


def last_frame_space(space: gym.Space, frame_stack: int) -> gym.Space:
    """The space of the last frame in a stack of frames.

    Args:
        space: The space of a stack, a Box of vectors or images; see ``stacked_space``.
        frame_stack: Frames in a stack; with 1, ``space`` itself is returned.

    Example:
        >>> last_frame_space(spaces.Box(0, 255, (4, 84, 84), np.uint8), 4).shape
        (1, 84, 84)
    """
    if frame_stack == 1:
        return space
    assert isinstance(space, spaces.Box)  # for mypy
    low, high = (
        last_frame(bound[None], space, frame_stack)[0] for bound in (space.low, space.high)
    )
    if is_image(space):
        return ImageSpace(low, high, image_layout(space))
    return spaces.Box(low, high, dtype=space.low.dtype.type)


def last_frame(stacks: Any, space: gym.Space, frame_stack: int) -> Any:
    """The last frames [N, ...] of stacks [N, ...], tensors or arrays.

    Args:
        stacks: Observations of ``space``; the newest frame of a stack is its last one.
        space: The space of a stack, a Box of vectors or images.
        frame_stack: Frames in a stack; with 1, ``stacks`` itself is returned.

    Example:
        >>> space = spaces.Box(0, 1, (4,))
        >>> last_frame(np.array([[1, 2, 3, 4]]), space, 2).tolist()
        [[3, 4]]
    """
    if frame_stack == 1:
        return stacks
    channels_last = is_image(space) and image_layout(space) == "HWC"
    size = stacks.shape[-1 if channels_last else 1] // frame_stack
    return stacks[..., -size:] if channels_last else stacks[:, -size:]
