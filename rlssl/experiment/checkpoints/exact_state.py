"""The state that a run needs to continue bit for bit, beyond RLlib's own checkpoint.

It holds the environments in mid-episode of every EnvRunner; the random generators of every
EnvRunner, every Learner and the trial's own process; and what Learner connectors and losses
remember about open episodes.
"""

import functools
import logging
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from ray.rllib.algorithms.algorithm import Algorithm

from rlssl.rollouts.runner_state import RunnerState, capture, restore
from rlssl.system.random_state import generators, set_generators

logger = logging.getLogger(__name__)

#: The most bytes that the environments of all EnvRunners together may take in a checkpoint.
MAX_ENVIRONMENT_BYTES = 256 * 2**20

#: Attributes of connectors and losses that track open episodes. RLlib's state lacks them.
_FOLLOWS_EPISODES = ("_open_returns", "_ended_returns", "_open_visits", "_open_progress")


@dataclass(frozen=True)
class RunState:
    """The result of `take`."""

    # Random generators of the trial's own process.
    generators: dict[str, Any]
    # Worker index (0: in the trial's process) -> state of the EnvRunner.
    runners: dict[int, RunnerState] = field(default_factory=dict)
    # One state per Learner, by rank.
    learners: list[dict[str, Any]] = field(default_factory=list)

    @property
    def open_episodes(self) -> int:
        """Number of unfinished episodes of all EnvRunners."""
        return sum(state.open_episodes for state in self.runners.values())

    def save(self, path: Path) -> None:
        """Writes the state as a pickle, like RLlib's own checkpoint files."""
        path.write_bytes(pickle.dumps(self))

    @staticmethod
    def load(path: Path) -> "RunState":
        """Reads a file that ``save`` wrote."""
        state: RunState = pickle.loads(path.read_bytes())
        return state


def take(algorithm: Algorithm) -> RunState:
    """The state of ``algorithm`` between two training iterations."""
    num_runners = max(1, algorithm.config.num_env_runners)
    one = functools.partial(_of_runner, max_bytes=MAX_ENVIRONMENT_BYTES // num_runners)
    taken = _foreach_runner(algorithm, one)
    results = algorithm.learner_group.foreach_learner(_of_learner)
    return RunState(
        generators=generators(),
        runners=dict(taken),
        learners=[result.get() for result in results],
    )


def give(algorithm: Algorithm, state: RunState) -> int:
    """Restores ``state`` into a newly built ``algorithm`` whose RLlib state is restored already.

    Args:
        algorithm: Built from the same config.
        state: The result of `take`.

    Returns:
        Number of open episodes that could not be continued; the log gives the reason.
    """
    # RLlib sends the restored weights to remote runners without waiting: a runner could sample
    # with old weights.
    algorithm.env_runner_group.sync_weights(
        from_worker_or_learner_group=algorithm.learner_group,
        inference_only=True,
        timeout_seconds=None,
    )
    results = algorithm.learner_group.foreach_learner(_to_learners, states=state.learners)
    for result in results:
        result.get()
    to_one = functools.partial(_to_runner, states=state.runners)
    reasons = dict(_foreach_runner(algorithm, to_one))
    set_generators(state.generators)
    abandoned = {
        index: runner.open_episodes
        for index, runner in state.runners.items()
        if reasons.get(index, "its EnvRunner is gone")
    }
    if total := sum(abandoned.values()):
        words = next(filter(None, (reasons.get(index) for index in abandoned)), "a runner is gone")
        logger.warning(
            "%d open episodes are dropped, and their environments are reset: %s.", total, words
        )
    return total


def _foreach_runner(algorithm: Algorithm, function: Any) -> Iterator[tuple[int, Any]]:
    group = algorithm.env_runner_group
    in_process = algorithm.config.num_env_runners == 0
    results = group.foreach_env_runner(function, local_env_runner=in_process)
    return ((index, value) for index, value in results)


def _of_runner(runner: Any, max_bytes: int) -> tuple[int, RunnerState]:
    return runner.worker_index or 0, capture(runner, max_bytes)


def _to_runner(runner: Any, states: dict[int, RunnerState]) -> tuple[int, str]:
    index = runner.worker_index or 0
    return index, restore(runner, states[index]) if index in states else "it is new"


def _of_learner(learner: Any) -> dict[str, Any]:
    return {
        "generators": generators(),
        "parts": {key: _kept(part) for key, part in _parts(learner)},
    }


def _to_learners(learner: Any, states: list[dict[str, Any]]) -> None:
    state = states[min(learner.peers.rank, len(states) - 1)]
    for key, part in _parts(learner):
        _set_kept(part, state["parts"].get(key, {}))
    set_generators(state["generators"])


def _parts(learner: Any) -> Iterator[tuple[str, Any]]:
    """The connector pieces and modules of a Learner, each with a unique name."""
    for position, piece in enumerate(learner._learner_connector.connectors):
        yield f"connector {position} {type(piece).__name__}", piece
    # Iterating over RLlib's container of modules yields nothing; its keys do.
    for module_id in tuple(learner.module.keys()):
        for name, module in learner.module[module_id].unwrapped().named_modules():
            yield f"{module_id} {name}", module


def _kept(part: Any) -> dict[str, Any]:
    """State that changes in training and is missing from RLlib's state."""
    kept = {key: vars(part)[key] for key in _FOLLOWS_EPISODES if key in vars(part)}
    for key, value in vars(part).items():
        if isinstance(value, torch.Generator):
            kept[key] = value.get_state()
    return kept


def _set_kept(part: Any, kept: dict[str, Any]) -> None:
    for key, value in kept.items():
        own = vars(part).get(key)
        if isinstance(own, torch.Generator):
            own.set_state(value)
        else:
            setattr(part, key, value)
