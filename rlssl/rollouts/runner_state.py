"""The sampling state of an EnvRunner: environments, open episodes and random generators.

RLlib's checkpoints do not contain it: a restored run would lose the open episodes, and would draw
the first random numbers of the run again.
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
from rlssl.system.seeding import restart_after_restore

#: Attributes of the two runners that change while they sample; a runner may lack some of them.
#: RLlib's own state contains the weights, connectors and counters.
SAMPLING_ATTRIBUTES = (
    "env",
    "_agent_steps",
    "_agent_steps_before",
    "_cached_to_module",
    "_done_episodes_for_metrics",
    "_episode_log",
    "_generator",
    "_env_batches",
    "_built_generation",
    "_needs_initial_reset",
    "_needs_seed",
    "_ongoing_episodes",
    "_ongoing_episodes_for_metrics",
    "_shared_data",
    "generation",
)


@dataclass(frozen=True)
class RunnerState:
    """The state that `capture` returns. Unpickling the environments needs their code."""

    # States of the global generators that the runner draws from (Python, numpy, torch), and of the
    # generator of its actions.
    generators: dict[str, Any]
    # Compressed pickle of the sampling attributes; None if they could not be saved.
    sampling: bytes | None
    # Why they could not be saved; "" if they were.
    reason: str
    # Number of unfinished episodes.
    open_episodes: int
    # How often environments were rebuilt; the seeds of new environments depend on it.
    generation: int
    # The process's clock, seconds; the durations of open episodes continue from it.
    clock_s: float


def capture(runner: Any, max_bytes: int) -> RunnerState:
    """Returns the state of a runner between two calls of ``sample``.

    Args:
        runner: A `VectorEnvRunner` or `StockEnvRunner`.
        max_bytes: Environments whose compressed pickle is larger are not saved.
    """
    sampling, reason = _pickled(runner, max_bytes)
    return RunnerState(
        generators={**runner.global_generators(), "runner": _own_generator(runner)},
        sampling=sampling,
        reason=reason,
        open_episodes=open_episodes(runner),
        generation=runner.generation,
        clock_s=time.perf_counter(),
    )


def restore(runner: Any, state: RunnerState) -> str:
    """Lets a new runner continue where the captured runner was.

    Args:
        runner: A new runner, built from the same config.
        state: From `capture`.

    Returns:
        ``""``, or why the environments start new episodes instead, with seeds not used before.
    """
    reason = state.reason if state.sampling is None else _set_sampling(runner, state)
    if reason:
        runner.start_over(max(runner.generation, restart_after_restore(state.generation)))
        if state.generators["runner"] is not None:
            runner._generator.bit_generator.state = state.generators["runner"]
    runner.set_global_generators(state.generators)
    return reason


def _own_generator(runner: Any) -> Any:
    """The state of the generator that a `VectorEnvRunner` draws actions from; else None."""
    generator = getattr(runner, "_generator", None)
    return None if generator is None else generator.bit_generator.state


def open_episodes(runner: Any) -> int:
    """Number of unfinished episodes that the next sample would continue."""
    if runner.env is None or runner._needs_initial_reset:
        return 0
    ongoing = [episode for episode in runner._ongoing_episodes if episode is not None]
    in_log = int((runner._episode_log._lengths > 0).sum())
    return in_log + sum(episode.t > 0 for episode in ongoing)


def _pickled(runner: Any, max_bytes: int) -> tuple[bytes | None, str]:
    """The sampling attributes, or None and the reason."""
    if runner.env is None:
        return None, "this process has no environments"
    attributes = {key: vars(runner)[key] for key in SAMPLING_ATTRIBUTES if key in vars(runner)}
    buffer = io.BytesIO()
    try:
        _Pickler(buffer).dump(attributes)
    # A user's environment may raise anything when it is pickled.
    except Exception as error:
        return None, f"they do not pickle: {type(error).__name__}: {error}"
    # Most of a simulator's memory is zero: MuJoCo's shrinks to a hundredth.
    compressed = zlib.compress(buffer.getvalue(), level=1)
    if len(compressed) > max_bytes:
        return None, f"they take {len(compressed):,} bytes; the limit is {max_bytes:,}"
    return compressed, ""


def _set_sampling(runner: Any, state: RunnerState) -> str:
    assert state.sampling is not None  # for mypy
    try:
        attributes = pickle.loads(zlib.decompress(state.sampling))
    # A user's environment may raise anything, for example if its code has changed.
    except Exception as error:
        return f"they do not unpickle: {type(error).__name__}: {error}"
    attributes = renamed(ATTRIBUTES, attributes)
    for env_batch in attributes.get("_env_batches", ()):
        kept = renamed(ATTRIBUTES, vars(env_batch))
        vars(env_batch).clear()
        vars(env_batch).update(kept)
    runner._close_env()
    # Checkpoints of earlier versions lack the first.
    vars(runner).update({"_needs_seed": False, **attributes})
    # Without the stock runner's wrapper, because `_adapt` adds it again.
    bare = runner.env.env if isinstance(runner.env, DictInfoToList) else runner.env
    runner.env = runner._adapt(bare)
    runner.num_envs = runner.env.num_envs
    runner._episode_log._started_s += time.perf_counter() - state.clock_s
    return ""


class _Pickler(CloudPickler):
    """Pickles closures, which many environments use; refuses objects that pickle incompletely."""

    def reducer_override(self, obj: Any) -> Any:
        """Called for every object, before the object's own method of pickling."""
        if isinstance(obj, EzPickle) and type(obj).__getstate__ is EzPickle.__getstate__:
            raise pickle.PicklingError(
                f"{type(obj).__name__} pickles its arguments, not its state (gymnasium's EzPickle)"
            )
        if isinstance(obj, AsyncVectorEnv):
            raise pickle.PicklingError("they run in other processes (vectorize: async)")
        if isinstance(obj, StepBuffer):
            return _filled_rows, (obj._struct, _filled(obj), obj.size)
        return super().reducer_override(obj)


def _filled(rows: StepBuffer) -> list[np.ndarray]:
    """The used rows, without the allocated rest; at least one row, because buffers double."""
    return [leaf[: max(rows.size, 1)] for leaf in rows._leaves]


def _filled_rows(struct: Any, leaves: list[np.ndarray], size: int) -> StepBuffer:
    rows = StepBuffer.__new__(StepBuffer)
    rows._struct, rows._leaves, rows.size = struct, leaves, size
    return rows
