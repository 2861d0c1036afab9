"""Building environments by name, one at a time or as a vector environment."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from rlssl.errors import (
    MissingExtraError,
    SpecError,
    suggest,
    unknown_name,
)
from rlssl.plugins import load_plugins
from rlssl.registry import ENV_OPTIONS, ENVIRONMENTS, EnvEntry, EnvOption, logger

if TYPE_CHECKING:
    import gymnasium as gym


Split = Literal["train", "eval"]
Vectorize = Literal["native", "sync", "async"]
#: Keys that `make_env` adds to what an environment's ``make`` is given, besides the options.
RESERVED_ENV_KEYS = ("id", "split", "worker_index", "seed")


def check_env_options(env: Mapping[str, Any]) -> None:
    """Checks the options that every environment takes, as far as that goes without building it.

    Raises:
        SpecError: Naming the option and the value.
    """
    load_plugins()
    for key in env.keys() & set(ENV_OPTIONS):
        if env[key] is not None:
            ENV_OPTIONS[key].resolve("check")(env[key])


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
    from rlssl.environments.observation_checks import CheckedEnv

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
