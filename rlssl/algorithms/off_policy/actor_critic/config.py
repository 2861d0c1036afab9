"""What the configs of SAC and DDPG share: an actor that learns through its critic."""

import inspect
import typing
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import gymnasium as gym
import numpy as np
from ray.rllib.algorithms.algorithm_config import NotProvided

from rlssl.algorithms.off_policy.config import (
    OffPolicyConfig,
    ReplaySettings,
    parse_replay,
)
from rlssl.environments.preflight import EnvSpaces
from rlssl.errors import SpecError
from rlssl.schedules import Schedule

#: The words that an option takes.
_WORDS: dict[str, tuple[str, ...]] = {
    "network_init": ("fan_in", "orthogonal"),
    "auxiliary_step": ("joint", "separate"),
}

#: Options of losses, the `auxiliary_step` that each needs, and why.
_STEPS_NEEDED = (
    ("double_encoder_step", "separate", "where the encoder's step for the loss is its own"),
    ("isolated", "joint", "whose one step leaves the RL loss's gradient out"),
)

#: What the RLModule is told besides ``.model()``.
_NETWORK = (
    *("critic_hidden", "actor_hidden", "num_critics", "network_init", "tau", "encoder_tau"),
    *("target_encoder", "random_agent_steps"),
)


class OffPolicyActorCriticConfig(OffPolicyConfig):
    """Networks, two speeds of target networks, when the actor learns, random actions.

    A subclass's ``training`` names its own arguments and passes the others on.
    """

    # Vectors: common settings of SAC and TD3, the critics' first layer in common. Frames: CURL's
    # and SAC-AE's networks.
    defaults_by_input: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "vectors": {
            "lr": 1e-3,
            "_train_batch_size_per_learner": 256,
            "critic_hidden": [256],
            "actor_hidden": [256],
            "tau": 0.005,
            "actor_update_every_updates": 1,
            "target_update_every_updates": 1,
            "agent_steps_per_iteration": 1_000,
        },
        "frames": {
            "lr": 5e-4,
            "_train_batch_size_per_learner": 128,
            "critic_hidden": [1024, 1024],
            "actor_hidden": [1024, 1024],
            "tau": 0.01,
            "encoder_tau": 0.05,
            "actor_update_every_updates": 2,
            "target_update_every_updates": 2,
            "agent_steps_per_iteration": 50,
        },
    }

    def _set_actor_critic_defaults(self) -> None:
        self._set_off_policy_defaults()
        self.num_envs_per_env_runner = 1
        self.n_step = 1
        self.updates_per_agent_step = 1.0
        self.learning_starts_agent_steps = 1_000
        self.random_agent_steps = 1_000
        self.grad_clip = None
        self.adam_epsilon = 1e-8
        self.actor_lr: Schedule | None = None
        self.critic_weight_decay = 0.0
        self.num_critics = 2
        self.network_init = "fan_in"
        self.encoder_tau: float | None = None
        self.target_encoder = True
        self.reuse_features = False
        self.auxiliary_step = "joint"

    @classmethod
    def training_arguments(cls) -> dict[str, Any]:
        """The keyword arguments of ``.training()`` and their types, those passed on included."""
        arguments: dict[str, Any] = {}
        for base in reversed(cls.__mro__):
            if "training" not in vars(base) or not issubclass(base, OffPolicyActorCriticConfig):
                continue
            hints = typing.get_type_hints(base.training)
            for entry in inspect.signature(base.training).parameters.values():
                if entry.kind is inspect.Parameter.KEYWORD_ONLY:
                    arguments[entry.name] = hints[entry.name]
        return arguments

    def training(
        self,
        *,
        n_step: int = NotProvided,
        gamma: float = NotProvided,
        lr: Schedule = NotProvided,
        actor_lr: Schedule | None = NotProvided,
        adam_epsilon: float = NotProvided,
        critic_weight_decay: float = NotProvided,
        train_batch_size_per_learner: int = NotProvided,
        grad_clip: float | None = NotProvided,
        critic_hidden: list[int] = NotProvided,
        actor_hidden: list[int] = NotProvided,
        num_critics: int = NotProvided,
        network_init: Literal["fan_in", "orthogonal"] = NotProvided,
        tau: float = NotProvided,
        encoder_tau: float | None = NotProvided,
        target_encoder: bool = NotProvided,
        actor_update_every_updates: int = NotProvided,
        target_update_every_updates: int = NotProvided,
        random_agent_steps: int = NotProvided,
        reuse_features: bool = NotProvided,
        auxiliary_step: Literal["joint", "separate"] = NotProvided,
        replay: Mapping[str, Any] = NotProvided,
        replay_capacity: int = NotProvided,
        learning_starts_agent_steps: int = NotProvided,
        updates_per_agent_step: float = NotProvided,
        agent_steps_per_iteration: int = NotProvided,
        **rllib: Any,
    ) -> Self:
        """Sets what the update does. Schedules are a number or [[env_steps, value], ...].

        Args:
            n_step: Steps of the return before the bootstrap; >= 1.
            gamma: Discount per agent step; in [0, 1].
            lr: Learning rate of Adam; > 0.
            actor_lr: The actor's; None: ``lr``.
            adam_epsilon: Adam's epsilon; > 0.
            critic_weight_decay: L2 penalty of the critics' and the encoder's Adam; >= 0.
            train_batch_size_per_learner: Transitions of an update, for each Learner.
            grad_clip: Largest global gradient norm of each optimizer; None: no clipping.
            critic_hidden: Features of the critics' hidden layers behind the encoder.
            actor_hidden: Features of the actor's hidden layers behind its encoder.
            num_critics: Critics, of which targets take the least; >= 1.
            network_init: ``fan_in`` (torch's) or ``orthogonal`` (SAC-AE's), of all but encoders.
            tau: Share that the target critics take over whenever they move; in (0, 1].
            encoder_tau: The target encoder's share; None: ``tau``.
            target_encoder: Whether the target critics have an encoder of their own (of images:
                convolutions), or read the learning one's features.
            actor_update_every_updates: The actor learns after every so many updates of the critics.
            target_update_every_updates: The targets move after every so many.
            random_agent_steps: Agent steps from the run's start with uniformly random actions.
            reuse_features: Whether the actor learns from the convolutions' features of before the
                critics' step, as DrQ-v2 has it; else they are computed again.
            auxiliary_step: ``joint``: auxiliary losses are added to the critics' loss; or
                ``separate``: they have a step of their own at the end, as in CURL's code.
            replay: Fields of `ReplaySettings`; draws are uniform unless ``prioritized`` is true.
            replay_capacity: Frames.
            learning_starts_agent_steps: Agent steps before the first update.
            updates_per_agent_step: Updates for every agent step from then on.
            agent_steps_per_iteration: Agent steps that a result tells of, at least.
            **rllib: What RLlib itself passes when it copies a config.
        """
        self._set_given(locals(), OffPolicyActorCriticConfig)
        return super().training(**rllib)

    def _set_given(self, given: Mapping[str, Any], owner: type) -> None:
        """Sets those of a ``training`` method's locals that it was given.

        Args:
            given: Its ``locals()``.
            owner: The class whose method it is.
        """
        own = inspect.signature(owner.training).parameters  # type: ignore[attr-defined]
        named = [key for key, entry in own.items() if entry.kind is entry.KEYWORD_ONLY]
        self._set_training({k: given[k] for k in named if given[k] is not NotProvided})

    @property
    def replay_settings(self) -> ReplaySettings:
        """``training.replay``, uniform unless it says otherwise."""
        return parse_replay({"prioritized": False, **self.replay})

    def adapt_to(self, spaces: EnvSpaces | None) -> None:
        """As for every off-policy algorithm; refuses other actions than bounded vectors.

        Raises:
            SpecError: With the space and the fix.
        """
        super().adapt_to(spaces)
        if spaces is not None and spaces.action_space is not None:
            check_actions(spaces.action_space, self.algorithm_name)

    def check_training(self) -> None:
        """Checks ranges.

        Raises:
            SpecError: Naming the key and the value.
        """
        super().check_training()
        self.check_words(_WORDS)
        for key in ("critic_hidden", "actor_hidden"):
            sizes = getattr(self, key)
            if any(type(size) is not int or size < 1 for size in sizes or []):
                raise SpecError(f"training.{key} must list sizes >= 1; got {sizes}.")
        for key in ("num_critics", "actor_update_every_updates"):
            self.check_range(key, 1, None)
        for key in ("tau", "encoder_tau"):
            self.check_range(key, 0, 1, exclusive=True)
        for key in ("critic_weight_decay", "random_agent_steps"):
            self.check_range(key, 0, None)
        self.check_schedule_of("actor_lr")
        self._check_auxiliary_step()

    def _check_auxiliary_step(self) -> None:
        for key, needed, why in _STEPS_NEEDED:
            asked = [name for name, own in self.auxiliary_losses.items() if _option(own, key)]
            if asked and self.auxiliary_step != needed:
                raise SpecError(
                    f"auxiliary.{asked[0]}.{key} needs training.auxiliary_step: {needed}, {why}; "
                    f"got {self.auxiliary_step!r}."
                )

    def check_words(self, words: Mapping[str, tuple[str, ...]]) -> None:
        """Raises a SpecError unless attributes have one of the words they may have."""
        for key, known in words.items():
            if getattr(self, key) not in known:
                raise SpecError(
                    f"training.{key} must be one of {list(known)}; got {getattr(self, key)!r}."
                )

    def _refuse_unsupported(self) -> None:
        super()._refuse_unsupported()
        if not self.normalize_actions:
            raise SpecError(
                f"{self.algorithm_name} acts in [-1, 1], which normalize_actions=True maps to the "
                "environment's bounds; leave it at that."
            )

    @property
    def module_settings(self) -> dict[str, Any]:
        """What the RLModule is built from, beside the spaces."""
        own = {key: getattr(self, key) for key in _NETWORK}
        return {**super().module_settings, **own, "action_repeat": self.action_repeat or 1}


def check_actions(space: gym.Space, algorithm: str) -> int:
    """The number of features of an action.

    Raises:
        SpecError: For anything but a bounded, floating Box of one dimension.
    """
    is_vector = len(space.shape or ()) == 1 and np.issubdtype(space.dtype, np.floating)
    if not isinstance(space, gym.spaces.Box) or not is_vector:
        fix = "Flatten them in a wrapper of the environment"
        if isinstance(space, gym.spaces.Discrete):
            fix = "Choose an algorithm for discrete actions (rainbow, ppo)"
        raise SpecError(
            f"algorithm '{algorithm}' needs continuous actions, a floating Box of one dimension; "
            f"got {space}. {fix}."
        )
    if not space.is_bounded():
        raise SpecError(
            f"algorithm '{algorithm}' needs actions with finite bounds, to which it scales its "
            f"own; got {space}. Give the Box bounds in a wrapper (gymnasium's RescaleAction)."
        )
    return int(space.shape[0])


def _option(options: Any, key: str) -> Any:
    """Of a loss, as a mapping or as its config; None where it is not given."""
    return options.get(key) if isinstance(options, Mapping) else getattr(options, key, None)
