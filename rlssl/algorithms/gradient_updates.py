"""The Learner's update: minibatches, gradients, clipping, the guard against NaN, the step.

RLlib's own loop slices every minibatch through three classes, logs after each, and puts networks
into training mode again and again, which for small networks takes as long as the gradients do.
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

import torch
from ray.rllib.connectors.common.numpy_to_tensor import NumpyToTensor
from ray.rllib.core import ALL_MODULES, DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.learner.training_data import TrainingData
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

from rlssl.algorithms.bad_batch import nonfinite_columns, save_batch
from rlssl.algorithms.gradient_sync import LearnerGroup, average_gradients, broadcast_state
from rlssl.algorithms.minibatches import minibatches
from rlssl.allocator import keep_memory, leave_unfilled
from rlssl.errors import NonFiniteUpdateError
from rlssl.peers import ALONE, Peers

#: Key of a Learner's metrics: gradient steps since the result before.
NUM_GRADIENT_STEPS = "num_gradient_steps"


class GradientUpdates(TorchLearner):
    """A Learner of one module, alone or one of several.

    A subclass gives the loss (``compute_loss_for_module``), the limit of each optimizer's gradient
    norm (``grad_clip_of``), and the module's parts that draw at random (``parts_of_their_own``).
    """

    def build(self) -> None:
        """Loads plug-ins first: the module names losses and encoders that they register."""
        if self._is_built:
            return
        keep_memory()
        leave_unfilled()
        self.config.load_extensions()
        self.num_nonfinite_updates = 0
        # What the last minibatch gave, logged once an update.
        self._latest: dict[tuple[str, ...], Any] = {}
        super().build()
        self.peers = self._join_peers()
        pin_transfers(self._learner_connector, self.device)
        self.extend_pipeline(self._learner_connector)

    def extend_pipeline(self, pipeline: Any) -> None:
        """Adds the algorithm's pieces to RLlib's Learner connector pipeline."""

    def grad_clip_of(self, optimizer_name: str) -> float | None:
        """Largest global norm of an optimizer's gradients; None: no clipping."""
        raise NotImplementedError

    def parts_of_their_own(self) -> list[Any]:
        """Parts of the module with ``peers``, and ``after_update()`` behind every step."""
        raise NotImplementedError

    @property
    def rl_module(self) -> Any:
        """The module that learns."""
        return self.module[DEFAULT_MODULE_ID].unwrapped()

    def update(
        self,
        *,
        timesteps: Mapping[str, Any] | None = None,
        num_epochs: int = 1,
        minibatch_size: int | None = None,
        training_data: TrainingData | None = None,
        **data: Any,
    ) -> ResultDict:
        """Updates on a batch, as RLlib's ``Learner.update``; see ``minibatches`` for its parts.

        Args:
            timesteps: Has ``NUM_ENV_STEPS_SAMPLED_LIFETIME``.
            num_epochs: Passes over the batch.
            minibatch_size: Rows; None: the whole batch.
            training_data: What to learn from, unless ``data`` has ``episodes`` or ``batch``.
            **data: Those; and what else RLlib passes, which has no effect here.
        """
        known = {field.name for field in fields(TrainingData)} & data.keys()
        training_data = training_data or TrainingData(**{key: data[key] for key in known})
        training_data.validate()
        training_data.solve_refs()
        self.before_gradient_based_update(timesteps=dict(timesteps or {}))
        self._weights_seq_no += 1
        batch = self._make_batch_if_necessary(training_data)
        rows = dict(batch.policy_batches[DEFAULT_MODULE_ID])
        self._compute_off_policyness({DEFAULT_MODULE_ID: rows})
        self.rl_module.train()
        num_steps = 0
        for minibatch in minibatches(
            rows, num_epochs=num_epochs, minibatch_size=minibatch_size, peers=self.peers
        ):
            self.take_step(minibatch)
            num_steps += 1
        self._log_update(len(batch.policy_batches[DEFAULT_MODULE_ID]), num_epochs, num_steps)
        self.after_gradient_based_update(timesteps=dict(timesteps or {}))
        return self.metrics.reduce()

    def take_step(self, rows: Mapping[str, Any]) -> None:
        """One gradient step on a minibatch."""
        fwd_out = self.rl_module._forward_train(rows)
        loss = self.compute_loss_for_module(
            module_id=DEFAULT_MODULE_ID, config=self.config, batch=dict(rows), fwd_out=fwd_out
        )
        self.record({self.TOTAL_LOSS_KEY: loss.detach()})
        gradients = self.compute_gradients({DEFAULT_MODULE_ID: loss})
        self._minibatch = rows
        self.apply_gradients(self.postprocess_gradients(gradients))

    def record(self, values: Mapping[str, Any], *key: str) -> None:
        """Keeps metrics of a minibatch; those of an update's last one are logged.

        Args:
            values: Name -> scalar, without a graph.
            *key: Under which the names stand.
        """
        for name, value in values.items():
            self._latest[(*key, name)] = value

    def compute_gradients(
        self, loss_per_module: dict[str, Tensor], **kwargs: Any
    ) -> dict[Any, Tensor]:
        """The gradients; several Learners' mean."""
        gradients: dict[Any, Tensor] = super().compute_gradients(loss_per_module, **kwargs)
        if self.config.num_learners <= 1:
            return gradients
        self.average(self._params.values())
        return {ref: parameter.grad for ref, parameter in self._params.items()}

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replaces gradients by their means over the Learners, if there are several."""
        if self.config.num_learners <= 1:
            return
        parameters = list(parameters)
        average_gradients(parameters)
        for parameter in parameters:
            parameter.grad = as_laid_out(parameter, parameter.grad)

    @torch.no_grad()
    def postprocess_gradients(self, gradients_dict: dict[Any, Tensor]) -> dict[Any, Tensor]:
        """Clips the global norm of each optimizer's gradients; keeps the norms for the guard."""
        self._norms: list[Tensor] = []
        for name, optimizer in self.get_optimizers_for_module(DEFAULT_MODULE_ID):
            parameters = (p for group in optimizer.param_groups for p in group["params"])
            norm = self.clip(name, parameters)
            if norm is not None:
                self._norms.append(norm)
        return gradients_dict

    @torch.no_grad()
    def clip(self, name: str, parameters: Iterable[nn.Parameter]) -> Tensor | None:
        """Clips the global norm of an optimizer's gradients.

        Returns:
            The norm before, a scalar; None where no parameter has a gradient.
        """
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not gradients:
            return None
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        limit = self.grad_clip_of(name)
        if limit is not None:
            # As torch's clip_grad_norm_.
            torch._foreach_mul_(gradients, (limit / (norm + 1e-6)).clamp(max=1.0))
        self.record({f"gradients_{name}_global_norm": norm})
        return norm

    def apply_gradients(self, gradients_dict: dict[Any, Tensor]) -> None:
        """Steps the optimizers, unless a gradient is not finite; then tells the module's parts.

        Raises:
            NonFiniteUpdateError: After ``max_nonfinite_updates`` skipped steps in a row.
        """
        del gradients_dict
        if self._norms and not bool(torch.isfinite(torch.stack(self._norms)).all()):
            self._skip_update()
            return
        self.num_nonfinite_updates = 0
        for _, optimizer in self.get_optimizers_for_module(DEFAULT_MODULE_ID):
            optimizer.step()
        for part in self.parts_of_their_own():
            part.after_update()

    def _skip_update(self) -> None:
        self.num_nonfinite_updates += 1
        self.metrics.log_value(("faults", "nonfinite_updates"), 1, reduce="lifetime_sum")
        if self.num_nonfinite_updates < self.config.max_nonfinite_updates:
            return
        path = save_batch(self._minibatch, self.config.run_folder)
        columns = nonfinite_columns(self._minibatch) or "none of its columns, so the weights"
        raise NonFiniteUpdateError(
            f"{self.num_nonfinite_updates} updates in a row had a gradient that is not finite; "
            "lower the learning rate, clip gradients (training.grad_clip) or look for infinite "
            f"observations and rewards. Not finite in the last batch: {columns}. It is in {path}"
        )

    def _log_update(self, num_rows: int, num_epochs: int, num_steps: int) -> None:
        """Logs what the last minibatch gave, and RLlib's counts of an update."""
        for key, value in self._latest.items():
            self.metrics.log_value((DEFAULT_MODULE_ID, *key), value, window=1)
        self._latest.clear()
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
        """Meets the other Learners: the first one's weights become everyone's."""
        if self.config.num_learners <= 1:
            return ALONE
        peers = LearnerGroup()
        broadcast_state(self.rl_module)
        for part in self.parts_of_their_own():
            part.peers = peers
        return peers

    def _make_modules_ddp_if_necessary(self) -> None:
        """Wraps nothing: see `rlssl.algorithms.gradient_sync`."""


@torch.no_grad()
def as_laid_out(parameter: Tensor, gradient: Tensor | None) -> Tensor | None:
    """The gradient in the parameter's memory format: fused optimizers pair elements by address."""
    if gradient is None or gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


def pin_transfers(pipeline: Any, device: Any) -> None:
    """Copies batches to a GPU from pinned memory, so that the copy overlaps; uint8 stays uint8."""
    if torch.device(device).type != "cuda":
        return
    pinned = NumpyToTensor(pin_memory=True, device=device)
    pipeline.insert_after(NumpyToTensor, pinned)
    pipeline.remove(NumpyToTensor)  # the first one
