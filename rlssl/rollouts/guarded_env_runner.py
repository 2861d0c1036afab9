"""Fault handling of both EnvRunners: replace a failed environment, or end the run."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import tree
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.env.env_runner import ENV_STEP_FAILURE
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics import ENV_RESET_TIMER, ENV_STEP_TIMER
from ray.rllib.utils.typing import ResultDict

from rlssl.environments.observation_checks import misfit
from rlssl.environments.timeout import TimeoutWatch
from rlssl.environments.vector_conventions import (
    ConventionError,
    VectorConventions,
    resets_at_once,
)
from rlssl.environments.vector_infos import (
    JoinedInfos,
    ListedInfos,
    ReadInfos,
    join_infos,
)
from rlssl.errors import EnvironmentFaultError, SpecError, TrainingTimeoutError
from rlssl.rollouts.base_env_runner import BaseEnvRunner
from rlssl.rollouts.batch_checks import BatchCheck
from rlssl.rollouts.double_buffering import DoubleBufferedVectorEnv
from rlssl.rollouts.faults import ENVIRONMENT_ERRORS, Fault, FaultLedger
from rlssl.rollouts.isolated_vector_env import IsolatedVectorEnv, failed_slot, is_plain_loop
from rlssl.run_files import ENV_FAULTS_FOLDER

#: Seconds that one step or reset may take, unless the config says otherwise.
DEFAULT_TIMEOUT_S = 30.0

#: The time limit of building environments, in time limits of a step.
_BUILD_FACTOR = 10


class GuardedEnvRunner(BaseEnvRunner):
    """An EnvRunner whose environments may crash, time out, or return invalid values.

    With ``vectorize: sync`` only the failed environment is replaced, and the others continue. Any
    other vector environment is replaced as a whole. `FaultLedger` counts the faults, and ends the
    run after too many; see docs/faults.md.
    """

    #: How the infos of single environments are joined.
    _info_join: type[ReadInfos] | type[ListedInfos] = ReadInfos

    def __init__(self, *, config: AlgorithmConfig, **kwargs: Any) -> None:
        """As for `BaseEnvRunner`.

        Raises:
            EnvironmentFaultError: If the environments cannot be built within the time limit.
            SpecError: If the id is unknown, or another setting is wrong.
        """
        self._watch = TimeoutWatch()
        self._timeout_s = float(getattr(config, "env_step_timeout_s", DEFAULT_TIMEOUT_S))
        self._final_error: EnvironmentFaultError | None = None
        # Timer -> seconds of each call since the last log; and the number of steps since then.
        self._seconds: dict[str, list[float]] = {}
        self._num_env_calls = 0
        # Slots whose environment was replaced in the last step or reset.
        self._replaced: list[int] = []
        super().__init__(config=config, **kwargs)
        run_folder = getattr(config, "run_folder", None)
        self._ledger = FaultLedger(
            self._env_name,
            self.num_envs,
            self._timeout_s,
            folder=None if run_folder is None else Path(run_folder, ENV_FAULTS_FOLDER),
        )

    def make_env(self) -> None:
        """Builds the vector environment and closes the old one; the next sample resets it.

        Raises:
            EnvironmentFaultError: If it cannot be built within the time limit.
            SpecError: If the id is unknown, or another setting is wrong.
        """
        try:
            self._build()
        except (SpecError, TrainingTimeoutError):
            raise
        except ENVIRONMENT_ERRORS as error:
            message = Fault("make", error).message(self._env_name, self._build_limit_s)
            raise EnvironmentFaultError(f"{message}.") from error

    def sample(self, **kwargs: Any) -> list[SingleAgentEpisode]:
        """Samples; see RLlib's SingleAgentEnvRunner.

        Raises:
            EnvironmentFaultError: If environments failed too often; every later call raises it too.
        """
        if self._final_error is not None:
            raise self._final_error
        try:
            return super().sample(**kwargs)
        except EnvironmentFaultError as error:
            self._final_error = error
            raise
        finally:
            self._log_calls()

    def apply(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Calls ``func`` on this runner; RLlib calls remote runners in this way.

        RLlib restarts a runner after any exception. A restart cannot repair an environment that
        failed too often, so that error is raised in the caller instead.
        """
        final: list[EnvironmentFaultError] = []

        def call(runner: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return func(runner, *args, **kwargs)
            except EnvironmentFaultError as error:
                final.append(error)

        result = super().apply(call, *args, **kwargs)
        if final:
            raise final[0]
        return result

    def get_metrics(self) -> ResultDict:
        """RLlib's metrics, and the counts of faults."""
        self._ledger.log(self.metrics)
        return super().get_metrics()

    def stop(self) -> None:
        """Closes the environments."""
        self._watch.stop()
        super().stop()

    def _log_calls(self) -> None:
        """Logs the means and the Prometheus count once; RLlib logs them at every step."""
        for timer, seconds in self._seconds.items():
            self.metrics.log_value(timer, float(np.mean(seconds)))
        self._seconds.clear()
        if self._num_env_calls:
            metric = self._metrics_num_try_env_step
            self._log_env_steps(metric=metric, num_steps=self._num_env_calls)
            self._num_env_calls = 0

    @property
    def _env_name(self) -> str:
        return str(self.settings.env["id"])

    @property
    def _build_limit_s(self) -> float:
        return self._timeout_s * _BUILD_FACTOR

    def _build(self) -> None:
        self._watch.call(self._build_limit_s, super().make_env)

    def _adapt(self, vector_env: gym.vector.VectorEnv) -> gym.vector.VectorEnv:
        unwrapped = vector_env.unwrapped
        halves = unwrapped.halves if isinstance(unwrapped, DoubleBufferedVectorEnv) else ()
        self._batch_check = self._check_of(vector_env)
        self._half_batch_checks = [self._check_of(half) for half in halves]
        self._resets_at_once = resets_at_once(vector_env)
        self._zero_rewards = np.zeros(vector_env.num_envs)
        self._isolated: IsolatedVectorEnv | None = None
        if IsolatedVectorEnv.can_adopt(vector_env):
            self._isolated = IsolatedVectorEnv.adopt(vector_env, self._watch)
        return super()._adapt(vector_env)

    def _check_of(self, vector: gym.vector.VectorEnv) -> BatchCheck:
        """The checks of a vector environment's results, whose infos it makes harmless first."""
        # gymnasium's own loops keep the conventions.
        is_own = is_plain_loop(vector)
        join_infos(vector, self._info_join if is_own else JoinedInfos)
        infos_type = list if self._info_join is ListedInfos else dict
        return BatchCheck(
            vector.single_observation_space,
            vector.observation_space,
            None if is_own else VectorConventions(vector, infos_type=infos_type),
        )

    def _try_env_reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> Any:
        """Resets all environments and replaces those that fail.

        Args:
            seed: None: no first reset. RLlib's number itself is not used.
            options: The argument of the environment's ``reset``.
        """
        # Training continues its random streams. Evaluation by RLlib repeats its episodes.
        repeats = seed is not None and self.seeds.evaluation
        if self._needs_seed and self._built_generation != self.generation:
            error = self._attempt(self._build)
            self._rebuild_all([] if error is None else [Fault("make", error)])
        while True:
            given = self._reset_seed() if self._needs_seed or repeats else None
            self._needs_seed = False
            results = self._timed_call(
                "reset", ENV_RESET_TIMER, self.env.reset, seed=given, options=options
            )
            if results is not ENV_STEP_FAILURE and self._replace_failed(
                "reset", results[0], self._zero_rewards, self._batch_check
            ):
                return results

    def _try_env_step(self, actions: Any) -> Any:
        """Steps all environments, and lists in `_replaced` the slots that got a new environment.

        Returns:
            What the vector environment returned, with the first observation of each new
            environment; or ENV_STEP_FAILURE if all environments must be reset.
        """
        results = self._timed_call("step", ENV_STEP_TIMER, self.env.step, actions)
        return self._checked_results(results, self._batch_check)

    def _begin_env_step(self, half: int, actions: Any) -> bool:
        """Begins a step of one half of the environments; False if all must be reset."""
        step = self.env.unwrapped.begin_step
        return self._timed_call("step", ENV_STEP_TIMER, step, half, actions) is not ENV_STEP_FAILURE

    def _finish_env_step(self, half: int) -> Any:
        """Finishes the step of one half of the environments; returns as `_try_env_step` does."""
        vector_env = self.env.unwrapped
        results = self._timed_call("step", ENV_STEP_TIMER, vector_env.finish_step, half)
        first_slot = vector_env.slots[half].start
        return self._checked_results(results, self._half_batch_checks[half], first_slot)

    def _checked_results(self, results: Any, check: BatchCheck, first_slot: int = 0) -> Any:
        if results is ENV_STEP_FAILURE:
            return ENV_STEP_FAILURE
        self._num_env_calls += 1
        if check.conventions is not None:
            try:
                results = check.conventions.checked(results)
            except ConventionError as error:
                # A new environment would do the same.
                raise EnvironmentFaultError(f"environment {self._env_name!r}: {error}") from error
        observations, rewards, terminated, truncated, infos = results
        is_valid = self._replace_failed("step", observations, rewards, check, first_slot)
        if is_valid and self._resets_at_once:
            is_valid = self._finals_are_valid(infos, terminated | truncated, first_slot)
        if not is_valid:
            return ENV_STEP_FAILURE
        return results

    def _finals_are_valid(self, infos: Mapping[str, Any], over: Any, first_slot: int) -> bool:
        """Whether the final observations, which SAME_STEP autoreset puts in infos, are valid."""
        faults = []
        for slot in np.flatnonzero(over).tolist():
            final = tree.map_structure(
                lambda leaf: np.asarray(leaf)[None], infos["final_obs"][slot]
            )
            error = self._batch_check.errors(final, self._zero_rewards[:1]).get(0)
            if error is not None:
                faults.append(Fault("step", error, first_slot + slot))
        self._rebuild_all(faults)
        return not faults

    def _timed_call(
        self, method: str, timer: str, call: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Calls with a time limit; after an error it rebuilds all and returns ENV_STEP_FAILURE."""
        begin = time.perf_counter()
        try:
            return self._watch.call(self._ledger.limit_s, call, *args, **kwargs)
        except TrainingTimeoutError:
            raise
        except ENVIRONMENT_ERRORS as error:
            self._rebuild_all([Fault(method, error, failed_slot(self.env.unwrapped))])
            return ENV_STEP_FAILURE
        finally:
            self._seconds.setdefault(timer, []).append(time.perf_counter() - begin)

    def _replace_failed(
        self,
        method: str,
        observations: Any,
        rewards: Any,
        check: BatchCheck,
        first_slot: int = 0,
    ) -> bool:
        """Replaces the environments that failed; False if all had to be rebuilt."""
        self._replaced = []
        if self._isolated is None and not check.fits(observations):
            self._rebuild_all([Fault(method, misfit(observations, self.env.observation_space))])
            return False
        faults = [] if self._isolated is None else self._isolated.faults
        rewards = np.asarray(rewards, np.float64)
        if not faults and check.is_healthy(observations, rewards):
            return True
        known = {fault.slot for fault in faults}
        errors = check.errors(observations, rewards)
        faults = faults + [
            Fault(method, e, first_slot + slot) for slot, e in errors.items() if slot not in known
        ]
        if self._isolated is None and faults:
            self._rebuild_all(faults)
            return False
        for fault in faults:
            assert fault.slot is not None
            self._replace(fault.slot, fault, observations)
        rewards[self._replaced] = 0.0
        return True

    def _rebuild_all(self, faults: list[Fault]) -> None:
        """Rebuilds all environments, until this succeeds or there are too many faults."""
        while faults:
            for fault in faults:
                self._ledger.record(fault)
            self.generation += 1
            error = self._attempt(self._build)
            faults = [] if error is None else [Fault("make", error)]

    def _replace(self, slot: int, fault: Fault | None, observations: Any) -> None:
        """Rebuilds one environment and writes its first observation into the batch."""
        while fault is not None:
            self._ledger.record(fault)
            self.generation += 1
            fault = self._restart(slot, observations)
        self._replaced.append(slot)

    def _restart(self, slot: int, observations: Any) -> Fault | None:
        """Tries once to rebuild, reset and check one environment; returns what went wrong."""
        assert self._isolated is not None
        watch, limit_s = self._watch, self._ledger.limit_s
        # The error of closing is ignored: the environment is closed because it failed.
        self._attempt(watch.call, limit_s, self._isolated.envs[slot].close)
        seed = self.seeds.environment(slot, restart=self.generation)
        rebuild = self._isolated.rebuild_slot
        error = self._attempt(watch.call, self._build_limit_s, rebuild, slot, seed)
        if error is not None:
            return Fault("make", error, slot)
        error = self._attempt(watch.call, limit_s, self._isolated.reset_slot, slot, seed)
        if error is None:
            first = self._isolated.latest_observation(slot)
            error = self._batch_check.errors(first, self._zero_rewards[:1]).get(0)
        if error is not None:
            return Fault("reset", error, slot)
        for batch, leaf in zip(tree.flatten(observations), tree.flatten(first), strict=True):
            batch[slot] = leaf[0]
        return None

    def _attempt(self, call: Callable[..., Any], *args: Any) -> BaseException | None:
        """Calls a function and returns the environment's error, if any."""
        try:
            call(*args)
        except TrainingTimeoutError:
            raise
        except ENVIRONMENT_ERRORS as error:
            return error
        return None
