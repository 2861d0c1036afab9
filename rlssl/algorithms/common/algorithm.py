"""The base of every Algorithm: adds env steps, scores and seeded evaluation to RLlib's results."""

import contextlib
import functools
import math
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    LEARNER_RESULTS,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
)

from rlssl.clocks import ENV_STEPS, UPDATES
from rlssl.connectors.intrinsic_reward import INTRINSIC_RETURNS
from rlssl.diagnostics.recording import StepRecorder
from rlssl.diagnostics.report import diagnose
from rlssl.evaluation import evaluate_policy, summarize
from rlssl.policy import Policy
from rlssl.rollouts.base_env_runner import BaseEnvRunner
from rlssl.rollouts.episode_metrics import EPISODES_KEY, FinishedEpisode
from rlssl.rollouts.faults import (
    FAULTS_KEY,
    LATEST_FAULT,
    LATEST_FAULT_KEY,
    check_crash_rate,
    count_faults,
    raise_faults_of_remote_runners,
)
from rlssl.rollouts.fragment_requests import FragmentRequests
from rlssl.system.random_state import undisturbed_generators
from rlssl.system.seeding import RESTORED_RUN
from rlssl.video.training import record_in_training

#: How many finished episodes `episode_return_mean` and `success_rate` look back.
EPISODE_WINDOW = 20

#: Component of the checkpoint.
_STATE = "rlssl_results"


class BaseAlgorithm(Algorithm):
    """Puts env_steps, agent_steps, scores, aux metrics, faults and evaluation on top of results.

    ``episodes`` lists the episodes that ended in this iteration, each
    ``[env_steps, return, length, success]``: the unclipped extrinsic return (of all lives, where a
    game has several), the length in agent steps, and success as 0, 1 or nan.
    """

    def setup(self, config: Any) -> None:
        """Builds the Algorithm with empty records."""
        # Updates, if the run makes no steps: what its clock counts, up to the last result.
        self._env_steps = 0
        self._recent_returns: deque[float] = deque(maxlen=EPISODE_WINDOW)
        self._recent_successes: deque[float] = deque(maxlen=EPISODE_WINDOW)
        self._recent_intrinsic: deque[float] = deque(maxlen=EPISODE_WINDOW)
        self._last_evaluation: dict[str, Any] = {}
        self._last_diagnostics: dict[str, Any] = {}
        self._latest_fault = ""
        # How often this run was restored from a checkpoint.
        self._num_restores = 0
        raise_faults_of_remote_runners()
        super().setup(config)
        self.fragment_requests = FragmentRequests(self.env_runner_group)

    @property
    def work_done(self) -> int:
        """Grows during an iteration, in any unit; always 0: progress cannot be observed."""
        return 0

    @property
    def clock(self) -> int:
        """Agent steps learned from since the start of the run; env steps and schedules follow it.

        Metrics and samples of an EnvRunner arrive in one message here, so the metrics count exactly
        what is learned from. Algorithms whose metrics arrive later count the samples themselves: an
        EnvRunner may die in between.
        """
        key = (ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME)
        return int(self.metrics.peek(key, default=0))

    @property
    def steps_to_end(self) -> float:
        """Agent steps until the run ends; inf if its end is unknown, or behind."""
        total = self.config.total_env_steps
        if total is None:
            return math.inf
        left = math.ceil(total / (self.config.action_repeat or 1)) - self.clock
        return left if left > 0 else math.inf

    def send_clock(self) -> None:
        """Sends the clock to the EnvRunners, whose exploration follows it; waits for none."""
        self.env_runner_group.foreach_env_runner(
            functools.partial(_set_clock, agent_steps=self.clock), timeout_seconds=0.0
        )

    def step(self) -> dict[str, Any]:
        """One training iteration, with rlssl's keys added to RLlib's result."""
        results = super().step()
        before = self._env_steps
        self._env_steps = self.clock * (self.config.action_repeat or 1)
        results.update(self._counts())
        results["episodes"] = self._pop_episodes(results, before)
        module_results = results.get(LEARNER_RESULTS, {}).get(DEFAULT_MODULE_ID, {})
        self._recent_intrinsic.extend(np.atleast_1d(module_results.pop(INTRINSIC_RETURNS, [])))
        results["aux"] = module_results.get("aux", {})
        results[FAULTS_KEY] = count_faults(results)
        self._judge_crashes(results)
        results.update(self._scores())
        every = self.config.evaluation_period
        if every and self._env_steps // every > before // every:
            self.measure()
        if self._last_evaluation:
            results["evaluation"] = {**results.get("evaluation", {}), **self._last_evaluation}
        if self._last_diagnostics:
            results["diagnostics"] = self._last_diagnostics
        every = self.config.video_period
        if every and self._env_steps // every > before // every:
            results["video"] = self.record_video()
        return results

    def _compile_iteration_results(
        self, *, train_results: Mapping[str, Any], eval_results: Mapping[str, Any]
    ) -> dict[str, Any]:
        """RLlib's results, whose counts of steps are those of `clock`."""
        results: dict[str, Any] = super()._compile_iteration_results(
            train_results=train_results, eval_results=eval_results
        )
        runner_results = results.setdefault(ENV_RUNNER_RESULTS, {})
        agent_steps = self._counts().get("agent_steps", 0)
        runner_results[NUM_ENV_STEPS_SAMPLED_LIFETIME] = agent_steps
        results[NUM_ENV_STEPS_SAMPLED_LIFETIME] = agent_steps
        return results

    def _counts(self) -> dict[str, int]:
        """How far the run is: env steps and agent steps, or updates if it makes no steps."""
        if self.config.clock == UPDATES:
            return {UPDATES: self.clock}
        agent_steps = self.clock
        return {
            ENV_STEPS: agent_steps * (self.config.action_repeat or 1),
            "agent_steps": agent_steps,
        }

    def measure(self) -> None:
        """Makes an evaluation, whose scores all later results have."""
        self._last_evaluation = {**self.evaluate_seeded(), **self._made_at()}

    def _made_at(self) -> dict[str, int]:
        """When an evaluation was made."""
        return {self.config.clock: self._env_steps}

    def evaluate(self, parallel_train_future: Any = None) -> dict[str, Any]:
        """RLlib's evaluation, which does not disturb the random numbers of training."""
        parallel = parallel_train_future is not None
        # In parallel, another thread trains in this process, and only remote runners evaluate.
        with contextlib.nullcontext() if parallel else undisturbed_generators():
            results: dict[str, Any] = super().evaluate(parallel_train_future)
        return results

    def restore_env_runners(self, env_runner_group: Any) -> list[int]:
        """RLlib's; restarted runners learn how often the run was restored, for their seeds."""
        restored: list[int] = super().restore_env_runners(env_runner_group)
        if restored and self._num_restores:
            self._renew_seeds(env_runner_group, remote_worker_ids=restored, local_env_runner=False)
        return restored

    def _renew_seeds(self, env_runner_group: Any, **which: Any) -> None:
        """Lets runners give new environments seeds that the run has not used before."""
        renew = functools.partial(_renew_seeds, num_restores=self._num_restores)
        env_runner_group.foreach_env_runner(renew, **which)

    def standing(self) -> dict[str, Any]:
        """What a result says about the run so far: steps, scores, and the last evaluation."""
        steps = self._counts()
        last = {"evaluation": self._last_evaluation, "diagnostics": self._last_diagnostics}
        last = {key: value for key, value in last.items() if value}
        return {**steps, "episodes": [], "aux": {}, **self._scores(), **last}

    @undisturbed_generators()
    def evaluate_seeded(self) -> dict[str, float]:
        """Scores of the configured number of episodes, played in separate environments.

        It also computes the configured diagnostics, on steps of the same episodes.
        """
        policy = Policy.from_algorithm(self)
        wanted = self.config.latent_diagnostics
        recorder = StepRecorder(self.config.seeded_evaluation["episodes"]) if wanted else None
        records = evaluate_policy(
            policy,
            policy.settings["env"],
            seeds=range(self.config.seeded_evaluation["episodes"]),
            explore=self.config.seeded_evaluation["explore"],
            recorder=recorder,
        )
        if recorder is not None:
            values = diagnose(self, recorder.rows(), wanted)
            self._last_diagnostics = {**self._made_at(), **values}
        return summarize(records)

    @undisturbed_generators()
    def record_video(self) -> dict[str, Any]:
        """Records the configured number of evaluation episodes; see `record_in_training`."""
        settings = self.config.seeded_evaluation
        folder = Path(getattr(self.config, "run_folder", None) or self.logdir)
        return record_in_training(
            Policy.from_algorithm(self),
            folder,
            self._env_steps,
            settings["video"],
            explore=settings["explore"],
        )

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """RLlib's state, the records behind the scores, and the fragments not yet learned from."""
        state = super().get_state(*args, **kwargs)
        state[_STATE] = {
            "fragments": self.fragment_requests.save(),
            "env_steps": self._env_steps,
            "returns": list(self._recent_returns),
            "successes": list(self._recent_successes),
            "intrinsic": list(self._recent_intrinsic),
            "evaluation": self._last_evaluation,
            "diagnostics": self._last_diagnostics,
            "restores": self._num_restores,
        }
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores what ``get_state`` gave."""
        super().set_state(state)
        if _STATE in state:
            records = state[_STATE]
            self.fragment_requests.restore(records.get("fragments", []))
            self._env_steps = records["env_steps"]
            self._recent_returns = deque(records["returns"], maxlen=EPISODE_WINDOW)
            self._recent_successes = deque(records["successes"], maxlen=EPISODE_WINDOW)
            self._recent_intrinsic = deque(records["intrinsic"], maxlen=EPISODE_WINDOW)
            self._last_evaluation = records["evaluation"]
            self._last_diagnostics = records.get("diagnostics", {})
            self._num_restores = records.get("restores", 0) + 1
            if self.env_runner_group is not None:
                self._renew_seeds(self.env_runner_group)
        self.send_clock()

    def restore_from_path(
        self, path: str | Path, *, component: str | None = None, **kwargs: Any
    ) -> None:
        """Restores RLlib's checkpoint; the EnvRunners continue at the saved clock."""
        super().restore_from_path(path, component=component, **kwargs)
        # RLlib sends the count from before its metrics are restored.
        self.send_clock()

    def _pop_episodes(self, results: dict[str, Any], env_steps_before: int) -> list[list[float]]:
        """The episodes of this iteration, ordered by when they ended."""
        records = results.get(ENV_RUNNER_RESULTS, {}).pop(EPISODES_KEY, None)
        # RLlib gives a scalar where a series has one element.
        keys = ("offset", "return", "length", "success") if records else ()
        columns = [np.atleast_1d(records[key]) for key in keys]
        lost = [
            (each.offset, each.episode_return, each.length, each.success)
            for each in self.episodes_of_lost_runners()
        ]
        # A runner counts only its own steps; the others made about the same number meanwhile.
        scale = (self.config.action_repeat or 1) * max(1, self.config.num_env_runners)
        episodes = []
        # Only by when they ended: sorting ties by score would bias the recent returns.
        rows = sorted([*zip(*columns, strict=True), *lost], key=lambda row: row[0])
        for offset, score, length, success in rows:
            env_steps = min(self._env_steps, env_steps_before + int(offset * scale))
            episodes.append([env_steps, float(score), int(length), float(success)])
            self._recent_returns.append(float(score))
            self._recent_successes.append(float(success))
        return episodes

    def episodes_of_lost_runners(self) -> list[FinishedEpisode]:
        """Episodes whose steps count, and whose EnvRunner died before its metrics; removes them.

        None here: metrics and samples of an EnvRunner arrive in one message.
        """
        return []

    def _judge_crashes(self, results: dict[str, Any]) -> None:
        """Adds what the latest fault was; ends the run if environments crash too often."""
        lines = results.get(ENV_RUNNER_RESULTS, {}).pop(LATEST_FAULT_KEY, None)
        # RLlib gives nan if there is none.
        texts = [str(line) for line in np.atleast_1d(lines) if isinstance(line, str)]
        if texts:
            self._latest_fault = results[LATEST_FAULT] = texts[-1]
        check_crash_rate(
            results[FAULTS_KEY]["env_crashes"],
            self._env_steps,
            self.config.max_env_crashes_per_1000_env_steps,
            self._latest_fault,
        )

    def _scores(self) -> dict[str, float]:
        return {
            "episode_return_mean": _mean(self._recent_returns),
            "success_rate": _mean(self._recent_successes),
            "intrinsic_return_mean": _mean(self._recent_intrinsic),
        }


def _set_clock(runner: Any, agent_steps: int) -> None:
    runner.num_env_steps_sampled_lifetime = agent_steps


def _renew_seeds(runner: Any, num_restores: int) -> None:
    if isinstance(runner, BaseEnvRunner):
        runner.generation = RESTORED_RUN * num_restores + runner.generation % RESTORED_RUN


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
