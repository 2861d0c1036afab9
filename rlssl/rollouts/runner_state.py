"""What an EnvRunner is in the middle of: its environments, open episodes and random generators.

RLlib's checkpoints leave all of it out: a restored run would forget the open episodes and draw the
run's first random numbers again.
"""

import io
import pickle
import time
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.utils import EzPickle
from gymnasium.vector import AsyncVectorEnv
from gymnasium.wrappers.vector import DictInfoToList
from ray.cloudpickle import CloudPickler

from rlssl.old_names import ATTRIBUTES, renamed
from rlssl.rollouts.fragment import StepBuffer
from rlssl.system.random_state import generators, set_generators

#: Attributes of the two runners that change while they sample, where a runner has them. Weights,
#: connectors and counters are in RLlib's own state.
SAMPLING_ATTRIBUTES = (
    "env",
    "_agent_steps",
    "_agent_steps_before",
    "_cached_to_module",
    "_done_episodes_for_metrics",
    "_episode_log",
    "_generator",
    "_env_batches",
    "_needs_initial_reset",
    "_ongoing_episodes",
    "_ongoing_episodes_for_metrics",
    "_shared_data",
    "generation",
)


@dataclass(frozen=True)
class RunnerState:
    """What `capture` took; the environments as a pickle, which needs this code to be loaded."""

    # Of Python, numpy and torch, in the runner's process, and the runner's own.
    generators: dict[str, Any]
    # Compressed pickle of the sampling attributes; None where there is none, for `reason`.
    sampling: bytes | None
    reason: str
    # Games that were begun and not finished.
    open_episodes: int
    # How often environments were built anew; new ones take their seeds from it.
    generation: int
    # The process's clock, seconds; durations of open episodes go on from here.
    clock_s: float


def capture(runner: Any, max_bytes: int) -> RunnerState:
    """Takes the state of a runner between two calls of ``sample``.

    Args:
        runner: A `VectorEnvRunner` or `StockEnvRunner`.
        max_bytes: More than that is not kept.
    """
    sampling, reason = _pickled(runner, max_bytes)
    return RunnerState(
        generators={**generators(), "runner": _own_generator(runner)},
        sampling=sampling,
        reason=reason,
        open_episodes=open_episodes(runner),
        generation=runner.generation,
        clock_s=time.perf_counter(),
    )


def restore(runner: Any, state: RunnerState) -> str:
    """Lets a new runner go on where the captured one stood.

    Args:
        runner: Built from the same config.
        state: From `capture`.

    Returns:
        ``""``, or why the environments start over instead, with seeds that were not used before.
    """
    reason = state.reason if state.sampling is None else _set_sampling(runner, state)
    if reason:
        runner.generation = state.generation + 1
        if state.generators["runner"] is not None:
            runner._generator.bit_generator.state = state.generators["runner"]
    set_generators(state.generators)
    return reason


def _own_generator(runner: Any) -> Any:
    """The state of the generator that a `VectorEnvRunner` draws actions from; else None."""
    generator = getattr(runner, "_generator", None)
    return None if generator is None else generator.bit_generator.state


def open_episodes(runner: Any) -> int:
    """Games that the next sample would go on with."""
    if runner.env is None or runner._needs_initial_reset:
        return 0
    ongoing = [episode for episode in runner._ongoing_episodes if episode is not None]
    in_log = int((runner._episode_log._lengths > 0).sum())
    return in_log + sum(episode.t > 0 for episode in ongoing)


def _pickled(runner: Any, max_bytes: int) -> tuple[bytes | None, str]:
    """The sampling attributes, or None and the reason."""
    if runner.env is None:
        return None, "there are none in this process"
    attributes = {key: vars(runner)[key] for key in SAMPLING_ATTRIBUTES if key in vars(runner)}
    buffer = io.BytesIO()
    try:
        _Pickler(buffer).dump(attributes)
    # Whatever a user's environment raises when it is pickled.
    except Exception as error:
        return None, f"they do not pickle: {type(error).__name__}: {error}"
    # A simulator's memory is mostly empty: MuJoCo's shrinks to a hundredth.
    compressed = zlib.compress(buffer.getvalue(), level=1)
    if len(compressed) > max_bytes:
        return None, f"they take {len(compressed):,} bytes; the limit is {max_bytes:,}"
    return compressed, ""


def _set_sampling(runner: Any, state: RunnerState) -> str:
    assert state.sampling is not None  # for mypy
    try:
        attributes = pickle.loads(zlib.decompress(state.sampling))
    # Whatever a user's environment raises, or another version of it lacks.
    except Exception as error:
        return f"they do not unpickle: {type(error).__name__}: {error}"
    attributes = renamed(ATTRIBUTES, attributes)
    for env_batch in attributes.get("_env_batches", ()):
        kept = renamed(ATTRIBUTES, vars(env_batch))
        vars(env_batch).clear()
        vars(env_batch).update(kept)
    runner._close_env()
    vars(runner).update(attributes)
    # The stock runner's wrapper, which `_adapt` puts around it again.
    bare = runner.env.env if isinstance(runner.env, DictInfoToList) else runner.env
    runner.env = runner._adapt(bare)
    runner.num_envs = runner.env.num_envs
    runner._episode_log._started_s += time.perf_counter() - state.clock_s
    return ""


class _Pickler(CloudPickler):
    """Takes closures, which environments are often made with; refuses what pickles incompletely."""

    def reducer_override(self, obj: Any) -> Any:
        """Called for every object before its own way to be pickled."""
        if isinstance(obj, EzPickle) and type(obj).__getstate__ is EzPickle.__getstate__:
            raise pickle.PicklingError(
                f"{type(obj).__name__} pickles as it was built, not as it is (gymnasium's EzPickle)"
            )
        if isinstance(obj, AsyncVectorEnv):
            raise pickle.PicklingError("they live in processes of their own (vectorize: async)")
        if isinstance(obj, StepBuffer):
            return _filled_rows, (obj._struct, _filled(obj), obj.size)
        return super().reducer_override(obj)


def _filled(rows: StepBuffer) -> list[np.ndarray]:
    """The rows in use: most of what is allocated is not. At least one, from which they grow."""
    return [leaf[: max(rows.size, 1)] for leaf in rows._leaves]


def _filled_rows(struct: Any, leaves: list[np.ndarray], size: int) -> StepBuffer:
    rows = StepBuffer.__new__(StepBuffer)
    rows._struct, rows._leaves, rows.size = struct, leaves, size
    return rows
