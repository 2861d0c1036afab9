"""The options ``env.reward`` and ``env.shaping``; they import nothing that builds environments."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rlssl.errors import SpecError, suggest
from rlssl.plugins import resolve

#: Options that change the reward to learn from. Scores do not need them.
LEARNING_OPTIONS = ("reward", "shaping")


@dataclasses.dataclass(frozen=True)
class Shaping:
    """The options of ``env.shaping``."""

    #: "module:function" from an observation of the environment to a number.
    potential: str
    #: Discount of the agent; None: not known yet.
    gamma: float | None


_KEYS = tuple(field.name for field in dataclasses.fields(Shaping))


def check_reward(value: Any) -> None:
    """Checks ``env.reward``.

    Raises:
        SpecError: If it is not "none".
    """
    if value != "none":
        raise SpecError(
            f"env.reward must be none, for learning without the environment's reward; got "
            f"{value!r}. Leave it out to learn from the environment's reward."
        )


def check_shaping(value: Any) -> None:
    """Checks ``env.shaping``; imports the potential.

    Raises:
        SpecError: If an option is unknown or out of range, or there is no such function.
    """
    parsed = parse_shaping(value)
    try:
        potential = resolve(parsed.potential)
    except SpecError as error:
        raise SpecError(f"env.shaping: {error}") from error
    if not callable(potential):
        raise SpecError(
            f"env.shaping '{parsed.potential}' must be a function of an observation; got "
            f"{potential!r}."
        )


def parse_shaping(value: Any) -> Shaping:
    """Reads ``env.shaping``: "module:function", or ``{potential: ..., gamma: ...}``.

    Raises:
        SpecError: Naming the option, the value and the fix.

    Example:
        >>> parse_shaping("my_lab:distance")
        Shaping(potential='my_lab:distance', gamma=None)
        >>> parse_shaping({"potential": "my_lab:distance", "gamma": 2})
        Traceback (most recent call last):
        rlssl.errors.SpecError: env.shaping.gamma must be a number in [0, 1]; got 2.
    """
    options: Any = {"potential": value} if isinstance(value, str) else value
    if not isinstance(options, Mapping):
        raise SpecError(
            "env.shaping must be 'module:function', or {potential: 'module:function', gamma: "
            f"0.99}}; got {value!r}."
        )
    for key in options.keys() - set(_KEYS):
        raise SpecError(f"unknown option env.shaping.{key}{suggest(str(key), _KEYS)}")
    potential, gamma = options.get("potential"), options.get("gamma")
    if not isinstance(potential, str) or ":" not in potential:
        raise SpecError(f"env.shaping.potential must be 'module:function'; got {potential!r}.")
    is_number = isinstance(gamma, int | float) and not isinstance(gamma, bool)
    if gamma is not None and not (is_number and 0 <= gamma <= 1):
        raise SpecError(f"env.shaping.gamma must be a number in [0, 1]; got {gamma!r}.")
    return Shaping(potential, gamma)


def with_agent_gamma(env: dict[str, Any], gamma: float) -> dict[str, Any]:
    """The environment of a training, whose shaping has the discount of the agent.

    Args:
        env: ``{"id": ..., **options}``.
        gamma: Discount of the agent.

    Raises:
        SpecError: If the shaping has another discount.

    Example:
        >>> with_agent_gamma({"id": "CartPole-v1", "shaping": "my_lab:angle"}, 0.9)["shaping"]
        {'potential': 'my_lab:angle', 'gamma': 0.9}
    """
    if env.get("shaping") is None:
        return env
    shaping = parse_shaping(env["shaping"])
    if shaping.gamma not in (None, gamma):
        raise SpecError(
            f"env.shaping.gamma is {shaping.gamma} and training.gamma is {gamma}: with different "
            "discounts, shaping changes which policy is best. Leave env.shaping.gamma out."
        )
    return {**env, "shaping": {"potential": shaping.potential, "gamma": gamma}}


def of_scores(env: dict[str, Any]) -> dict[str, Any]:
    """The environment of an evaluation, without the options that only learning needs."""
    return {key: value for key, value in env.items() if key not in LEARNING_OPTIONS}


def check_learnable(env: Mapping[str, Any], losses: Mapping[str, Any], stock: str | None) -> None:
    """Checks that a training can use its reward.

    Args:
        env: ``{"id": ..., **options}``.
        losses: The auxiliary losses.
        stock: Settings that need RLlib's own EnvRunner, in words; None: there are none.

    Raises:
        SpecError: If there is nothing to learn from, or the EnvRunner ignores the options.
    """
    given = [f"env.{key}" for key in LEARNING_OPTIONS if env.get(key) is not None]
    if given and stock is not None:
        raise SpecError(
            f"{' and '.join(given)} need rlssl's EnvRunner, and {stock} need RLlib's own, which "
            "learns from the environment's reward; leave one of them out."
        )
    has_none = env.get("reward") is not None and env.get("shaping") is None
    if has_none and not losses:
        raise SpecError(
            "env.reward: none leaves nothing to learn from: there is no auxiliary loss. Add a "
            "bonus, as --aux icm:intrinsic_coeff=1, or a loss that trains the encoder."
        )
