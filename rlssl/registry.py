"""The three tables that a user extends, and environments by name.

Only the standard library is imported here; gymnasium comes in when an environment is built.
"""

import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from rlssl.errors import (
    MissingExtraError,
    PluginError,
    SpecError,
    suggest,
    unknown_name,
)
from rlssl.plugins import load_plugins, plugins_are_loading, resolve

if TYPE_CHECKING:
    import gymnasium as gym

logger = logging.getLogger(__name__)

T = TypeVar("T")
Split = Literal["train", "eval"]
Vectorize = Literal["native", "sync", "async"]

#: Keys that `make_env` adds to what an environment's ``make`` is given, besides the options.
RESERVED_ENV_KEYS = ("id", "split", "worker_index", "seed")


def _identity(entry: Any) -> Any:
    """Returns what two registrations of the same thing share, also after a module's reload."""
    if isinstance(entry, EnvEntry):
        return tuple(map(_identity, (entry.make, entry.make_vec, entry.extra, entry.ids)))
    module, name = getattr(entry, "__module__", None), getattr(entry, "__qualname__", "<")
    return entry if module is None or "<" in name else f"{module}:{name}"


class Registry(Mapping[str, T], Generic[T]):
    """Maps names, as written in specs, to the objects they stand for.

    An entry may be a ``"module:attribute"`` string, imported when it is first looked up, so that
    registering costs nothing. Iterating, ``in`` and ``len`` never import.

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
            kind: What is registered, in words; used in error messages only.
        """
        self.kind = kind
        self._entries: dict[str, T | str] = {}
        # Names that no plug-in registered: other processes cannot find them by themselves.
        self._local: set[str] = set()

    @overload
    def register(self, name: str, entry: T | str) -> T | str: ...

    @overload
    def register(self, name: str) -> Callable[[T], T]: ...

    def register(self, name: str, entry: T | str | None = None) -> Any:
        """Files ``entry`` under ``name``; without ``entry``, returns a decorator that does.

        The same object, the same string, or a reloaded module's new copy may come again.

        Raises:
            ValueError: ``name`` is empty, or stands for something else already.
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
        """Returns the entry, imported if it was registered as a string.

        Raises:
            UnknownNameError: Nothing has this name; the closest and all known names are given.
            PluginError: The string cannot be resolved.
        """
        if name not in self._entries:
            raise unknown_name(self.kind, name, self._entries)
        entry = self._entries[name]
        return resolve(entry) if isinstance(entry, str) else entry

    def __contains__(self, name: object) -> bool:
        """Tells whether ``name`` is registered, without importing what it stands for."""
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        """Iterates over the names, in the order of registration."""
        return iter(self._entries)

    def __len__(self) -> int:
        """Counts the names."""
        return len(self._entries)

    def local(self) -> dict[str, T | str]:
        """Returns what no plug-in registered, as it was registered."""
        return {name: self._entries[name] for name in self._entries if name in self._local}

    def restore(self, entries: Mapping[str, T | str]) -> None:
        """Takes over what ``local()`` of another process returned, whatever was here before."""
        self._entries.update(entries)
        self._local.update(entries)


@dataclass(frozen=True)
class EnvEntry:
    """One registered environment, or a family of them where ``name`` ends in ``*``."""

    name: str
    # (config) -> gym.Env, or "module:attribute".
    make: Callable[[dict[str, Any]], "gym.Env"] | str
    # (config, num_envs) -> gym.vector.VectorEnv that resets itself, or "module:attribute".
    make_vec: Callable[[dict[str, Any], int], "gym.vector.VectorEnv"] | str | None = None
    # The pip extra that installs the suite: "minigrid", or "package[extra]" of another package.
    extra: str | None = None
    # () -> the ids of the family, or "module:attribute".
    ids: Callable[[], list[str]] | str | None = None

    @property
    def requirement(self) -> str:
        """What to ``pip install`` for this environment, or ``""``."""
        if self.extra is None:
            return ""
        return self.extra if "[" in self.extra else f"rlssl[{self.extra}]"

    def resolve(self, field: Literal["make", "make_vec", "ids"]) -> Any:
        """Returns a field, imported if it is a string.

        Raises:
            MissingExtraError: Its module needs a package of the extra that is not installed.
            PluginError: It cannot be imported for another reason.
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
        """Returns the ids that the entry stands for; empty if nobody can tell.

        Raises:
            MissingExtraError: The suite is not installed.
        """
        if not self.name.endswith("*"):
            return [self.name]
        return [] if self.ids is None else list(self.resolve("ids")())


@dataclass(frozen=True)
class EnvOption:
    """An option of every environment, which wraps it; fields may be ``"module:attribute"``."""

    name: str
    # (value) -> None; raises a SpecError for a wrong value.
    check: Callable[[Any], None] | str
    # (env, value, config) -> gym.Env; ``config`` as ``make`` is given it.
    wrap: Callable[["gym.Env", Any, dict[str, Any]], "gym.Env"] | str
    # The same for a suite's own vector environment.
    wrap_vec: Callable[..., "gym.vector.VectorEnv"] | str

    def resolve(self, field: Literal["check", "wrap", "wrap_vec"]) -> Any:
        """Returns a field, imported if it is a string."""
        value = getattr(self, field)
        return resolve(value) if isinstance(value, str) else value


ENVIRONMENTS: Registry[EnvEntry] = Registry("environment")
ENV_OPTIONS: Registry[EnvOption] = Registry("environment option")
AUXILIARY_LOSSES: Registry[Any] = Registry("loss")
ENCODERS: Registry[Any] = Registry("encoder")

_TABLES: dict[str, Registry[Any]] = {
    "environments": ENVIRONMENTS,
    "auxiliary_losses": AUXILIARY_LOSSES,
    "encoders": ENCODERS,
}


def register_env(
    name: str,
    make: Callable[[dict[str, Any]], "gym.Env"] | str,
    make_vec: Callable[[dict[str, Any], int], "gym.vector.VectorEnv"] | str | None = None,
    *,
    extra: str | None = None,
    ids: Callable[[], list[str]] | str | None = None,
) -> None:
    """Registers an environment, or a family of them, under ``env: {id: NAME}``.

    Args:
        name: The id; it may end in ``*`` and then stands for every id that begins so. Exact names
            win over families, longer families over shorter, and both over gymnasium's own ids.
        make: ``make(config) -> gym.Env``, for example the class of an environment, or a
            ``"module:attribute"`` string. ``config`` holds ``id``, the options of the spec,
            ``split`` ("train" or "eval"), ``worker_index`` and ``seed``.
        make_vec: ``make_vec(config, num_envs) -> gym.vector.VectorEnv`` with the same spaces and
            NEXT_STEP or SAME_STEP autoreset, where the suite has a faster way than a loop.
        extra: The pip extra of rlssl that installs the suite, or ``"package[extra]"``; named in the
            error where the import of ``make`` fails.
        ids: ``ids() -> list`` of a family's members, for ``rlssl list envs`` and for suggestions.

    Raises:
        ValueError: The name is taken by something else, or ``make`` is no callable and no string.
    """
    for field, value in (("make", make), ("make_vec", make_vec), ("ids", ids)):
        if not (callable(value) or (isinstance(value, str) and ":" in value)):
            if value is None and field != "make":
                continue
            raise ValueError(
                f"{field} of environment {name!r} must be a callable or 'module:attribute'; "
                f"got {value!r}."
            )
    ENVIRONMENTS.register(name, EnvEntry(name, make, make_vec, extra, ids))


def register_env_option(
    name: str,
    *,
    check: Callable[[Any], None] | str,
    wrap: Callable[..., "gym.Env"] | str,
    wrap_vec: Callable[..., "gym.vector.VectorEnv"] | str,
) -> None:
    """Registers an option that every environment takes, beside its own: ``env: {NAME: ...}``.

    The environments' ``make`` never see it. Call it when a plug-in is imported.

    Args:
        name: Of the option.
        check: ``check(value)`` raises a SpecError where a value is wrong; before anything starts.
        wrap: ``wrap(env, value, config) -> gym.Env``.
        wrap_vec: ``wrap_vec(vector_env, value, config) -> gym.vector.VectorEnv``, as if each
            environment in it had been wrapped.

    Raises:
        ValueError: The name is taken by something else.
    """
    ENV_OPTIONS.register(name, EnvOption(name, check, wrap, wrap_vec))


def check_env_options(env: Mapping[str, Any]) -> None:
    """Checks the options that every environment takes, as far as that goes without building it.

    Raises:
        SpecError: Naming the option and the value.
    """
    load_plugins()
    for key in env.keys() & set(ENV_OPTIONS):
        if env[key] is not None:
            ENV_OPTIONS[key].resolve("check")(env[key])


def register_auxiliary_loss(name: str, entry: Any = None) -> Any:
    """Registers an auxiliary loss, under ``auxiliary: {NAME: ...}``.

    Args:
        name: Written in specs and on the command line, so without ``. : , =`` and spaces.
        entry: The class or its ``"module:attribute"``; without it, a decorator is returned.

    Raises:
        ValueError: The name is taken by something else, or has one of those characters.
    """
    _check_plain(name, "loss")
    return AUXILIARY_LOSSES.register(name, entry)


def register_encoder(name: str, entry: Any = None) -> Any:
    """Registers an encoder, under ``model: {encoder: NAME}``.

    Args:
        name: Written in specs, so without ``. : , =`` and spaces.
        entry: ``entry(observation_space, **encoder_config)`` -> an nn.Module with
            an ``output_dim``, or its ``"module:attribute"``; without it, a decorator is returned.

    Raises:
        ValueError: The name is taken by something else, or has one of those characters.
    """
    _check_plain(name, "encoder")
    return ENCODERS.register(name, entry)


def _check_plain(name: str, kind: str) -> None:
    bad = sorted(set(name) & set(".:,= \t\n"))
    if bad:
        raise ValueError(
            f"the {kind} name {name!r} has {', '.join(map(repr, bad))}, which dotted paths and "
            "`--aux NAME:key=value` give a meaning; use letters, digits, '_' and '-'."
        )


def local_registrations() -> dict[str, dict[str, Any]]:
    """Returns what the running program registered itself, outside plug-ins, to be shipped.

    A config that is sent to other processes carries it (cloudpickle sends what ``__main__``
    defines by value, the rest by reference), and their constructors call
    ``restore_registrations``. What rlssl itself registers is left out.
    """
    tables = {}
    for table, registry in _TABLES.items():
        entries = {name: e for name, e in registry.local().items() if not _is_own(e)}
        if entries:
            tables[table] = entries
    return tables


def restore_registrations(tables: Mapping[str, Mapping[str, Any]]) -> None:
    """Registers here what ``local_registrations`` returned in another process; idempotent."""
    for table, entries in tables.items():
        _TABLES[table].restore(entries)


def _is_own(entry: Any) -> bool:
    """Tells whether an entry names or is something of rlssl, which every process has."""
    identity = _identity(entry.make if isinstance(entry, EnvEntry) else entry)
    return isinstance(identity, str) and identity.startswith("rlssl.")


def env_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the user wrote beside the id: ``config`` without the reserved keys."""
    return {key: value for key, value in config.items() if key not in RESERVED_ENV_KEYS}


def known_env_options(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Returns ``defaults`` with what the user wrote beside the id.

    Raises:
        SpecError: An option is not among the defaults.
    """
    options = env_options(config)
    for key in options.keys() - defaults.keys():
        guess = suggest(key, defaults)
        raise SpecError(f"unknown option env.{key} of {config['id']}{guess}")
    return {**defaults, **options}


def require_whole_numbers(options: Mapping[str, Any], least: Mapping[str, int]) -> None:
    """Raises a SpecError unless these options of an environment are whole and large enough."""
    for key, bound in least.items():
        value = options[key]
        if isinstance(value, bool) or not isinstance(value, int) or value < bound:
            raise SpecError(f"env.{key} must be a whole number >= {bound}; got {value!r}.")


def find_environment(name: str) -> EnvEntry | None:
    """Returns the entry that serves an id: the exact one, else the longest family, else None."""
    load_plugins()
    if name in ENVIRONMENTS and not name.endswith("*"):
        return ENVIRONMENTS[name]
    families = [f for f in ENVIRONMENTS if f.endswith("*") and name.startswith(f[:-1])]
    return ENVIRONMENTS[max(families, key=len)] if families else None


def list_environments() -> list[dict[str, str]]:
    """Lists what is registered, for ``rlssl list envs``; any gymnasium id works besides.

    Returns:
        One ``{"id": ..., "note": ...}`` an environment, sorted. A family is expanded into its
        members; where its suite is not installed, its pattern stands with ``needs rlssl[extra]``.
    """
    load_plugins()
    rows = []
    for entry in ENVIRONMENTS.values():
        try:
            rows += [{"id": name, "note": ""} for name in entry.members() or [entry.name]]
        except MissingExtraError:
            rows.append({"id": entry.name, "note": f"needs {entry.requirement}"})
    return sorted(rows, key=lambda row: row["id"].lower())


def _unknown_environment(name: str) -> SpecError:
    """Returns the error for an id that nothing serves; suggests registered and gymnasium ids."""
    import gymnasium as gym

    known = {row["id"] for row in list_environments()} | set(gym.registry)
    hint = (
        "`rlssl list envs` shows the registered ones; any gymnasium id works too, one that another "
        "package registers with gymnasium as 'package:Id'."
    )
    return unknown_name("environment", name, known, hint)


def env_config(
    env: Mapping[str, Any], split: Split, worker_index: int, seed: int | None
) -> dict[str, Any]:
    """Returns the dict that ``make`` is given."""
    if not isinstance(env, Mapping) or not isinstance(env.get("id"), str) or not env["id"]:
        raise SpecError(f"env must be a mapping with an 'id', as {{id: CartPole-v1}}; got {env!r}.")
    if split not in ("train", "eval"):
        raise SpecError(f"split must be 'train' or 'eval'; got {split!r}.")
    return {**env, "split": split, "worker_index": worker_index, "seed": seed}


def _without_wrappers(config: dict[str, Any]) -> tuple[dict[str, Any], "_Wrappers"]:
    """Splits what ``make`` is given off what is put around it; null asks for nothing."""
    own = {key: value for key, value in config.items() if key not in ENV_OPTIONS}
    wanted = [key for key in ENV_OPTIONS if config.get(key) is not None]
    return own, [(ENV_OPTIONS[key], config[key]) for key in wanted]


#: Options that wrap an environment, with their values; the first is the innermost.
_Wrappers = list[tuple[EnvOption, Any]]


def _build(
    entry: EnvEntry | None, config: dict[str, Any], wrappers: _Wrappers | None = None
) -> "gym.Env":
    """Builds one environment. Picklable with its arguments, for processes of their own."""
    env = _build_bare(entry, config)
    for option, value in wrappers or []:
        env = option.resolve("wrap")(env, value, config)
    return env


def _build_bare(entry: EnvEntry | None, config: dict[str, Any]) -> "gym.Env":
    import gymnasium as gym

    name = config["id"]
    make = _gymnasium_make if entry is None else entry.resolve("make")
    try:
        env = make(config)
    except (gym.error.UnregisteredEnv, gym.error.DeprecatedEnv) as error:
        raise _unknown_environment(name) from error
    if not isinstance(env, gym.Env):
        raise SpecError(
            f"make of environment {name!r} must return a gymnasium.Env; got {type(env)}."
        )
    return env


def _gymnasium_make(config: dict[str, Any]) -> "gym.Env":
    """Builds a plain gymnasium id, with nothing around it but what gymnasium itself adds."""
    import gymnasium as gym

    try:
        gym.envs.registration.parse_env_id(config["id"].rpartition(":")[2])
    except gym.error.Error as error:
        raise _unknown_environment(config["id"]) from error
    return gym.make(config["id"], **{"disable_env_checker": True, **env_options(config)})


def make_env(
    env: Mapping[str, Any],
    *,
    split: Split = "train",
    worker_index: int = 0,
    seed: int | None = None,
) -> "gym.Env":
    """Builds one environment from ``env: {id: ..., **options}`` of a spec.

    Args:
        env: The id, registered or gymnasium's, and the options of its ``make``.
        split: Whether it is for training or for evaluation.
        worker_index: Of the process that asks; 0 for the local one.
        seed: Passed on in the config; a plain gymnasium environment is seeded by ``reset`` alone.

    Raises:
        UnknownNameError: Nothing has this id.
        MissingExtraError: Its suite is not installed.
        PluginError: Its module cannot be imported.
        SpecError: ``env`` has no id, or ``make`` returned something else.
    """
    config = env_config(env, split, worker_index, seed)
    return _build(find_environment(config["id"]), *_without_wrappers(config))


def make_vector_env(
    env: Mapping[str, Any],
    *,
    num_envs: int,
    vectorize: Vectorize = "native",
    split: Split = "train",
    worker_index: int = 0,
    seed: int | None = None,
) -> "gym.vector.VectorEnv":
    """Builds ``num_envs`` copies of an environment, which reset themselves.

    Args:
        env: The id and its options, as for `make_env`.
        num_envs: How many copies; >= 1.
        vectorize: "native" takes the registered ``make_vec``, else gymnasium's own vector
            environment where it is the same environment (equal spaces), else "sync", and logs
            which; "sync" loops in this process; "async" gives each copy a process.
        split: As for `make_env`.
        worker_index: As for `make_env`.
        seed: Copy i is made with ``seed + i``; callers give each worker a seed of its own.

    Raises:
        SpecError: An argument is out of range, or ``make_vec`` returned something else. Also what
            `make_env` raises.
    """
    if num_envs < 1:
        raise SpecError(f"num_envs must be >= 1; got {num_envs}.")
    if vectorize not in ("native", "sync", "async"):
        raise SpecError(f"vectorize must be 'native', 'sync' or 'async'; got {vectorize!r}.")
    config = env_config(env, split, worker_index, seed)
    entry = find_environment(config["id"])
    config, wrappers = _without_wrappers(config)
    native = _native_vector_env(entry, config, num_envs) if vectorize == "native" else None
    if native is not None:
        for option, value in wrappers:
            native = option.resolve("wrap_vec")(native, value, config)
        return native
    seeds = [None if seed is None else seed + i for i in range(num_envs)]
    makers = [functools.partial(_build, entry, {**config, "seed": s}, wrappers) for s in seeds]
    return _looped_vector_env(makers, asynchronous=vectorize == "async")


def _looped_vector_env(
    makers: Sequence[Callable[[], "gym.Env"]], *, asynchronous: bool
) -> "gym.vector.VectorEnv":
    from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

    if not asynchronous:
        return SyncVectorEnv(makers, autoreset_mode=AutoresetMode.NEXT_STEP)
    checked = [functools.partial(_checked, maker) for maker in makers]
    return AsyncVectorEnv(checked, autoreset_mode=AutoresetMode.NEXT_STEP)


def _checked(maker: Callable[[], "gym.Env"]) -> "gym.Env":
    from rlssl.rollouts.sanity import CheckedEnv

    return CheckedEnv(maker())


def _native_vector_env(
    entry: EnvEntry | None, config: dict[str, Any], num_envs: int
) -> "gym.vector.VectorEnv | None":
    """Builds the vector environment that the suite itself offers, or returns None."""
    if entry is None:
        return _gymnasium_vector_env(config, num_envs)
    make_vec = entry.resolve("make_vec")
    if make_vec is None:
        return None
    vector = make_vec(config, num_envs)
    reason = vector_env_problem(vector, num_envs)
    if reason:
        raise SpecError(f"make_vec of environment {config['id']!r}: {reason}.")
    return vector


def _gymnasium_vector_env(config: dict[str, Any], num_envs: int) -> "gym.vector.VectorEnv | None":
    """Builds gymnasium's vector version of an id, or returns None where it is not the same."""
    import gymnasium as gym

    single = _build(None, config)
    spec = single.spec
    single.close()
    if spec is None or spec.vector_entry_point is None:
        return None
    try:
        vector = gym.make_vec(
            config["id"],
            num_envs=num_envs,
            vectorization_mode=gym.VectorizeMode.VECTOR_ENTRY_POINT,
            **env_options(config),
        )
    except (TypeError, gym.error.Error) as error:
        logger.info("%s: sync, not native: %s", config["id"], error)
        return None
    reason = vector_env_problem(vector, num_envs, single)
    if reason:
        logger.info("%s: sync, not native: %s", config["id"], reason)
        vector.close()
        return None
    return vector


def vector_env_problem(vector: Any, num_envs: int, single: "gym.Env | None" = None) -> str:
    """Says why a vector environment cannot serve, or returns ``""``."""
    import gymnasium as gym

    if not isinstance(vector, gym.vector.VectorEnv):
        return f"not a gymnasium VectorEnv but {type(vector)}"
    mode = vector.metadata.get("autoreset_mode")
    usable = (gym.vector.AutoresetMode.NEXT_STEP, gym.vector.AutoresetMode.SAME_STEP)
    if mode not in (*usable, *(one.value for one in usable)):
        return f"metadata['autoreset_mode'] must be NEXT_STEP or SAME_STEP; got {mode}"
    if vector.num_envs != num_envs:
        return f"num_envs is {vector.num_envs}; {num_envs} were asked for"
    if single is not None:
        for space in ("observation_space", "action_space"):
            theirs, ours = getattr(vector, f"single_{space}"), getattr(single, space)
            if theirs != ours:
                return f"single_{space} is {theirs}, but make gives {ours}"
    return ""


@dataclass(frozen=True)
class EnvSpaces:
    """What preflight learnt: all that an algorithm must know before it is built."""

    observation_space: "gym.Space"
    action_space: "gym.Space"
    # Frames an agent step; the factor between agent steps and env steps.
    action_repeat: int = 1
    # Observations in a stack, as the environment suggests.
    frame_stack: int = 1


def preflight(env: Mapping[str, Any], timeout_s: float = 30.0) -> EnvSpaces:
    """Builds an environment here, resets it and takes three random steps, before actors start.

    In a remote EnvRunner the same failure would look like a hang: RLlib logs it and restarts.
    Observations must lie in their space (shape, dtype, bounds), rewards be finite scalars. A
    registered ``make_vec`` is checked for the same spaces too.

    Args:
        env: ``{"id": ..., **options}``.
        timeout_s: Seconds that building, a reset or a step may take.

    Raises:
        PreflightError: The environment raised, in its own words, stood still, or broke one of these
            rules.
        UnknownNameError: Nothing has this id.
        MissingExtraError: Its suite is not installed.
        PluginError: Its module cannot be imported.
    """
    from rlssl import preflight as checks

    return checks.run(env, timeout_s)
