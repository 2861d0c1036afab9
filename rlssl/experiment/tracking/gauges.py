"""Gauges of a run for Prometheus, which Ray exports from the nodes of a cluster."""

import math
import time
from collections.abc import Mapping
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.util.metrics import Gauge

from rlssl.clocks import clock_of, has_steps, steps_of
from rlssl.ray_internals.cluster import started_by_this_process
from rlssl.rollouts.faults import FAULTS_KEY

#: Seconds between two counts of trials and faults; Prometheus asks every 10 to 60 s.
PERIOD_S = 5.0

#: Gauge -> its description and its tags. Ray puts ``ray_`` before the names.
GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "rlssl_env_steps": ("Env steps of a trial.", ("run", "trial")),
    "rlssl_env_steps_per_s": ("Env steps of a trial per second.", ("run", "trial")),
    "rlssl_updates": ("Updates of a trial that makes no env steps.", ("run", "trial")),
    "rlssl_updates_per_s": ("Updates of such a trial per second.", ("run", "trial")),
    "rlssl_episode_return_mean": ("Mean return of a trial's last episodes.", ("run", "trial")),
    "rlssl_faults": ("Faults of all trials since their start, by kind.", ("run", "fault")),
    "rlssl_trials": ("Number of trials, by state.", ("run", "state")),
}

_STATES = (Trial.PENDING, Trial.RUNNING, Trial.PAUSED, Trial.TERMINATED, Trial.ERROR)


class Gauges(Callback):
    """Sets the gauges of a run on a cluster; a local Ray has nobody who reads them."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._gauges: dict[str, Gauge] = {}
        # Trial -> its env steps and the time at its last result.
        self._last: dict[str, tuple[int, float]] = {}
        self._faults: dict[str, Mapping[str, float]] = {}
        self._next_count = 0.0

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves callbacks with the experiment; gauges and times belong to this process."""
        return {"_run": self._run, "_gauges": {}, "_last": {}, "_faults": {}, "_next_count": 0.0}

    def setup(self, **_: Any) -> None:
        """Tune's hook."""
        if not started_by_this_process():
            self._gauges = {name: Gauge(name, *about) for name, about in GAUGES.items()}

    def _set(self, name: str, value: float, **tags: str) -> None:
        if name in self._gauges and math.isfinite(value):
            self._gauges[name].set(value, {"run": self._run, **tags})

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        """Tune's hook."""
        if not has_steps(result):
            return
        name, steps, now = trial.trial_id, steps_of(result), time.monotonic()
        gauge = f"rlssl_{clock_of(result)}"
        steps_before, then = self._last.get(name, (steps, now))
        self._last[name] = (steps, now)
        self._set(gauge, steps, trial=name)
        if now > then:
            self._set(f"{gauge}_per_s", max(0, steps - steps_before) / (now - then), trial=name)
        self._set(
            "rlssl_episode_return_mean", result.get("episode_return_mean", math.nan), trial=name
        )
        self._faults[name] = result.get(FAULTS_KEY, {})

    def on_trial_complete(self, *_: Any, trial: Trial, **__: Any) -> None:
        """Tune's hook."""
        self._stand_still(trial)

    def on_trial_error(self, *_: Any, trial: Trial, **__: Any) -> None:
        """Tune's hook."""
        self._stand_still(trial)

    def _stand_still(self, trial: Trial) -> None:
        clock = clock_of(trial.last_result or {})
        self._set(f"rlssl_{clock}_per_s", 0, trial=trial.trial_id)

    def on_step_end(self, iteration: int, trials: list[Trial], **_: Any) -> None:
        """Tune's hook; called at least a few times a second."""
        if time.monotonic() >= self._next_count:
            self._next_count = time.monotonic() + PERIOD_S
            self.on_experiment_end(trials)

    def on_experiment_end(self, trials: list[Trial], **_: Any) -> None:
        """Tune's hook."""
        for state in _STATES:
            count = sum(trial.status == state for trial in trials)
            self._set("rlssl_trials", count, state=state.lower())
        for fault in {fault for counts in self._faults.values() for fault in counts}:
            total = sum(counts.get(fault, 0) for counts in self._faults.values())
            self._set("rlssl_faults", total, fault=fault)
