"""Published scores of a task, each with its protocol and source.

They stand beside one's own numbers, never in a mean with them: papers leave parts of their
protocols open.
"""

import csv
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from numpy.typing import ArrayLike

from rlssl.analysis.protocol import FINAL, IN_EVALUATION, Protocol
from rlssl.analysis.statistics import FloatArray, human_normalized

_CURL = "Laskin et al. 2020, arXiv:2004.04136v4"
_DRQ = "computed from data/dmc_planet_bench.csv of github.com/denisyarats/drq"

_NAMES = {
    "curl": "CURL",
    "der": "Data-Efficient Rainbow",
    "dreamer": "Dreamer",
    "drq": "DrQ",
    "human": "human",
    "otrainbow": "OTRainbow",
    "pixel_sac": "SAC from pixels",
    "planet": "PlaNet",
    "random": "random",
    "sac_ae": "SAC+AE",
    "simple": "SimPLe",
    "slac_v1": "SLACv1",
    "state_sac": "SAC from state",
}
_NOTES = {
    "pixel_sac": "its rows of 100,000 and 500,000 env steps are nearly identical in the paper",
    "planet": "papers disagree about its scores",
    "curl": "scores of versions 1 and 2 of the paper, which differ, still circulate",
}
_ATARI_STEPS, _ATARI_REPEAT = 400_000, 4
_ATARI_ID = re.compile(
    r"(?:atari/|ALE/)?(?P<game>[A-Za-z]+?)(?:(?:NoFrameskip|Deterministic)?-v\d)?"
)


@dataclass(frozen=True)
class PublishedNumber:
    """A score of a paper.

    Args:
        method: The method's name, as papers write it; "human" and "random", too.
        mean: Mean over seeds; a return, not normalized.
        sd: Standard deviation over seeds; None: not stated.
        protocol: How it was measured, as far as the paper states it.
        observations: "pixels" or "state".
        source: The paper or the file.
        note: What a reader must know; may be empty.
    """

    method: str
    mean: float
    sd: float | None
    protocol: Protocol
    observations: str
    source: str
    note: str = ""


@dataclass(frozen=True)
class AtariReference:
    """Scores of a random policy and of a human, which human-normalized scores are computed from."""

    random: float
    human: float


def published_numbers(task: str) -> list[PublishedNumber]:
    """What papers report for an environment.

    Args:
        task: Id of the environment: ``atari/Pong``, ``ALE/Pong-v5``, ``dmc-pixels/cheetah-run``;
            ``dmc/...`` has the scores from state only.

    Returns:
        The numbers in the order of the table; none for a task that is not in the data.

    Example:
        >>> [(one.method, one.mean) for one in published_numbers("dmc/cheetah-run")]
        [('SAC from state', 795.0), ('SAC from state', 616.0)]
        >>> published_numbers("CartPole-v1")
        []
    """
    suite, _, name = task.partition("/")
    if suite in ("dmc", "dmc-pixels"):
        found = [_dmc_number(task, row) for row in _dmc_rows() if row["task"] == name]
        return [one for one in found if suite == "dmc-pixels" or one.observations == "state"]
    row = _atari_rows().get(_game(task) or "")
    if row is None:
        return []
    methods = [name for name in row if name != "game" and not name.endswith("_sd")]
    return [_atari_number(task, method, row) for method in methods]


def atari_reference(task: str) -> AtariReference:
    """The scores of a random policy and of a human on an Atari game.

    Args:
        task: As in `published_numbers`, or the name of a game.

    Raises:
        ValueError: If the table does not have the game; names the games that it has.

    Example:
        >>> atari_reference("atari/Pong")
        AtariReference(random=-20.7, human=14.6)
    """
    row = _atari_rows().get(_game(task) or "")
    if row is None:
        known = ", ".join(_atari_rows())
        raise ValueError(f"{task!r} has no human score in the table of Atari 100k; it has {known}.")
    return AtariReference(random=float(row["random"]), human=float(row["human"]))


def human_normalized_scores(task: str, scores: ArrayLike) -> FloatArray:
    """Scores of an Atari game between those of a random policy (0) and a human (1).

    Args:
        task: As in `atari_reference`.
        scores: Returns of whole games, unclipped; any shape.

    Raises:
        ValueError: If the table does not have the game.

    Example:
        CURL on Pong, (-16.5 + 20.7) / (14.6 + 20.7):

        >>> human_normalized_scores("atari/Pong", [-16.5]).round(3)
        array([0.119])
    """
    reference = atari_reference(task)
    return human_normalized(scores, random=reference.random, human=reference.human)


def atari_100k_games() -> list[str]:
    """The 26 games of the table.

    Example:
        >>> len(atari_100k_games())
        26
    """
    return list(_atari_rows())


def _game(task: str) -> str | None:
    match = _ATARI_ID.fullmatch(task)
    return match["game"] if match else None


def _atari_number(task: str, method: str, row: Mapping[str, str]) -> PublishedNumber:
    is_trained = method not in ("human", "random")
    sd = row.get(f"{method}_sd")
    protocol = Protocol(
        task,
        source=None,
        statistic=None,
        num_values=None,
        actions=None,
        env_steps=_ATARI_STEPS if is_trained else None,
        env_steps_per_agent_step=_ATARI_REPEAT if is_trained else None,
        num_seeds=20 if method == "curl" else None,
    )
    source = f"{_CURL}, Table 2"
    note = _NOTES.get(method, "")
    mean = float(row[method])
    return PublishedNumber(
        _NAMES[method], mean, float(sd) if sd else None, protocol, "pixels", source, note
    )


def _dmc_number(task: str, row: Mapping[str, str]) -> PublishedNumber:
    method = row["method"]
    is_drq = method == "drq"
    protocol = Protocol(
        task,
        source=IN_EVALUATION if is_drq else None,
        statistic=FINAL if is_drq else None,
        num_values=1 if is_drq else None,
        actions=None,
        env_steps=int(row["env_steps"]),
        num_seeds=None if is_drq else 10,
    )
    return PublishedNumber(
        _NAMES[method],
        float(row["mean"]),
        float(row["sd"]),
        protocol,
        "state" if method == "state_sac" else "pixels",
        _DRQ if is_drq else f"{_CURL}, Table 1",
        "" if method == "curl" else _NOTES.get(method, ""),
    )


@functools.cache
def _atari_rows() -> dict[str, dict[str, str]]:
    return {row["game"]: row for row in _rows("atari_100k.csv")}


@functools.cache
def _dmc_rows() -> list[dict[str, str]]:
    return _rows("dm_control.csv")


def _rows(name: str) -> list[dict[str, str]]:
    text = files("rlssl.analysis").joinpath("published_scores", name).read_text(encoding="utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
