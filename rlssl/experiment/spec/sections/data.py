"""The section ``data``: the environment of the data set, and what a run without steps may have."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlssl.clocks import ENV_STEPS, UPDATES, WORDS, every_key
from rlssl.errors import SpecError
from rlssl.registry import OFFLINE_ALGORITHMS

if TYPE_CHECKING:
    from rlssl.experiment.spec.schema import Spec

#: The environment of a data set that does not say which one it is.
UNKNOWN_ENV = "unknown"

#: Metrics of training episodes, which a run without steps does not have.
_OF_EPISODES = ("area", "episode_return_mean", "success_rate", "intrinsic_return_mean")


def with_data(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with an absolute path of its data set, and with the environment of it.

    Raises:
        SpecError: If there is no data set at the path.
    """
    result, data = dict(document), document.get("data")
    path = data.get("path") if isinstance(data, Mapping) else None
    if not isinstance(path, str) or not path:
        return result
    if "://" not in path:
        path = str(Path(path).expanduser().absolute())
        result["data"] = {**document["data"], "path": path}
    if not result.get("env"):
        result["env"] = recorded_env(path)
    return result


def recorded_env(path: str) -> dict[str, Any]:
    """The environment that a data set was recorded in: ``{"id": ..., **options}``.

    Raises:
        SpecError: If there is no data set at the path.
    """
    from rlssl.data import EpisodeDataset  # pyarrow and RLlib take seconds to import

    return dict(EpisodeDataset(path).description.env or {"id": UNKNOWN_ENV})


def makes_environment(spec: "Spec", config_class: Any) -> bool:
    """Whether a run of this spec builds its environment."""
    if spec.data is None or spec.clock == ENV_STEPS:
        return True
    plays = spec.evaluation_episodes > 0 or spec.evaluation.video is not None
    if plays and config_class.has_policy:
        return True
    return dict(spec.env) != recorded_env(spec.data.path)


def check_data(spec: "Spec", config_class: Any) -> None:
    """Checks that the algorithm can learn from a data set, and has one if it needs one.

    Raises:
        SpecError: Naming key, value and fix.
    """
    if spec.data is not None and not hasattr(config_class, "data"):
        alone = ", ".join(OFFLINE_ALGORITHMS)
        raise SpecError(
            f"data: {spec.algorithm} learns from its own newest steps alone; use rainbow, sac, "
            f"ddpg or iql, or an algorithm that learns from data alone: {alone}."
        )
    if spec.data is None and spec.algorithm in OFFLINE_ALGORITHMS:
        raise SpecError(
            f"{spec.algorithm} learns from a data set, and there is none; set data.path to its "
            "folder: data: {path: FOLDER}."
        )


def check_clock(spec: "Spec") -> None:
    """Checks that all periods and ends are counted on the clock of the run.

    Raises:
        SpecError: Naming the key, the value and the right key.
    """
    other = ENV_STEPS if spec.clock == UPDATES else UPDATES
    stop = {f"stop.{other}": spec.stop.get(other)}
    if spec.clock == UPDATES:
        stop["stop.agent_steps"] = spec.stop.get("agent_steps")
    periods = {
        f"{name}.{every_key(other)}": getattr(section, every_key(other), None)
        for name, section in (
            ("evaluation", spec.evaluation),
            ("evaluation.video", spec.evaluation.video),
            ("checkpoint", spec.checkpoint),
        )
    }
    for key, value in {**stop, **periods}.items():
        if value is not None:
            own = key.replace(other, spec.clock).replace("agent_steps", UPDATES)
            why = "learns from a data set alone" if spec.clock == UPDATES else "samples"
            raise SpecError(
                f"{key}: {value}: a run that {why} counts {WORDS[spec.clock]}; write {own}."
            )
    video = spec.evaluation.video
    if video is not None and getattr(video, every_key(spec.clock)) is None:
        raise SpecError(
            f"evaluation.video.{every_key(spec.clock)} is missing: the {WORDS[spec.clock]} between "
            "two videos."
        )
    if spec.clock == UPDATES and spec.scheduler is not None:
        raise SpecError(
            "scheduler: schedulers compare points at equal env steps, and a run that learns from "
            "a data set alone makes none; leave the section out."
        )


def check_has_episodes(spec: "Spec", where: str, metric: str) -> None:
    """Refuses a metric of training episodes for a run that has none.

    Args:
        spec: The spec.
        where: The key that names the metric.
        metric: The metric.

    Raises:
        SpecError: Naming the key and other metrics.
    """
    if spec.clock == UPDATES and metric in (*_OF_EPISODES, "env_steps", "agent_steps"):
        raise SpecError(
            f"{where} '{metric}': a run that learns from a data set alone has no training "
            "episodes; use evaluation/episode_return_mean, holdout/loss (with data.holdout and "
            "mode: min), or aux/NAME/TERM."
        )
