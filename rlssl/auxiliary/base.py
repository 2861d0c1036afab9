"""What an auxiliary loss is: a loss, its heads, and the columns it reads."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import gymnasium as gym
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.networks.augmentation import AUGMENTED_OBS
from rlssl.networks.encoders import Encoder
from rlssl.peers import ALONE, Peers
from rlssl.schedules import Schedule, check_schedule

#: What `AuxiliaryLoss.trains` may say.
TRAINS = ("encoder", "own", "none")

#: The controls that an experiment may switch on, where a loss declares them.
CONTROLS = frozenset({"augmentation_only", "shuffled_positives", "isolated"})


#: Column that a loss may read besides RLlib's: [N, A], the policy's mean action at OBS, coded as
#: `rlssl.networks.action_encoding.encode_action` codes actions. Discrete actions: their
#: probabilities, or one-hot the best one if the algorithm learns values. Without gradients.
MEAN_ACTION = "mean_action"

#: Column that a Learner may add: [N, D], the RL encoder's latents of what the RL loss saw of OBS
#: (AUGMENTED_OBS where there is that), with their graph. See ``AuxiliaryLoss.latents``.
RL_LATENTS = "rl_latents"


@dataclasses.dataclass(frozen=True)
class AuxiliaryLossConfig:
    """What every auxiliary loss can be told; subclass it as ``Config`` inside the loss."""

    # Weight of the loss beside the RL loss; no unit; >= 0.
    coeff: float = 1.0
    # Weight of the intrinsic reward beside the extrinsic one; no unit; >= 0; 0 for most losses.
    intrinsic_coeff: float = 0.0
    # Learning rate of the loss's own heads; > 0; None: the algorithm's, with its schedule.
    lr: float | None = None
    # Factor on `coeff` over env steps: [[env_steps, factor], ...]; None: 1 throughout.
    schedule: Schedule | None = None
    # Clips the global gradient norm of the loss's own heads; > 0; None: the algorithm's.
    grad_clip: float | None = None

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            ValueError: Naming the field and the value.
        """
        for key in ("coeff", "intrinsic_coeff"):
            value = getattr(self, key)
            if not isinstance(value, int | float):
                raise ValueError(f"{key} must be a number; got {value!r}. `schedule` takes points.")
            check_schedule(value, key)
        if self.schedule is not None:
            check_schedule(self.schedule, "schedule")
        for key in ("lr", "grad_clip"):
            value = getattr(self, key)
            if value is not None and not value > 0:
                raise ValueError(f"{key} must be > 0 or null; got {value}.")


class ChunkInfo(NamedTuple):
    """A piece of an episode in a training batch."""

    episode_id: str
    num_rows: int
    # Of its first row, in agent steps since the episode's start.
    first_step: int
    is_done: bool


class AuxiliaryLoss(nn.Module):
    """A self-supervised loss that any rlssl algorithm can add to its RL loss.

    Subclass it, give it a ``Config``, say what it ``reads`` and ``trains``, implement ``losses``,
    and register it with ``@rlssl.register_auxiliary_loss("name")``. It lives in the Learner's
    RLModule: checkpointed and moved to the device with it, never sent to EnvRunners.

    Args:
        config: The loss's own ``Config``.
        encoder: The RL encoder; ``encoder(obs)`` gives [N, ``encoder.output_dim``] from raw stacked
            observations (uint8 allowed). It belongs to the RL module and is not registered here.
        observation_space: Of one stacked observation.
        action_space: Of one action.
        key_encoder: A target copy of ``encoder`` that the algorithm keeps, where it has one.
    """

    Config: ClassVar[type[AuxiliaryLossConfig]] = AuxiliaryLossConfig

    #: Columns of the batch, beyond which nothing may be read: Columns.OBS, NEXT_OBS, ACTIONS, ...,
    #: and MEAN_ACTION.
    reads: frozenset[str] = frozenset()
    #: Whose parameters the gradient reaches, besides the heads: "encoder" | "own" | "none".
    trains: str = "encoder"
    #: The controls that mean something for this loss.
    controls: frozenset[str] = frozenset()

    encoder: Encoder
    key_encoder: Encoder | None

    #: The Learners that share the batch; set by the Learner.
    peers: Peers = ALONE

    def __init__(
        self,
        config: AuxiliaryLossConfig,
        *,
        encoder: Encoder,
        observation_space: gym.Space,
        action_space: gym.Space,
        key_encoder: Encoder | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.observation_space = observation_space
        self.action_space = action_space
        # Through __dict__: assignment would make nn.Module own (and count, save, move) them twice.
        self.__dict__["encoder"] = encoder
        self.__dict__["key_encoder"] = key_encoder

    @classmethod
    def defaults_for(cls, env_id: str) -> dict[str, Any]:
        """Options that suit an environment, where the user does not set them."""
        del env_id
        return {}

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Per-sample losses by name, each [N]; the Learner averages and adds them up."""
        raise NotImplementedError

    def latents(self, batch: Mapping[str, Any], column: str = Columns.OBS) -> Tensor:
        """[N, D], the RL encoder's; those of the RL loss's pass, where that saw the same column.

        So what both losses compute of the same observations is computed once, and its gradient too.
        """
        seen = AUGMENTED_OBS if AUGMENTED_OBS in batch else Columns.OBS
        if column == seen and RL_LATENTS in batch:
            shared: Tensor = batch[RL_LATENTS]
            return shared if torch.is_grad_enabled() else shared.detach()
        encoded: Tensor = self.encoder(batch[column])
        return encoded

    def intrinsic_reward(self, batch: Mapping[str, Any]) -> Tensor | None:
        """[N], reward units, before scaling by ``intrinsic_coeff``; None where there is none.

        Called without gradients, once per training batch, with rows in the order they were sampled.
        ``batch["chunks"]`` lists the ``ChunkInfo`` s in that order.
        """
        del batch
        return None

    def metrics(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Scalars to log as ``aux/<name>/<key>`` beside the means of ``losses``.

        Called once a result, not in every update: without gradients, after the last update's step,
        with the batch that ``losses`` saw last. So what costs time belongs here; what ``losses``
        computed may be kept for it, detached.
        """
        del batch
        return {}

    def after_update(self) -> None:
        """Called after every optimiser step: EMA copies and the like."""
