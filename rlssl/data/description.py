"""``dataset.json``: what a data set holds, and the shards that it consists of."""

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Self

import gymnasium as gym

from rlssl.data.spaces import space_from_json, space_to_json
from rlssl.errors import SpecError
from rlssl.system.json_output import readable_json

#: The file in the folder of a data set that describes it.
DATASET_FILE = "dataset.json"

#: Version of the format; raised when older readers could misread newer data sets.
FORMAT_VERSION = 1

#: Key of the notes: observations in a stack, as the environment suggests.
FRAME_STACK = "suggested_frame_stack"

_PACKAGES = ("rlssl", "ray", "gymnasium", "numpy", "pyarrow")


def installed_versions() -> dict[str, str]:
    """The versions of Python and of the packages that make and write episodes."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # a copy of the sources that is not installed
    return found


@dataclass(frozen=True)
class Description:
    """What the episodes of a data set are.

    Attributes:
        observation_space: The space of one frame.
        action_space: The environment's action space; None: the actions are unknown.
        env: The environment: ``id``, and its options as in a spec's ``env`` section; None: unknown.
        policy: What chose the actions, in JSON: ``random``, the name of a run, an expert.
        seed: The seed of the recording.
        versions: Name of a package -> version when the episodes were recorded.
        notes: Anything else, in JSON.

    Example:
        >>> space = gym.spaces.Box(-1, 1, (3,))
        >>> Description(space, gym.spaces.Discrete(2), env={"id": "CartPole-v1"}).env["id"]
        'CartPole-v1'
    """

    observation_space: gym.Space
    action_space: gym.Space | None = None
    env: Mapping[str, Any] | None = None
    policy: Any = None
    seed: int | None = None
    versions: Mapping[str, str] = field(default_factory=installed_versions)
    notes: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON.

        Raises:
            ValueError: If a space cannot be recorded, or a value is not JSON.
        """
        action_space = self.action_space
        saved = {
            "observation_space": space_to_json(self.observation_space),
            "action_space": None if action_space is None else space_to_json(action_space),
            "env": None if self.env is None else dict(self.env),
            "policy": self.policy,
            "seed": self.seed,
            "frame_stack": 1,
            "versions": dict(self.versions),
            "notes": dict(self.notes),
        }
        try:
            return json.loads(json.dumps(saved, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"the description of a data set must be JSON: {error}; give text, numbers, lists "
                "and dicts."
            ) from error

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Self:
        """Reads what `to_json` wrote; unknown keys are ignored."""
        action_space = saved.get("action_space")
        return cls(
            observation_space=space_from_json(saved["observation_space"]),
            action_space=None if action_space is None else space_from_json(action_space),
            env=saved.get("env"),
            policy=saved.get("policy"),
            seed=saved.get("seed"),
            versions=saved.get("versions") or {},
            notes=saved.get("notes") or {},
        )


@dataclass(frozen=True)
class Shard:
    """One Parquet file of whole episodes, and which rows of the data set it holds."""

    file: str
    first_episode: int
    num_episodes: int
    first_row: int
    num_rows: int
    #: Size of the file.
    bytes: int
    sha256: str
    #: Smallest, mean and largest return of its episodes, and shortest and longest length.
    returns: Mapping[str, float] = field(default_factory=dict)
    lengths: Mapping[str, int] = field(default_factory=dict)
    #: Episodes that terminated, and that were truncated.
    terminated: int = 0
    truncated: int = 0

    @property
    def num_steps(self) -> int:
        """Steps: one fewer than rows, in each episode."""
        return self.num_rows - self.num_episodes

    @property
    def where(self) -> str:
        """Its rows and episodes, in words."""
        last_row = self.first_row + self.num_rows - 1
        last_episode = self.first_episode + self.num_episodes - 1
        return (
            f"{self.file} (rows {self.first_row} to {last_row}, episodes {self.first_episode} to "
            f"{last_episode})"
        )


@dataclass(frozen=True)
class Manifest:
    """The content of ``dataset.json``.

    Attributes:
        description: What the episodes are.
        shards: In order.
        complete: Whether the recorder ended by itself; False while it runs, and after a kill.
    """

    description: Description
    shards: tuple[Shard, ...] = ()
    complete: bool = False

    def encode(self) -> bytes:
        """The content of the file."""
        saved = {
            "format": "rlssl episodes",
            "format_version": FORMAT_VERSION,
            "complete": self.complete,
            "num_episodes": sum(shard.num_episodes for shard in self.shards),
            "num_steps": sum(shard.num_steps for shard in self.shards),
            "num_rows": sum(shard.num_rows for shard in self.shards),
            **self.description.to_json(),
            "shards": [asdict(shard) for shard in self.shards],
        }
        return (readable_json(saved, indent=1) + "\n").encode()

    @classmethod
    def decode(cls, content: bytes, where: str) -> Self:
        """Reads the content of the file.

        Args:
            content: The bytes.
            where: The data set, for messages.

        Raises:
            SpecError: If it is damaged or newer than this version of rlssl.
        """
        try:
            saved = json.loads(content)
            newer = saved["format_version"] > FORMAT_VERSION
            if not newer:
                description = Description.from_json(saved)
                shards = tuple(Shard(**shard) for shard in saved["shards"])
        except (KeyError, TypeError, ValueError) as error:
            raise SpecError(
                f"{where}/{DATASET_FILE} cannot be read: {type(error).__name__}: {error}. Restore "
                "the file from a copy, or record the data set again."
            ) from error
        if newer:
            raise SpecError(
                f"{where} has format {saved['format_version']}; this rlssl reads up to "
                f"{FORMAT_VERSION}. Install a newer rlssl."
            )
        return cls(description, shards, bool(saved.get("complete", False)))
