"""What two encoders must agree on before one can take the weights of the other."""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from rlssl.image_spaces import image_layout, is_image
from rlssl.networks.encoders import default_encoder_name
from rlssl.networks.layers.vector_normalizer import parse_normalizer
from rlssl.networks.rl_encoder import seen_space
from rlssl.registry import ENCODERS

#: Options of encoders that do not change what trained weights compute: how weights start, and how
#: they lie in memory. The layout of images is compared with the observations.
_WITHOUT_EFFECT = ("init", "channels_last", "layout")

#: Key of the description that no setting of ``model`` has.
OBSERVATIONS = "observations"


def describe_encoder(module: Any) -> dict[str, Any]:
    """The observations and the settings of a module's encoder, as plain data.

    Args:
        module: A ``BaseModule``.

    Returns:
        Keys: ``observations``, a text; and ``frame_stack``, ``encoder``, ``encoder_config``,
        ``normalize_observations``: the settings of ``model`` as used.
    """
    settings = dict(module.model_config)
    settings.setdefault("precision", None)
    space = module.observation_space
    chosen = type(module).encoder_settings(settings, space)
    seen = seen_space(space, settings)
    options = parse_normalizer(settings.get("normalize_observations"))
    name = chosen["encoder"] or default_encoder_name(seen)
    return {
        OBSERVATIONS: space_in_words(seen),
        "frame_stack": int(settings.get("frame_stack") or 1),
        "encoder": name,
        "encoder_config": _options(name, chosen["encoder_config"]),
        "normalize_observations": False if options is None else dataclasses.asdict(options),
    }


def space_in_words(space: gym.Space) -> str:
    """What an encoder must know of a space.

    The bounds of floats are left out: no encoder reads them.

    Example:
        >>> space_in_words(gym.spaces.Dict({"speed": gym.spaces.Box(-1, 1, (2,))}))
        '{speed: float32 [2]}'
        >>> space_in_words(gym.spaces.Box(0, 255, (84, 84, 3), "uint8"))
        'uint8 [84, 84, 3] up to 255, HWC'
    """
    if isinstance(space, gym.spaces.Dict):
        parts = (f"{key}: {space_in_words(part)}" for key, part in space.spaces.items())
        return f"{{{', '.join(parts)}}}"
    if isinstance(space, gym.spaces.Tuple):
        return f"({', '.join(map(space_in_words, space.spaces))})"
    if not isinstance(space, gym.spaces.Box):
        return str(space)
    words = f"{space.dtype} {list(space.shape)}"
    if not np.issubdtype(space.dtype, np.floating):
        words += f" up to {space.high.max()}"
    return f"{words}, {image_layout(space)}" if is_image(space) else words


def _options(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of an encoder with its defaults, without those that have no effect here."""
    parameters = list(inspect.signature(ENCODERS[name]).parameters.values())[1:]
    used = {it.name: it.default for it in parameters if it.default is not it.empty} | dict(given)
    return {key: _plain(value) for key, value in used.items() if key not in _WITHOUT_EFFECT}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
