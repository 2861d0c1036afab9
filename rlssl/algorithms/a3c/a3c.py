"""A3C: the driver applies each worker's gradient on arrival; A2C: it applies their mean."""

import functools
from typing import Any

import numpy as np
import ray
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, LEARNER_RESULTS

from rlssl.algorithms.a3c.pool import POOL_COUNTERS, Reply, WorkerPool
from rlssl.algorithms.a3c.presets import PRESETS, VARIANTS
from rlssl.algorithms.a3c.settings import A3CSettings
from rlssl.algorithms.a3c.staleness import StalenessLog
from rlssl.algorithms.common.algorithm import BaseAlgorithm
from rlssl.algorithms.common.config import BaseConfig
from rlssl.algorithms.common.episodes_of_runners import EpisodesOfRunners
from rlssl.auxiliary.bonus_options import check_bonuses
from rlssl.auxiliary.building import loss_configs
from rlssl.errors import SpecError
from rlssl.ray_internals.env_runner import actor_manager
from rlssl.rollouts.episode_metrics import FinishedEpisode
from rlssl.rollouts.faults import FAULTS_KEY
from rlssl.rollouts.stock_env_runner import StockEnvRunner
from rlssl.rollouts.vector_env_runner import VectorEnvRunner
from rlssl.schedules import Schedule, check_schedule

#: Lifetime counts that are added to the `faults` of a result.
COUNTERS = (*POOL_COUNTERS, "stale_gradients")

#: Key of the state in RLlib's checkpoint.
_STATE = "rlssl_a3c"


class A3CConfig(BaseConfig, AlgorithmConfig):
    """Configures A3C and A2C; ``num_env_runners`` is the number of workers.

    With 0 workers, one worker runs in the trial's process.

    Example:
        >>> import rlssl
        >>> config = rlssl.A3CConfig().environment("CartPole-v1").env_runners(num_env_runners=3)
        >>> config = config.training(entropy_coeff_per_worker=[0.01, 0.1])
        >>> [config.entropy_coeff_of(worker) for worker in (1, 2, 3)]
        [0.01, 0.1, 0.01]

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
        # Agent steps of each environment in a gradient.
        self.rollout_fragment_length = 20
        self.grad_clip_by = "global_norm"
        self.set_defaults()
        # RLlib would wait for every worker once an iteration.
        self._dont_auto_sync_env_runner_states = True

    @property
    def network_settings(self) -> dict[str, Any]:
        """The networks are those of PPO, without a KL penalty."""
        return {"kl_coeff": 0.0}

    def entropy_coeff_of(self, worker_index: int) -> Schedule:
        """The entropy coefficient of a worker; index 0 is the worker in the trial's process."""
        if not self.entropy_coeff_per_worker:
            common: Schedule = self.entropy_coeff
            return common
        per_worker = self.entropy_coeff_per_worker
        return per_worker[max(0, worker_index - 1) % len(per_worker)]

    #: See `check_losses`.
    windows_end_with_fragments = True

    @property
    def rows_of_step(self) -> int:
        """Rows of one gradient: a fragment of one worker."""
        return int(self.get_rollout_fragment_length()) * int(self.num_envs_per_env_runner)

    def check_training(self) -> None:
        """Checks the training settings.

        Raises:
            SpecError: Naming the key and the value.
        """
        super().check_training()
        check_bonuses(loss_configs(self), self.algorithm_name, has_replay=False)
        if self.synchronous and self.optimizer_state == "per_worker":
            raise SpecError(
                "training.optimizer_state=per_worker needs synchronous=false: the mean of all "
                "workers' gradients belongs to no single worker."
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
        """Validates as every config, and sets the EnvRunner class to that of a worker.

        Raises:
            SpecError: If settings contradict, or if the environment cannot be used.
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

    Agent steps are counted when their reply arrives, even if its gradient is then dropped. Steps
    that a worker sampled before it died are not counted.
    """

    @classmethod
    def get_default_config(cls) -> A3CConfig:
        """The defaults."""
        return A3CConfig()

    def setup(self, config: Any) -> None:
        """Builds the Algorithm; sends no request to workers yet."""
        #: Agent steps of all replies, and the number of updates.
        self.agent_steps = self.version = 0
        # Lifetime counts from before the last restore.
        self._counts_before: dict[str, int] = {}
        self._reports: list[Any] = []
        self._episodes_of_runners = EpisodesOfRunners()
        super().setup(config)
        self.staleness = StalenessLog(self.config.max_staleness)
        (result,) = self.learner_group.foreach_learner(_itself)
        #: The Learner that applies gradients; in this process.
        self.learner = result.get()
        self.pool: WorkerPool | None = None
        if not self.config.num_env_runners:
            self.env_runner.attach(self.learner)
            return
        manager = actor_manager(self.env_runner_group)
        self.pool = WorkerPool(
            manager.actors(),
            timeout_s=self.config.worker_timeout_s,
            silence_s=self.config.watchdog_s,
            on_available=functools.partial(manager.set_actor_state, healthy=True),
        )

    def training_step(self) -> None:
        """Applies gradients until the iteration has its agent steps."""
        goal = self.agent_steps + min(self.config.agent_steps_per_iteration, self.steps_to_end)
        while self.agent_steps < goal:
            if self.pool is None:
                self._learn_in_process()
            elif self.config.synchronous:
                self._learn_synchronously(self.pool, goal)
            else:
                self._learn_asynchronously(self.pool, goal)
        self._collect_metrics()

    @property
    def clock(self) -> int:
        """Agent steps of all workers since the start of the run."""
        return self.agent_steps

    def send_clock(self) -> None:
        """Sends nothing: every request to a worker has the clock."""

    @property
    def work_done(self) -> int:
        """Agent steps."""
        return self.agent_steps

    def step(self) -> dict[str, Any]:
        """One iteration; adds updates, staleness, live workers and faults to the result."""
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
        """Skips the workers: RLlib would wait for them, and `WorkerPool` readmits them itself."""
        if env_runner_group is self.env_runner_group:
            return []
        restored: list[int] = super().restore_env_runners(env_runner_group)
        return restored

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """RLlib's state, and the counts of steps, updates and faults."""
        counts = {"agent_steps": self.agent_steps, "version": self.version, "counts": self.counts()}
        return {**super().get_state(*args, **kwargs), _STATE: counts}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores what ``get_state`` gave; ignores gradients that workers are computing now."""
        super().set_state(state)
        if self.pool is not None:
            self.pool.forget()
        if _STATE not in state:
            return
        saved = state[_STATE]
        self.agent_steps, self.version = saved["agent_steps"], saved["version"]
        self._counts_before = {}
        now = self.counts()
        self._counts_before = {key: saved["counts"].get(key, 0) - now[key] for key in COUNTERS}

    def _learn_in_process(self) -> None:
        """One update with the worker in this process, which shares the Learner's buffers."""
        self.env_runner._weights_seq_no = self.version
        steps = self.env_runner.compute(self.agent_steps)
        self.agent_steps += steps
        if self.staleness.admits(pulled=self.version, now=self.version):
            self._apply(0, steps)
        self.learner.normalize_by([self.learner.new_moments])

    def _learn_asynchronously(self, pool: WorkerPool, goal: float) -> None:
        """A3C: applies each gradient that has arrived, and sends its worker the new weights."""
        for index in pool.idle():
            self._ask(pool, index, goal)
        for index, reply in pool.wait():
            self._count_reply(reply)
            if self.staleness.admits(pulled=reply.version, now=self.version):
                self.learner.flat.take(reply.gradient)
                if not self._apply(index, reply.agent_steps):
                    pool.restart(index)
                    continue
            self._ask(pool, index, goal)

    def _learn_synchronously(self, pool: WorkerPool, goal: float) -> None:
        """A2C: one step with the mean gradient of all workers that send one."""
        while pool.starting():
            pool.wait()
        idle = pool.idle()
        if idle:
            parameters = ray.put(self._parameters())
            for index in idle:
                self._ask(pool, index, goal, parameters)
        replies: list[Reply] = []
        while True:
            for index, reply in pool.wait():
                self._count_reply(reply)
                if not self.staleness.admits(pulled=reply.version, now=self.version):
                    continue
                if np.isfinite(reply.gradient).all():
                    replies.append(reply)
                    continue
                pool.restart(index)
                self.learner.note_nonfinite()
            if not pool.busy():
                break
        if replies:
            self.learner.flat.take_mean([reply.gradient for reply in replies])
            self._apply(-1, sum(reply.agent_steps for reply in replies))

    def _ask(self, pool: WorkerPool, index: int, goal: float, parameters: Any = None) -> None:
        # Replies that may end the iteration must bring metrics.
        expected = len(pool.alive()) if self.config.synchronous else 1 + len(pool.busy())
        # A fragment may be longer by at most one vector step.
        fragment = self.config.get_rollout_fragment_length(index) + 1
        pending_steps = fragment * self.config.num_envs_per_env_runner * expected
        normalizer = self.learner.normalizer
        pool.ask(
            index,
            self._parameters() if parameters is None else parameters,
            version=self.version,
            agent_steps=self.agent_steps,
            report=self.agent_steps + pending_steps >= goal,
            statistics=self.learner.statistics() if pool.is_newcomer(index) else None,
            normalization=None if normalizer is None else normalizer.statistics(),
        )

    def _parameters(self) -> np.ndarray:
        parameters: np.ndarray = self.learner.flat.values.cpu().numpy()
        return parameters

    def _count_reply(self, reply: Reply) -> None:
        """Counts a reply's agent steps and observations, and keeps its report."""
        self.agent_steps += reply.agent_steps
        self.learner.normalize_by([reply.moments])
        self._episodes_of_runners.receive(reply.incarnation, reply.episodes)
        if reply.report is not None:
            self._episodes_of_runners.forget(reply.incarnation)
            self._reports.append(reply.report)
            self.learner.set_statistics(reply.report.statistics)

    def _apply(self, worker: int, steps: int) -> bool:
        if not self.learner.apply(worker=worker, agent_steps=self.agent_steps, num_steps=steps):
            return False
        self.version += 1
        return True

    def episodes_of_lost_runners(self) -> list[FinishedEpisode]:
        """Episodes of workers that died after their last metrics; removes them."""
        gone = set() if self.pool is None else self.pool.gone
        return self._episodes_of_runners.pop_lost(gone.__contains__)

    def _collect_metrics(self) -> None:
        reports, self._reports = self._reports, []
        runners = [report.runner for report in reports]
        learners = [report.learner for report in reports]
        if self.pool is None:
            runners = [self.env_runner.get_metrics()]
        if runners:
            self.metrics.aggregate(runners, key=ENV_RUNNER_RESULTS)
        self.metrics.aggregate([self.learner.report(), *learners], key=LEARNER_RESULTS)


def _itself(learner: Any) -> Any:
    return learner
