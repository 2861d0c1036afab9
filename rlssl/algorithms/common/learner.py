"""The Learner's update: minibatches, gradients, clipping, the guard against NaN, the step.

RLlib's own loop passes every minibatch through three classes, logs after each, and sets the
training mode each time. For small networks that takes as long as the gradients do.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import ALL_MODULES, DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics import (
    MODULE_TRAIN_BATCH_SIZE_MEAN,
    NUM_ENV_STEPS_TRAINED,
    NUM_ENV_STEPS_TRAINED_LIFETIME,
    NUM_MODULE_STEPS_TRAINED,
    NUM_MODULE_STEPS_TRAINED_LIFETIME,
    WEIGHTS_SEQ_NO,
)
from ray.rllib.utils.typing import ResultDict
from torch import Tensor, nn

from rlssl.algorithms.common.devices.gradient_guard import HostGuard, Update, guard_for
from rlssl.algorithms.common.devices.kernels import use_deterministic_kernels
from rlssl.algorithms.common.devices.transfers import HostTransfers, pin_transfers, transfers_for
from rlssl.algorithms.common.distributed import TorchPeers, average_gradients, broadcast_state
from rlssl.algorithms.common.minibatches import minibatches
from rlssl.algorithms.common.nonfinite_batch import nonfinite_columns, save_batch
from rlssl.algorithms.common.optimizers import EagerAdam, as_laid_out
from rlssl.batches import valid_rows
from rlssl.errors import NonFiniteUpdateError
from rlssl.networks.layers.vector_normalizer import Moments, VectorNormalizer
from rlssl.peers import ALONE, Peers
from rlssl.system.allocator import keep_memory, leave_unfilled
from rlssl.system.denormals import denormals_are_zero
from rlssl.system.seeding import seed_globals, stream

#: Key of a Learner's metrics: gradient steps since the last result.
NUM_GRADIENT_STEPS = "num_gradient_steps"


class BaseLearner(TorchLearner):
    """A Learner of one module, single or one of several.

    A subclass defines the loss (``compute_loss``), the Adams (``register_adams``), the limit of
    each optimizer's gradient norm (``grad_clip_of``), and the module's parts that change with each
    update (``stateful_parts``).
    """

    peers: Peers = ALONE
    #: Clips gradients and finds those that are not finite; `build` chooses it by the device.
    guard: HostGuard = HostGuard()
    #: Copies batches to the device and numbers to the host; `build` chooses it by the device.
    transfers: HostTransfers = HostTransfers()

    def build(self) -> None:
        """Loads plug-ins, which register losses and encoders, and then builds the module."""
        if self._is_built:
            return
        keep_memory()
        if self.config.deterministic:
            use_deterministic_kernels()
        leave_unfilled()
        self.config.load_extensions()
        self.num_nonfinite_updates = 0
        #: Key -> metric of the last minibatch; logged once an update.
        self.latest_metrics: dict[tuple[str, ...], Any] = {}
        super().build()
        self.use_device(torch.device(self.device))
        self.peers = self._join_peers()
        pin_transfers(self._learner_connector, self.device)
        self.extend_pipeline(self._learner_connector)

    def use_device(self, device: torch.device) -> None:
        """Chooses how gradients are checked and batches are copied, for the Learner's device."""
        self.guard, self.transfers = guard_for(device), transfers_for(device)
        self.rl_module.transfers = None if device.type == "cpu" else self.transfers

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores a checkpoint; the options of optimizers stay those of this run's config.

        RLlib restores them with the moments, so that a changed setting would have no effect.
        Learning rates follow the config in any case, at each update.
        """
        optimizers = [it for _, it in self.get_optimizers_for_module(DEFAULT_MODULE_ID)]
        options = [[_options(group) for group in it.param_groups] for it in optimizers]
        super().set_state(state)
        for optimizer, of_groups in zip(optimizers, options, strict=True):
            for group, of_group in zip(optimizer.param_groups, of_groups, strict=True):
                group.update(of_group)

    def extend_pipeline(self, pipeline: Any) -> None:
        """Adds the algorithm's pieces to RLlib's Learner connector pipeline."""

    def run_pipeline(self, episodes: Sequence[SingleAgentEpisode]) -> dict[str, Any]:
        """The columns that the connector pipeline makes of episodes."""
        batch: dict[str, Any] = self._learner_connector(
            rl_module=self.module,
            batch={},
            episodes=list(episodes),
            shared_data={},
            metrics=self.metrics,
        )
        columns: dict[str, Any] = batch[DEFAULT_MODULE_ID]
        return columns

    def compute_loss(self, batch: Mapping[str, Any], fwd_out: Mapping[str, Any]) -> Tensor:
        """The loss whose gradient is taken, a scalar."""
        raise NotImplementedError

    def compute_loss_for_module(
        self,
        *,
        module_id: str,
        config: AlgorithmConfig,
        batch: dict[str, Any],
        fwd_out: dict[str, Any],
    ) -> Tensor:
        """RLlib's hook; calls `compute_loss`, since rlssl has one module and one config."""
        del module_id, config
        return self.compute_loss(batch, fwd_out)

    def grad_clip_of(self, optimizer_name: str) -> float | None:
        """Largest global norm of an optimizer's gradients; None: no clipping."""
        raise NotImplementedError

    def stateful_parts(self) -> list[Any]:
        """Parts of the module with ``peers`` and ``after_update()``, called after every step."""
        raise NotImplementedError

    @property
    def rl_module(self) -> Any:
        """The module that this Learner trains."""
        return self.module[DEFAULT_MODULE_ID].unwrapped()

    @denormals_are_zero()
    def update(
        self,
        *,
        timesteps: Mapping[str, Any] | None = None,
        num_epochs: int | None = None,
        minibatch_size: int | None = None,
        training_data: TrainingData | None = None,
        **data: Any,
    ) -> ResultDict:
        """Updates on a batch, as RLlib's ``Learner.update``; see `minibatches` for the splitting.

        Args:
            timesteps: Has ``NUM_ENV_STEPS_SAMPLED_LIFETIME``.
            num_epochs: Passes over the batch; None: 1.
            minibatch_size: Rows; None: the whole batch.
            training_data: The data; None: ``data`` has ``episodes`` or ``batch``.
            **data: ``episodes`` or ``batch``; other arguments of RLlib have no effect here.
        """
        known = {field.name for field in fields(TrainingData)} & data.keys()
        training_data = training_data or TrainingData(**{key: data[key] for key in known})
        training_data.validate()
        training_data.solve_refs()
        self.before_gradient_based_update(timesteps=dict(timesteps or {}))
        self._weights_seq_no += 1
        batch = self._make_batch_if_necessary(training_data)
        rows = self.whole_batch(dict(batch.policy_batches[DEFAULT_MODULE_ID]))
        self._compute_off_policyness({DEFAULT_MODULE_ID: rows})
        self.rl_module.train()
        num_steps, num_epochs = 0, num_epochs or 1
        for minibatch in minibatches(
            rows, num_epochs=num_epochs, minibatch_size=minibatch_size, peers=self.peers
        ):
            self.take_step(minibatch)
            num_steps += 1
        self._log_update(len(batch.policy_batches[DEFAULT_MODULE_ID]), num_epochs, num_steps)
        self.after_gradient_based_update(timesteps=dict(timesteps or {}))
        # Last, because actions were sampled and minibatches learned with the earlier statistics.
        self.count_observations(rows)
        return self.metrics.reduce()

    def whole_batch(self, rows: dict[str, Any]) -> dict[str, Any]:
        """Called with a batch before it is cut into minibatches; returns the columns to cut."""
        return rows

    @property
    def normalizer(self) -> VectorNormalizer | None:
        """The module's normalizer of observations, if it has one."""
        normalizer: VectorNormalizer | None = getattr(self.rl_module, "normalizer", None)
        return normalizer

    def moments_of(self, rows: Mapping[str, Any]) -> Moments | None:
        """The moments of the observations of valid rows, if the module normalizes observations."""
        if self.normalizer is None or self.normalizer.is_frozen:
            return None
        return self.normalizer.moments(valid_rows(rows, {Columns.OBS})[Columns.OBS])

    def count_observations(self, rows: Mapping[str, Any]) -> None:
        """Adds the observations of all Learners' rows to the statistics of each Learner."""
        if self.normalizer is not None:
            self.normalize_by(self.peers.gather_objects(self.moments_of(rows)))

    def normalize_by(self, moments: Iterable[Moments | None]) -> None:
        """Adds newly sampled rows to the statistics of observations; every row counts once."""
        for part in moments:
            if part is not None and self.normalizer is not None:
                self.normalizer.update(part)

    def take_step(self, rows: Mapping[str, Any]) -> None:
        """One gradient step on a minibatch."""
        fwd_out = self.rl_module._forward_train(rows)
        loss = self.compute_loss(rows, fwd_out)
        self.record({self.TOTAL_LOSS_KEY: loss.detach()})
        self.last_minibatch = rows
        self._finish_step(self.optimizer_step(loss, list(self._parameters)))

    def record(self, values: Mapping[str, Any], *key: str) -> None:
        """Keeps metrics of a minibatch; those of the last minibatch of an update are logged.

        Args:
            values: Name -> scalar, without a graph.
            *key: Keys of nested dicts, above the names.
        """
        for name, value in values.items():
            self.latest_metrics[(*key, name)] = value

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replaces gradients by their means over the Learners, if there are several."""
        if self.config.num_learners <= 1:
            return
        parameters = list(parameters)
        average_gradients(parameters)
        for parameter in parameters:
            parameter.grad = as_laid_out(parameter, parameter.grad)

    def optimizer_step(self, loss: Tensor, optimizers: Sequence[str]) -> bool:
        """A step of some optimizers; other parameters get no gradient.

        Args:
            loss: A scalar; without a graph no parameter moves.
            optimizers: Names.

        Returns:
            False if a gradient is not finite; then there is no step. On a GPU it is always True,
            and the optimizers skip the step themselves.
        """
        names = [name for name in optimizers if self._parameters[name]]
        parameters = [p for name in names for p in self._parameters[name]]
        gradients: Sequence[Tensor | None] = [None] * len(parameters)
        if loss.requires_grad:
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = as_laid_out(parameter, gradient)
        self.average(parameters)
        if not self._clip({name: self._parameters[name] for name in names}):
            return False
        for name in names:
            self._adams[name].found_inf = self.guard.found_inf
            self._adams[name].step()
        return True

    def register_adams(
        self,
        parameters: Mapping[str, list[nn.Parameter]],
        *,
        eps: float,
        options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Registers an Adam for each list of parameters that is not empty.

        Args:
            parameters: Optimizer -> its parameters.
            eps: Adam's epsilon.
            options: Optimizer -> further options of torch's Adam.
        """
        self._parameters = dict(parameters)
        for name, group in parameters.items():
            if not group:
                continue
            settings = {"eps": eps, **(options or {}).get(name, {})}
            self.register_optimizer(
                module_id=DEFAULT_MODULE_ID,
                optimizer_name=name,
                optimizer=EagerAdam(group, **settings),
                params=group,
            )
        self._adams = dict(self.get_optimizers_for_module(DEFAULT_MODULE_ID))

    def _clip(self, parameters: Mapping[str, Sequence[nn.Parameter]]) -> bool:
        """Clips each optimizer's gradients and records the norms; False: the update must end."""
        gradients = {
            name: [p.grad for p in group if p.grad is not None]
            for name, group in parameters.items()
        }
        norms, may_continue = self.guard.clip(gradients, self.grad_clip_of)
        self.record({f"gradients_{name}_global_norm": norm for name, norm in norms.items()})
        return may_continue

    def _finish_step(self, is_finite: bool) -> None:
        """Calls ``after_update()`` of the module's parts, and counts skipped updates.

        Args:
            is_finite: False if the update was skipped; on a GPU always True.

        Raises:
            NonFiniteUpdateError: After ``max_nonfinite_updates`` skipped updates in a row.
        """
        self._count_skipped(self.guard.finish(is_finite, self.last_minibatch))
        if is_finite:
            self.advance_parts()

    def advance_parts(self) -> None:
        """Calls ``after_update()`` of the module's parts, after a step."""
        for part in self.stateful_parts():
            part.after_update()

    def _count_skipped(self, updates: Iterable[Update]) -> None:
        """Counts the updates that were skipped, once this is known."""
        for update in updates:
            if update.is_finite:
                self.num_nonfinite_updates = 0
            else:
                self._count_skipped_update(update.batch)

    def _count_skipped_update(self, batch: Mapping[str, Any]) -> None:
        self.num_nonfinite_updates += 1
        self.metrics.log_value(("faults", "nonfinite_updates"), 1, reduce="lifetime_sum")
        if self.num_nonfinite_updates < self.config.max_nonfinite_updates:
            return
        path = save_batch(batch, self.config.run_folder)
        columns = nonfinite_columns(batch) or "none of its columns, so the weights"
        raise NonFiniteUpdateError(
            f"{self.num_nonfinite_updates} updates in a row had a gradient that is not finite; "
            "lower the learning rate, clip gradients (training.grad_clip) or look for infinite "
            f"observations and rewards. Not finite in the last batch: {columns}. The batch is in "
            f"{path}"
        )

    def _log_update(self, num_rows: int, num_epochs: int, num_steps: int) -> None:
        """Logs the metrics of the last minibatch, and RLlib's counts of an update."""
        self._count_skipped(self.guard.wait())
        for key, value in self.transfers.scalars(self.latest_metrics).items():
            self.metrics.log_value((DEFAULT_MODULE_ID, *key), value, window=1)
        self.latest_metrics.clear()
        trained = num_rows * num_epochs
        self.metrics.log_value((DEFAULT_MODULE_ID, NUM_GRADIENT_STEPS), num_steps, window=1)
        one, every = DEFAULT_MODULE_ID, ALL_MODULES
        self.metrics.log_value((one, WEIGHTS_SEQ_NO), self._weights_seq_no, window=1)
        self.metrics.log_value((one, MODULE_TRAIN_BATCH_SIZE_MEAN), trained / max(1, num_steps))
        for key, counted in (
            ((one, NUM_MODULE_STEPS_TRAINED), NUM_MODULE_STEPS_TRAINED_LIFETIME),
            ((every, NUM_MODULE_STEPS_TRAINED), NUM_MODULE_STEPS_TRAINED_LIFETIME),
            ((every, NUM_ENV_STEPS_TRAINED), NUM_ENV_STEPS_TRAINED_LIFETIME),
        ):
            self.metrics.log_value(key, trained, reduce="sum")
            self.metrics.log_value(
                (key[0], counted), trained, reduce="lifetime_sum", with_throughput=True
            )

    def _join_peers(self) -> Peers:
        """Connects to the other Learners; all take the first Learner's weights."""
        if self.config.num_learners <= 1:
            return ALONE
        peers = TorchPeers()
        broadcast_state(self.rl_module)
        for part in self.stateful_parts():
            part.peers = peers
        if peers.rank and self.config.seed is not None:
            # RLlib seeds all Learners equally; each should shuffle its rows in its own order.
            seed_globals(stream(self.config.seed, "learner", sampler=peers.rank))
        return peers

    def _make_modules_ddp_if_necessary(self) -> None:
        """Does not wrap the module; see `rlssl.algorithms.common.distributed`."""


def _options(group: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a group of parameters that this run's config sets once, at the start."""
    return {key: value for key, value in group.items() if key not in ("params", "lr")}
