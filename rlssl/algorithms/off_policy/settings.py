"""Training settings that all algorithms with a replay buffer share."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rlssl.algorithms.common.settings import TrainingSettings, setting
from rlssl.errors import SpecError, suggest
from rlssl.replay import RelabelSettings

#: Env steps over which beta rises if the end of the run is not known.
DEFAULT_ANNEAL_ENV_STEPS = 1_000_000

N_STEP = "Steps of the return before the bootstrap; >= 1."
LR = "Learning rate of Adam; > 0."
ADAM_EPSILON = "Adam's epsilon; > 0."
BATCH_SIZE = "Transitions of an update, for each Learner."
GRAD_CLIP = "Largest global gradient norm of an optimizer; None: no clipping."
REPLAY = "Options of the replay buffer: the fields of ``ReplaySettings``."
LEARNING_STARTS = "Agent steps before the first update."
UPDATES_PER_AGENT_STEP = "Updates per agent step, after ``learning_starts_agent_steps``."
TARGET_UPDATE = "Updates between two changes of the target networks."
AGENT_STEPS_PER_ITERATION = "Minimum number of agent steps of an iteration."


@dataclasses.dataclass(frozen=True)
class ReplaySettings:
    """``training.replay``: how the replay buffer draws batches and stores frames."""

    # Whether batches are drawn in proportion to priorities.
    prioritized: bool = True
    # Exponent of the priorities; in [0, 1]; 0: uniform. 0.5 as in Rainbow.
    alpha: float = 0.5
    # Exponent of the importance weights at the start and the end; >= 0. 0.4 and 1 as in Rainbow.
    beta_start: float = 0.4
    beta_end: float = 1.0
    # Env steps until beta_end; > 0; None: stop.env_steps, or 1,000,000 without it.
    beta_anneal_env_steps: int | None = None
    # Share of the node's memory that the replay buffer may use; in (0, 1].
    max_memory_share: float = 0.5
    # Folder of a local disk for the frames; None: memory.
    storage_path: str | None = None
    # Batches that a background thread draws ahead; 0: none; None: 2 if the trial's process learns
    # on a GPU, else 0. Prefetched batches use priorities that are this many updates old.
    prefetch: int | None = None
    # Whether auxiliary losses get a separate batch, drawn uniformly.
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
        prefetch = self.prefetch
        if prefetch is not None and (type(prefetch) is not int or prefetch < 0):
            raise ValueError(f"prefetch must be a whole number >= 0 or null; got {prefetch!r}.")
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


def parse_relabel(options: Mapping[str, Any] | None) -> RelabelSettings | None:
    """``training.relabel`` as its dataclass; None: goals are not replaced.

    Raises:
        SpecError: For an unknown key, with a suggestion, or a bad value.

    Example:
        >>> parse_relabel({"k": 8})
        RelabelSettings(strategy='future', k=8)
    """
    if options is None:
        return None
    if not isinstance(options, Mapping):
        raise SpecError(
            "training.relabel must be options, as {strategy: future, k: 4}, or null; got "
            f"{options!r}."
        )
    known = [field.name for field in dataclasses.fields(RelabelSettings)]
    for key in options:
        if key not in known:
            end = suggest(str(key), known, "training.relabel.")
            raise SpecError(f"unknown key 'training.relabel.{key}'{end}")
    try:
        return RelabelSettings(**options)
    except ValueError as error:
        raise SpecError(f"training.relabel.{error}") from error


@dataclasses.dataclass(frozen=True)
class OffPolicySettings(TrainingSettings):
    """The settings whose defaults are the same in all algorithms with a replay buffer."""

    gamma: float = setting(
        0.99, "Discount per agent step; in [0, 1].", low=0, high=1, can_change=True
    )
    replay_capacity: int = setting(100_000, "Frames that the replay buffer holds.", above=0)
    overlap_sampling: bool | None = setting(
        None,
        "Whether remote EnvRunners sample the next fragment during the updates. Its actions come "
        "from weights that are one fragment older. None: if there are remote EnvRunners.",
    )
    updates_at_start: int = setting(
        0,
        "Updates that are made at once when learning starts, after "
        "``learning_starts_agent_steps``; SAC-AE's code makes 1,000.",
        low=0,
    )
    relabel: Mapping[str, Any] | None = setting(
        None,
        "Hindsight for environments with goals: `{strategy: future, k: 4}` replaces the goal of "
        "4 of 5 drawn steps by a later state of its episode; see goals.md. None: no.",
    )
