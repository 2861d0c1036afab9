"""A3C: workers send gradients, the driver applies each as it comes; A2C is the same in step."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import ray
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    LEARNER_RESULTS,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
)

from rlssl.algorithms.a3c.pool import POOL_COUNTERS, Reply, WorkerPool
from rlssl.algorithms.a3c.presets import PRESETS, VARIANTS
from rlssl.algorithms.a3c.settings import A3CSettings
from rlssl.algorithms.a3c.staleness import StalenessLog
from rlssl.algorithms.common.algorithm import BaseAlgorithm
from rlssl.algorithms.common.config import BaseConfig
from rlssl.errors import SpecError
from rlssl.ray_internals.env_runner import actor_manager
from rlssl.rollouts.faults import FAULTS_KEY
from rlssl.rollouts.stock_env_runner import StockEnvRunner
from rlssl.rollouts.vector_env_runner import VectorEnvRunner
from rlssl.schedules import Schedule, check_schedule

#: Lifetime counts beside the other `faults` of a result.
COUNTERS = (*POOL_COUNTERS, "stale_gradients")

#: Key of the state in RLlib's checkpoint.
_STATE = "rlssl_a3c"


class A3CConfig(BaseConfig, AlgorithmConfig):
    """Configures A3C and A2C; ``num_env_runners`` is the number of workers, 0: one in process.

    Source:
        Mnih et al. 2016, arXiv:1602.01783.
    """

    algorithm_name = "a3c"
    may_be_recurrent = True
    settings_class = A3CSettings
    module_class = "rlssl.algorithms.on_policy.module:ActorCriticModule"
    learner_class_name = "rlssl.algorithms.a3c.a3c_learner:A3CTorchLearner"
    presets = PRESETS
    variants = VARIANTS

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or A3C)
        self.num_env_runners = 0
        self.num_envs_per_env_runner = 4
        # Agent steps of an environment in a gradient.
        self.rollout_fragment_length = 20
        self.grad_clip_by = "global_norm"
        self.set_defaults()
        # RLlib would wait for every worker once an iteration.
        self._dont_auto_sync_env_runner_states = True

    @property
    def network_settings(self) -> dict[str, Any]:
        """The networks are PPO's, without a KL penalty."""
        return {"kl_coeff": 0.0}

    def entropy_coeff_of(self, worker_index: int) -> Schedule:
        """The entropy coefficient of a worker; 0 is the one in process."""
        if not self.entropy_coeff_per_worker:
            common: Schedule = self.entropy_coeff
            return common
        own = self.entropy_coeff_per_worker
        return own[max(0, worker_index - 1) % len(own)]

    def check_training(self) -> None:
        """Checks the training settings.

        Raises:
            SpecError: Naming the key and the value.
        """
        super().check_training()
        if self.synchronous and self.optimizer_state == "per_worker":
            raise SpecError(
                "training.optimizer_state=per_worker needs synchronous=false: the mean of all "
                "workers' gradients belongs to none of them."
            )
        if self.num_learners:
            raise SpecError(
                f"resources.learners must be 0 for a3c; got {self.num_learners}. Its workers "
                "compute the gradients: set resources.env_runners instead."
            )
        for schedule in self.entropy_coeff_per_worker or ():
            try:
                check_schedule(schedule, "training.entropy_coeff_per_worker")
            except ValueError as error:
                raise SpecError(str(error)) from error

    def validate(self) -> None:
        """As for every config; the EnvRunner becomes a worker.

        Raises:
            SpecError: Where settings contradict, or the environment cannot be used.
        """
        from rlssl.algorithms.a3c.worker import StockWorker, VectorWorker

        workers = {VectorEnvRunner: VectorWorker, StockEnvRunner: StockWorker}
        if vars(self)["env_runner_cls"] in workers.values():
            self.env_runners(env_runner_cls=None)
        super().validate()
        chosen = vars(self)["env_runner_cls"]
        if chosen in workers and not self.in_evaluation:
            self.env_runner_cls = workers[chosen]


class A3C(BaseAlgorithm, Algorithm):
    """Applies workers' gradients in the trial's process.

    An agent step counts when the reply that it came with is heard, whether its gradient is then
    applied or dropped; what a worker sampled before it died is counted nowhere.
    """

    @classmethod
    def get_default_config(cls) -> A3CConfig:
        """The defaults."""
        return A3CConfig()

    def setup(self, config: Any) -> None:
        """Builds the Algorithm; workers are asked for nothing yet."""
        #: Agent steps of all replies that were heard; the number of updates made.
        self.agent_steps = self.version = 0
        # Lifetime counts of the run before a resume.
        self._counts_before: dict[str, int] = {}
        self._reports: list[Any] = []
        super().setup(config)
        self.staleness = StalenessLog(self.config.max_staleness)
        (result,) = self.learner_group.foreach_learner(_itself)
        self._learner = result.get()
        self.pool: WorkerPool | None = None
        if not self.config.num_env_runners:
            self.env_runner.attach(self._learner)
            return
        manager = actor_manager(self.env_runner_group)
        self.pool = WorkerPool(
            manager.actors(),
            timeout_s=self.config.worker_timeout_s,
            silence_s=self.config.watchdog_s,
            on_admitted=functools.partial(manager.set_actor_state, healthy=True),
        )

    def training_step(self) -> None:
        """Hears workers until the iteration has its agent steps."""
        goal = self.agent_steps + self.config.agent_steps_per_iteration
        while self.agent_steps < goal:
            if self.pool is None:
                self._learn_here()
            elif self.config.synchronous:
                self._learn_together(self.pool, goal)
            else:
                self._learn_from_whoever_comes(self.pool, goal)
        self._collect_metrics()

    @property
    def work_done(self) -> int:
        """Agent steps."""
        return self.agent_steps

    def step(self) -> dict[str, Any]:
        """One iteration, with what became of the gradients."""
        results = super().step()
        results["updates"] = self.version
        results["staleness"] = self.staleness.drain()
        results["workers_alive"] = 1 if self.pool is None else len(self.pool.alive())
        results[FAULTS_KEY] = {**results[FAULTS_KEY], **self.counts()}
        return results

    def counts(self) -> dict[str, int]:
        """Lifetime counts: restarts, hangs and errors of workers; duplicate and stale gradients."""
        now = {"stale_gradients": self.staleness.num_dropped}
        if self.pool is not None:
            now |= self.pool.counts
        return {key: now.get(key, 0) + self._counts_before.get(key, 0) for key in COUNTERS}

    def restore_env_runners(self, env_runner_group: Any) -> list[int]:
        """Leaves workers alone, which RLlib would wait for; `WorkerPool` admits them again."""
        if env_runner_group is self.env_runner_group:
            return []
        restored: list[int] = super().restore_env_runners(env_runner_group)
        return restored

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """RLlib's state, and the counts of steps, updates and faults."""
        own = {"agent_steps": self.agent_steps, "version": self.version, "counts": self.counts()}
        return {**super().get_state(*args, **kwargs), _STATE: own}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores what ``get_state`` gave; gradients that are under way are not heard."""
        super().set_state(state)
        if self.pool is not None:
            self.pool.forget()
        if _STATE not in state:
            return
        own = state[_STATE]
        self.agent_steps, self.version = own["agent_steps"], own["version"]
        self._counts_before = {}
        now = self.counts()
        self._counts_before = {key: own["counts"].get(key, 0) - now[key] for key in COUNTERS}

    def _learn_here(self) -> None:
        """The worker in this process: its gradient is where it is needed."""
        self.env_runner._weights_seq_no = self.version
        steps = self.env_runner.compute(self.agent_steps)
        self.agent_steps += steps
        if self.staleness.admits(pulled=self.version, now=self.version):
            self._apply(0, steps)

    def _learn_from_whoever_comes(self, pool: WorkerPool, goal: int) -> None:
        """A3C: applies what has come, each sender being answered at once."""
        for index in pool.idle():
            self._ask(pool, index, goal)
        for index, reply in pool.wait():
            self._hear(reply)
            if self.staleness.admits(pulled=reply.version, now=self.version):
                self._learner.flat.take(reply.gradient)
                if not self._apply(index, reply.agent_steps):
                    pool.restart(index)
                    continue
            self._ask(pool, index, goal)

    def _learn_together(self, pool: WorkerPool, goal: int) -> None:
        """A2C: one step with the mean gradient of all workers that lived to send one."""
        while pool.awaited():
            pool.wait()
        asked = pool.idle()
        if asked:
            parameters = ray.put(self._parameters())
            for index in asked:
                self._ask(pool, index, goal, parameters)
        replies: list[Reply] = []
        while True:
            for index, reply in pool.wait():
                self._hear(reply)
                if not self.staleness.admits(pulled=reply.version, now=self.version):
                    continue
                if np.isfinite(reply.gradient).all():
                    replies.append(reply)
                    continue
                pool.restart(index)
                self._learner.note_nonfinite()
            if not pool.busy():
                break
        if replies:
            self._learner.flat.take_mean([reply.gradient for reply in replies])
            self._apply(-1, sum(reply.agent_steps for reply in replies))

    def _ask(self, pool: WorkerPool, index: int, goal: int, parameters: Any = None) -> None:
        # What is under way may end the iteration: its replies bring the metrics.
        expected = len(pool.alive()) if self.config.synchronous else 1 + len(pool.busy())
        # A fragment may be longer by a vector step at most.
        fragment = self.config.get_rollout_fragment_length(index) + 1
        under_way = fragment * self.config.num_envs_per_env_runner * expected
        pool.ask(
            index,
            self._parameters() if parameters is None else parameters,
            version=self.version,
            agent_steps=self.agent_steps,
            report=self.agent_steps + under_way >= goal,
            statistics=self._learner.statistics() if pool.is_newcomer(index) else None,
        )

    def _parameters(self) -> np.ndarray:
        parameters: np.ndarray = self._learner.flat.values.cpu().numpy()
        return parameters

    def _hear(self, reply: Reply) -> None:
        self.agent_steps += reply.agent_steps
        if reply.report is not None:
            self._reports.append(reply.report)
            self._learner.set_statistics(reply.report.statistics)

    def _apply(self, worker: int, steps: int) -> bool:
        if not self._learner.apply(worker=worker, agent_steps=self.agent_steps, num_steps=steps):
            return False
        self.version += 1
        return True

    def _collect_metrics(self) -> None:
        reports, self._reports = self._reports, []
        runners = [report.runner for report in reports]
        learners = [report.learner for report in reports]
        if self.pool is None:
            runners = [self.env_runner.get_metrics()]
        if runners:
            self.metrics.aggregate(runners, key=ENV_RUNNER_RESULTS)
        self.metrics.aggregate([self._learner.report(), *learners], key=LEARNER_RESULTS)

    def _compile_iteration_results(
        self, *, train_results: Mapping[str, Any], eval_results: Mapping[str, Any]
    ) -> dict[str, Any]:
        results: dict[str, Any] = super()._compile_iteration_results(
            train_results=train_results, eval_results=eval_results
        )
        # RLlib adds up what reports say; here every reply is counted.
        of_runners = results.setdefault(ENV_RUNNER_RESULTS, {})
        of_runners[NUM_ENV_STEPS_SAMPLED_LIFETIME] = self.agent_steps
        results[NUM_ENV_STEPS_SAMPLED_LIFETIME] = self.agent_steps
        return results


def _itself(learner: Any) -> Any:
    return learner
