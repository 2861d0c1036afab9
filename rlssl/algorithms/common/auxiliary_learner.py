"""Adds auxiliary losses to the RL loss, with optimizers for their heads, and schedules."""

import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import Any

import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.learner import DEFAULT_OPTIMIZER
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from torch import Tensor, nn

from rlssl.algorithms.common.learner import BaseLearner
from rlssl.algorithms.common.mean_actions import mean_actions
from rlssl.auxiliary.base import MEAN_ACTION, POLICY, RL_LATENTS, AuxiliaryLoss, DeclaredColumns
from rlssl.auxiliary.building import check_losses
from rlssl.auxiliary.latent_statistics import NUM_ROWS, latent_statistics
from rlssl.auxiliary.needs import Needs
from rlssl.auxiliary.windows import FRAME, POSITION, VALID, WINDOWS, Window, narrow
from rlssl.batches import take_rows, valid_rows
from rlssl.networks.augmentation import AUGMENTED_OBS, Augmentation
from rlssl.peers import ALONE, Peers
from rlssl.schedules import value_at

#: Prefix of the name of the optimizer that trains a loss's heads; the loss's name follows.
AUXILIARY_OPTIMIZER = "auxiliary_"

#: Columns of the RL forward pass that losses reading OBS may reuse.
_REUSED_COLUMNS = frozenset({AUGMENTED_OBS, RL_LATENTS})

#: Gradient steps in which a loss that trains the encoder must move it.
MAX_REACH_TRIES = 10

#: Key of the statistics of latents in the metrics, beside the names of losses.
LATENTS = "latents"


class AuxiliaryLearner(BaseLearner):
    """Adds ``sum_i coeff_i * auxiliary_i`` to the RL loss that a subclass computes.

    Subclasses implement ``compute_rl_loss``. The RLModule keeps the losses in ``auxiliary`` (an
    ``nn.ModuleDict``), beside its ``encoder``.
    """

    def build(self) -> None:
        """Builds as the bases do."""
        if self._is_built:
            return
        self.env_steps = 0
        # Loss -> steps at which `_check_reach` has looked at its gradient.
        self._reach_tries: Counter[str] = Counter()
        # Loss -> its latest columns and the names of its terms, since the last report.
        self._seen_by: dict[str, tuple[Mapping[str, Any], Set[str]]] = {}
        super().build()

    def configure_optimizers_for_module(
        self, module_id: str, config: AlgorithmConfig | None = None
    ) -> None:
        """Registers one Adam for the RL parameters, and one for the heads of each loss.

        Separate optimizers have separate learning rates and norm clipping. So a loss changes the
        RL step only through the encoder's gradient.
        """
        self.register_adams(self.parameter_groups(), eps=(config or self.config).adam_epsilon)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Optimizer -> the parameters that it trains: the RL parameters, and the heads."""
        heads = self.head_groups()
        owned = {id(parameter) for parameters in heads.values() for parameter in parameters}
        rl_parameters = [p for p in trainable(self.rl_module) if id(p) not in owned]
        return {DEFAULT_OPTIMIZER: rl_parameters, **heads}

    def head_groups(self) -> dict[str, list[nn.Parameter]]:
        """Optimizer -> parameters that exist for auxiliary losses only."""
        losses = self.rl_module.auxiliary
        return {AUXILIARY_OPTIMIZER + name: trainable(loss) for name, loss in losses.items()}

    def before_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Sets schedules to the current env steps, so that a resumed run continues them."""
        super().before_gradient_based_update(timesteps=timesteps)
        agent_steps = timesteps.get(NUM_ENV_STEPS_SAMPLED_LIFETIME) or 0
        self.env_steps = agent_steps * (self.config.action_repeat or 1)
        for name, optimizer in self.get_optimizers_for_module(DEFAULT_MODULE_ID):
            lr = self._learning_rate(name)
            for group in optimizer.param_groups:
                group["lr"] = lr

    def compute_rl_loss(self, batch: Mapping[str, Any], fwd_out: Mapping[str, Any]) -> Tensor:
        """The algorithm's own loss, a scalar.

        Args:
            batch: Columns of a minibatch, with reused columns of the forward pass.
            fwd_out: What the module's ``_forward_train`` returned.
        """
        raise NotImplementedError

    def compute_loss(self, batch: Mapping[str, Any], fwd_out: Mapping[str, Any]) -> Tensor:
        """The RL loss plus the weighted auxiliary losses."""
        batch = {**batch, **{key: fwd_out[key] for key in _REUSED_COLUMNS & fwd_out.keys()}}
        rl_loss = self.compute_rl_loss(batch, fwd_out)
        return self.combine(rl_loss, self.compute_auxiliary_loss(batch), batch)

    def combine(self, rl_loss: Tensor, auxiliary: Tensor, batch: Mapping[str, Any]) -> Tensor:
        """The sum of the RL loss and the auxiliary loss; a subclass may weigh them."""
        del batch
        return self.isolate(rl_loss) + auxiliary

    def isolate(self, rl_loss: Tensor) -> Tensor:
        """The RL loss; its gradient skips the encoder where an auxiliary loss is ``isolated``."""
        if not self.isolates:
            return rl_loss
        return without_gradient(rl_loss, trainable(self.rl_module.encoder))

    @functools.cached_property
    def isolates(self) -> bool:
        """Whether an auxiliary loss is ``isolated``; then losses share no pass with the RL loss.

        With a shared pass, the RL gradient would not cancel exactly: sums of gradients are rounded
        (in bfloat16 to about two digits) on their way through the encoder.
        """
        losses = self.rl_module.auxiliary.values()
        return any(getattr(loss.config, "isolated", False) for loss in losses)

    def compute_auxiliary_loss(
        self, batch: Mapping[str, Any], names: Iterable[str] | None = None
    ) -> Tensor:
        """``sum_i coeff_i(env_steps) * auxiliary_i`` over the valid rows of ``batch``.

        Losses that this gradient step leaves out (``every``) are not computed.

        Args:
            batch: Columns.
            names: The losses; None: all.
        """
        module = self.rl_module
        total = torch.zeros((), device=self.device)
        chosen = module.auxiliary if names is None else names
        wanted = {name: module.auxiliary[name] for name in chosen}
        due = {name: loss for name, loss in wanted.items() if loss.is_due}
        if not due:
            return total
        if self.isolates:
            batch = {key: value for key, value in batch.items() if key != RL_LATENTS}
        rows = self._rows_for(due, batch)
        for name, loss in due.items():
            seen = columns_read(name, loss, rows, self.needs.window)
            mean = self._mean_loss(name, loss, seen)
            self._check_reach(name, loss, mean, len(rows[Columns.ACTIONS]))
            coeff = loss.config.coeff * value_at(loss.config.schedule or 1.0, self.env_steps)
            self.record({"coeff": coeff}, "aux", name)
            total = torch.add(total, mean, alpha=coeff)
        return total

    def auxiliary_means(self, batch: Mapping[str, Any]) -> dict[str, dict[str, Tensor]]:
        """Loss -> the mean of each of its terms over the valid rows; nothing is recorded."""
        losses = self.rl_module.auxiliary
        rows = self._rows_for(losses, batch)
        return {
            name: per_sample_means(
                name, loss.losses(columns_read(name, loss, rows, self.needs.window)), self.peers
            )
            for name, loss in losses.items()
        }

    def _rows_for(self, losses: Mapping[str, Any], batch: Mapping[str, Any]) -> dict[str, Any]:
        """The valid rows of a batch, with the columns that some of the losses read."""
        rows = dict(valid_rows(batch, self._columns_of_losses))
        if any(MEAN_ACTION in loss.reads for loss in losses.values()):
            rows[MEAN_ACTION] = mean_actions(self.rl_module, rows[Columns.OBS])
        if any(POLICY in loss.reads for loss in losses.values()):
            rows[POLICY] = self.rl_module
        window = self.needs.window
        if window is not None and any(loss.window is not None for loss in losses.values()):
            rows[WINDOWS] = self.windows(rows, window)
        return rows

    def windows(self, rows: Mapping[str, Any], window: Window) -> Mapping[str, Any]:
        """The columns [N, W, ...] of ``window`` around rows [N, ...]."""
        del window
        windows: Mapping[str, Any] = rows[WINDOWS]
        return windows

    @functools.cached_property
    def needs(self) -> Needs:
        """What the losses read."""
        return Needs.of(self.rl_module.auxiliary.values())

    @functools.cached_property
    def _columns_of_losses(self) -> frozenset[str]:
        """All columns of a batch that the losses may read."""
        always = {Columns.OBS, Columns.ACTIONS, WINDOWS, POSITION}
        return frozenset(always).union(_REUSED_COLUMNS, self.needs.reads)

    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Logs the losses' metrics and the statistics of latents, for the last minibatch.

        This happens once a report, because some of these metrics cost as much as an update.
        """
        super().after_gradient_based_update(timesteps=timesteps)
        module = self.rl_module
        if not len(module.auxiliary):
            return
        # Other columns may have rows of their own, as those of the losses beside recurrent cloning.
        observations = valid_rows(self.last_minibatch, {Columns.OBS})[Columns.OBS]
        rows = take_rows(observations, slice(NUM_ROWS))
        with torch.no_grad():
            found = {name: self._metrics_of(name, *seen) for name, seen in self._seen_by.items()}
            found[LATENTS] = latent_statistics(module.encoder(rows))
        self._seen_by.clear()
        metrics = {(name, key): value for name, of in found.items() for key, value in of.items()}
        for keys, value in self.transfers.scalars(metrics).items():
            self.metrics.log_value((DEFAULT_MODULE_ID, "aux", *keys), value, window=1)

    def grad_clip_of(self, optimizer_name: str) -> float | None:
        """The limit of the loss for its heads; the algorithm's for all other parameters."""
        of_loss = self._setting_of_loss(optimizer_name, "grad_clip")
        return self.config.grad_clip if of_loss is None else of_loss

    def stateful_parts(self) -> list[AuxiliaryLoss | Augmentation]:
        """The losses, and the augmentation if any."""
        parts = [*self.rl_module.auxiliary.values(), self.rl_module.augmentation]
        return [part for part in parts if part is not None]

    def optimizer_step(self, loss: Tensor, optimizers: Sequence[str]) -> bool:
        """As the base; heads of losses that this step leaves out (``every``) do not move.

        Without this, Adam's momentum would move them if several Learners average gradients.
        """
        return super().optimizer_step(loss, [name for name in optimizers if self._moves(name)])

    def advance_parts(self) -> None:
        """As the base, without the losses that the step left out; counts the step."""
        losses = self.rl_module.auxiliary
        left_out = {id(loss) for name, loss in losses.items() if not self.includes(name)}
        for part in self.stateful_parts():
            if id(part) not in left_out:
                part.after_update()
        for loss in losses.values():
            if loss.pace is not None:
                loss.pace.count_step()

    def includes(self, name: str) -> bool:
        """Whether the current gradient step includes the auxiliary loss ``name``."""
        is_due: bool = self.rl_module.auxiliary[name].is_due
        return is_due

    def _moves(self, optimizer_name: str) -> bool:
        """Whether the current gradient step moves an optimizer's parameters."""
        name = optimizer_name.removeprefix(AUXILIARY_OPTIMIZER)
        return name == optimizer_name or self.includes(name)

    def _join_peers(self) -> Peers:
        check_losses(self.config, self.rl_module.auxiliary)
        return super()._join_peers()

    def _mean_loss(self, name: str, loss: AuxiliaryLoss, rows: Mapping[str, Any]) -> Tensor:
        """The sum of each named loss's mean over the rows; logs the means. Without losses, 0."""
        losses = loss.losses(rows)
        means = per_sample_means(name, losses, self.peers)
        if loss.window is not None:
            self.record({"valid_share": rows[VALID].float().mean()}, "aux", name)
        self.record({key: mean.detach() for key, mean in means.items()}, "aux", name)
        # RL_LATENTS would keep the graph of the RL loss alive.
        kept = {key: value for key, value in rows.items() if key != RL_LATENTS}
        self._seen_by[name] = DeclaredColumns(name, loss.reads, kept), means.keys()
        if not means:
            return torch.zeros((), device=self.device)
        return functools.reduce(torch.add, means.values())

    def _metrics_of(
        self, name: str, rows: Mapping[str, Any], losses: Set[str]
    ) -> dict[str, Tensor]:
        metrics = self.rl_module.auxiliary[name].metrics(rows)
        if twice := losses & metrics.keys():
            raise ValueError(f"loss '{name}' gives {sorted(twice)} as a loss and as a metric.")
        return {key: value.detach() for key, value in metrics.items()}

    def _check_reach(self, name: str, loss: AuxiliaryLoss, mean: Tensor, num_rows: int) -> None:
        """Checks at the first steps whether the gradient moves what ``trains`` declares.

        That is the encoder, or the policy.

        A loss may need a few steps before it has a gradient: until its queue has keys, for example.
        """
        # A loss that compares rows may have no gradient for a single row.
        if self._reach_tries[name] >= MAX_REACH_TRIES or num_rows < 2:
            return
        self._reach_tries[name] += 1
        module, what = self.rl_module, "policy" if loss.trains == "policy" else "encoder"
        parameters = trainable(module.encoder) if what == "encoder" else module.policy_parameters()
        reaches = reaches_any(mean, parameters)
        if reaches == (loss.trains == what):
            self._reach_tries[name] = MAX_REACH_TRIES
        elif reaches or self._reach_tries[name] == MAX_REACH_TRIES:
            fact = "moves" if reaches else f"did not move in {MAX_REACH_TRIES} steps"
            raise ValueError(
                f"loss '{name}' declares trains='{loss.trains}', but its gradient {fact} the "
                f"{what}; detach the latents, or correct `trains`."
            )

    def _learning_rate(self, optimizer_name: str) -> float:
        of_loss = self._setting_of_loss(optimizer_name, "lr")
        return value_at(self.config.lr if of_loss is None else of_loss, self.env_steps)

    def _setting_of_loss(self, optimizer_name: str, key: str) -> float | None:
        """A loss's own setting, if the optimizer trains its heads and the setting is given."""
        losses = self.rl_module.auxiliary
        name = optimizer_name.removeprefix(AUXILIARY_OPTIMIZER)
        return getattr(losses[name].config, key) if name in losses else None


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """The parameters of ``module`` that take gradients."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


@contextmanager
def frozen(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """A context in which no gradients of these parameters are computed."""
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def columns_read(
    name: str, loss: AuxiliaryLoss, rows: Mapping[str, Any], widest: Window | None = None
) -> DeclaredColumns:
    """The columns that ``loss`` declares; windows, if the loss has a window.

    Args:
        name: Name of the loss.
        loss: The loss.
        rows: Columns [N, ...], and WINDOWS.
        widest: The window of WINDOWS.

    Raises:
        ValueError: If the batch lacks one of them.
    """
    found, reads = rows, loss.reads
    if loss.window is not None and widest is not None:
        found = narrow(rows[WINDOWS], widest, loss.window)
        reads = reads | ({VALID, FRAME} & found.keys())
    if missing := reads - found.keys():
        raise ValueError(
            f"loss '{name}' reads {sorted(missing)}, which the batch lacks; it has {sorted(found)}."
        )
    # A loss that reads observations may also reuse views and latents of them.
    reused = _REUSED_COLUMNS & rows.keys() if Columns.OBS in loss.reads else frozenset()
    columns = {key: found[key] for key in reads} | {key: rows[key] for key in reused}
    return DeclaredColumns(name, reads, columns)


def without_gradient(loss: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """``loss`` with its gradient with respect to ``parameters`` canceled; others are unchanged.

    It costs one more backward pass. If other losses add gradients to ``parameters``, a rounding
    error of the sum remains.
    """
    if not loss.requires_grad or not parameters:
        return loss
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            # Adds 0 to the value, and the opposite gradient.
            loss = loss + ((parameter.detach() - parameter) * gradient).sum()
    return loss


def per_sample_means(
    name: str, losses: Mapping[str, Tensor], peers: Peers = ALONE
) -> dict[str, Tensor]:
    """The mean of each named loss over its rows; zero, connected to the graph, for no rows.

    Several Learners may have different numbers of rows, for example without terminal rows. Each
    divides its sum by the mean number of rows. So the mean over the Learners, which the gradients
    get, is the mean over all rows.

    Args:
        name: The auxiliary loss.
        losses: Name -> [N], per-sample losses; N may differ between names and Learners.
        peers: The Learners that share the batch.

    Raises:
        ValueError: If losses are not [N].
    """
    for key, value in losses.items():
        if value.ndim != 1:
            raise ValueError(
                f"loss '{name}' gives '{key}' of shape {tuple(value.shape)}; "
                "it must be per-sample, [N]."
            )
    if peers.size == 1 or not losses:
        return {key: value.mean() if len(value) else value.sum() for key, value in losses.items()}
    rows = peers.mean_counts([len(value) for value in losses.values()])
    return {
        key: value.sum() / (count or 1.0)
        for (key, value), count in zip(losses.items(), rows, strict=True)
    }


def reaches_any(loss: Tensor, parameters: list[nn.Parameter]) -> bool:
    """Whether the gradient of ``loss`` is nonzero for at least one of ``parameters``."""
    if not loss.requires_grad or not parameters:
        return False
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return any(gradient is not None and bool(gradient.any()) for gradient in gradients)
