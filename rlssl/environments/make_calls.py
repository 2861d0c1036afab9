"""Calls a registered ``make`` or ``make_vec`` so that every option arrives, or is refused.

A callable gets its options in one of two ways, which its signature tells: as keyword arguments, or
as one dict, ``config``.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin

from rlssl.errors import SpecError, suggest

#: Keys of the config that an environment's ``make`` gets besides its options.
RESERVED_ENV_KEYS = ("id", "split", "worker_index", "seed")

#: Names of a parameter that takes all options as one dict.
_DICT_NAMES = frozenset(
    {
        "config",
        "env_config",
        "cfg",
        "env_cfg",
        "conf",
        "context",
        "env_context",
        "ctx",
        "options",
        "settings",
    }
)
#: The same for annotations, by the name of the type.
_DICT_TYPES = ("dict", "Dict", "Mapping", "MutableMapping", "EnvContext")

_Parameter = inspect.Parameter
_POSITIONAL = (_Parameter.POSITIONAL_ONLY, _Parameter.POSITIONAL_OR_KEYWORD)
_NAMED = (_Parameter.KEYWORD_ONLY, _Parameter.POSITIONAL_OR_KEYWORD)

#: Longest signature in an error message, in characters.
_MAX_SIGNATURE = 120


@dataclass(frozen=True)
class TakesOneDict:
    """Wraps a callable that takes one dict, whatever its parameter is called: RLlib's creators."""

    function: Callable[..., Any]

    def __call__(self, config: dict[str, Any]) -> Any:
        """Calls it."""
        return self.function(config)


def call_make(make: Callable[..., Any], config: Mapping[str, Any]) -> Any:
    """Builds one environment.

    Args:
        make: A class, a function, or any other callable.
        config: ``id``, ``split``, ``worker_index``, ``seed``, and the user's options.

    Raises:
        SpecError: If an option would not arrive, or a required argument is missing.

    Example:
        >>> config = {"id": "lab/Grid", "size": 7, "split": "train", "worker_index": 0, "seed": 3}
        >>> call_make(lambda render_mode=None, size=5: size, config)
        7
        >>> call_make(lambda config: config["size"], config)
        7
        >>> call_make(lambda seed, **options: (seed, options), config)
        (3, {'size': 7})
    """
    call = _Call(make, config)
    call.check_options()
    arguments, keywords = call.arguments()
    return make(*arguments, **keywords)


def call_make_vec(make_vec: Callable[..., Any], config: Mapping[str, Any], num_envs: int) -> Any:
    """Builds a vector environment; as `call_make`, with the number of environments.

    In ``make_vec(config, n)`` the second parameter may have any name.

    Example:
        >>> config = {"id": "lab/Grid", "size": 7, "split": "train", "worker_index": 0, "seed": 3}
        >>> call_make_vec(lambda config, n: (config["size"], n), config, 4)
        (7, 4)
        >>> call_make_vec(lambda num_envs, size=5: (size, num_envs), config, 4)
        (7, 4)
    """
    call = _Call(make_vec, config, num_envs=num_envs)
    call.check_options()
    if call.takes_dict_first and "num_envs" not in call.named:
        return make_vec(dict(config), num_envs)
    arguments, keywords = call.arguments()
    return make_vec(*arguments, **keywords)


def check_options(make: Callable[..., Any], config: Mapping[str, Any]) -> None:
    """Checks that every option would arrive, without calling.

    Raises:
        SpecError: If an option would not arrive.
    """
    _Call(make, config).check_options()


class _Call:
    """One call of ``make``: which of its parameters get what."""

    def __init__(self, make: Callable[..., Any], config: Mapping[str, Any], **more: Any) -> None:
        self.make, self.config, self.more = make, config, more
        self.options = {key: it for key, it in config.items() if key not in RESERVED_ENV_KEYS}
        self.parameters = _parameters(make)
        self.dict_parameter = next(filter(self._takes_dict, self.parameters), None)
        #: Names of the parameters that take one option each.
        self.named = {
            parameter.name
            for parameter in self.parameters
            if parameter.kind in _NAMED and parameter is not self.dict_parameter
        }

    @property
    def takes_dict_first(self) -> bool:
        """Whether the dict is the first positional argument."""
        one = self.dict_parameter
        is_first = one is not None and one is self.parameters[0]
        return is_first and one is not None and one.kind is not _Parameter.KEYWORD_ONLY

    def check_options(self) -> None:
        """As the function of this name."""
        one = self.dict_parameter
        if one is not None and not one.name.startswith("_"):
            return
        takes_any = any(it.kind is _Parameter.VAR_KEYWORD for it in self.parameters)
        for option in self.options:
            if option not in self.named and (one is not None or not takes_any):
                raise self._refusal(option)

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """The positional and the keyword arguments."""
        one = self.dict_parameter
        keywords = self.options | self.more
        if one is None:
            reserved = (key for key in RESERVED_ENV_KEYS if key in self.named)
            keywords |= {key: self.config[key] for key in reserved}
        else:
            keywords = {key: value for key, value in keywords.items() if key in self.named}
        arguments = []
        if self.takes_dict_first:
            arguments.append(dict(self.config))
        elif one is not None:
            keywords[one.name] = dict(self.config)
        self._require(keywords)
        return arguments, keywords

    def _takes_dict(self, parameter: inspect.Parameter) -> bool:
        """Whether a parameter takes all options as one dict."""
        is_first = parameter is self.parameters[0]
        if parameter.kind is _Parameter.VAR_POSITIONAL:
            return len(self.parameters) == 1
        if parameter.kind is _Parameter.VAR_KEYWORD or parameter.name in self.options:
            return False
        if parameter.kind is _Parameter.POSITIONAL_ONLY and not is_first:
            return False
        if parameter.name in _DICT_NAMES:
            return True
        if not is_first or parameter.kind not in _POSITIONAL:
            return False
        return parameter.name.startswith("_") or _is_dict(parameter.annotation)

    def _require(self, keywords: Iterable[str]) -> None:
        for parameter in self.parameters:
            is_variable = parameter.kind in (_Parameter.VAR_POSITIONAL, _Parameter.VAR_KEYWORD)
            is_given = parameter is self.dict_parameter or parameter.name in keywords
            if is_variable or is_given or parameter.default is not _Parameter.empty:
                continue
            raise SpecError(
                f"environment {self.config['id']!r}: {self._shown} needs a value of "
                f"{parameter.name!r}; set env.{parameter.name}. {self._two_ways(parameter.name)}"
            )

    def _refusal(self, option: str) -> SpecError:
        guess = suggest(option, sorted(self.named)) if self.named else "."
        return SpecError(
            f"environment {self.config['id']!r} does not take the option env.{option}{guess} It is "
            f"built by {self._shown}. {self._two_ways(option)}"
        )

    @property
    def _shown(self) -> str:
        name = getattr(self.make, "__qualname__", type(self.make).__qualname__)
        words = f"{name}({', '.join(map(str, self.parameters))})"
        return words if len(words) <= _MAX_SIGNATURE else f"{words[:_MAX_SIGNATURE]}...)"

    def _two_ways(self, option: str) -> str:
        begin = "__init__(self, " if inspect.isclass(self.make) else "make("
        return (
            f"Options arrive in two ways: as keyword arguments, `def {begin}{option}=...)`; or as "
            f"one dict, `def {begin}config)`, with config[{option!r}]."
        )


def _parameters(make: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        parameters = list(inspect.signature(make).parameters.values())
    except (TypeError, ValueError):
        # A callable without a signature gets what every `make` got in earlier versions.
        return [_Parameter("config", _Parameter.POSITIONAL_ONLY)]
    if not inspect.isclass(make) or not _passes_all_on(parameters):
        return parameters
    # `__init__(self, *args, **kwargs)` passes all on to the next class.
    for base in make.__mro__[1:-1]:
        if "__init__" in vars(base):
            inherited = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
            if not _passes_all_on(inherited):
                return inherited
    return parameters


def _passes_all_on(parameters: list[inspect.Parameter]) -> bool:
    kinds = [parameter.kind for parameter in parameters]
    return kinds == [_Parameter.VAR_POSITIONAL, _Parameter.VAR_KEYWORD]


def _is_dict(annotation: Any) -> bool:
    """Whether an annotation is a mapping: dict, Mapping[str, Any], "dict | None", Optional[...]."""
    if get_origin(annotation) in (Union, UnionType):
        return any(_is_dict(one) for one in get_args(annotation))
    words = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    words = words.strip().removeprefix("typing.").removeprefix("Optional[")
    name = words.partition("[")[0].partition("|")[0].strip(" ]").rpartition(".")[2]
    return name in _DICT_TYPES
