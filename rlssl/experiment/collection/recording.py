"""What is recorded: the environment, the policy, and the seed of every episode."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlssl.data import Description
from rlssl.data.description import FRAME_STACK
from rlssl.environments.building import Split
from rlssl.environments.env_check import EnvSpaces
from rlssl.environments.vector_infos import DEFAULT_SUCCESS
from rlssl.errors import SpecError
from rlssl.evaluation import MAX_EPISODE_STEPS
from rlssl.system.seeding import environment_seed, integer, stream

#: The policy of uniformly random actions.
RANDOM = "random"

#: Keys of a description's notes: how the episodes were chosen, and what was played so far.
SETTINGS, PLAYED = "collect", "played"


@dataclass(frozen=True)
class PolicySource:
    """Where the actions come from."""

    # `RANDOM`, ``expert/NAME``, or the name of a trained policy, for the description.
    name: str
    # The folder of a trained policy.
    folder: Path | None = None
    # SHA-256 of the weights of a trained policy.
    sha256: str | None = None
    # Whether an episode succeeds if "any" step does, or the "last" one.
    success: str = DEFAULT_SUCCESS

    def to_json(self) -> dict[str, Any]:
        """The policy in the description of a data set."""
        weights = {} if self.sha256 is None else {"weights_sha256": self.sha256}
        return {"name": self.name, **weights}


@dataclass(frozen=True)
class Choices:
    """How episodes are played; part of the description of a data set."""

    # "train": what a learner would see, from seeds that no evaluation uses; "eval": the episodes
    # of `rlssl evaluate`.
    split: Split = "train"
    # Whether a trained policy samples its actions.
    explore: bool = False
    # Share of the steps, in [0, 1], whose action is drawn uniformly instead.
    noise: float = 0.0
    # Agent steps after which an episode is truncated.
    max_episode_steps: int = MAX_EPISODE_STEPS
    # Whether actions and rewards are recorded.
    actions: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.noise <= 1:
            raise SpecError(f"--noise is a share of the steps, in [0, 1]; got {self.noise:g}.")


@dataclass(frozen=True)
class Recording:
    """Everything that decides what episode k is."""

    # ``{"id": ..., **options}``.
    env: Mapping[str, Any]
    policy: PolicySource
    seed: int = 0
    choices: Choices = Choices()

    def episode_seed(self, index: int) -> int:
        """The seed of an episode: far from those of evaluations in the split "train".

        Example:
            >>> source = PolicySource("random")
            >>> Recording({"id": "CartPole-v1"}, source, 7, Choices("eval")).episode_seed(3)
            10
            >>> Recording({"id": "CartPole-v1"}, source).episode_seed(3) >= 2**30
            True
        """
        if self.choices.split == "eval":
            return self.seed + index
        return environment_seed(stream(self.seed, "collection", copy=index))

    def actions_seed(self, index: int) -> int:
        """The seed of the random actions of an episode."""
        return integer(stream(self.seed, "collection_actions", copy=index)) % 2**31

    def description(self, spaces: EnvSpaces) -> Description:
        """The description of the data set."""
        stack = {} if spaces.frame_stack == 1 else {FRAME_STACK: spaces.frame_stack}
        return Description(
            observation_space=spaces.observation_space,
            action_space=spaces.action_space if self.choices.actions else None,
            env=self.env,
            policy=self.policy.to_json(),
            seed=self.seed,
            notes={SETTINGS: asdict(self.choices), **stack},
        )
