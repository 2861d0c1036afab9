"""GAIL: the reward is how much a step looks like one of the demonstrations."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gymnasium as gym
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.auxiliary.bonus_options import BonusConfig
from rlssl.auxiliary.bonuses.icm import build_features
from rlssl.auxiliary.imitation.demonstrations import (
    DemonstrationLoss,
    DemonstrationOptions,
    Demonstrations,
)
from rlssl.auxiliary.normalization import DiscountedReturnScale
from rlssl.errors import SpecError
from rlssl.losses import discriminator_loss, discriminator_reward, slope_penalty
from rlssl.losses.adversarial import REWARD_FORMS
from rlssl.networks.action_encoding import action_dim, encode_action
from rlssl.networks.encoders import Encoder, check_sizes
from rlssl.networks.heads import linear_head
from rlssl.networks.layers.initialization import HIDDEN_GAIN, OUTPUT_GAIN
from rlssl.networks.layers.linear import Layers


class GAIL(DemonstrationLoss):
    """Generative adversarial imitation learning.

    A discriminator with the logit f tells steps of the demonstrations (e) from steps of the policy
    (p), and the policy is rewarded for steps that it takes for demonstrations::

        loss   = softplus(-f(s_e, a_e)) + softplus(f(s_p, a_p))
        reward = softplus(f(s, a)) = -log(1 - D(s, a)),  D = sigmoid(f)

    With ``states: true``, f reads (s, s') instead of (s, a), and demonstrations need no actions.
    Actions are those that the environment took: clipped at its bounds.

    The reward is positive (``log_d``: negative), so it also rewards (punishes) long episodes. Where
    the policy decides when an episode ends, that alone can look like imitation. So demonstrations
    and training must have episodes that only a time limit ends, unless ``allow_variable_horizon``.

    Source:
        Ho and Ermon 2016, arXiv:1606.03476; states only: Torabi et al. 2018, arXiv:1807.06158
        (GAIfO). Differs: see PAPERS.md.
    """

    @dataclasses.dataclass(frozen=True)
    class Config(BonusConfig, DemonstrationOptions):
        """Options of GAIL."""

        # Weight of the reward; ours.
        intrinsic_coeff: float = 1.0
        # Learning rate of the discriminator; > 0; None: the algorithm's; ours.
        lr: float | None = 3e-4
        # The reward: "softplus" (-log(1 - D), > 0), "log_d" (log D, < 0) or "logit" (their sum).
        reward: str = "softplus"
        # Whether the discriminator reads the next observation instead of the action.
        states: bool = False
        # What it reads of observations: "own" (a network in this loss) or "shared" (the latents of
        # the RL encoder, without gradients).
        features: str = "own"
        # Features of its hidden layers, with tanh; published: [100, 100].
        hidden: Sequence[int] = (64, 64)
        # Weight of the penalty on slopes that differ from 1, between steps of demonstrations and of
        # the policy; >= 0; 0: none.
        gradient_penalty: float = 0.0
        # Whether the reward is divided by the running std of its discounted return.
        normalize: bool = False
        # Discount of that return; in [0, 1).
        gamma: float = 0.99
        # Whether episodes may end by termination, and demonstrations differ in length.
        allow_variable_horizon: bool = False
        # Name of the encoder of own features; None: chosen by the space; vectors are read directly.
        encoder: str | None = None
        # Options of that encoder.
        encoder_config: Mapping[str, Any] = dataclasses.field(default_factory=dict)

        @property
        def needs_chunks(self) -> bool:
            """Whether running statistics divide the reward."""
            return self.normalize

        def idle_options(self) -> dict[str, str]:
            """Options of own features and of the normalization, if there are none."""
            of_own = ("encoder", "encoder_config")
            idle = {} if self.features == "own" else dict.fromkeys(of_own, "features: own")
            idle |= {} if self.normalize else {"gamma": "normalize: true"}
            return {**super().idle_options(), **idle}

        def __post_init__(self) -> None:
            """Checks ranges.

            Raises:
                ValueError: If a value is out of range; the message names field and value.
            """
            object.__setattr__(self, "hidden", tuple(check_sizes("hidden", self.hidden)))
            if self.normalize is True and self.bonus_when == "sampled":
                raise ValueError(
                    "normalize needs the order of steps, which a batch of a replay buffer does not "
                    "have; set normalize to false, or bonus_when to stored."
                )
            super().__post_init__()
            if self.reward not in REWARD_FORMS:
                raise ValueError(
                    f"reward must be one of {list(REWARD_FORMS)}; got {self.reward!r}."
                )
            if self.features not in ("own", "shared"):
                raise ValueError(f"features must be own or shared; got {self.features!r}.")
            if not self.gradient_penalty >= 0:
                raise ValueError(f"gradient_penalty must be >= 0; got {self.gradient_penalty}.")
            if not 0.0 <= self.gamma < 1.0:
                raise ValueError(f"gamma must be in [0, 1); got {self.gamma}.")

    config: Config

    trains = "own"
    # The reward follows the discriminator, so a stored one would be out of date.
    defaults_with_replay: ClassVar[Mapping[str, Any]] = {"bonus_when": "sampled"}
    reads = frozenset({Columns.OBS, Columns.ACTIONS, Columns.TERMINATEDS})

    def __init__(self, config: Config, **given: Any) -> None:
        super().__init__(config, **given)
        self.needs_actions = not config.states
        self._columns = [Columns.OBS, Columns.NEXT_OBS if config.states else Columns.ACTIONS]
        # ACTIONS also count the rows.
        self.reads = GAIL.reads | {*self._columns}
        self.features = None if config.features == "shared" else self._make_features()
        width = int((self.features or self.encoder).output_dim)
        more = width if config.states else action_dim(self.action_space)
        self.discriminator = _discriminator(width + more, config.hidden)
        self.return_scale = DiscountedReturnScale(config.gamma) if config.normalize else None
        # Logits of the last update, for `metrics`, and whether an episode has terminated.
        self._logits: tuple[Tensor, Tensor] | None = None
        self._has_terminated: Tensor | None = None

    def check_demonstrations(self, demonstrations: Demonstrations) -> None:
        """Also refuses episodes of different lengths, unless the user allows them.

        Raises:
            SpecError: Naming the option, its value and the fix.
        """
        super().check_demonstrations(demonstrations)
        if self.config.allow_variable_horizon:
            return
        path, lengths = self.config.demonstrations, demonstrations.lengths
        if demonstrations.num_terminated:
            raise SpecError(
                f"demonstrations: {demonstrations.num_terminated} of {len(lengths)} episodes of "
                f"{path} ended by termination. {_BIAS} Use an environment that only a time limit "
                "ends, or set allow_variable_horizon to true."
            )
        if min(lengths) != max(lengths):
            raise SpecError(
                f"demonstrations: the episodes of {path} have {min(lengths)} to {max(lengths)} "
                f"steps. {_BIAS} Record whole episodes of one length, or set "
                "allow_variable_horizon to true."
            )

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``discriminator``, [N], nats; ``slope_penalty``, [N], weighted, if there is one."""
        self._note_terminations(batch[Columns.TERMINATEDS])
        policy = self._inputs(batch)
        demonstrated = self._inputs(self.draw(len(policy), self._columns, policy.device))
        logits = [self._logit(demonstrated), self._logit(policy)]
        self._logits = logits[0].detach(), logits[1].detach()
        losses = {"discriminator": discriminator_loss(*logits)}
        if self.config.gradient_penalty:
            inputs = self._between(demonstrated.detach(), policy.detach())
            penalty = slope_penalty(self._logit(inputs), inputs)
            losses["slope_penalty"] = self.config.gradient_penalty * penalty
        return losses

    @torch.no_grad()
    def intrinsic_reward(self, batch: Mapping[str, Any]) -> Tensor:
        """[N], nats; with ``normalize`` divided by the std of its discounted return."""
        reward = discriminator_reward(self._logit(self._inputs(batch)), self.config.reward)
        if self.return_scale is None:
            return reward
        return self.return_scale(reward, batch["chunks"], self.peers)

    def metrics(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Shares of steps that the discriminator recognizes; both 0.5 if it is guessing.

        ``demonstration_accuracy``: of the demonstrations; ``policy_accuracy``: of the policy.

        Raises:
            SpecError: If an episode has terminated, unless ``allow_variable_horizon``.
        """
        del batch
        if self._has_terminated is not None and bool(self._has_terminated):
            raise SpecError(
                f"auxiliary loss gail: an episode of training ended by termination. {_BIAS} Use an "
                "environment that only a time limit ends, or set allow_variable_horizon to true."
            )
        if self._logits is None or not len(self._logits[0]):
            return {}
        demonstrated, policy = self._logits
        return {
            "demonstration_accuracy": (demonstrated > 0).float().mean(),
            "policy_accuracy": (policy <= 0).float().mean(),
        }

    def _note_terminations(self, terminated: Tensor) -> None:
        """Remembers a termination; `metrics` looks at it, since reading a GPU would wait."""
        if self.config.allow_variable_horizon:
            return
        found = terminated.bool().any()
        earlier = self._has_terminated
        self._has_terminated = found if earlier is None else earlier | found

    def _logit(self, inputs: Tensor) -> Tensor:
        """[N], f."""
        return self.discriminator(inputs).squeeze(-1)

    def _inputs(self, batch: Mapping[str, Any]) -> Tensor:
        """[N, D], what the discriminator's layers read."""
        first = self._encoded(batch, Columns.OBS)
        if self.config.states:
            return torch.cat([first, self._encoded(batch, Columns.NEXT_OBS)], dim=-1)
        actions = encode_action(batch[Columns.ACTIONS], self.action_space)
        return torch.cat([first, actions.to(first)], dim=-1)

    def _encoded(self, batch: Mapping[str, Any], column: str) -> Tensor:
        if self.features is not None:
            encoded: Tensor = self.features(batch[column])
            return encoded
        with torch.no_grad():
            return self.latents(batch, column).detach()

    def _between(self, first: Tensor, second: Tensor) -> Tensor:
        """[N, D], random points between two rows each, with a gradient."""
        start, total = self.peers.rows(len(first))
        # Not the numbers of `draw`, which has drawn the steps.
        generator = self.update_rng.generator()
        generator.manual_seed(generator.initial_seed() ^ 1)
        share = torch.rand(total, 1, generator=generator)[start : start + len(first)].to(first)
        return torch.lerp(second, first, share).requires_grad_()

    def _make_features(self) -> Encoder:
        name, options = self.config.encoder, self.config.encoder_config
        space = self.observation_space
        is_vector = isinstance(space, gym.spaces.Box) and len(space.shape) == 1
        if name is None and is_vector and not options:
            name, options = "mlp", {"hidden": []}
        return build_features(space, name, options, like=self.encoder)


#: Why episodes must have one length.
_BIAS = (
    "GAIL's reward has one sign, so it rewards longer (log_d: shorter) episodes, whatever happens "
    "in them."
)


def _discriminator(width: int, hidden: Sequence[int]) -> nn.Module:
    """From [N, width] to the logit [N, 1], which starts near 0."""
    layers: list[nn.Module] = []
    for features in hidden:
        layers += [linear_head(width, features, HIDDEN_GAIN), nn.Tanh()]
        width = features
    return Layers(*layers, linear_head(width, 1, OUTPUT_GAIN))
