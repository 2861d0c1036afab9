"""Tune's Trainable for a spec: builds the Algorithm, trains it, checkpoints by its clock."""

import dataclasses
import os
import tempfile
import time
from bisect import bisect_right
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from ray import tune
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES
from ray.tune.result import DONE, SHOULD_CHECKPOINT, TIME_THIS_ITER_S, TIME_TOTAL_S

from rlssl.algorithms.common.effective import effective_settings
from rlssl.analysis.objective import OBJECTIVE, ObjectiveMeter
from rlssl.clocks import WORDS, at_start_key, steps_of
from rlssl.environments.env_check import EnvSpaces
from rlssl.errors import NodeDrainedError
from rlssl.experiment.checkpoints import checkpoint
from rlssl.experiment.checkpoints.inherit import EXPLOITS
from rlssl.experiment.cluster.drained_nodes import drained_node
from rlssl.experiment.cluster.node_check import check_node
from rlssl.experiment.cluster.placement import trial_request
from rlssl.experiment.packed_results import for_tune, packed, sections_in_use
from rlssl.experiment.remote.trial_uploads import RUN_URI_KEY, TrialUploads
from rlssl.experiment.run_folders import last_result
from rlssl.experiment.rungs import rungs_of
from rlssl.experiment.spec.building import build_config
from rlssl.experiment.spec.search_checks import objective_of
from rlssl.experiment.start_weights.beginning import begin_with_weights
from rlssl.experiment.tuning.runner_restarts import RunnerRestarts
from rlssl.experiment.tuning.trial_config import (
    REGISTRATIONS_KEY,
    REPLAY_BYTES_KEY,
    SPEC_KEY,
    TRAINS_ON_KEY,
    WARM_START_KEY,
    check_exploits,
    checkpoint_period,
    has_reached,
    population_metrics,
    sweep_spec,
    trial_spec,
)
from rlssl.experiment.tuning.watchdog import (
    Heartbeat,
    Watchdog,
    is_starting,
    restart_frozen,
)
from rlssl.plugins import load_plugins
from rlssl.ray_internals.tuning import (
    TRAINABLE_COUNTERS,
    create_storage,
    end,
    forget_last_result,
    last_result_of,
    storage_of,
    time_total_of,
    with_metrics,
    without_checkpoint,
)
from rlssl.registry import restore_registrations
from rlssl.rollouts.double_buffering import is_double_buffered
from rlssl.rollouts.faults import LATEST_FAULT
from rlssl.run_files import EFFECTIVE
from rlssl.system.files import free_space
from rlssl.system.process_state import ProcessState, free_memory, keep_all
from rlssl.system.stores.places import parse_place

#: Tune's name for `SpecTrainable`. Saved experiments hold this name, so it must not change.
TRAINABLE_NAME = "TrialRunner"

#: Key of a result of a member of a population; see `population_metrics`.
POPULATION = "population"

#: Key of a result: why the last checkpoint could not be written; missing if it could.
CHECKPOINT_ERROR = "checkpoint_error"

#: Seconds until a checkpoint that could not be written is tried again.
CHECKPOINT_RETRY_S = 10.0

#: Attributes of a trial that the next one in the same process does not always set.
_SET_BY_TRIALS = (
    "algorithm",
    "checkpoint_error",
    "final_result",
    "meter",
    "next_checkpoint_s",
    "runner_restarts",
    "uploads",
    "_counters",
    "_to_report",
)


def register() -> str:
    """Registers `SpecTrainable` with Tune, after Ray has started; returns its name there."""
    tune.register_trainable(TRAINABLE_NAME, SpecTrainable)
    return TRAINABLE_NAME


class SpecTrainable(tune.Trainable):
    """Wraps an rlssl Algorithm: train, sweep, retry and resume share this code path.

    The config of a trial holds the sweep's spec as plain data, a seed, and a value for each
    searched path.
    """

    #: Why the last checkpoint could not be written; "" if it could. And when to try again.
    checkpoint_error = ""
    next_checkpoint_s = 0.0
    #: Env steps at which the run ended, if it was told to train further.
    ended_before: int | None = None
    #: Sends checkpoints to the object store; None without one.
    uploads: TrialUploads | None = None
    #: Follows the objective; None if the spec has none.
    meter: ObjectiveMeter | None = None
    #: None between two trials of this process.
    algorithm: Any = None
    heartbeat: Heartbeat
    watchdog: Watchdog
    #: The last result of a trial that was restored at its end; None if it has to train further.
    final_result: dict[str, Any] | None = None
    #: What the first result carries besides.
    _to_report: Mapping[str, Any] = MappingProxyType({})
    #: Why the last iteration failed, until the results before it are reported.
    _error: Exception | None = None
    #: The state of this process before its first trial was built.
    _process_state: ProcessState | None = None
    #: Tune's counters in the checkpoint that this trial continues from.
    _counters: Mapping[str, float] = MappingProxyType({})

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """The resources of the trial, its EnvRunners and Learners."""
        sweep = sweep_spec(config)
        return trial_request(sweep, trial_spec(config), config.get(REPLAY_BYTES_KEY, 0))

    def setup(self, config: dict[str, Any]) -> None:
        """Builds the Algorithm, and restores the trial's newest valid checkpoint if it has one."""
        self._begin(config)

    def reset(self, new_config: dict[str, Any], storage: Any = None) -> bool:
        """Tune's request to begin another trial in this process; see `reset_config`."""
        is_done: bool = super().reset(new_config, storage)
        # Tune has set the counters to 0; `reset_config` may have restored a checkpoint.
        self._set_counters()
        return is_done

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begins another trial in this process, which has imported what the trial needs.

        Nothing of the trial before is left: its Algorithm and its processes end, and the state of
        this process is what it was before the first trial was built. An error leaves the process to
        Tune, which begins the trial in a new one; see `failed_resets_repeated`.
        """
        # The next signs of life are those of the new trial.
        self.heartbeat.stop()
        with self.watchdog.ending():
            self._end()
        self._begin(new_config)
        return True

    def _end(self) -> None:
        """Ends the trial before; its process goes on."""
        end(self.algorithm)
        if self.uploads is not None:
            self.uploads.close()
        for name in _SET_BY_TRIALS:
            self.__dict__.pop(name, None)
        forget_last_result(self)
        free_memory()
        assert self._process_state is not None
        self._process_state.restore()

    def _begin(self, config: dict[str, Any]) -> None:
        # Ray sets OMP_NUM_THREADS to the number of CPUs of this process.
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        check_node()
        load_plugins(config[SPEC_KEY].get("plugins", []))
        restore_registrations(config.get(REGISTRATIONS_KEY, {}))
        self.spec = trial_spec(config)
        self.population = population_metrics(config)
        sweep = sweep_spec(config)
        self._rungs, self._sections = rungs_of(sweep), sections_in_use(sweep)
        # The first result is due at once; an error is raised after the results before it.
        self._next_report_s, self._error = 0.0, None
        algorithm_config = build_config(self.spec)
        if self._process_state is None:
            # What the plug-ins set when they were imported stays.
            self._process_state = ProcessState()
            keep_all()
        else:
            self._process_state.restore()
        limit_s = algorithm_config.watchdog_s
        self.heartbeat = Heartbeat(self.trial_id, limit_s, lambda: drained_node(self.algorithm))
        self.watchdog = Watchdog(
            limit_s,
            lambda: self.algorithm.work_done,
            rescue=lambda: restart_frozen(self.algorithm, meanwhile=self.heartbeat.beat),
            is_starting=lambda: is_starting(self.algorithm),
            beat=self.heartbeat.beat,
            clock=self.spec.clock,
        )
        with self.watchdog.setting_up():
            self._build(config, algorithm_config)

    def _build(self, config: dict[str, Any], algorithm_config: Any) -> None:
        folder = self._trial_folder()
        if folder is not None:
            # A Learner saves a batch with a non-finite gradient there.
            algorithm_config.run_folder = str(folder)
            if RUN_URI_KEY in config:
                self._follow_store(config[RUN_URI_KEY], folder)
            checkpoint.remove_unfinished(folder)
            checkpoint.publish_through(storage_of(self), self.spec.checkpoint.keep)
        # Not `build_algo()`: without a storage, it creates a folder in the user's home.
        self.algorithm = algorithm_config.algo_class(
            config=algorithm_config, storage=storage_of(self)
        )
        self.runner_restarts = RunnerRestarts(self.algorithm)
        # On the run's clock: updates, if it makes no steps.
        self.env_steps = 0
        self.last_checkpoint_env_steps = 0
        self.last_checkpoint_s = time.monotonic()
        found = None if folder is None else checkpoint.newest_or_none_yet(folder)
        check_exploits(found, config)
        if found is not None:
            self._restore(found)
        else:
            uri, earlier = config.get(RUN_URI_KEY), config.get(WARM_START_KEY)
            begin_with_weights(self.algorithm, self.spec, folder, uri, earlier=earlier)
        self.env_steps_at_start = self.env_steps
        if self.spec.objective is not None:
            state = None if found is None else found.progress.get(OBJECTIVE)
            self.meter = ObjectiveMeter(objective_of(self.spec), state)
        # The first result carries the settings as used; the driver writes them into files.
        self._to_report = {EFFECTIVE: effective_settings(self.algorithm.config, self._spaces())}
        self.ended_before = config.get(TRAINS_ON_KEY)
        self.final_result = None if found is None else self._final_result(found.path.parent)

    def step(self) -> dict[str, Any]:
        """Trains until a result is due; not at all if the trial is at its end.

        A result has the metrics of its last iteration, and the episodes of all its iterations.
        """
        if self.final_result is not None:
            return {**self._with_objective(self.final_result), **self._to_report}
        if self._error is not None:
            raise self._error
        self._leave_drained_node()
        result = self._train_until_report()
        self._next_report_s = time.monotonic() + self.spec.report_every_s
        result.pop("config", None)
        self.runner_restarts.add_to(result)
        result[at_start_key(self.spec.clock)] = self.env_steps_at_start
        result[SHOULD_CHECKPOINT] = self._checkpoint_is_due()
        result.update(self._to_report)
        if self.population:
            result[POPULATION] = self.population
        self._to_report = {}
        if words := self.checkpoint_error or (self.uploads.error if self.uploads else ""):
            result[CHECKPOINT_ERROR] = words
        return result

    def _leave_drained_node(self) -> None:
        node, is_saved = self.heartbeat.drained_node, not self.checkpoint_error
        if node and is_saved and self.env_steps == self.last_checkpoint_env_steps:
            raise NodeDrainedError(f"node {node[:8]} is drained")

    def _train_until_report(self) -> dict[str, Any]:
        """Iterations of the Algorithm until a result is due, as one result."""
        merged: dict[str, Any] = {}
        is_due = False
        while not is_due:
            before = self.env_steps
            try:
                with self.watchdog.watching():
                    result = self.algorithm.train()
                self.env_steps = steps_of(result)
                self.watchdog.report(self.env_steps)
            except Exception as error:
                if not merged:
                    raise
                # First the results before the error; the next call raises it.
                self._error = error
                break
            merged = _merged(merged, result)
            if self.meter is not None:
                merged[OBJECTIVE] = self.meter.add(merged)
            merged[TIME_TOTAL_S] = time_total_of(self) + merged[TIME_THIS_ITER_S]
            is_due = self._report_is_due(before, merged)
        return merged

    def _report_is_due(self, before: int, result: Mapping[str, Any]) -> bool:
        """Whether Tune gets this result.

        Args:
            before: Env steps before the iteration.
            result: The result of the iterations since the last report.
        """
        every = self.spec.evaluation_period
        return (
            time.monotonic() >= self._next_report_s
            or has_reached(self.spec.stop, result)
            or self._checkpoint_is_due()
            or self.heartbeat.is_asked_for_result
            or bool(every and self.env_steps // every > before // every)
            or bisect_right(self._rungs, before) < bisect_right(self._rungs, self.env_steps)
            or "video" in result
            or bool(result.get(DONE))
        )

    def train(self) -> dict[str, Any]:
        """A result; bytes stand for what Tune does not need, see `packed_results.whole`."""
        return packed(super().train(), self._sections)

    def get_auto_filled_metrics(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Tune's additions to a result, without the config, which params.json has."""
        filled: dict[str, Any] = super().get_auto_filled_metrics(*args, **kwargs)
        filled.pop("config", None)
        return filled

    def save(self, checkpoint_dir: str | None = None) -> Any:
        """Saves a checkpoint; one that cannot be written is tried again after some seconds.

        Raises:
            OSError: If this is the trial's last checkpoint. A retry of the trial makes it again.
        """
        if self._error is not None:
            # The failed iteration may have left a state that no iteration ends with.
            raise self._error
        if checkpoint_dir is not None or storage_of(self) is None:
            return super().save(checkpoint_dir)
        # Tune itself leaves the folder behind after an error.
        with tempfile.TemporaryDirectory() as folder:
            try:
                with self.watchdog.watching():
                    saved = super().save(folder)
            except OSError as error:
                if has_reached(self.spec.stop, last_result_of(self)):
                    raise
                self._note_failed_checkpoint(error)
                return without_checkpoint(for_tune(last_result_of(self), self._sections))
        self.watchdog.note_progress()
        self.checkpoint_error = ""
        if self.uploads is not None:
            is_last = has_reached(self.spec.stop, last_result_of(self))
            is_last = is_last or bool(self.heartbeat.drained_node)
            self.uploads.send(Path(saved.checkpoint.path), is_last=is_last)
            self.watchdog.note_progress()
        return with_metrics(saved, for_tune(saved.metrics, self._sections))

    def _follow_store(self, run_uri: str, folder: Path) -> None:
        """Fetches what other nodes have written of this trial, and sends its checkpoints."""
        create_storage(storage_of(self))
        folder.mkdir(parents=True, exist_ok=True)
        place = parse_place(run_uri)
        assert place is not None
        self.uploads = TrialUploads(place.child(folder.name), folder, self.spec.checkpoint.keep)
        self.uploads.fetch()

    def _note_failed_checkpoint(self, error: OSError) -> None:
        folder = self._trial_folder()
        assert folder is not None
        words = os.strerror(error.errno) if error.errno else str(error)[:200]
        stand = f"{self.env_steps:,} {WORDS[self.spec.clock]}"
        self.checkpoint_error = (
            f"no checkpoint at {stand}: cannot write to {folder}: {words}, "
            f"{free_space(folder)} free. The trial trains on, and tries again."
        )
        self.next_checkpoint_s = time.monotonic() + CHECKPOINT_RETRY_S

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Saves everything that the trial needs to continue, and the policy separately."""
        progress = {
            "counters": {key: getattr(self, key) for key in TRAINABLE_COUNTERS},
            "runner_restarts": self.runner_restarts.counts(),
            **({OBJECTIVE: self.meter.state} if self.meter is not None else {}),
            **({EXPLOITS: self.population[EXPLOITS]} if self.population else {}),
        }
        checkpoint.save(self.algorithm, Path(checkpoint_dir), self.env_steps, progress)
        self.last_checkpoint_env_steps = self.env_steps
        self.last_checkpoint_s = time.monotonic()

    def restore(self, checkpoint_path: Any) -> None:
        """Ignores Tune's checkpoint of this trial: `setup` has restored the newest valid one.

        Tune's checkpoint may be damaged or deleted, or older than the newest one.
        """
        folder = self._trial_folder()
        saved = getattr(checkpoint_path, "checkpoint", checkpoint_path)
        if folder is None or Path(getattr(saved, "path", saved)).parent != folder:
            super().restore(checkpoint_path)

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Restores a checkpoint of another trial.

        Raises:
            SpecError: If it is not valid.
        """
        self._restore(checkpoint.check(Path(checkpoint_dir)))
        self.env_steps_at_start = self.env_steps
        self.final_result = None

    def cleanup(self) -> None:
        """Stops the Algorithm's processes."""
        self.watchdog.stop()
        if self.algorithm is not None:
            self.algorithm.stop()
        if self.uploads is not None:
            self.uploads.close()

    def _checkpoint_is_due(self) -> bool:
        if self.checkpoint_error:
            return time.monotonic() >= self.next_checkpoint_s
        every, every_s = checkpoint_period(self.spec), self.spec.checkpoint.every_s
        passed_s = time.monotonic() - self.last_checkpoint_s
        is_due = self.env_steps // every > self.last_checkpoint_env_steps // every
        return is_due or bool(self.heartbeat.drained_node) or 0 < every_s <= passed_s

    def _final_result(self, folder: Path) -> dict[str, Any] | None:
        """The result of a trial that was restored at its end; None if it has to train further.

        Tune may not know that the trial has ended: its process, or Tune's, died after the last
        checkpoint.
        """
        logged = last_result(folder) or {}
        if logged.get(self.spec.clock) != self.env_steps:
            logged = self.algorithm.standing()
        # A trial that ended at the earlier end of the run trains further.
        trains_on = self.ended_before is not None and self.env_steps >= self.ended_before
        has_ended = bool(logged.get(DONE)) and not trains_on
        if not has_reached(self.spec.stop, logged) and not has_ended:
            return None
        # A result may not repeat its time, because Tune would count it again.
        at_start = {at_start_key(self.spec.clock): self.env_steps}
        return {**logged, **at_start, TIME_THIS_ITER_S: 0.0, DONE: True}

    def _with_objective(self, result: Mapping[str, Any]) -> dict[str, Any]:
        return {**({OBJECTIVE: self.meter.value} if self.meter is not None else {}), **result}

    def _restore(self, found: checkpoint.CheckpointInfo) -> None:
        abandoned = checkpoint.restore(self.algorithm, found)
        self.runner_restarts.go_on_from(
            found.progress.get("runner_restarts", {}), newly_abandoned=abandoned
        )
        self._counters = found.progress.get("counters", {})
        self._set_counters()
        self.env_steps = self.last_checkpoint_env_steps = found.env_steps

    def _set_counters(self) -> None:
        for key, value in self._counters.items():
            setattr(self, key, value)

    def _spaces(self) -> EnvSpaces:
        group = self.algorithm.env_runner_group
        # The answer of one EnvRunner; without remote ones, of the one in this process.
        is_buffered = group.foreach_env_runner(
            is_double_buffered,
            remote_worker_ids=[1],
            local_env_runner=not group.num_remote_workers(),
        )
        spaces = EnvSpaces(*self.algorithm.spaces[INPUT_ENV_SINGLE_SPACES])
        return dataclasses.replace(spaces, steps_async=next(iter(is_buffered), None))

    def _trial_folder(self) -> Path | None:
        """The folder of the checkpoints; None without a storage, as in a user's own script."""
        storage = storage_of(self)
        return None if storage is None else Path(storage.trial_fs_path)


def _merged(earlier: Mapping[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """The result of an iteration, and what earlier iterations leave to it."""
    if not earlier:
        return result
    result["episodes"] = [*earlier["episodes"], *result["episodes"]]
    result[TIME_THIS_ITER_S] += earlier[TIME_THIS_ITER_S]
    if LATEST_FAULT in earlier:
        result.setdefault(LATEST_FAULT, earlier[LATEST_FAULT])
    return result
