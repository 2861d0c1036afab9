"""Noise appended to vector observations of any environment: ``env: {distractors: {dims: 30}}``.

Frames of dm_control have other options: see `rlssl_envs.pixel_distractors`.

The noise does not depend on the state or the actions. Options:

- ``dims``: number of noise values that are appended to the observation; >= 1; required.
- ``kind``: ``iid``, new noise in every step, or ``correlated``, an autoregressive process with mean
  0, whose next values can be predicted from the present ones. Default ``iid``.
- ``scale``: standard deviation of each value, in units of the observation; > 0; default 1.
- ``correlation``: correlation of a value with itself one agent step later; in (0, 1); only for
  ``correlated``; default 0.95.
- ``info_state``: whether ``info["state"]`` is the observation without noise; default false.

The noise of an episode depends only on the seed of its reset. It is the same in a single
environment and in a vector environment, and does not depend on the environment's random numbers.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from rlssl_envs.pixel_distractors.options import OPTIONS as PIXEL_OPTIONS
from rlssl_envs.pixel_distractors.options import parse as parse_pixels

from rlssl.errors import SpecError, did_you_mean, suggest

KINDS = ("iid", "correlated")
DEFAULTS: dict[str, Any] = {
    "kind": "iid",
    "scale": 1.0,
    "correlation": 0.95,
    "info_state": False,
}

# Steps of noise that are drawn in one call.
_BLOCK = 64

# Part of the noise's seed, so that noise and environment draw different numbers.
_STREAM = 0xD157


def check(options: Any) -> None:
    """Checks ``env.distractors``.

    Raises:
        SpecError: An option is unknown, missing or out of range.
    """
    if _is_for_pixels(options):
        parse_pixels(options)
    else:
        _parse(options)


def wrap(env: gym.Env, options: Any, config: Mapping[str, Any]) -> gym.Env:
    """Appends noise to the observations of an environment, or draws distractors into its frames.

    Raises:
        SpecError: The observations are no vectors of floats, or frames of dm_control for options
            for frames, or an option is wrong.
    """
    if _is_for_pixels(options):
        from rlssl_envs.pixel_distractors.env import DistractedPixels

        return DistractedPixels(env, options, config["split"], config.get("seed"))
    return DistractedEnv(env, _parse(options), config.get("seed"))


def wrap_vec(
    vector: gym.vector.VectorEnv, options: Any, config: Mapping[str, Any]
) -> gym.vector.VectorEnv:
    """Like `wrap`, for the vector environment of a suite; dm_control has none."""
    if _is_for_pixels(options):
        raise SpecError(
            f"env.distractors.{next(iter(options))} needs an environment dmc-pixels/...; got "
            f"{config['id']}."
        )
    return DistractedVectorEnv(vector, _parse(options), config.get("seed"))


class Noise:
    """The noise of N environments, each with its own generator."""

    def __init__(self, num_envs: int, options: Mapping[str, Any], seed: int | None) -> None:
        """Seeds environment i with ``seed + i``; None gives other seeds each time."""
        dims = options["dims"]
        self._scale = options["scale"]
        self._rho = options["correlation"] if options["kind"] == "correlated" else 0.0
        self._rngs: list[np.random.Generator] = [np.random.default_rng() for _ in range(num_envs)]
        self._drawn = np.zeros((num_envs, _BLOCK, dims))
        self._next = np.full(num_envs, _BLOCK)
        self._now = np.zeros((num_envs, dims))
        if seed is not None:
            self.seed([seed + i for i in range(num_envs)])

    def seed(self, seeds: Sequence[int | None]) -> None:
        """Starts new random streams; a stream whose seed is None continues."""
        for i, seed in enumerate(seeds):
            if seed is not None:
                self._rngs[i] = np.random.default_rng([_STREAM, int(seed)])
                self._next[i] = _BLOCK

    def start(self, which: np.ndarray) -> None:
        """Draws the first noise of an episode for the environments of a mask, [N], bool."""
        self._now[which] = self._draw(which)

    def step(self, which: np.ndarray) -> None:
        """Draws the noise of the next step for the environments of a mask, [N], bool."""
        new = self._draw(which)
        self._now[which] = self._rho * self._now[which] + math.sqrt(1 - self._rho**2) * new

    def append_to(self, observations: np.ndarray) -> np.ndarray:
        """Appends the noise of all environments: [N, n] to [N, n + dims], same dtype."""
        noise = (self._scale * self._now).astype(observations.dtype)
        return np.concatenate([observations, noise], axis=1)

    def append_to_one(self, observation: np.ndarray, index: int) -> np.ndarray:
        """Appends the noise of environment ``index``: [n] to [n + dims]."""
        noise = (self._scale * self._now[index]).astype(observation.dtype)
        return np.concatenate([observation, noise])

    def _draw(self, which: np.ndarray) -> np.ndarray:
        """Standard normal numbers from each masked environment's stream: [number masked, dims]."""
        for i in np.flatnonzero(which & (self._next == _BLOCK)):
            self._drawn[i] = self._rngs[i].standard_normal(self._drawn.shape[1:])
            self._next[i] = 0
        rows = np.flatnonzero(which)
        drawn: np.ndarray = self._drawn[rows, self._next[rows]]
        self._next[rows] += 1
        return drawn


class DistractedEnv(gym.Wrapper):
    """An environment with noise appended to its observations."""

    def __init__(self, env: gym.Env, options: Mapping[str, Any], seed: int | None) -> None:
        """Wraps an environment. ``options`` has all options of the module.

        Raises:
            SpecError: The observations are not vectors of floats.
        """
        super().__init__(env)
        self.observation_space = _larger(env.observation_space, options["dims"])
        self._noise = Noise(1, options, seed)
        self._info_state = options["info_state"]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts an episode; a seed also seeds the noise."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._noise.seed([seed])
        self._noise.start(_ONE)
        return self._with_noise(observation, info), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Takes a step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._noise.step(_ONE)
        return self._with_noise(observation, info), reward, terminated, truncated, info

    def _with_noise(self, observation: Any, info: dict[str, Any]) -> np.ndarray:
        if self._info_state:
            info["state"] = observation
        return self._noise.append_to_one(np.asarray(observation), 0)


class DistractedVectorEnv(gym.vector.VectorWrapper):
    """A vector environment with noise appended to its observations."""

    def __init__(
        self, env: gym.vector.VectorEnv, options: Mapping[str, Any], seed: int | None
    ) -> None:
        """Wraps an environment. ``options`` has all options of the module.

        Raises:
            SpecError: The observations are not vectors of floats.
        """
        super().__init__(env)
        self.single_observation_space = _larger(env.single_observation_space, options["dims"])
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)
        self._noise = Noise(env.num_envs, options, seed)
        self._info_state = options["info_state"]
        # gymnasium's loops share their metadata with all other loops over the same class.
        mode = getattr(env.unwrapped, "autoreset_mode", env.metadata.get("autoreset_mode"))
        self._same_step = mode in (AutoresetMode.SAME_STEP, AutoresetMode.SAME_STEP.value)
        self._everyone = np.ones(env.num_envs, np.bool_)
        self._ended = np.zeros(env.num_envs, np.bool_)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Starts episodes, only those of a ``reset_mask`` if given; seeds also seed the noise."""
        inner: Any = self.env  # gymnasium's base class declares a single seed
        observations, infos = inner.reset(seed=seed, options=options)
        which = np.asarray((options or {}).get("reset_mask", self._everyone), np.bool_)
        if seed is not None:
            many = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed
            self._noise.seed([one if which[i] else None for i, one in enumerate(many)])
        self._noise.start(which)
        self._ended[which] = False
        return self._with_noise(observations, infos), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Takes a step in every environment."""
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        ended = np.logical_or(terminated, truncated)
        if self._same_step:
            self._noise.step(self._everyone)
            self._append_to_final(infos, ended)
            self._noise.start(ended)
        else:
            self._noise.step(~self._ended)
            self._noise.start(self._ended)
            self._ended = ended
        return self._with_noise(observations, infos), rewards, terminated, truncated, infos

    def _append_to_final(self, infos: dict[str, Any], ended: np.ndarray) -> None:
        final = infos.get("final_obs")
        if final is None or not ended.any():
            return
        larger = np.full(self.num_envs, None, dtype=object)
        for i in np.flatnonzero(ended):
            larger[i] = self._noise.append_to_one(np.asarray(final[i]), int(i))
        infos["final_obs"] = larger

    def _with_noise(self, observations: Any, infos: dict[str, Any]) -> np.ndarray:
        if self._info_state:
            infos["state"] = np.array(observations)
            infos["_state"] = self._everyone.copy()
        return self._noise.append_to(np.asarray(observations))


_ONE = np.ones(1, np.bool_)


def _larger(space: gym.Space, dims: int) -> Box:
    is_floating = isinstance(space, Box) and np.issubdtype(space.dtype, np.floating)
    if not is_floating or len(space.shape or ()) != 1:
        raise SpecError(
            f"env.distractors needs observations that are vectors of floats; got {space}. Remove "
            "it, or wrap the environment (gymnasium's FlattenObservation)."
        )
    assert isinstance(space, Box)  # for mypy
    unbounded = np.full(dims, np.inf, space.dtype)
    low, high = (
        np.concatenate([bound, sign * unbounded])
        for bound, sign in ((space.low, -1), (space.high, 1))
    )
    return Box(low, high, dtype=space.dtype)  # type: ignore[arg-type]


def _is_for_pixels(options: Any) -> bool:
    return isinstance(options, Mapping) and not options.keys().isdisjoint(PIXEL_OPTIONS)


def _parse(options: Any) -> dict[str, Any]:
    if not isinstance(options, Mapping):
        raise SpecError(
            f"env.distractors must be options, such as {{dims: 30, kind: iid}}; got {options!r}."
        )
    for key in options.keys() - {"dims", *DEFAULTS}:
        guess = suggest(str(key), ["dims", *DEFAULTS])
        raise SpecError(f"unknown option env.distractors.{key}{guess}")
    if "dims" not in options:
        raise SpecError(f"env.distractors needs dims, as {{dims: 30}}; got {dict(options)!r}.")
    given = {**DEFAULTS, **options}
    dims, kind = given["dims"], given["kind"]
    if type(dims) is not int or dims < 1:
        raise SpecError(f"env.distractors.dims must be an integer >= 1; got {dims!r}.")
    if kind not in KINDS:
        guess = did_you_mean(str(kind), KINDS) or "."
        raise SpecError(f"env.distractors.kind must be iid or correlated; got {kind!r}{guess}")
    if not _is_number(given["scale"]) or not 0 < given["scale"] < math.inf:
        raise SpecError(f"env.distractors.scale must be a number > 0; got {given['scale']!r}.")
    correlation = given["correlation"]
    if "correlation" in options and kind != "correlated":
        raise SpecError(
            "env.distractors.correlation needs kind: correlated; remove it or set kind."
        )
    if not _is_number(correlation) or not 0 < correlation < 1:
        raise SpecError(f"env.distractors.correlation must be in (0, 1); got {correlation!r}.")
    if not isinstance(given["info_state"], bool):
        raise SpecError(
            f"env.distractors.info_state must be true or false; got {given['info_state']!r}."
        )
    return given


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
