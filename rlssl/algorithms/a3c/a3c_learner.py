"""A3C's Learner: computes gradients of the actor-critic loss, and applies gradients of workers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.learner import ENTROPY_KEY, POLICY_LOSS_KEY
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.evaluation.postprocessing import Postprocessing
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from ray.rllib.utils.typing import ResultDict
from torch import Tensor
from torch.optim import Optimizer

from rlssl.algorithms.a3c.flat import FlatModule
from rlssl.algorithms.a3c.optimizers import make_optimizer
from rlssl.algorithms.common.auxiliary_learner import AUXILIARY_OPTIMIZER
from rlssl.algorithms.common.devices.gradient_guard import HostGuard
from rlssl.algorithms.on_policy.learner import OnPolicyLearner
from rlssl.errors import NonFiniteUpdateError
from rlssl.networks.layers.vector_normalizer import NORMALIZER, Moments
from rlssl.schedules import value_at
from rlssl.system.denormals import denormals_are_zero

#: In an optimizer's name, between the group and the worker whose statistics the optimizer keeps.
_WORKER_SUFFIX = "/worker_"


class A3CTorchLearner(OnPolicyLearner):
    """Workers use it to compute gradients (`compute`), and the driver to apply them (`apply`).

    Source:
        Mnih et al. 2016, arXiv:1602.01783, algorithm S3. Differs: see PAPERS.md.
    """

    #: The worker that computes gradients with it; chooses one of several entropy coefficients.
    worker_index = 0
    flat: FlatModule
    #: Moments of the observations of the last gradient, if the module normalizes observations.
    new_moments: Moments | None = None

    def build(self) -> None:
        """Builds as the bases do."""
        if self._is_built:
            return
        # Gradients applied since the last report, and their agent steps.
        self._num_applied = self._steps_applied = 0
        # Rows of the last gradient that this Learner computed.
        self.last_minibatch: Mapping[str, Any] = {}
        super().build()

    def use_device(self, device: torch.device) -> None:
        """As the base; but gradients come from the host, so the host checks them at once."""
        super().use_device(device)
        self.guard = HostGuard()

    def configure_optimizers_for_module(
        self, module_id: str, config: AlgorithmConfig | None = None
    ) -> None:
        """Moves parameters into one buffer; registers an optimizer per group (and per worker)."""
        if hasattr(self, "flat"):
            # RLlib calls this again to restore a checkpoint of a run with more workers.
            return
        config = config or self.config
        module = self.rl_module
        groups = {name: group for name, group in self.parameter_groups().items() if group}
        frozen = [parameter for parameter in module.parameters() if not parameter.requires_grad]
        self.flat = FlatModule(groups, frozen)
        self._optimizers: dict[int, list[Optimizer]] = {}
        for worker in self._owners(config):
            suffix = "" if worker < 0 else f"{_WORKER_SUFFIX}{worker}"
            self._optimizers[worker] = []
            for name, parameter in self.flat.groups.items():
                optimizer = make_optimizer(config, parameter)
                self._optimizers[worker].append(optimizer)
                self.register_optimizer(
                    module_id=module_id,
                    optimizer_name=name + suffix,
                    optimizer=optimizer,
                    params=[parameter],
                )

    @denormals_are_zero()
    def compute(self, episodes: Sequence[SingleAgentEpisode], *, agent_steps: int) -> None:
        """Leaves the gradient of a fragment in ``flat.gradient``, and sets ``new_moments``.

        Args:
            episodes: The fragment's chunks.
            agent_steps: Agent steps of all workers, including this fragment.
        """
        self.set_clock(agent_steps)
        batch = self._make_batch_if_necessary(TrainingData(episodes=list(episodes)))
        self.rl_module.train()
        rows = self.whole_batch(dict(batch.policy_batches[DEFAULT_MODULE_ID]))
        self._backward(rows)
        self.new_moments = self.moments_of(rows)

    @denormals_are_zero()
    def apply(self, *, worker: int, agent_steps: int, num_steps: int) -> bool:
        """Clips the gradient in ``flat.gradient`` and takes a step, if the gradient is finite.

        Args:
            worker: The worker that computed the gradient.
            agent_steps: Agent steps of all workers, including those of this gradient.
            num_steps: Agent steps of this gradient.

        Returns:
            Whether the step was taken.

        Raises:
            NonFiniteUpdateError: After ``max_nonfinite_updates`` nonfinite gradients in a row.
        """
        self.set_clock(agent_steps)
        if not self._step(worker):
            return False
        self._weights_seq_no += 1
        self._num_applied += 1
        self._steps_applied += num_steps
        return True

    def set_clock(self, agent_steps: int) -> None:
        """Sets learning rates and coefficients to the current step of the run."""
        self.before_gradient_based_update(timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: agent_steps})

    def note_nonfinite(self) -> None:
        """Counts a gradient that is skipped because it is not finite.

        Raises:
            NonFiniteUpdateError: After ``max_nonfinite_updates`` in a row.
        """
        if self.last_minibatch:
            self._count_skipped_update(self.last_minibatch)
            return
        self.num_nonfinite_updates += 1
        self.metrics.log_value(("faults", "nonfinite_updates"), 1, reduce="lifetime_sum")
        if self.num_nonfinite_updates >= self.config.max_nonfinite_updates:
            raise NonFiniteUpdateError(
                f"{self.num_nonfinite_updates} gradients in a row were not finite, though their "
                "workers were restarted; lower the learning rate, clip gradients "
                "(training.grad_clip) or look for infinite observations and rewards."
            )

    def statistics(self) -> dict[str, np.ndarray]:
        """The module's buffers, for example running means; gradients do not change them.

        The statistics of observations are not among them: the driver has them, not the workers.
        """
        return {
            name: buffer.detach().cpu().numpy().copy()
            for name, buffer in self.rl_module.named_buffers()
            if not name.startswith(NORMALIZER)
        }

    @torch.no_grad()
    def set_statistics(self, statistics: Mapping[str, np.ndarray]) -> None:
        """Sets what ``statistics`` gave."""
        buffers = dict(self.rl_module.named_buffers())
        for name, value in statistics.items():
            buffers[name].copy_(torch.as_tensor(np.array(value)))

    def report(self) -> ResultDict:
        """The metrics since the last call, reduced."""
        self._log_update(self._steps_applied, 1, self._num_applied)
        self._num_applied = self._steps_applied = 0
        if self.last_minibatch:
            self.after_gradient_based_update(timesteps={})
        return self.metrics.reduce()

    def compute_rl_loss(self, batch: Mapping[str, Any], fwd_out: Mapping[str, Any]) -> Tensor:
        """``-logp * advantage`` + vf_loss_coeff * value loss - entropy_coeff * entropy."""
        module, config = self.rl_module, self.config
        policy = module.action_dist_cls.from_logits(fwd_out[Columns.ACTION_DIST_INPUTS])
        logp = policy.logp(batch[Columns.ACTIONS])
        actor = -(logp * batch[Postprocessing.ADVANTAGES]).mean()
        critic = self.critic_loss(batch, fwd_out)
        entropy = policy.entropy().mean()
        entropy_coeff = value_at(config.entropy_coeff_of(self.worker_index), self.env_steps)
        self.record(
            {
                POLICY_LOSS_KEY: actor.detach(),
                ENTROPY_KEY: entropy.detach(),
                "entropy_coeff": entropy_coeff,
            }
        )
        return actor + config.vf_loss_coeff * critic - entropy_coeff * entropy

    def take_step(self, rows: Mapping[str, Any]) -> None:
        """Computes and applies one gradient, for ``Learner.update``."""
        self._backward(rows)
        self._step(self.worker_index)

    def includes(self, name: str) -> bool:
        """Whether the gradient in ``flat.gradient`` includes the auxiliary loss ``name``.

        Each worker counts its own gradients, so the driver has to look: without the loss, the
        gradient of the loss's heads is zero. For a loss without heads it uses its own count.
        """
        group = self.flat.groups.get(AUXILIARY_OPTIMIZER + name)
        if group is None or self.rl_module.auxiliary[name].pace is None:
            return super().includes(name)
        return bool(group.grad is not None and group.grad.any())

    def _backward(self, rows: Mapping[str, Any]) -> None:
        fwd_out = self.rl_module._forward_train(rows)
        loss = self.compute_loss(rows, fwd_out)
        self.record({self.TOTAL_LOSS_KEY: loss.detach()})
        self.last_minibatch = rows
        # Parameters that the loss does not reach keep a gradient of zero.
        self.flat.gradient.zero_()
        if self.config.gradient_reduction == "sum":
            # Losses are means over the rows; metrics stay means.
            loss = loss * len(rows[Columns.ACTIONS])
        loss.backward()

    def _step(self, worker: int) -> bool:
        if not self._clip({name: [parameter] for name, parameter in self.flat.groups.items()}):
            self.note_nonfinite()
            return False
        self.num_nonfinite_updates = 0
        owner = worker if worker in self._optimizers else next(iter(self._optimizers))
        for name, optimizer in zip(self.flat.groups, self._optimizers[owner], strict=True):
            if self._moves(name):
                optimizer.step()
        self.advance_parts()
        return True

    def _owners(self, config: AlgorithmConfig) -> list[int]:
        """The workers that have their own optimizer statistics; [-1]: all workers share them."""
        if config.optimizer_state == "shared":
            return [-1]
        return list(range(1, config.num_env_runners + 1)) or [0]

    def _setting_of_loss(self, optimizer_name: str, key: str) -> float | None:
        return super()._setting_of_loss(optimizer_name.partition(_WORKER_SUFFIX)[0], key)
