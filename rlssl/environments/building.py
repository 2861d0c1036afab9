"""Builds environments by name, one at a time or as a vector environment."""

import contextlib
import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from rlssl.environments.declared_options import with_declared_options
from rlssl.environments.make_calls import (
    RESERVED_ENV_KEYS,
    call_make,
    call_make_vec,
    check_options,
)
from rlssl.errors import (
    MissingExtraError,
    SpecError,
    unknown_name,
)
from rlssl.plugins import load_plugins
from rlssl.registry import ENV_OPTIONS, ENVIRONMENTS, EnvEntry, EnvOption, logger

if TYPE_CHECKING:
    import gymnasium as gym


Split = Literal["train", "eval"]
Vectorize = Literal["native", "sync", "async"]


def check_env_options(env: Mapping[str, Any], *, partial: bool = False) -> None:
    """Checks the options without building the environment.

    Args:
        env: ``{"id": ..., **options}``.
        partial: Whether a search sets more options.

    Raises:
        SpecError: Naming the option and the value.
    """
    load_plugins()
    for key in env.keys() & set(ENV_OPTIONS):
        if env[key] is not None:
            ENV_OPTIONS[key].resolve("check")(env[key])
    entry = find_environment(env["id"])
    if entry is not None:
        config, _ = _without_wrappers(dict(env))
        check_options(entry.resolve("make"), with_declared_options(entry, config, partial=partial))


def env_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the user's options: ``config`` without the reserved keys.

    Example:
        >>> env_options({"id": "dmc/cartpole-swingup", "size": 64, "split": "train", "seed": 0})
        {'size': 64}
    """
    return {key: value for key, value in config.items() if key not in RESERVED_ENV_KEYS}


def find_environment(name: str) -> EnvEntry | None:
    """Returns the entry that serves an id: the exact one, else the longest family, else None."""
    load_plugins()
    if name in ENVIRONMENTS and not name.endswith("*"):
        return ENVIRONMENTS[name]
    families = [f for f in ENVIRONMENTS if f.endswith("*") and name.startswith(f[:-1])]
    return ENVIRONMENTS[max(families, key=len)] if families else None


def list_environments() -> list[dict[str, str]]:
    """Lists the registered environments, for ``rlssl list envs``; any gymnasium id works too.

    Returns:
        One ``{"id": ..., "note": ...}`` for each environment, sorted by id. A family is replaced by
        its members. If its suite is not installed, the pattern of the family is listed with the
        note ``needs rlssl[extra]``.
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
    """Returns the error for an unknown id; it suggests registered and gymnasium ids."""
    import gymnasium as gym

    known = {row["id"] for row in list_environments()} | set(gym.registry)
    hint = (
        "`rlssl list envs` shows the registered ones; any gymnasium id works too; write "
        "'package:Id' for an id that another package registers with gymnasium."
    )
    return unknown_name("environment", name, known, hint)


def env_config(
    env: Mapping[str, Any], split: Split, worker_index: int, seed: int | None
) -> dict[str, Any]:
    """Returns the config that ``make`` gets."""
    if not isinstance(env, Mapping) or not isinstance(env.get("id"), str) or not env["id"]:
        raise SpecError(f"env must be a mapping with an 'id', as {{id: CartPole-v1}}; got {env!r}.")
    if split not in ("train", "eval"):
        raise SpecError(f"split must be 'train' or 'eval'; got {split!r}.")
    return {**env, "split": split, "worker_index": worker_index, "seed": seed}


def _without_wrappers(config: dict[str, Any]) -> tuple[dict[str, Any], "_Wrappers"]:
    """Splits a config into ``make``'s config and the options that wrap; null means no wrapper."""
    own = {key: value for key, value in config.items() if key not in ENV_OPTIONS}
    wanted = [key for key in ENV_OPTIONS if config.get(key) is not None]
    return own, [(ENV_OPTIONS[key], config[key]) for key in wanted]


#: Options that wrap an environment, with their values; the first is the innermost.
_Wrappers = list[tuple[EnvOption, Any]]


@dataclasses.dataclass(frozen=True)
class EnvMaker:
    """Builds one environment. Picklable, to be called in other processes."""

    # The registered environment; None: gymnasium's.
    entry: EnvEntry | None
    # What ``make`` gets.
    config: Mapping[str, Any]
    wrappers: _Wrappers = dataclasses.field(default_factory=list)
    # Whether the environment gets its own process, whose global generators it may use.
    own_process: bool = False

    def __call__(self) -> "gym.Env":
        """Builds the environment; its spaces and, in its own process, the generators are seeded."""
        seed = self.config["seed"]
        if self.own_process:
            from rlssl.environments.observation_checks import CheckedEnv
            from rlssl.system.seeding import seed_copy_process

            seed_copy_process(seed)
        config = dict(self.config)
        env = _build_bare(self.entry, config)
        for option, value in self.wrappers:
            env = option.resolve("wrap")(env, value, config)
        own_spaces(env)
        seed_spaces(env, seed)
        return CheckedEnv(env) if self.own_process else env

    def with_seed(self, seed: int | None) -> "EnvMaker":
        """Builds the same environment with another seed."""
        return dataclasses.replace(self, config={**self.config, "seed": seed})


def own_spaces(env: "gym.Env") -> None:
    """Gives an environment its own copies of its spaces.

    Environments may draw from ``action_space.sample()``. A space that is an attribute of the class
    would be shared by all copies, and by evaluation.

    Example:
        >>> import gymnasium as gym
        >>> space, env = gym.spaces.Discrete(2), gym.Env()
        >>> env.observation_space = env.action_space = space
        >>> own_spaces(env)
        >>> env.action_space == space, env.action_space is space
        (True, False)
    """
    for layer, name in _spaces(env):
        # A space without a setter is computed at each use.
        with contextlib.suppress(AttributeError):
            setattr(layer, name, copy.deepcopy(getattr(layer, name)))


def seed_spaces(env: "gym.Env", seed: int | None) -> None:
    """Seeds the spaces of an environment, so that draws from them can be repeated.

    Without a seed (None), the draws differ in every run.

    Example:
        >>> env = make_env({"id": "CartPole-v1"})
        >>> seed_spaces(env, 7)
        >>> first = env.action_space.sample()
        >>> seed_spaces(env, 7)
        >>> bool(env.action_space.sample() == first)
        True
    """
    from rlssl.system.seeding import space_seeds

    spaces = _spaces(env)
    for (layer, name), own in zip(spaces, space_seeds(seed, len(spaces)), strict=True):
        getattr(layer, name).seed(own)


def _spaces(env: "gym.Env") -> list[tuple["gym.Env", str]]:
    """The environment or wrapper that has a space of its own, and the space's name."""
    import gymnasium as gym

    found: list[tuple[gym.Env, str]] = []
    for name in ("observation_space", "action_space"):
        layer = env
        while isinstance(layer, gym.Wrapper):
            if getattr(layer, name, None) is not getattr(layer.env, name, None):
                found.append((layer, name))
            layer = layer.env
        found.append((layer, name))
    return [(one, name) for one, name in found if isinstance(getattr(one, name, None), gym.Space)]


def _build(
    entry: EnvEntry | None, config: dict[str, Any], wrappers: _Wrappers | None = None
) -> "gym.Env":
    """Builds one environment; checkpoints of earlier versions name this function."""
    return EnvMaker(entry, config, wrappers or [])()


def _build_bare(entry: EnvEntry | None, config: dict[str, Any]) -> "gym.Env":
    import gymnasium as gym

    name = config["id"]
    make = _gymnasium_make if entry is None else entry.resolve("make")
    try:
        env = call_make(make, config)
    except (gym.error.UnregisteredEnv, gym.error.DeprecatedEnv) as error:
        raise _unknown_environment(name) from error
    if not isinstance(env, gym.Env):
        raise SpecError(
            f"make of environment {name!r} must return a gymnasium.Env; got {type(env)}."
        )
    return env


def _gymnasium_make(config: dict[str, Any]) -> "gym.Env":
    """Builds a plain gymnasium id, with no wrappers except gymnasium's own."""
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
        split: Whether the environment is for training or for evaluation.
        worker_index: Index of the process that builds it; 0 for the local process.
        seed: Passed to ``make`` in the config. A plain gymnasium environment ignores it; only
            ``reset`` seeds it.

    Raises:
        UnknownNameError: No environment has this id.
        MissingExtraError: Its suite is not installed.
        PluginError: Its module cannot be imported.
        SpecError: ``env`` has no id, or ``make`` did not return a gymnasium.Env.

    Example:
        >>> env = make_env({"id": "CartPole-v1", "max_episode_steps": 100}, seed=0)
        >>> env.spec.max_episode_steps
        100
    """
    config = env_config(env, split, worker_index, seed)
    entry = find_environment(config["id"])
    own, wrappers = _without_wrappers(config)
    return EnvMaker(entry, with_declared_options(entry, own), wrappers)()


def make_vector_env(
    env: Mapping[str, Any],
    *,
    num_envs: int,
    vectorize: Vectorize = "native",
    split: Split = "train",
    worker_index: int = 0,
    seed: int | Sequence[int] | None = None,
    native_seed: int | None = None,
) -> "gym.vector.VectorEnv":
    """Builds ``num_envs`` copies of an environment, which reset themselves.

    Args:
        env: The id and its options, as for `make_env`.
        num_envs: Number of copies; >= 1.
        vectorize: "native" uses the registered ``make_vec``. Without one it uses gymnasium's vector
            environment of the same id if the spaces are equal, else "sync" (the log says why).
            "sync" steps the copies one by one in this process; "async" runs each copy in its own
            process.
        split: As for `make_env`.
        worker_index: As for `make_env`.
        seed: One seed for each copy. With an int, copy i is built with ``seed + i``.
        native_seed: What a vector environment gets that is not built of single environments; None:
            the first copy's seed.

    Raises:
        SpecError: An argument is out of range, or the result of ``make_vec`` cannot be used. The
            errors of `make_env` are raised too.

    Example:
        >>> envs = make_vector_env({"id": "CartPole-v1"}, num_envs=3, vectorize="sync")
        >>> envs.reset(seed=0)[0].shape
        (3, 4)
    """
    if num_envs < 1:
        raise SpecError(f"num_envs must be >= 1; got {num_envs}.")
    if vectorize not in ("native", "sync", "async"):
        raise SpecError(f"vectorize must be 'native', 'sync' or 'async'; got {vectorize!r}.")
    seeds = _copy_seeds(seed, num_envs)
    first = seeds[0] if native_seed is None else native_seed
    config = env_config(env, split, worker_index, first)
    entry = find_environment(config["id"])
    config, wrappers = _without_wrappers(config)
    config = with_declared_options(entry, config)
    native = _native_vector_env(entry, config, num_envs) if vectorize == "native" else None
    if native is not None:
        for option, value in wrappers:
            native = option.resolve("wrap_vec")(native, value, config)
        return native
    maker = EnvMaker(entry, config, wrappers, own_process=vectorize == "async")
    return _looped_vector_env(maker, seeds)


def _copy_seeds(seed: int | Sequence[int] | None, num_envs: int) -> list[int | None]:
    """The seed of each copy."""
    if seed is None:
        return [None] * num_envs
    if not isinstance(seed, Sequence):
        return [seed + copy for copy in range(num_envs)]
    if len(seed) != num_envs:
        raise SpecError(f"seed must have one number for each of {num_envs} copies; got {seed}.")
    return list(seed)


def _looped_vector_env(maker: EnvMaker, seeds: Sequence[int | None]) -> "gym.vector.VectorEnv":
    from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

    makers = [maker.with_seed(seed) for seed in seeds]
    if not maker.own_process:
        return SyncVectorEnv(makers, autoreset_mode=AutoresetMode.NEXT_STEP)
    from rlssl.system.random_state import undisturbed_generators

    # gymnasium builds one more environment in this process, to read its spaces.
    with undisturbed_generators():
        return AsyncVectorEnv(makers, autoreset_mode=AutoresetMode.NEXT_STEP)


def takes_seed_list(vector: "gym.vector.VectorEnv") -> bool:
    """Whether ``reset`` of a vector environment takes one seed for each copy.

    gymnasium's own do. Suites' often take one int only, and seed copy i with ``seed + i``.

    Example:
        >>> takes_seed_list(make_vector_env({"id": "Pendulum-v1"}, num_envs=2))
        True
    """
    makers = getattr(vector.unwrapped, "env_fns", None)
    return isinstance(makers, Sequence) and all(isinstance(one, EnvMaker) for one in makers)


def _native_vector_env(
    entry: EnvEntry | None, config: dict[str, Any], num_envs: int
) -> "gym.vector.VectorEnv | None":
    """Builds the vector environment of the suite; None if the suite has none."""
    if entry is None:
        return _gymnasium_vector_env(config, num_envs)
    make_vec = entry.resolve("make_vec")
    if make_vec is None:
        return None
    vector = call_make_vec(make_vec, config, num_envs)
    reason = vector_env_problem(vector, num_envs)
    if reason:
        raise SpecError(f"make_vec of environment {config['id']!r}: {reason}.")
    return vector


def _gymnasium_vector_env(config: dict[str, Any], num_envs: int) -> "gym.vector.VectorEnv | None":
    """Builds gymnasium's vector version of an id; None if its spaces differ or it has none."""
    import gymnasium as gym

    single = EnvMaker(None, config)()
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
        logger.info("%s: vectorize is sync, not native: %s", config["id"], error)
        return None
    reason = vector_env_problem(vector, num_envs, single)
    if reason:
        logger.info("%s: vectorize is sync, not native: %s", config["id"], reason)
        vector.close()
        return None
    return vector


def vector_env_problem(vector: Any, num_envs: int, single: "gym.Env | None" = None) -> str:
    """Says why a vector environment cannot be used; returns ``""`` if it can."""
    import gymnasium as gym

    from rlssl.environments.vector_conventions import autoreset_mode

    if not isinstance(vector, gym.vector.VectorEnv):
        return f"must be a gymnasium VectorEnv; got {type(vector)}"
    usable = (gym.vector.AutoresetMode.NEXT_STEP, gym.vector.AutoresetMode.SAME_STEP)
    if autoreset_mode(vector) not in usable:
        mode = vector.metadata.get("autoreset_mode")
        return f"metadata['autoreset_mode'] must be NEXT_STEP or SAME_STEP; got {mode}"
    if vector.num_envs != num_envs:
        return f"num_envs must be {num_envs}; got {vector.num_envs}"
    if single is not None:
        for space in ("observation_space", "action_space"):
            theirs, ours = getattr(vector, f"single_{space}"), getattr(single, space)
            if theirs != ours:
                return f"single_{space} is {theirs}, but make gives {ours}"
    return ""
