"""Options that losses with an intrinsic reward share: what the algorithm does with the reward."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import nn

from rlssl.auxiliary.base import AuxiliaryLossConfig
from rlssl.errors import SpecError

#: Options that only an own stream has.
_OF_OWN_STREAM = ("stream_gamma", "stream_episodic")


@dataclasses.dataclass(frozen=True)
class BonusConfig(AuxiliaryLossConfig):
    """Options of a loss with an intrinsic reward; its ``Config`` subclasses this class.

    With ``stream: shared``, ``intrinsic_coeff * intrinsic_reward`` is added to the reward, and one
    value function learns the return of the sum. With ``stream: own`` (PPO and A3C), the intrinsic
    reward, unweighted, has its own value head and its own advantages, and ``intrinsic_coeff``
    weighs these advantages::

        advantage = A_extrinsic + sum_i intrinsic_coeff_i * A_i

    Example:
        >>> BonusConfig(stream="own", intrinsic_coeff=0.5).stream_gamma
        0.99
        >>> BonusConfig(stream="mine")
        Traceback (most recent call last):
        ValueError: stream must be one of ['shared', 'own']; got 'mine'.

    Source:
        Burda et al. 2018, arXiv:1810.12894, section 2.3. Their weights of 2 (extrinsic) and 1 equal
        an ``intrinsic_coeff`` of 0.5 if advantages are normalized.
    """

    # Whether the reward is added to the extrinsic one ("shared") or has its own value head ("own").
    stream: str = "shared"
    # Own stream: discount per agent step; in [0, 1].
    stream_gamma: float = 0.99
    # Own stream: whether a termination ends its return. False: the return continues with the next
    # episode of the same environment copy, so that dying is not a loss of novelty.
    stream_episodic: bool = False
    # With a replay buffer: whether a step's reward is computed once, with the weights of the moment
    # when the step is stored ("stored"), or for each batch, with the current weights ("sampled").
    bonus_when: str = "stored"

    @property
    def needs_chunks(self) -> bool:
        """Whether a step's reward depends on the order of steps, or changes running statistics.

        Such a reward cannot be computed for the rows of a batch. A subclass returns False if its
        ``intrinsic_reward`` reads neither ``batch["chunks"]`` nor changes any state.
        """
        return True

    def idle_options(self) -> dict[str, str]:
        """Options of an own stream, if there is none."""
        own = {} if self.stream == "own" else dict.fromkeys(_OF_OWN_STREAM, "stream: own")
        return {**super().idle_options(), **own}

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            ValueError: If a value is out of range; the message names field and value.
        """
        super().__post_init__()
        if self.stream not in (choices := ["shared", "own"]):
            raise ValueError(f"stream must be one of {choices}; got {self.stream!r}.")
        if self.stream == "own" and (clip := getattr(self, "reward_clip", None)) is not None:
            raise ValueError(
                "reward_clip clips the sum of reward and bonus, which stream=own does not have; "
                f"set reward_clip to null; got {clip!r}."
            )
        if self.bonus_when not in (choices := ["stored", "sampled"]):
            raise ValueError(f"bonus_when must be one of {choices}; got {self.bonus_when!r}.")
        if self.bonus_when == "sampled" and self.needs_chunks:
            raise ValueError(
                "bonus_when=sampled needs a reward that is a function of single steps, but this "
                "one depends on the order of steps or keeps running statistics; leave bonus_when "
                "out."
            )
        if not 0.0 <= self.stream_gamma <= 1.0:
            raise ValueError(f"stream_gamma must be in [0, 1]; got {self.stream_gamma}.")


def has_own_stream(config: AuxiliaryLossConfig) -> bool:
    """Whether a loss asks for a value head and advantages of its own."""
    return isinstance(config, BonusConfig) and config.stream == "own"


def is_sampled(config: AuxiliaryLossConfig) -> bool:
    """Whether the loss's reward is computed for each batch of a replay buffer."""
    return isinstance(config, BonusConfig) and config.bonus_when == "sampled"


def check_bonuses(
    losses: Mapping[str, AuxiliaryLossConfig], algorithm: str, *, has_replay: bool
) -> None:
    """Checks that the algorithm can do what the losses ask for.

    Raises:
        SpecError: Naming the option, the value and the fix.
    """
    for name, config in losses.items():
        if has_replay and has_own_stream(config):
            raise SpecError(
                f"auxiliary.{name}.stream=own needs an algorithm that learns from whole "
                f"fragments, ppo or a3c; {algorithm} learns from single steps of a replay buffer. "
                "Leave stream out: the intrinsic reward is then added to the extrinsic one."
            )
        if not has_replay and is_sampled(config):
            raise SpecError(
                f"auxiliary.{name}.bonus_when=sampled needs an algorithm with a replay buffer: "
                f"rainbow, sac or ddpg; {algorithm} computes every reward once. Leave bonus_when "
                "out."
            )


def own_streams(losses: nn.ModuleDict) -> dict[str, BonusConfig]:
    """Loss -> its options, of the losses with a stream of their own."""
    configs: dict[str, Any] = {name: loss.config for name, loss in losses.items()}
    return {name: config for name, config in configs.items() if has_own_stream(config)}
