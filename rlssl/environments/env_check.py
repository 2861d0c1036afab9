"""Tries an environment in this process before any actor starts."""

import dataclasses
import functools
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import gymnasium as gym
import numpy as np
from gymnasium.vector import SyncVectorEnv

from rlssl.environments.building import (
    Vectorize,
    env_config,
    find_environment,
    make_env,
    make_vector_env,
    vector_env_problem,
)
from rlssl.environments.timeout import EnvironmentTimeoutError, TimeoutWatch
from rlssl.environments.vector_conventions import ConventionError, can_step_async
from rlssl.environments.vector_env_check import NUM_ENVS, check_conventions
from rlssl.environments.vector_infos import copied
from rlssl.errors import PreflightError, SpecError
from rlssl.plugins import with_line
from rlssl.system.random_state import undisturbed_generators

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Spaces that hold other spaces.
_GROUPS = (gym.spaces.Dict, gym.spaces.Tuple)

#: Largest value of an image that is taken for scaled, to 0..1 or to a standard deviation of 1.
_MAX_SCALED = 16.0

#: Calls a function; its errors name the method of the environment that failed or timed out.
Attempt = Callable[[str, Callable[[], Any]], Any]


@dataclass(frozen=True)
class EnvSpaces:
    """The result of a preflight: everything that an algorithm needs before it is built."""

    observation_space: "gym.Space"
    action_space: "gym.Space"
    # Frames per agent step: env steps = agent steps x action repeat.
    action_repeat: int = 1
    # Observations in a stack, as the environment suggests; 1 means no stack.
    frame_stack: int = 1
    # Whether copies can step while the policy runs (double buffering); None: unknown.
    steps_async: bool | None = None


@undisturbed_generators()
def preflight(
    env: Mapping[str, Any], timeout_s: float = 30.0, vectorize: Vectorize = "native"
) -> EnvSpaces:
    """Builds an environment here, resets it and takes three random steps, before actors start.

    In a remote EnvRunner the same failure would look like a hang, because RLlib logs it and
    restarts. Observations must lie in their space (shape, dtype, bounds); rewards must be finite
    scalars. Images of floats in 0..255 give a warning. A vector environment of the suite's own must
    have the same spaces, and is stepped over the ends of episodes to check gymnasium's conventions.

    Args:
        env: ``{"id": ..., **options}``.
        timeout_s: Seconds that building, a reset or a step may take.
        vectorize: How copies will be vectorized; "native" checks the suite's vector environment.

    Raises:
        PreflightError: The environment raised (its message is quoted), timed out, or broke one of
            these rules.
        UnknownNameError: No environment has this id.
        MissingExtraError: Its suite is not installed.
        PluginError: Its module cannot be imported.
    """
    name = env_config(env, "train", 0, None)["id"]
    watch = TimeoutWatch()

    def attempt(where: str, call: Callable[[], T]) -> T:
        return _attempt(name, where, lambda: watch.call(timeout_s, call), timeout_s)

    try:
        instance = attempt("make", lambda: make_env(env, seed=0))
        try:
            spaces = _check_spaces(name, instance)
            _warn_of_normalization(name, instance)
            _check_steps(name, instance, attempt)
        finally:
            instance.close()
        steps_async = vectorize == "async"
        if vectorize == "native":
            steps_async = _check_make_vec(name, env, instance, attempt)
    finally:
        watch.stop()
    return dataclasses.replace(spaces, steps_async=steps_async)


class _Step(NamedTuple):
    """The values that `Env.step` must return."""

    observation: Any
    reward: Any
    terminated: Any
    truncated: Any
    info: Any


def _attempt(name: str, where: str, call: Callable[[], T], timeout_s: float) -> T:
    """Calls a function; turns the environment's error into a PreflightError that says where."""
    try:
        return call()
    except SpecError:
        raise
    except EnvironmentTimeoutError as error:
        raise PreflightError(
            f"environment {name!r} timed out in {where}() after {timeout_s:g} s; increase "
            "env_step_timeout_s if the environment is only slow."
        ) from error
    except Exception as error:
        raise PreflightError(
            with_line(
                f"environment {name!r} failed in {where}(): {type(error).__name__}: {error}", error
            )
        ) from error


def _check_spaces(name: str, env: gym.Env) -> EnvSpaces:
    for attribute in ("observation_space", "action_space"):
        space = getattr(env, attribute, None)
        if not isinstance(space, gym.Space):
            raise PreflightError(
                f"environment {name!r}: {attribute} must be a gymnasium space; got {space!r}."
            )
    if problem := _unreadable(env.observation_space):
        raise PreflightError(f"environment {name!r}: the observation space {problem}.")
    repeat, frames = (_count(name, env, key) for key in ("action_repeat", "suggested_frame_stack"))
    return EnvSpaces(env.observation_space, env.action_space, repeat, frames)


def _unreadable(space: gym.Space) -> str:
    """What no algorithm can read or save in a space of observations; "" if there is nothing."""
    parts = list(_parts_of(space))
    keys = [key for part in parts if isinstance(part, gym.spaces.Dict) for key in part.spaces]
    if wrong := [key for key in keys if not isinstance(key, str)]:
        return f"has the key {wrong[0]!r}; make it text, in a wrapper of the environment"
    if all(isinstance(part, _GROUPS) or 0 in (part.shape or ()) for part in parts):
        return f"{space} has no elements; give observations with at least one number"
    return ""


def _parts_of(space: gym.Space) -> Iterator[gym.Space]:
    """The space, and every space inside of it."""
    yield space
    if isinstance(space, _GROUPS):
        inside = space.spaces.values() if isinstance(space, gym.spaces.Dict) else space.spaces
        for part in inside:
            yield from _parts_of(part)


def _warn_of_normalization(name: str, env: Any) -> None:
    """Warns of gymnasium's wrapper whose statistics no other copy of the environment has."""
    while isinstance(env, gym.Wrapper | gym.vector.VectorWrapper):
        kinds = gym.wrappers.NormalizeObservation, gym.wrappers.vector.NormalizeObservation
        if isinstance(env, kinds):
            logger.warning(
                "environment %r has gymnasium's wrapper NormalizeObservation. Each copy of the "
                "environment has its own statistics, and evaluations start with none. Remove the "
                "wrapper and set model.normalize_observations to true.",
                name,
            )
            return
        env = env.env


def _count(name: str, env: gym.Env, key: str) -> int:
    """An optional attribute of an environment; 1 if the environment does not have it."""
    value = env.get_wrapper_attr(key) if env.has_wrapper_attr(key) else 1
    if not isinstance(value, int) or value < 1:
        raise PreflightError(f"environment {name!r}: {key} must be an integer >= 1; got {value!r}.")
    return value


def _check_steps(name: str, env: gym.Env, attempt: Attempt, num_steps: int = 3) -> None:
    seen: list[Any] = []

    def reset(seed: int | None) -> None:
        result = attempt("reset", lambda: env.reset(seed=seed))
        if not (isinstance(result, tuple) and len(result) == 2):
            raise PreflightError(
                f"environment {name!r}: reset() must return (observation, info); got {result!r}."
            )
        _check_observation(name, "reset", result[0], env.observation_space)
        seen.append(copied(result[0]))

    env.action_space.seed(0)
    reset(0)
    for _ in range(num_steps):
        result = attempt("step", lambda: env.step(env.action_space.sample()))
        step = _check_step(name, result)
        _check_observation(name, "step", step.observation, env.observation_space)
        seen.append(copied(step.observation))
        if step.terminated or step.truncated:
            reset(None)
    _warn_of_bright_images(name, env.observation_space, seen)


def _warn_of_bright_images(
    name: str, space: gym.Space, observations: list[Any], key: str = ""
) -> None:
    """Warns of images of floats in 0..255: only images of uint8 are divided by 255."""
    if isinstance(space, gym.spaces.Dict | gym.spaces.Tuple):
        parts: dict[Any, gym.Space] = dict(
            space.spaces if isinstance(space, gym.spaces.Dict) else enumerate(space.spaces)
        )
        for part, of_part in parts.items():
            seen = [observation[part] for observation in observations]
            _warn_of_bright_images(name, of_part, seen, f"{key}[{part!r}]")
        return
    is_image = isinstance(space, gym.spaces.Box) and len(space.shape) == 3
    if not is_image or not np.issubdtype(space.dtype, np.floating):
        return
    assert isinstance(space, gym.spaces.Box)  # for mypy
    highest = float(np.max(space.high))
    largest = max(float(np.max(observation)) for observation in observations)
    is_declared = math.isclose(highest, 255.0)
    if is_declared or largest > _MAX_SCALED:
        logger.warning(
            "environment %r: the observation%s is an image of %s with values up to %g. rlssl "
            "divides only images of uint8 by 255, so the encoder gets values that are too large "
            "to learn well. Declare the space as Box(0, 255, %s, uint8) and return uint8, or "
            "scale the image to 0..1.",
            name,
            f" at {key}" if key else "",
            space.dtype,
            highest if is_declared else largest,
            space.shape,
        )


def _check_step(name: str, result: Any) -> _Step:
    if not (isinstance(result, tuple) and len(result) == 5):
        raise PreflightError(
            f"environment {name!r}: step() must return (observation, reward, terminated, "
            f"truncated, info); got {result!r}."
        )
    step = _Step(*result)
    reward = np.asarray(step.reward)
    if reward.ndim != 0 or reward.dtype.kind not in "biuf" or not np.isfinite(reward):
        raise PreflightError(
            f"environment {name!r}: the reward must be a finite number; got {step.reward!r}."
        )
    if not isinstance(step.info, dict):
        raise PreflightError(f"environment {name!r}: info must be a dict; got {step.info!r}.")
    return step


def _check_observation(name: str, where: str, observation: Any, space: gym.Space) -> None:
    problem = _observation_problem(observation, space)
    if problem:
        raise PreflightError(
            f"environment {name!r}: the observation of {where}(){problem}; "
            "correct the observation or observation_space."
        )


def _observation_problem(observation: Any, space: gym.Space, key: str = "") -> str:
    """Says what is wrong with an observation; returns ``""`` for a valid one."""
    at = f" at {key}" if key else ""
    if isinstance(space, gym.spaces.Dict):
        if not isinstance(observation, dict) or observation.keys() != space.spaces.keys():
            return f"{at} must be a dict with the keys {list(space.spaces)}; got {observation!r}"
        return _first_problem(observation, dict(space.spaces), key)
    if isinstance(space, gym.spaces.Tuple):
        if not isinstance(observation, tuple) or len(observation) != len(space.spaces):
            return f"{at} must be a tuple of {len(space.spaces)}; got {observation!r}"
        return _first_problem(observation, dict(enumerate(space.spaces)), key)
    if isinstance(space, gym.spaces.Box):
        if not isinstance(observation, np.ndarray | np.generic):
            return f"{at} must be a numpy array; got {type(observation)}"
        if observation.dtype != space.dtype:
            return f"{at} has dtype {observation.dtype}, but its space has {space.dtype}"
        if observation.shape != space.shape:
            return f"{at} has shape {observation.shape}, but its space has {space.shape}"
        if observation.dtype.kind == "f" and not np.isfinite(observation).all():
            return f"{at} has a value that is not finite: {observation}"
    return "" if space.contains(observation) else f"{at} lies outside {space}: {observation!r}"


def _first_problem(observation: Any, spaces: Mapping[Any, gym.Space], key: str) -> str:
    """The first `_observation_problem` among the parts of a dict or tuple."""
    problems = (
        _observation_problem(observation[part], space, f"{key}[{part!r}]")
        for part, space in spaces.items()
    )
    return next(filter(None, problems), "")


def _check_make_vec(name: str, env: Mapping[str, Any], single: gym.Env, attempt: Attempt) -> bool:
    """Checks the vector form of an environment, if it has one; whether that can step async."""
    entry = find_environment(name)
    has_own = entry is not None and entry.make_vec is not None
    if entry is None and single.spec is not None:
        has_own = single.spec.vector_entry_point is not None
    if not has_own:
        return False
    build = functools.partial(make_vector_env, env, num_envs=NUM_ENVS, seed=0)
    vector = attempt("make_vec", build)
    _warn_of_normalization(name, vector)
    # Environments without a vector form of their own get gymnasium's loop.
    is_loop = type(vector) is SyncVectorEnv and entry is None
    reason = "" if is_loop else vector_env_problem(vector, NUM_ENVS, single)
    steps_async = can_step_async(vector)
    vector.close()
    if is_loop:
        return False
    try:
        if reason:
            raise ConventionError(f"{reason}.")
        check_conventions(build, functools.partial(make_env, env, seed=0), attempt)
    except ConventionError as error:
        raise PreflightError(f"environment {name!r}: make_vec: {error}") from error
    return steps_async
