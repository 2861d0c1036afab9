"""A worker: an EnvRunner that computes the gradient of the fragments that it samples."""

import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from torch import nn

from rlssl.algorithms.a3c.a3c_learner import A3CTorchLearner
from rlssl.algorithms.a3c.pool import Reply
from rlssl.rollouts.guarded_env_runner import GuardedEnvRunner
from rlssl.rollouts.stock_env_runner import StockEnvRunner
from rlssl.rollouts.vector_env_runner import VectorEnvRunner
from rlssl.system.seeding import integer, stream


class Report(NamedTuple):
    """What a worker sends besides gradients, about once an iteration."""

    #: RLlib's metrics of the EnvRunner and of the Learner.
    runner: Any
    learner: Any
    #: Name -> array: the module's running statistics.
    statistics: Mapping[str, np.ndarray]


class BaseWorker(GuardedEnvRunner):
    """Adds a Learner to an EnvRunner; both use the same parameters.

    A remote worker builds its Learner. The worker in the trial's process (``env_runners: 0``) uses
    the driver's Learner, so that nothing is copied.
    """

    learner: A3CTorchLearner

    def __init__(self, *, config: AlgorithmConfig, **kwargs: Any) -> None:
        """Builds the EnvRunner, and the Learner of a remote worker."""
        super().__init__(config=config, **kwargs)
        #: Id of this process; it changes when the worker is restarted.
        self.incarnation = uuid.uuid4().hex
        self._sequence = 0
        if self.worker_index:
            self.attach(self._build_learner())

    def attach(self, learner: A3CTorchLearner) -> None:
        """Makes ``learner`` this worker's; from now on both have the same parameters."""
        self.learner = learner
        self.learner.worker_index = self.worker_index or 0
        self._shares_memory = self.module is not None and share_memory(
            self.module, learner.rl_module
        )

    def hello(self) -> str:
        """The incarnation; answering shows that the worker is available."""
        return self.incarnation

    def gradient(
        self,
        parameters: np.ndarray,
        *,
        version: int,
        agent_steps: int,
        report: bool = False,
        statistics: Mapping[str, np.ndarray] | None = None,
        normalization: Mapping[str, Any] | None = None,
    ) -> Reply:
        """Samples a fragment with new parameters and computes its gradient.

        Args:
            parameters: [P], float32; see `FlatModule`.
            version: Number of updates that the parameters have had.
            agent_steps: Agent steps of all workers, for schedules.
            report: Whether to send metrics and statistics.
            statistics: The module's running statistics, for a new worker.
            normalization: Statistics of observations, if the module normalizes observations.
        """
        self.learner.flat.pull(parameters)
        if statistics is not None:
            self.learner.set_statistics(statistics)
        if normalization is not None and self.learner.normalizer is not None:
            self.learner.normalizer.set_statistics(normalization)
        self._weights_seq_no = version
        steps = self.compute(agent_steps)
        # Advances random draws; target networks arrive with the next pull.
        self.learner.advance_parts()
        self._sequence += 1
        finished = self.newly_finished()
        return Reply(
            incarnation=self.incarnation,
            sequence=self._sequence,
            version=version,
            gradient=self.learner.flat.gradient.cpu().numpy(),
            agent_steps=steps,
            report=self._report() if report else None,
            episodes=() if report else finished,
            moments=self.learner.new_moments,
        )

    def compute(self, agent_steps: int) -> int:
        """Samples a fragment and leaves its gradient in the Learner's buffer.

        Args:
            agent_steps: Agent steps of all workers before this fragment.

        Returns:
            Agent steps of the fragment.
        """
        if not self._shares_memory:
            copy_weights(self.learner.rl_module, self.module)
        self.num_env_steps_sampled_lifetime = agent_steps
        episodes = self.sample()
        steps = sum(len(episode) for episode in episodes)
        self.learner.compute(episodes, agent_steps=agent_steps + steps)
        return steps

    def _report(self) -> Report:
        return Report(self.get_metrics(), self.learner.report(), self.learner.statistics())

    def _build_learner(self) -> A3CTorchLearner:
        config = self.config.copy(copy_frozen=False)
        config.learners(num_learners=0, num_gpus_per_learner=0)
        sampler, restart = self.seeds.sampler, self.generation
        if config.seed is not None and (sampler or restart):
            # With equal seeds, all workers would draw the same augmentations. The first worker
            # draws those of the driver's Learner, as a run with 0 workers does.
            source = stream(config.seed, "learner", sampler=sampler, restart=restart)
            config.debugging(seed=integer(source) % 2**31)
        learner: A3CTorchLearner = config.build_learner(spaces=self.get_spaces())
        learner.build()
        return learner


class VectorWorker(BaseWorker, VectorEnvRunner):
    """Samples with rlssl's loop over arrays."""


class StockWorker(BaseWorker, StockEnvRunner):
    """Samples with RLlib's own loop."""


def share_memory(module: nn.Module, source: nn.Module) -> bool:
    """Makes a module share the parameters and buffers of ``source``; False across devices."""
    theirs = {**dict(source.named_parameters()), **dict(source.named_buffers())}
    ours = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    if any(theirs[name].device != tensor.device for name, tensor in ours.items()):
        return False
    for name, tensor in ours.items():
        tensor.data = theirs[name].data
    return True


@torch.no_grad()
def copy_weights(source: nn.Module, module: nn.Module) -> None:
    """Copies parameters and buffers by name."""
    theirs = {**dict(source.named_parameters()), **dict(source.named_buffers())}
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        tensor.copy_(theirs[name])
