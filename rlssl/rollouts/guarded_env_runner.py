"""What both EnvRunners do when an environment fails: go on with a new one, or end the run."""

import time
from collections.abc import Callable, Mapping
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
from rlssl.errors import EnvironmentFaultError, SpecError, TrainingTimeoutError
from rlssl.rollouts.base_env_runner import BaseEnvRunner
from rlssl.rollouts.batch_checks import BatchCheck
from rlssl.rollouts.double_buffering import DoubleBufferedVectorEnv
from rlssl.rollouts.faults import ENVIRONMENTS_OWN, Fault, FaultLedger
from rlssl.rollouts.isolated_vector_env import IsolatedVectorEnv, culprit

#: Seconds that one step or reset may take where a config does not say.
DEFAULT_TIMEOUT_S = 30.0

#: Building environments may take so many times as long as a step.
_BUILD_FACTOR = 10


class GuardedEnvRunner(BaseEnvRunner):
    """Environments that may crash, stand still, or give what nobody can learn from.

    Where environments are stepped in this process one by one (``vectorize: sync``), the one that
    failed is built anew, and the others go on. A vector environment of another kind is built anew
    as a whole. `rlssl.rollouts.faults` counts, and says when it is too much; see docs/faults.md.
    """

    def __init__(self, *, config: AlgorithmConfig, **kwargs: Any) -> None:
        """As for `BaseEnvRunner`.

        Raises:
            EnvironmentFaultError: If the environments cannot be built, or not in time.
            SpecError: If the id is unknown, or what else is the user's to correct.
        """
        self._watch = TimeoutWatch()
        self._timeout_s = float(getattr(config, "env_step_timeout_s", DEFAULT_TIMEOUT_S))
        self._gave_up: EnvironmentFaultError | None = None
        # Timer -> seconds of each call, and the number of steps, since they were logged.
        self._seconds: dict[str, list[float]] = {}
        self._num_env_calls = 0
        # Slots whose environment was replaced in the last step or reset.
        self._replaced: list[int] = []
        super().__init__(config=config, **kwargs)
        self._ledger = FaultLedger(self._env_name, self.num_envs, self._timeout_s)

    def make_env(self) -> None:
        """Builds the vector environment and closes the one before; the next sample resets it.

        Raises:
            EnvironmentFaultError: If it cannot be built, or not in time.
            SpecError: If the id is unknown, or what else is the user's to correct.
        """
        try:
            self._build()
        except (SpecError, TrainingTimeoutError):
            raise
        except ENVIRONMENTS_OWN as error:
            words = Fault("make", error).words(self._env_name, self._build_limit_s)
            raise EnvironmentFaultError(f"{words}.") from error

    def sample(self, **kwargs: Any) -> list[SingleAgentEpisode]:
        """Samples; see RLlib's SingleAgentEnvRunner.

        Raises:
            EnvironmentFaultError: If environments failed too often; also at every later call.
        """
        if self._gave_up is not None:
            raise self._gave_up
        try:
            return super().sample(**kwargs)
        except EnvironmentFaultError as error:
            self._gave_up = error
            raise
        finally:
            self._log_calls()

    def apply(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Calls ``func`` on this runner; how RLlib reaches a remote one.

        RLlib lets a runner die of any exception and starts it again. No start would mend an
        environment that was given up: its error goes to the caller.
        """
        given_up: list[EnvironmentFaultError] = []

        def call(runner: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return func(runner, *args, **kwargs)
            except EnvironmentFaultError as error:
                given_up.append(error)

        result = super().apply(call, *args, **kwargs)
        if given_up:
            raise given_up[0]
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
        """Logs once what RLlib logs at every step: the means, and Prometheus's count."""
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
        self._sanity = BatchCheck(vector_env.single_observation_space, vector_env.observation_space)
        halved = vector_env.unwrapped
        self._half_sanity = [
            BatchCheck(half.single_observation_space, half.observation_space)
            for half in (halved.halves if isinstance(halved, DoubleBufferedVectorEnv) else ())
        ]
        self._no_rewards = np.zeros(vector_env.num_envs)
        self._isolated: IsolatedVectorEnv | None = None
        if IsolatedVectorEnv.can_adopt(vector_env):
            self._isolated = IsolatedVectorEnv.adopt(vector_env, self._watch)
        return super()._adapt(vector_env)

    def _try_env_reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> Any:
        """Resets all environments; those that fail are replaced."""
        if seed is not None:
            seed = self.env_seed
        while True:
            results = self._guard(
                "reset", ENV_RESET_TIMER, self.env.reset, seed=seed, options=options
            )
            if results is not ENV_STEP_FAILURE and self._heal(
                "reset", results[0], self._no_rewards, self._sanity
            ):
                return results
            seed = self.env_seed

    def _try_env_step(self, actions: Any) -> Any:
        """Steps all environments.

        Returns:
            What the vector environment gave, and in `_replaced` the slots that stand at the
            beginning of a new episode instead; or ENV_STEP_FAILURE if all must be reset.
        """
        return self._looked_at(
            self._guard("step", ENV_STEP_TIMER, self.env.step, actions), self._sanity
        )

    def _begin_env_step(self, half: int, actions: Any) -> bool:
        """Begins to step one half of the environments; False if all must be reset."""
        step = self.env.unwrapped.begin_step
        return self._guard("step", ENV_STEP_TIMER, step, half, actions) is not ENV_STEP_FAILURE

    def _end_env_step(self, half: int) -> Any:
        """Waits for one half of the environments; returns as `_try_env_step` does."""
        halved = self.env.unwrapped
        results = self._guard("step", ENV_STEP_TIMER, halved.end_step, half)
        first_slot = halved.slots[half].start
        return self._looked_at(results, self._half_sanity[half], first_slot)

    def _looked_at(self, results: Any, sanity: BatchCheck, first_slot: int = 0) -> Any:
        if results is ENV_STEP_FAILURE:
            return ENV_STEP_FAILURE
        self._num_env_calls += 1
        observations, rewards, _, _, infos = results
        is_well = self._heal("step", observations, rewards, sanity, first_slot)
        return results if is_well and self._ended_well(infos, first_slot) else ENV_STEP_FAILURE

    def _ended_well(self, infos: Mapping[str, Any], first_slot: int) -> bool:
        """Whether the last observations that SAME_STEP autoreset gives apart are as they should."""
        if "final_obs" not in infos:
            return True
        faults = []
        for slot in np.flatnonzero(infos["_final_obs"]).tolist():
            final = tree.map_structure(
                lambda leaf: np.asarray(leaf)[None], infos["final_obs"][slot]
            )
            error = self._sanity.errors(final, self._no_rewards[:1]).get(0)
            if error is not None:
                faults.append(Fault("step", error, first_slot + slot))
        self._rebuild(faults)
        return not faults

    def _guard(
        self, method: str, timer: str, call: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Calls; if the call fails as a whole, builds all anew and returns ENV_STEP_FAILURE."""
        begin = time.perf_counter()
        try:
            return self._watch.call(self._ledger.limit_s, call, *args, **kwargs)
        except TrainingTimeoutError:
            raise
        except ENVIRONMENTS_OWN as error:
            self._rebuild([Fault(method, error, culprit(self.env.unwrapped))])
            return ENV_STEP_FAILURE
        finally:
            self._seconds.setdefault(timer, []).append(time.perf_counter() - begin)

    def _heal(
        self,
        method: str,
        observations: Any,
        rewards: Any,
        sanity: BatchCheck,
        first_slot: int = 0,
    ) -> bool:
        """Replaces the environments that failed; False if all had to be built anew."""
        self._replaced = []
        if self._isolated is None and not sanity.fits(observations):
            self._rebuild([Fault(method, misfit(observations, self.env.observation_space))])
            return False
        faults = [] if self._isolated is None else self._isolated.faults
        rewards = np.asarray(rewards, np.float64)
        if not faults and sanity.is_healthy(observations, rewards):
            return True
        known = {fault.slot for fault in faults}
        errors = sanity.errors(observations, rewards)
        faults = faults + [
            Fault(method, e, first_slot + slot) for slot, e in errors.items() if slot not in known
        ]
        if self._isolated is None and faults:
            self._rebuild(faults)
            return False
        for fault in faults:
            assert fault.slot is not None
            self._replace(fault.slot, fault, observations)
        rewards[self._replaced] = 0.0
        return True

    def _rebuild(self, faults: list[Fault]) -> None:
        """Builds all environments anew, again and again until it works or is too much."""
        while faults:
            for fault in faults:
                self._ledger.record(fault)
            self.generation += 1
            error = self._attempt(self._build)
            faults = [] if error is None else [Fault("make", error)]

    def _replace(self, slot: int, fault: Fault | None, observations: Any) -> None:
        """Builds one environment anew; its first observation goes into the batch."""
        while fault is not None:
            self._ledger.record(fault)
            self.generation += 1
            fault = self._restart(slot, observations)
        self._replaced.append(slot)

    def _restart(self, slot: int, observations: Any) -> Fault | None:
        """Tries once to build, reset and check one environment; returns what went wrong."""
        assert self._isolated is not None
        watch, limit_s = self._watch, self._ledger.limit_s
        # Whatever it says: it is closed because it failed.
        self._attempt(watch.call, limit_s, self._isolated.envs[slot].close)
        error = self._attempt(watch.call, self._build_limit_s, self._isolated.build, slot)
        if error is not None:
            return Fault("make", error, slot)
        error = self._attempt(watch.call, limit_s, self._isolated.reset_slot, slot, self.env_seed)
        if error is None:
            first = self._isolated.latest_observation(slot)
            error = self._sanity.errors(first, self._no_rewards[:1]).get(0)
        if error is not None:
            return Fault("reset", error, slot)
        for batch, leaf in zip(tree.flatten(observations), tree.flatten(first), strict=True):
            batch[slot] = leaf[0]
        return None

    def _attempt(self, call: Callable[..., Any], *args: Any) -> BaseException | None:
        """Calls; returns what an environment raised."""
        try:
            call(*args)
        except TrainingTimeoutError:
            raise
        except ENVIRONMENTS_OWN as error:
            return error
        return None
