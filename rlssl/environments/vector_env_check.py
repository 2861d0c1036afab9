"""Steps a registered vector environment over the ends of episodes, and checks its conventions."""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import tree
from gymnasium.vector.utils import batch_space, iterate

from rlssl.environments.observation_checks import misfit, observation_check
from rlssl.environments.vector_conventions import (
    FIX,
    ConventionError,
    VectorConventions,
    resets_at_once,
    row_of,
)
from rlssl.environments.vector_infos import (
    READ_KEYS,
    SUCCESS_KEYS,
    JoinedInfos,
    as_number,
    copied,
    join_infos,
    vector_info,
)

#: Copies in the vector environment; some faults need several.
NUM_ENVS = 3
#: The check ends after the step that follows the first end of an episode of each copy, or after
#: this many vector steps or seconds. The EnvRunner then checks the ends.
MAX_STEPS = 1_000
MAX_SECONDS = 1.0

_SEED = 7

#: Calls a function; its errors name the method of the environment that failed.
Attempt = Callable[[str, Callable[[], Any]], Any]


@dataclass
class _Trace:
    """What a vector environment gave, copied; all lists begin with the first step."""

    first: Any
    resets_at_once: bool
    actions: list[Any] = field(default_factory=list)
    observations: list[Any] = field(default_factory=list)
    rewards: list[np.ndarray] = field(default_factory=list)
    over: list[np.ndarray] = field(default_factory=list)
    infos: list[Any] = field(default_factory=list)

    def end_of(self, slot: int) -> int | None:
        """The step that ends a copy's first episode, if the step after it was made too."""
        ends = [step for step, over in enumerate(self.over[:-1]) if over[slot]]
        return ends[0] if ends else None

    @property
    def is_complete(self) -> bool:
        return all(self.end_of(slot) is not None for slot in range(NUM_ENVS))


@dataclass
class _Single:
    """What a single environment gave for the actions of copy 0, until its first episode ended."""

    first: Any
    observations: list[Any] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    infos: list[Any] = field(default_factory=list)
    # The first observation of the second episode; None: the first one has not ended.
    next_first: Any = None


def check_conventions(
    make_vector: Callable[[], gym.vector.VectorEnv],
    make_single: Callable[[], gym.Env],
    attempt: Attempt,
) -> None:
    """Steps a vector environment with random actions, and checks gymnasium's conventions.

    Besides the checks of `VectorConventions`: equal seeds give equal first observations; copies
    differ if single environments do; the autoreset is the one that ``metadata`` names; and last
    observations and infos are those of the step that ended the episode.

    Args:
        make_vector: Builds `NUM_ENVS` copies.
        make_single: Builds a single environment of the same kind.
        attempt: Calls a function; its errors name the method that failed.

    Raises:
        ConventionError: Naming the convention that is broken.
    """
    trace = _play(make_vector, attempt)
    again = _play(make_vector, attempt, trace.actions)
    if not _same(trace.first, again.first):
        raise ConventionError(
            f"two environments gave different first observations after reset(seed={_SEED}). Equal "
            f"seeds must give equal observations. {FIX}"
        )
    _check_copies(trace, make_vector, make_single, attempt)
    single = _play_single(make_single, trace, attempt)
    ends = {slot: trace.end_of(slot) for slot in range(NUM_ENVS)}
    known = {slot: end for slot, end in ends.items() if end is not None}
    if trace.resets_at_once:
        _check_final(trace, known, single)
    else:
        for slot, end in known.items():
            _check_reset_step(trace, slot, end)
        _check_that_resets_ignore_actions(trace, again, known, make_vector, attempt)
    _check_against_single(trace, single, known.get(0))


def _play(
    make_vector: Callable[[], gym.vector.VectorEnv],
    attempt: Attempt,
    actions: list[Any] | None = None,
) -> _Trace:
    """Plays these actions, or random ones until every copy has ended an episode."""
    vector = attempt("make_vec", make_vector)
    try:
        join_infos(vector, JoinedInfos)
        conventions = VectorConventions(vector)
        fits = observation_check(vector.observation_space)
        trace = _Trace(_reset(vector, _SEED, attempt), resets_at_once(vector))
        vector.action_space.seed(_SEED)
        begin = time.monotonic()
        for step in range(MAX_STEPS if actions is None else len(actions)):
            is_late = time.monotonic() - begin > MAX_SECONDS
            if actions is None and (is_late or trace.is_complete):
                break
            chosen = vector.action_space.sample() if actions is None else actions[step]
            step_once = functools.partial(vector.step, copied(chosen))
            results = attempt("make_vec's step", step_once)
            observations, rewards, terminated, truncated, infos = conventions.checked(results)
            if not fits(observations):
                problem = misfit(observations, vector.observation_space)
                raise ConventionError(f"step() gave {problem}. {FIX}")
            trace.actions.append(chosen)
            trace.observations.append(copied(observations))
            trace.rewards.append(np.array(rewards, np.float64))
            trace.over.append(terminated | truncated)
            trace.infos.append(copied(infos))
    finally:
        vector.close()
    return trace


def _reset(vector: gym.vector.VectorEnv, seed: int, attempt: Attempt) -> Any:
    result = attempt("make_vec's reset", lambda: vector.reset(seed=seed))
    if not (isinstance(result, tuple) and len(result) == 2):
        raise ConventionError(f"reset() must return (observations, infos); got {result!r}. {FIX}")
    if not observation_check(vector.observation_space)(result[0]):
        raise ConventionError(f"reset() gave {misfit(result[0], vector.observation_space)}. {FIX}")
    return copied(result[0])


def _play_single(make_single: Callable[[], gym.Env], trace: _Trace, attempt: Attempt) -> _Single:
    env = attempt("make", make_single)
    try:
        played = _Single(copied(attempt("reset", lambda: env.reset(seed=_SEED))[0]))
        begin = time.monotonic()
        for actions in trace.actions:
            if time.monotonic() - begin > MAX_SECONDS:
                break
            step_once = functools.partial(env.step, _action_of(env, actions))
            observation, reward, terminated, truncated, info = attempt("step", step_once)
            played.observations.append(copied(observation))
            played.rewards.append(float(reward))
            played.infos.append(copied(info))
            if terminated or truncated:
                played.next_first = copied(attempt("reset", env.reset)[0])
                break
    finally:
        env.close()
    return played


def _action_of(env: gym.Env, actions: Any) -> Any:
    """The action of copy 0."""
    return next(iter(iterate(batch_space(env.action_space, NUM_ENVS), copied(actions))))


def _check_copies(
    trace: _Trace,
    make_vector: Callable[[], gym.vector.VectorEnv],
    make_single: Callable[[], gym.Env],
    attempt: Attempt,
) -> None:
    """Raises if all copies begin alike with every seed, and single environments do not."""
    if not _alike(trace.first):
        return
    seeds = [_SEED + NUM_ENVS * k for k in range(8)]
    vector, env = attempt("make_vec", make_vector), attempt("make", make_single)
    try:
        if not all(_alike(_reset(vector, seed, attempt)) for seed in seeds):
            return
        firsts = [copied(env.reset(seed=seed)[0]) for seed in seeds]
    finally:
        vector.close()
        env.close()
    if not all(_same(first, firsts[0]) for first in firsts):
        raise ConventionError(
            "after reset(seed=...), all copies begin with the same observation, with each of "
            f"{len(seeds)} seeds. Copy i must be seeded with seed + i. {FIX}"
        )


def _check_final(trace: _Trace, ends: dict[int, int], single: _Single) -> None:
    """Raises if the last observations are those of the next episodes (SAME_STEP autoreset)."""
    if single.next_first is None or _same(single.observations[-1], single.next_first):
        return
    pairs = [
        (trace.infos[end]["final_obs"][slot], row_of(trace.observations[end], slot))
        for slot, end in ends.items()
    ]
    if pairs and all(_same(last, first) for last, first in pairs):
        raise ConventionError(
            "metadata['autoreset_mode'] is SAME_STEP, but in each step that ended an episode, "
            "infos['final_obs'] and observations were equal. With SAME_STEP, infos['final_obs'] "
            "has the last observation of the episode, and observations the first one of the next. "
            f"{FIX}"
        )


def _check_reset_step(trace: _Trace, slot: int, end: int) -> None:
    """Raises if the step after an end does not reset (NEXT_STEP autoreset)."""
    claim = f"metadata['autoreset_mode'] is NEXT_STEP, but copy {slot}"
    rule = f"With NEXT_STEP, the step after an end only resets, with reward 0. {FIX}"
    reward = trace.rewards[end + 1][slot]
    if trace.over[end + 1][slot]:
        raise ConventionError(f"{claim} ended an episode in two steps in a row. {rule}")
    if reward != 0:
        raise ConventionError(
            f"{claim} gave a reward of {reward:g} in the step after the end of an episode. {rule}"
        )
    final = trace.infos[end].get("final_obs")
    is_each = isinstance(final, np.ndarray) and len(final) == NUM_ENVS
    last = row_of(trace.observations[end], slot)
    # An environment may have a key of this name for something else.
    if is_each and _shapes(final[slot]) == _shapes(last) and not _same(final[slot], last):
        raise ConventionError(
            f"{claim} gave infos['final_obs'] that is not its observation. {rule}"
        )


def _check_that_resets_ignore_actions(
    trace: _Trace,
    again: _Trace,
    ends: dict[int, int],
    make_vector: Callable[[], gym.vector.VectorEnv],
    attempt: Attempt,
) -> None:
    """Raises if the observation after the step that must reset depends on the action."""
    if not ends:
        return
    slot, end = min(ends.items(), key=lambda item: item[1])
    both = [row_of(one.observations[end + 1], slot) for one in (trace, again)]
    if not _same(*both):
        return  # The environment does not repeat itself, so that nothing can be compared.
    actions = copied(trace.actions[: end + 2])
    others = [
        one for one in trace.actions if not _same(row_of(one, slot), row_of(actions[-1], slot))
    ]
    if not others:
        return
    for leaf, other in zip(tree.flatten(actions[-1]), tree.flatten(others[0]), strict=True):
        leaf[slot] = other[slot]
    changed = _play(make_vector, attempt, actions)
    if not _same(row_of(changed.observations[end + 1], slot), both[0]):
        raise ConventionError(
            "metadata['autoreset_mode'] is NEXT_STEP, but the observation after the step that "
            "follows the end of an episode depends on its action. With NEXT_STEP, this step "
            f"ignores the action, and gives the first observation of the next episode. {FIX}"
        )


def _check_against_single(trace: _Trace, single: _Single, end: int | None) -> None:
    """Raises if copy 0 equals the single environment until its episode ends, but not there."""
    if end is None or single.next_first is None or len(single.observations) != end + 1:
        return
    firsts = [row_of(observations, 0) for observations in [trace.first, *trace.observations[:end]]]
    rewards = [rewards[0] for rewards in trace.rewards[: end + 1]]
    is_same = np.allclose(rewards, single.rewards) and all(
        map(_same, firsts, [single.first, *single.observations[:end]])
    )
    if not is_same:
        return
    last = row_of(trace.observations[end], 0)
    if trace.resets_at_once:
        last = trace.infos[end]["final_obs"][0]
    if not _same(last, single.observations[-1]):
        raise ConventionError(
            "the last observation of an episode is not the one that make gives after the same "
            f"actions: {last!r} instead of {single.observations[-1]!r}. With NEXT_STEP autoreset "
            "it is in observations, with SAME_STEP in infos['final_obs'], both before the reset. "
            f"{FIX}"
        )
    for step, info in enumerate(single.infos):
        _check_infos(trace.infos[step], info, is_last=step == end)


def _check_infos(infos: dict[str, Any], info: dict[str, Any], is_last: bool) -> None:
    """Raises if the numbers that are read from an info differ from those of `make`."""
    for key in READ_KEYS:
        if key in SUCCESS_KEYS and (not is_last or info.get(key) is None):
            continue
        given = vector_info(infos, key, NUM_ENVS)
        value = None if given is None or not given[1][0] else float(given[0][0])
        wanted = None if info.get(key) is None else as_number(info[key], key)
        if key == "soft_terminated":
            value, wanted = float(bool(value)), float(bool(wanted))
        if value != wanted and not (value and wanted and np.isclose(value, wanted)):
            raise ConventionError(
                f"infos[{key!r}] gives {value} for a step in which make gives {wanted}. "
                f"infos['_{key}'] must say which copies gave the key; with SAME_STEP autoreset, "
                f"infos['final_info'] has the infos of the steps that ended an episode. {FIX}"
            )


def _alike(observations: Any) -> bool:
    return all(
        _same(row_of(observations, slot), row_of(observations, 0)) for slot in range(NUM_ENVS)
    )


def _same(one: Any, other: Any) -> bool:
    """Whether two structs of arrays have the same values."""
    leaves, others = tree.flatten(one), tree.flatten(other)
    return len(leaves) == len(others) and all(map(_same_array, leaves, others))


def _shapes(struct: Any) -> list[tuple[Any, ...]]:
    leaves = map(np.asarray, tree.flatten(struct))
    return [(leaf.shape, leaf.dtype) for leaf in leaves]


def _same_array(one: Any, other: Any) -> bool:
    one, other = np.asarray(one), np.asarray(other)
    return np.array_equal(one, other, equal_nan=one.dtype.kind == other.dtype.kind == "f")
