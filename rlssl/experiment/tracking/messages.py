"""What the driver tells the process of a tracker: plain data, one JSON object a line."""

from typing import Any, Literal, NotRequired, TypedDict


class TrackedTrial(TypedDict):
    """What a tracker shows of a trial, besides its results."""

    #: The same for a trial before and after a resume.
    id: str
    name: str
    #: The run of rlssl: its trials are shown together.
    group: str
    tags: list[str]
    #: Algorithm, losses, seed, commit, and the searched values.
    labels: dict[str, Any]
    #: Every setting as used.
    config: dict[str, Any]
    #: What the steps of its metrics count: env_steps or updates.
    clock: str


class Message(TypedDict):
    """One event of a trial."""

    do: Literal["start", "log", "video", "end"]
    #: The trial's folder.
    folder: str
    trial: NotRequired[TrackedTrial]
    #: On the clock of the trial.
    env_steps: NotRequired[int]
    metrics: NotRequired[dict[str, float]]
    #: A video's file, below the trial's folder.
    path: NotRequired[str]
    #: How the trial ended; without this message, it was interrupted.
    failed: NotRequired[bool]
