"""The settings of ``.model()``."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rlssl.errors import SpecError
from rlssl.networks.augmentation import parse_augmentation
from rlssl.networks.layers.vector_normalizer import parse_normalizer


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """What ``.model()`` sets."""

    # Encoder by registered name; None: chosen from the observation space.
    encoder: str | None = None
    # Keyword arguments of the encoder. Its `layout` is what the user says about the channels of
    # images, CHW or HWC; all parts of a run read it, with any encoder.
    encoder_config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    # Frames of a stacked observation; >= 1; None: what the environment suggests, else 1.
    frame_stack: int | None = None
    # Whether actor and critic share the encoder; None: yes for images, no for everything else.
    shared_encoder: bool | None = None
    # Augmentation of the RL loss's images: "shift", {"crop": {"size": 84}}, ...; None: no change.
    augmentation: str | Mapping[str, Any] | None = None
    # Floats in which the encoder computes: "float32" or "bfloat16"; None: float32.
    precision: str | None = None
    # An LSTM behind the encoder: {} or {"hidden": 256, "sequence_length": 20}; None: no LSTM.
    lstm: Mapping[str, Any] | None = None
    # Whether vectors are normalized by their running mean and standard deviation: true, or options
    # of the normalizer, {"min_std": 0.01, "clip": 5}; None: no.
    normalize_observations: bool | Mapping[str, Any] | None = None
    # Whether the encoder keeps the weights that it starts with; None: no.
    freeze: bool | None = None


#: Keys of ``.model()``.
MODEL_KEYS = tuple(field.name for field in dataclasses.fields(ModelSettings))

#: What `model.precision` may be.
PRECISIONS = ("float32", "bfloat16")


def check_model(settings: Mapping[str, Any]) -> None:
    """Checks the values of `ModelSettings` that need no environment.

    Raises:
        SpecError: Naming the key and the value.

    Example:
        >>> check_model({**dataclasses.asdict(ModelSettings()), "frame_stack": 0})
        Traceback (most recent call last):
        rlssl.errors.SpecError: model.frame_stack must be >= 1; got 0.
    """
    frame_stack, precision = settings["frame_stack"], settings["precision"]
    if frame_stack is not None and frame_stack < 1:
        raise SpecError(f"model.frame_stack must be >= 1; got {frame_stack}.")
    if precision not in (None, *PRECISIONS):
        raise SpecError(f"model.precision must be one of {PRECISIONS}; got {precision!r}.")
    # A config of an earlier version lacks the key.
    parse_normalizer(settings.get("normalize_observations"))
    if (freeze := settings.get("freeze")) not in (None, True, False):
        raise SpecError(f"model.freeze must be true or false; got {freeze!r}.")
    parse_augmentation(settings["augmentation"])
