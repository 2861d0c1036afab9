"""What the configs of all algorithms that learn from a replay buffer share."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rlssl.algorithms.common.config import BaseConfig
from rlssl.auxiliary.base import AuxiliaryLoss
from rlssl.environments.preflight import EnvSpaces
from rlssl.errors import SpecError, suggest
from rlssl.ray_internals.env_runner import custom_connectors
from rlssl.registry import AUXILIARY_LOSSES
from rlssl.replay import check_memory, estimate_bytes

#: Vector steps of a fragment where `env_runners.fragment_length` is left to the algorithm.
VECTOR_STEPS = 4

#: Env steps over which beta rises where nobody says when the run ends.
DEFAULT_ANNEAL_ENV_STEPS = 1_000_000


@dataclasses.dataclass(frozen=True)
class ReplaySettings:
    """``training.replay``: how the replay draws, and where it lies."""

    # Whether draws follow priorities.
    prioritized: bool = True
    # How much priorities count; in [0, 1]; Rainbow's 0.5.
    alpha: float = 0.5
    # Exponent of the importance weights at the start and at last; >= 0; Rainbow's 0.4 and 1.
    beta_start: float = 0.4
    beta_end: float = 1.0
    # Env steps until beta_end; > 0; None: the run's, stop.env_steps, else 1,000,000.
    beta_anneal_env_steps: int | None = None
    # Share of the node's memory that the replay may take; in (0, 1].
    max_memory_share: float = 0.5
    # Folder of a local disk for the frames; None: memory.
    storage_path: str | None = None
    # Batches drawn ahead in a background thread; 0: none. They see priorities so much later.
    prefetch: int = 0
    # Whether auxiliary losses get a batch of their own, drawn uniformly.
    uniform_for_auxiliary: bool = False

    def __post_init__(self) -> None:
        """Checks types and ranges.

        Raises:
            ValueError: Naming the field and the value.
        """
        for key in ("prioritized", "uniform_for_auxiliary"):
            if not isinstance(getattr(self, key), bool):
                raise ValueError(f"{key} must be true or false; got {getattr(self, key)!r}.")
        if not isinstance(self.storage_path, str | None):
            raise ValueError(f"storage_path must be a folder or null; got {self.storage_path!r}.")
        if type(self.prefetch) is not int or self.prefetch < 0:
            raise ValueError(f"prefetch must be a whole number >= 0; got {self.prefetch!r}.")
        anneal = self.beta_anneal_env_steps
        if anneal is not None and (type(anneal) is not int or anneal < 1):
            raise ValueError(f"beta_anneal_env_steps must be a whole number > 0; got {anneal!r}.")
        for key, low, high in (
            ("alpha", 0.0, 1.0),
            ("beta_start", 0.0, None),
            ("beta_end", 0.0, None),
            ("max_memory_share", 1e-6, 1.0),
        ):
            value = getattr(self, key)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not low <= value <= (value if high is None else high):
                bound = f"in [{low:g}, {high:g}]" if high is not None else f">= {low:g}"
                raise ValueError(f"{key} must be a number {bound}; got {value!r}.")


def parse_replay(options: Mapping[str, Any]) -> ReplaySettings:
    """``training.replay`` as its dataclass.

    Raises:
        SpecError: For an unknown key, with a suggestion, or a bad value.
    """
    known = [field.name for field in dataclasses.fields(ReplaySettings)]
    for key in options:
        if key not in known:
            end = suggest(str(key), known, "training.replay.")
            raise SpecError(f"unknown key 'training.replay.{key}'{end}")
    try:
        return ReplaySettings(**options)
    except ValueError as error:
        raise SpecError(f"training.replay.{error}") from error


class OffPolicyConfig(BaseConfig, AlgorithmConfig):
    """Replay, learning starts, updates per agent step and target copies.

    A subclass lists them among the arguments of its ``training``.
    """

    def _set_off_policy_defaults(self) -> None:
        self.num_env_runners = 0
        self.num_envs_per_env_runner = 8
        # RLlib's 200 vector steps would be many updates behind the policy; see VECTOR_STEPS.
        self.rollout_fragment_length = "auto"
        self.gamma = 0.99
        self.n_step = 3
        self.replay_capacity = 100_000
        # None: the defaults of ReplaySettings.
        self.replay: dict[str, Any] = {}
        self.learning_starts_agent_steps = 1_000
        self.updates_per_agent_step = 0.25
        # Agent steps that one result tells of.
        self.agent_steps_per_iteration = 1_000
        # Hard copies every so many updates; or, where it is set, a share of the weights each time.
        self.target_update_every_updates = 100
        self.target_tau: float | None = None
        # Whether the auxiliary loss enters priorities, as in a published code of CURL.
        self.auxiliary_in_priorities = False
        self.grad_clip: float | None = 10.0
        self.grad_clip_by = "global_norm"

    def _set_training(self, given: Mapping[str, Any]) -> None:
        """Sets what ``training`` was given; options of ``replay`` are laid over those before."""
        for key, value in given.items():
            if key == "replay":
                self.replay = {**self.replay, **value}
                parse_replay(self.replay)
            else:
                name = "_train_batch_size_per_learner" if key.startswith("train_batch") else key
                setattr(self, name, value)

    @property
    def replay_settings(self) -> ReplaySettings:
        """``training.replay`` with the defaults."""
        return parse_replay(self.replay)

    @property
    def beta_anneal_env_steps(self) -> int:
        """Env steps until ``beta_end``."""
        own = self.replay_settings.beta_anneal_env_steps
        return own or self.total_env_steps or DEFAULT_ANNEAL_ENV_STEPS

    @property
    def gives_intrinsic_rewards(self) -> bool:
        """Whether one of the auxiliary losses does."""
        base = AuxiliaryLoss.intrinsic_reward
        return any(
            AUXILIARY_LOSSES[name].intrinsic_reward is not base for name in self.auxiliary_losses
        )

    def get_rollout_fragment_length(self, worker_index: int = 0) -> int:
        """Vector steps between two updates; few, so that the policy that acts is fresh."""
        del worker_index
        own = self.rollout_fragment_length
        return VECTOR_STEPS if own == "auto" else int(own)

    def adapt_to(self, spaces: EnvSpaces | None) -> None:
        """As for every algorithm; refuses a replay that memory has no room for.

        Raises:
            SpecError: With its size and the memory's.
        """
        super().adapt_to(spaces)
        if spaces is None or spaces.observation_space is None or spaces.action_space is None:
            return
        settings = self.replay_settings
        try:
            num_bytes = estimate_bytes(
                self.replay_capacity,
                spaces.observation_space,
                spaces.action_space,
                self.frame_stack,
                prioritized=settings.prioritized,
                intrinsic_rewards=self.gives_intrinsic_rewards,
            )
            if settings.storage_path is None:
                check_memory(
                    num_bytes, settings.max_memory_share, setting="training.replay_capacity"
                )
        except (MemoryError, ValueError) as error:
            raise SpecError(f"training.replay: {error}") from error

    def check_training(self) -> None:
        """Checks what all algorithms with a replay share.

        Raises:
            SpecError: Naming the key and the value.
        """
        self.check_range("gamma", 0, 1)
        self.check_range("updates_per_agent_step", 0, None)
        for key in ("n_step", "replay_capacity", "agent_steps_per_iteration", "adam_epsilon"):
            self.check_range(key, 0, None, exclusive=True)
        for key in ("_train_batch_size_per_learner", "grad_clip", "target_update_every_updates"):
            self.check_range(key, 0, None, exclusive=True)
        self.check_range("learning_starts_agent_steps", 0, None)
        self.check_range("target_tau", 0, 1, exclusive=True)
        self.check_schedule_of("lr")
        if self.replay_capacity <= self.frame_stack:
            raise SpecError(
                f"training.replay_capacity must be > model.frame_stack ({self.frame_stack}); got "
                f"{self.replay_capacity}."
            )
        parse_replay(self.replay)

    def _refuse_unsupported(self) -> None:
        super()._refuse_unsupported()
        num_envs = self.num_envs_per_env_runner * max(1, self.num_env_runners)
        is_short = num_envs < self.num_learners or self.get_rollout_fragment_length() < 2
        # RLlib's config for its own evaluation, whose fragments are of one step, learns nothing.
        is_short = is_short and not self.in_evaluation
        if self.gives_intrinsic_rewards and self.num_learners > 1 and is_short:
            # A vector step may be the reset of an autoreset, which gives no chunk.
            raise SpecError(
                f"intrinsic rewards by {self.num_learners} Learners need a chunk for each in every "
                f"fragment: as many environments (got {num_envs}) and 2 vector steps or more (got "
                f"{self.get_rollout_fragment_length()}). Raise env_runners.num_envs and "
                "env_runners.fragment_length, or lower resources.learners."
            )
        pieces = custom_connectors(self)
        if self._learner_connector is not None:
            pieces.append("learner_connector")
        if pieces:
            raise SpecError(
                f"{pieces} of your own have no effect on what a replay gives; leave them out, or "
                "change observations in a wrapper of the environment."
            )
