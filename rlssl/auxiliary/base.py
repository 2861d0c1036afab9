"""The base of auxiliary losses: a loss, its heads, and the columns that it reads."""

import dataclasses
from collections.abc import Mapping, Set
from typing import Any, ClassVar, NamedTuple

import gymnasium as gym
import torch
import tree
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.auxiliary.pace import Pace
from rlssl.auxiliary.windows import Window, latents_over_time
from rlssl.batches import take_rows
from rlssl.errors import UndeclaredColumnError
from rlssl.networks.augmentation import AUGMENTED_OBS
from rlssl.networks.encoders import Encoder
from rlssl.networks.update_rng import UpdateRNG
from rlssl.peers import ALONE, Peers, shuffled_rows
from rlssl.schedules import Schedule, check_schedule

#: Values of `AuxiliaryLoss.trains`.
TRAINS = ("encoder", "policy", "own", "none")

#: Controls that an experiment may switch on, if the loss declares them.
CONTROLS = frozenset({"augmentation_only", "shuffled_positives", "isolated"})

#: Column that a loss may read besides RLlib's: [N, A], the policy's mean action at OBS, encoded by
#: `rlssl.networks.action_encoding.encode_action`, without gradients. For discrete actions, it holds
#: their probabilities; if the algorithm learns values, it is the best action, one-hot.
MEAN_ACTION = "mean_action"

#: Column that a loss may read: the policy that the RL loss trains, a
#: `rlssl.auxiliary.imitation.policies.ClonedPolicy`. Such a loss declares ``trains = "policy"``.
POLICY = "policy"

#: Column that a Learner may add: [N, D], the RL encoder's latents of the observations that the RL
#: loss used (AUGMENTED_OBS if the batch has it, else OBS), with their graph. See
#: ``AuxiliaryLoss.latents``.
RL_LATENTS = "rl_latents"


@dataclasses.dataclass(frozen=True)
class AuxiliaryLossConfig:
    """Options of every auxiliary loss; subclass it as ``Config`` inside the loss.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Config(AuxiliaryLossConfig):
        ...     hidden: int = 64
        >>> Config(coeff=0.5)
        Config(coeff=0.5, intrinsic_coeff=0.0, lr=None, schedule=None, grad_clip=None, every=1, \
hidden=64)
        >>> Config(lr=0.0)
        Traceback (most recent call last):
        ValueError: lr must be > 0 or null; got 0.0.
    """

    # Weight of the loss relative to the RL loss; no unit; >= 0.
    coeff: float = 1.0
    # Weight of the intrinsic reward relative to the extrinsic one; no unit; >= 0; 0: not used.
    intrinsic_coeff: float = 0.0
    # Learning rate of the loss's heads; > 0; None: the algorithm's learning rate and schedule.
    lr: float | None = None
    # Factor on `coeff` over env steps: [[env_steps, factor], ...]; None: always 1.
    schedule: Schedule | None = None
    # Largest global gradient norm of the loss's heads; > 0; None: the algorithm's.
    grad_clip: float | None = None
    # Gradient steps between two updates of the loss and its heads: step k, 2k, ...; >= 1; 1: all.
    every: int = 1

    def __post_init__(self) -> None:
        """Checks ranges, and that every field of type bool is one.

        Raises:
            ValueError: If a value is out of range; the message names field and value.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type in (bool, "bool") and not isinstance(value, bool):
                raise ValueError(f"{field.name} must be true or false; got {value!r}.")
        for key in ("coeff", "intrinsic_coeff"):
            value = getattr(self, key)
            if not isinstance(value, int | float):
                raise ValueError(
                    f"{key} must be a number; got {value!r}. Put schedule points in `schedule`."
                )
            check_schedule(value, key)
        if self.schedule is not None:
            check_schedule(self.schedule, "schedule")
        for key in ("lr", "grad_clip"):
            value = getattr(self, key)
            if value is not None and not value > 0:
                raise ValueError(f"{key} must be > 0 or null; got {value}.")
        self._check_whole("every")

    def _check_whole(self, *keys: str, least: int = 1) -> None:
        """Refuses options that are no whole number, or below ``least``."""
        for key in keys:
            value = getattr(self, key)
            if type(value) is not int or value < least:
                raise ValueError(f"{key} must be a whole number >= {least}; got {value!r}.")

    def idle_options(self) -> dict[str, str]:
        """Options that have no effect beside the others -> what would give them an effect.

        A spec that sets such an option is refused. A subclass adds its own.
        """
        return {}


@dataclasses.dataclass(frozen=True)
class EncoderLossConfig(AuxiliaryLossConfig):
    """Options of the losses that train the RL encoder: those of every loss, and two controls."""

    # Control: each row gets the target of another row: its positive, label or next observation.
    shuffled_positives: bool = False
    # Control: the auxiliary losses train the RL encoder; the RL loss does not.
    isolated: bool = False


class DeclaredColumns(dict[str, Any]):
    """The batch that a loss gets. Another column than the declared ones is an error with a fix.

    Args:
        loss: Name of the loss.
        reads: The columns that the loss declares.
        columns: The columns of the batch.

    Example:
        >>> batch = DeclaredColumns("mine", {"obs"}, {"obs": torch.zeros(2)})
        >>> batch["rewards"]
        Traceback (most recent call last):
        rlssl.errors.UndeclaredColumnError: loss 'mine' reads the column 'rewards' without \
declaring it. Add 'rewards' to its `reads`, which now has ['obs'].
    """

    def __init__(self, loss: str, reads: Set[str], columns: Mapping[str, Any]) -> None:
        super().__init__(columns)
        self._loss, self._reads = loss, reads

    def __missing__(self, column: str) -> Any:
        """Called by ``batch[column]`` for a column that the batch does not have."""
        if column in self._reads:
            raise UndeclaredColumnError(
                f"loss '{self._loss}' reads the column '{column}' in a method whose batch does "
                f"not have it; this batch has {sorted(self)}."
            )
        raise UndeclaredColumnError(
            f"loss '{self._loss}' reads the column '{column}' without declaring it. Add "
            f"'{column}' to its `reads`, which now has {sorted(self._reads)}."
        )


class ChunkInfo(NamedTuple):
    """A piece of an episode in a training batch.

    Example:
        >>> chunk = ChunkInfo("a", num_rows=4, first_step=8, is_done=True)
        >>> chunk.first_step + chunk.num_rows  # the length of the episode
        12
    """

    episode_id: str
    num_rows: int
    # Agent steps from the start of the episode to the first row of the chunk.
    first_step: int
    # Whether the episode ends with this chunk.
    is_done: bool


class AuxiliaryLoss(nn.Module):
    """A self-supervised loss that any rlssl algorithm can add to its RL loss.

    To write a loss: subclass this class, define ``Config``, declare ``reads`` and ``trains``,
    implement ``losses``, ``intrinsic_reward`` or both, and register the class with
    ``@rlssl.register_auxiliary_loss("name")``. See docs/your_own_loss.md. The loss is part of the
    Learner's RLModule: it is checkpointed and moved to the device with the RLModule, and it is
    never sent to EnvRunners.

    Args:
        config: The loss's ``Config``.
        encoder: The RL encoder; ``encoder(obs)`` gives [N, ``encoder.output_dim``] from raw stacked
            observations (uint8 allowed). It belongs to the RL module and is not registered here.
        observation_space: The space of one stacked observation.
        action_space: The space of one action.
        key_encoder: The algorithm's target network of ``encoder``; None if the algorithm has none.
        rl_projection: First layers of the RL head, without noise; from latents [N, D] to
            [N, ``rl_projection.output_dim``]. None unless the head is dueling.
        frame_stack: Frames in a stacked observation. Only given if it is above 1.

    Example:
        A loss that pulls latents towards zero. Here the encoder is the identity.

        >>> import numpy as np
        >>> class SmallLatents(AuxiliaryLoss):
        ...     reads = frozenset({Columns.OBS})
        ...
        ...     def losses(self, batch):
        ...         return {"square": self.latents(batch).square().sum(-1)}
        >>> loss = SmallLatents(
        ...     AuxiliaryLossConfig(),
        ...     encoder=nn.Identity(),
        ...     observation_space=gym.spaces.Box(-9, 9, (2,), np.float32),
        ...     action_space=gym.spaces.Discrete(2),
        ... )
        >>> loss.losses({Columns.OBS: torch.tensor([[3.0, 4.0], [0.0, 1.0]])})
        {'square': tensor([25.,  1.])}
    """

    Config: ClassVar[type[AuxiliaryLossConfig]] = AuxiliaryLossConfig

    #: Columns of the batch that the loss reads: Columns.OBS, NEXT_OBS, ACTIONS, ..., MEAN_ACTION,
    #: POLICY. The batch has no other columns.
    reads: frozenset[str] = frozenset()
    #: The time steps that the loss sees around each row; None: only the row. See
    #: ``Window``. ``losses`` then gets [N, W, ...] of every column that the loss reads, and the
    #: column VALID, [N, W]. The actions and rewards at a place lead to the next place.
    window: Window | None = None
    #: Which parameters the gradient reaches besides the heads: "encoder" (those of the RL encoder),
    #: "policy" (those that choose actions, with their encoder), "own" (those of networks in this
    #: loss) or "none".
    trains: str = "encoder"
    #: The controls that make sense for this loss; see ``CONTROLS``.
    controls: frozenset[str] = frozenset()
    #: Default options that differ for an algorithm with a replay buffer; options that the user sets
    #: win.
    defaults_with_replay: ClassVar[Mapping[str, Any]] = {}

    encoder: Encoder
    key_encoder: Encoder | None
    rl_projection: Encoder | None

    #: Whether the loss cannot be computed on parts of a batch, as with BatchNorm.
    one_learner_only: bool = False

    #: The Learners that share the batch. The Learner sets this attribute.
    peers: Peers = ALONE

    def __init__(
        self,
        config: AuxiliaryLossConfig,
        *,
        encoder: Encoder,
        observation_space: gym.Space,
        action_space: gym.Space,
        key_encoder: Encoder | None = None,
        rl_projection: Encoder | None = None,
        frame_stack: int = 1,
    ) -> None:
        super().__init__()
        self.config = config
        self.frame_stack = frame_stack
        self.observation_space = observation_space
        self.action_space = action_space
        # Through __dict__: by assignment, nn.Module would register, count and save them twice.
        self.__dict__["encoder"] = encoder
        self.__dict__["key_encoder"] = key_encoder
        self.__dict__["rl_projection"] = rl_projection
        # None: updated at every gradient step. Such a loss has no count in its checkpoints.
        self.pace = Pace(config.every) if config.every > 1 else None

    @property
    def is_due(self) -> bool:
        """Whether the next gradient step includes this loss; see ``AuxiliaryLossConfig.every``."""
        return self.pace is None or self.pace.is_due

    @classmethod
    def defaults_for(cls, env_id: str) -> dict[str, Any]:
        """Default options for an environment; options that the user sets win."""
        del env_id
        return {}

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Losses by name, each [N], one value per row; the Learner averages and adds them.

        A class that gives only an intrinsic reward does not implement this method.
        """
        del batch
        return {}

    def latents(self, batch: Mapping[str, Any], column: str = Columns.OBS) -> Tensor:
        """[N, D], latents of a column by the RL encoder; [N, W, D] of OBS with a ``window``.

        If the RL loss has encoded the same column, its latents are reused: the forward and the
        backward pass through the encoder then run once for both losses. Do not write to them.
        """
        shared = self.shared_latents(batch, column)
        if self.window is not None and column == Columns.OBS:
            return latents_over_time(self.encoder, batch, self.window.before, shared)
        if shared is not None:
            return shared
        encoded: Tensor = self.encoder(batch[column])
        return encoded

    def shared_latents(self, batch: Mapping[str, Any], column: str) -> Tensor | None:
        """[N, D], the RL loss's latents of a column, if it has encoded this column."""
        seen = AUGMENTED_OBS if AUGMENTED_OBS in batch else Columns.OBS
        shared: Tensor | None = batch.get(RL_LATENTS) if column == seen else None
        return shared if shared is None or torch.is_grad_enabled() else shared.detach()

    def intrinsic_reward(self, batch: Mapping[str, Any]) -> Tensor | None:
        """[N], reward units, before scaling by ``intrinsic_coeff``; None: no intrinsic reward.

        Called without gradients, once per training batch. Rows are in the order in which they were
        sampled; ``batch["chunks"]`` lists the `ChunkInfo` of each chunk in the same order. Columns
        are [N, ...] also if the loss has a ``window``.
        """
        del batch
        return None

    def metrics(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Scalars to log as ``aux/<name>/<key>``, in addition to the means of ``losses``.

        Called once per result, not in every update, so it may be slow. It is called without
        gradients, after the last optimizer step, with the last batch of ``losses``. ``losses`` may
        keep detached tensors for this method.
        """
        del batch
        return {}

    def check_policy(self, policy: Any) -> None:
        """Checks, before a run starts, that a loss that reads POLICY can use the policy.

        Raises:
            SpecError: Naming the option, its value and the fix.
        """
        del policy

    def check_batch(self, num_rows: int) -> None:
        """Checks, before a run starts, that the loss can be computed on its batches.

        Args:
            num_rows: Rows of one gradient step, of all Learners together.

        Raises:
            SpecError: Naming the option, its value and the fix.
        """
        del num_rows

    def after_update(self) -> None:
        """Called after every optimizer step with this loss, for example to update target networks.

        With ``every=k``, these are every k-th step.
        """


class EncoderLoss(AuxiliaryLoss):
    """Base of rlssl's losses that train the RL encoder: two controls, and draws for each update.

    Args:
        config: Options of the loss.
        **given: See `AuxiliaryLoss`.
    """

    Config: ClassVar[type[AuxiliaryLossConfig]] = EncoderLossConfig

    config: EncoderLossConfig

    trains = "encoder"
    controls = frozenset({"shuffled_positives", "isolated"})

    def __init__(self, config: EncoderLossConfig, **given: Any) -> None:
        super().__init__(config, **given)
        self.update_rng = UpdateRNG()

    def after_update(self) -> None:
        """Renews the random draws."""
        self.update_rng.after_update()

    def positives(self, num: int, generator: torch.Generator, device: torch.device) -> Tensor:
        """[num], each row's positive: itself, or another row with ``shuffled_positives``.

        Args:
            num: Number of this Learner's rows.
            generator: The update's draws, the same on all Learners.
            device: Of the result.

        Returns:
            Indices into the rows of all Learners.
        """
        if self.config.shuffled_positives:
            return shuffled_rows(num, self.peers, generator).to(device)
        first, _ = self.peers.rows(num)
        return torch.arange(first, first + num, device=device)

    def of_other_rows(self, rows: Any, generator: torch.Generator) -> Any:
        """The rows of all Learners in random order, for ``shuffled_positives``.

        Args:
            rows: [N, ...], this Learner's rows, or a tree of such tensors.
            generator: The update's draws, the same on all Learners.

        Returns:
            [N, ...], this Learner's share, without gradients. No row is given twice.
        """
        everyone = tree.map_structure(lambda leaf: self.peers.gather(leaf.detach()), rows)
        leaf = tree.flatten(rows)[0]
        order = shuffled_rows(len(leaf), self.peers, generator)
        return take_rows(everyone, order.to(leaf.device))
