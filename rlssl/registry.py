"""The tables of environments, auxiliary losses, encoders, experts and algorithms, by name.

This module imports only the standard library; gymnasium is imported when an environment is built.
"""

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from rlssl.errors import (
    MissingExtraError,
    PluginError,
    unknown_name,
)
from rlssl.old_names import attribute_finder
from rlssl.plugins import plugins_are_loading, resolve

if TYPE_CHECKING:
    import gymnasium as gym

logger = logging.getLogger(__name__)

T = TypeVar("T")


def _identity(entry: Any) -> Any:
    """Returns a value that is equal for registrations of the same object, even after a reload."""
    if isinstance(entry, EnvEntry):
        return tuple(
            map(_identity, (entry.make, entry.make_vec, entry.extra, entry.ids, entry.options))
        )
    module, name = getattr(entry, "__module__", None), getattr(entry, "__qualname__", "<")
    return entry if module is None or "<" in name else f"{module}:{name}"


class Registry(Mapping[str, T], Generic[T]):
    """Maps names, as written in specs, to objects.

    An entry may be a ``"module:attribute"`` string, which is imported at its first lookup, so that
    registering is cheap. Iterating, ``in`` and ``len`` never import.

    Example:
        >>> LOSSES = Registry("loss")
        >>> @LOSSES.register("curl")
        ... class CURL: ...
        >>> LOSSES["curl"].__name__
        'CURL'
    """

    def __init__(self, kind: str) -> None:
        """Creates an empty registry.

        Args:
            kind: What the registry contains, for error messages: ``"loss"``.
        """
        self.kind = kind
        self._entries: dict[str, T | str] = {}
        # Names that no plug-in registered, so other processes must be told about them.
        self._local: set[str] = set()

    @overload
    def register(self, name: str, entry: T | str) -> T | str: ...

    @overload
    def register(self, name: str) -> Callable[[T], T]: ...

    def register(self, name: str, entry: T | str | None = None) -> Any:
        """Registers ``entry`` under ``name``; without ``entry``, returns a decorator.

        The same object, the same string, or the copy of a reloaded module may be registered again.

        Raises:
            ValueError: ``name`` is empty, or already names another object.
        """
        if entry is None:
            return functools.partial(self.register, name)
        if not isinstance(name, str) or not name:
            raise ValueError(f"the name of a new {self.kind} must be a string; got {name!r}.")
        if name in self._entries and _identity(self._entries[name]) != _identity(entry):
            raise ValueError(
                f"{self.kind} {name!r} is already registered, as {self._entries[name]!r}; "
                f"choose another name for {entry!r}."
            )
        self._entries[name] = entry
        (self._local.discard if plugins_are_loading() else self._local.add)(name)
        return entry

    def __getitem__(self, name: str) -> T:
        """Returns the entry; an entry that was registered as a string is imported.

        Raises:
            UnknownNameError: The name is unknown. The message lists similar and known names.
            PluginError: The string cannot be resolved.
        """
        if name not in self._entries:
            raise unknown_name(self.kind, name, self._entries)
        entry = self._entries[name]
        return resolve(entry) if isinstance(entry, str) else entry

    def __contains__(self, name: object) -> bool:
        """Whether ``name`` is registered; nothing is imported."""
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        """Iterates over the names, in the order of registration."""
        return iter(self._entries)

    def __len__(self) -> int:
        """Counts the names."""
        return len(self._entries)

    def local(self) -> dict[str, T | str]:
        """Returns the entries that no plug-in registered; strings are not imported."""
        return {name: self._entries[name] for name in self._entries if name in self._local}

    def restore(self, entries: Mapping[str, T | str]) -> None:
        """Adds entries that ``local()`` returned in another process; they replace entries here."""
        self._entries.update(entries)
        self._local.update(entries)

    @contextlib.contextmanager
    def undone_afterwards(self) -> Iterator[None]:
        """Context manager that undoes, at its end, all registrations inside it; for tests."""
        entries, local = dict(self._entries), set(self._local)
        try:
            yield
        finally:
            self._entries, self._local = entries, local


@dataclass(frozen=True)
class EnvEntry:
    """One registered environment, or a family of environments if ``name`` ends in ``*``."""

    name: str
    # (config) or (**options) -> gym.Env, or "module:attribute".
    make: Callable[..., "gym.Env"] | str
    # The same with num_envs -> gym.vector.VectorEnv that resets itself, or "module:attribute".
    make_vec: Callable[..., "gym.vector.VectorEnv"] | str | None = None
    # The pip extra that installs the suite: "minigrid", or "package[extra]" of another package.
    extra: str | None = None
    # () -> the ids of the family, or "module:attribute".
    ids: Callable[[], list[str]] | str | None = None
    # A dataclass whose fields are the options, or "module:attribute"; None: not declared.
    options: type | str | None = None

    @property
    def requirement(self) -> str:
        """The package to ``pip install`` for this environment, or ``""``."""
        if self.extra is None:
            return ""
        return self.extra if "[" in self.extra else f"rlssl[{self.extra}]"

    def resolve(self, field: Literal["make", "make_vec", "ids", "options"]) -> Any:
        """Returns a field, imported if it is a string.

        Raises:
            MissingExtraError: Its module needs a package of the extra that is not installed.
            PluginError: The field cannot be imported for another reason.
        """
        value = getattr(self, field)
        if not isinstance(value, str):
            return value
        try:
            return resolve(value)
        except PluginError as error:
            cause = error.__cause__
            own_package = value.partition(":")[0].partition(".")[0]
            if self.extra is None or not isinstance(cause, ModuleNotFoundError):
                raise
            if (cause.name or "").partition(".")[0] == own_package:
                raise
            raise MissingExtraError(
                f"environment {self.name!r} needs {cause.name!r}, which is not installed; "
                f"run: pip install '{self.requirement}'."
            ) from cause

    def members(self) -> list[str]:
        """Returns the ids of the entry; empty for a family that does not list its members.

        Raises:
            MissingExtraError: The suite is not installed.
        """
        if not self.name.endswith("*"):
            return [self.name]
        return [] if self.ids is None else list(self.resolve("ids")())


@dataclass(frozen=True)
class EnvOption:
    """An option that wraps any environment; its fields may be ``"module:attribute"``."""

    name: str
    # (value) -> None; raises a SpecError for a wrong value.
    check: Callable[[Any], None] | str
    # (env, value, config) -> gym.Env; ``config`` is the config of ``make``.
    wrap: Callable[["gym.Env", Any, dict[str, Any]], "gym.Env"] | str
    # The same for the vector environment of a suite.
    wrap_vec: Callable[..., "gym.vector.VectorEnv"] | str

    def resolve(self, field: Literal["check", "wrap", "wrap_vec"]) -> Any:
        """Returns a field, imported if it is a string."""
        value = getattr(self, field)
        return resolve(value) if isinstance(value, str) else value


ENVIRONMENTS: Registry[EnvEntry] = Registry("environment")
ENV_OPTIONS: Registry[EnvOption] = Registry("environment option")
AUXILIARY_LOSSES: Registry[Any] = Registry("loss")
ENCODERS: Registry[Any] = Registry("encoder")
EXPERTS: Registry[Any] = Registry("expert")
#: name -> "module:attribute" of the algorithm's config class.
ALGORITHMS: Registry[Any] = Registry("algorithm")
for _name, _config in (
    ("a3c", "A3CConfig"),
    ("bc", "BCConfig"),
    ("dagger", "DAggerConfig"),
    ("ddpg", "DDPGConfig"),
    ("iql", "IQLConfig"),
    ("ppo", "PPOConfig"),
    ("pretrain", "PretrainConfig"),
    ("rainbow", "RainbowConfig"),
    ("sac", "SACConfig"),
):
    ALGORITHMS.register(_name, f"rlssl.algorithms.{_name}.{_name}:{_config}")

#: The algorithms that learn from a data set alone, and make no steps of their own.
OFFLINE_ALGORITHMS = ("bc", "pretrain")

#: The algorithms that train no policy: nothing is played, also at evaluations.
WITHOUT_POLICY = ("pretrain",)

#: The algorithms whose runs count updates: those above, and those that make their own data set.
COUNTING_UPDATES = ("dagger", *OFFLINE_ALGORITHMS)

for _name, _wrapper in (("reward", "without_reward"), ("shaping", "shaped")):
    _room = "rlssl.environments.rewards"
    _vector = "without_rewards" if _name == "reward" else "shaped_vector"
    ENV_OPTIONS.register(
        _name,
        EnvOption(
            _name,
            f"{_room}.options:check_{_name}",
            f"{_room}.wrappers:{_wrapper}",
            f"{_room}.wrappers:{_vector}",
        ),
    )

_TABLES: dict[str, Registry[Any]] = {
    "environments": ENVIRONMENTS,
    "auxiliary_losses": AUXILIARY_LOSSES,
    "encoders": ENCODERS,
    "experts": EXPERTS,
}


def register_env(
    name: str,
    make: Callable[..., "gym.Env"] | str,
    make_vec: Callable[..., "gym.vector.VectorEnv"] | str | None = None,
    *,
    extra: str | None = None,
    ids: Callable[[], list[str]] | str | None = None,
    options: type | str | None = None,
) -> None:
    """Registers an environment, or a family of environments, for ``env: {id: NAME}``.

    Args:
        name: The id. A name that ends in ``*`` is a family: it matches every id that begins with
            the rest. Exact names win over families, longer families over shorter ones, and all of
            them over gymnasium's ids.
        make: Returns a ``gym.Env``: the class of an environment, a function, or a
            ``"module:attribute"`` string. ``make(size=5, render_mode=None)`` gets the options of
            the spec as keyword arguments. ``make(config)`` gets one dict with the options, ``id``,
            ``split`` ("train" or "eval"), ``worker_index`` and ``seed``. An option that neither
            takes is refused.
        make_vec: ``make_vec(config, num_envs) -> gym.vector.VectorEnv``, or with keyword arguments
            and ``num_envs``, if the suite has a faster way than a loop. The spaces must be the
            same, the autoreset NEXT_STEP or SAME_STEP.
        extra: The pip extra of rlssl that installs the suite, or ``"package[extra]"``. The error of
            a failed import names it.
        ids: ``ids() -> list`` of the family's members, for ``rlssl list envs`` and suggestions.
        options: A dataclass that declares the options: its fields are their names, types and
            defaults, the comment above a field is its meaning, and ``__post_init__`` may raise a
            ValueError for a value out of range. Other options and wrong values are then refused
            before anything starts, ``make`` gets every option, and the JSON schema of specs lists
            them. With ``takes_others: ClassVar[bool] = True``, ``make`` gets other options, too.

    Raises:
        ValueError: The name is taken, ``make`` is neither a callable nor a string, or ``options``
            is no dataclass.

    Example:
        >>> from gymnasium.envs.classic_control import CartPoleEnv
        >>> register_env("lab/Pole", lambda config: CartPoleEnv())
        >>> from rlssl.environments import make_env
        >>> make_env({"id": "lab/Pole"}).observation_space.shape
        (4,)
    """
    for field, value in (("make", make), ("make_vec", make_vec), ("ids", ids)):
        if not (callable(value) or (isinstance(value, str) and ":" in value)):
            if value is None and field != "make":
                continue
            raise ValueError(
                f"{field} of environment {name!r} must be a callable or 'module:attribute'; "
                f"got {value!r}."
            )
    is_class = isinstance(options, type) and is_dataclass(options)
    if not (options is None or is_class or (isinstance(options, str) and ":" in options)):
        raise ValueError(
            f"options of environment {name!r} must be a dataclass or 'module:attribute'; got "
            f"{options!r}."
        )
    ENVIRONMENTS.register(name, EnvEntry(name, make, make_vec, extra, ids, options))


def register_env_option(
    name: str,
    *,
    check: Callable[[Any], None] | str,
    wrap: Callable[..., "gym.Env"] | str,
    wrap_vec: Callable[..., "gym.vector.VectorEnv"] | str,
) -> None:
    """Registers an option that every environment takes besides its own: ``env: {NAME: ...}``.

    The environments' ``make`` does not get the option. Call this when a plug-in is imported.

    Args:
        name: Name of the option.
        check: ``check(value)`` raises a SpecError for a wrong value, before anything starts.
        wrap: ``wrap(env, value, config) -> gym.Env``.
        wrap_vec: ``wrap_vec(vector_env, value, config) -> gym.vector.VectorEnv``, with the result
            of wrapping each environment in it.

    Raises:
        ValueError: The name is taken.
    """
    ENV_OPTIONS.register(name, EnvOption(name, check, wrap, wrap_vec))


def register_auxiliary_loss(name: str, entry: Any = None) -> Any:
    """Registers an auxiliary loss for ``auxiliary: {NAME: ...}``.

    Args:
        name: Name in specs and on the command line, without ``. : , =`` and spaces.
        entry: The class or its ``"module:attribute"``; without it, a decorator is returned.

    Raises:
        ValueError: The name is taken, or has one of those characters.

    Example:
        >>> from rlssl.auxiliary import AuxiliaryLoss
        >>> @register_auxiliary_loss("test_latent_norm")
        ... class LatentNorm(AuxiliaryLoss):
        ...     def losses(self, batch):
        ...         return {"norm": self.encoder(batch["obs"]).square().mean(-1)}
        >>> "test_latent_norm" in AUXILIARY_LOSSES
        True
    """
    _check_plain(name, "loss")
    return AUXILIARY_LOSSES.register(name, entry)


def register_encoder(name: str, entry: Any = None) -> Any:
    """Registers an encoder for ``model: {encoder: NAME}``.

    Args:
        name: Name in specs, without ``. : , =`` and spaces.
        entry: ``entry(observation_space, **encoder_config)`` -> an nn.Module with
            an ``output_dim``, or its ``"module:attribute"``; without it, a decorator is returned.

    Raises:
        ValueError: The name is taken, or has one of those characters.

    Example:
        >>> from torch import nn
        >>> @register_encoder("lab_linear")
        ... class Linear(nn.Linear):
        ...     def __init__(self, observation_space, width=8):
        ...         super().__init__(observation_space.shape[0], width)
        ...         self.output_dim = width
        >>> ENCODERS["lab_linear"] is Linear
        True
    """
    _check_plain(name, "encoder")
    return ENCODERS.register(name, entry)


def register_expert(name: str, entry: Any = None) -> Any:
    """Registers a policy that is written, not trained, for ``--policy expert/NAME``.

    ``entry(env)`` is called once for each environment. It returns an object with two methods:
    ``reset(observation)`` at the start of each episode, and then, once a step,
    ``act(observation, previous_action)``, which returns an action of ``env.action_space``.
    ``previous_action`` is the action that was taken in the step before, which another policy may
    have chosen; it is None at the first step. An expert may look into ``env.unwrapped``, too.
    ``entry`` raises a SpecError for an environment that is not the expert's.

    Args:
        name: Name without ``expert/``, and without ``. : , =`` and spaces.
        entry: A class or function, or its ``"module:attribute"``; without it, a decorator is
            returned.

    Raises:
        ValueError: The name is taken, or has one of those characters.

    Example:
        >>> @register_expert("lab-upright")
        ... class Upright:
        ...     def __init__(self, env): ...
        ...     def reset(self, observation): ...
        ...     def act(self, observation, previous_action):
        ...         return int(observation[2] > 0)
        >>> from rlssl.environments import make_env, make_expert
        >>> expert = make_expert("expert/lab-upright", make_env({"id": "CartPole-v1"}))
        >>> expert.act([0.0, 0.0, 0.1, 0.0], None)
        1
    """
    _check_plain(name, "expert")
    return EXPERTS.register(name, entry)


def _check_plain(name: str, kind: str) -> None:
    bad = sorted(set(name) & set(".:,= \t\n"))
    if bad:
        raise ValueError(
            f"the {kind} name {name!r} has {', '.join(map(repr, bad))}, which has a meaning in "
            "dotted paths and `--aux NAME:key=value`; use letters, digits, '_' and '-'."
        )


def local_registrations() -> dict[str, dict[str, Any]]:
    """Returns the registrations of the running program, without those of plug-ins and of rlssl.

    A config carries them to other processes, whose constructors call ``restore_registrations``.
    cloudpickle sends objects of ``__main__`` by value, and all others by reference.
    """
    tables = {}
    for table, registry in _TABLES.items():
        entries = {name: e for name, e in registry.local().items() if not _is_own(e)}
        if entries:
            tables[table] = entries
    return tables


def restore_registrations(tables: Mapping[str, Mapping[str, Any]]) -> None:
    """Registers what ``local_registrations`` returned in another process; idempotent."""
    for table, entries in tables.items():
        _TABLES[table].restore(entries)


def _is_own(entry: Any) -> bool:
    """Whether an entry is part of rlssl, which every process has."""
    identity = _identity(entry.make if isinstance(entry, EnvEntry) else entry)
    return isinstance(identity, str) and identity.startswith("rlssl.")


#: For checkpoints of earlier versions.
__getattr__ = attribute_finder(__name__)
