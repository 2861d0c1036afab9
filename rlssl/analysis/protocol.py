"""What a number of a trial means: where, when and how it was measured.

Numbers of unlike protocols are never averaged, and no difference of them is computed.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlssl.analysis.objective import AREA, Objective
from rlssl.analysis.results import FloatArray, Trial
from rlssl.clocks import ENV_STEPS, UPDATES, WORDS, clock_of
from rlssl.run_files import EFFECTIVE
from rlssl.system.json_output import readable_json

#: A trial's score is the mean over this many last episodes, as in ``episode_return_mean``.
FINAL_EPISODES = 20

#: Stands in for what a paper does not state, and for what files of earlier versions do not say.
UNKNOWN = "not stated"

#: Options of an environment that change what the agent sees and how it learns, but neither the
#: episodes nor their scores -> the beginnings of the ids for which that holds.
_SEEN_ONLY = {
    ("atari/",): ("img_size", "grayscale", "max_pool", "life_loss_terminal", "clip_rewards"),
    ("dmc/", "dmc-pixels/"): ("camera", "size", "render_quality", "info_state"),
    ("MiniGrid-", "BabyAI-"): ("observation", "tile_size"),
    ("vizdoom/",): ("size",),
}
#: Options that say how the agent steps. A score is compared at equal env steps, so that they are
#: part of the method, as ``_SEEN_ONLY``. And one that only changes the speed.
_OF_THE_METHOD = ("action_repeat", "frame_skip", "num_threads")

_NAMES = {"episode_return_mean": "return", "success_rate": "success rate"}
#: Results that are means over a window of training episodes.
_WINDOWED = ("episode_return_mean", "success_rate", "intrinsic_return_mean")
_EVALUATION, _DIAGNOSTICS = "evaluation/", "diagnostics/"

#: Facts in which two numbers may differ and be compared.
_SAID_ONLY = (*WORDS.values(), "env steps per agent step", "seeds")

TRAINING, IN_EVALUATION = "training", "evaluation"
FINAL, BEST, MEAN_OF_CURVE = "final", "best", "mean of the curve"
DETERMINISTIC, SAMPLED, EXPLORING = "deterministic", "sampled", "exploring"


@dataclass(frozen=True)
class Protocol:
    """How a number was measured. Two numbers may be compared if their protocols are equal.

    Budget and seeds are said beside a number, but do not count for equality: a comparison names
    them if they differ. The same holds for the env steps per agent step, which are a choice of the
    method. None: not stated.

    Args:
        task: Id of the environment; "" for a number over several tasks.
        task_options: Options of the environment of the measurement as (name, JSON), sorted; without
            options that change neither episodes nor scores.
        metric: "return", "success rate", or a key of the results.
        source: "training" or "evaluation": the episodes behind the number.
        statistic: "final", "best", or "mean of the curve" over all env steps of training.
        num_values: The number of last values that are averaged; of evaluations or results.
        episodes: Episodes behind each value.
        actions: "exploring", as in training; "sampled" from the policy; or "deterministic".
        success: Which step of an episode decides on its success: "any", "last", or "": no success.
        evaluation_env: Options in which the evaluation's environment differs from training's.
        env_steps: Env steps (frames) of training at the measurement; of several seeds the fewest.
        env_steps_per_agent_step: Frames per action.
        num_seeds: Training runs behind the number.
        clock: What ``env_steps`` counts: env steps, or updates of a run that makes none.

    Example:
        >>> ours = Protocol("CartPole-v1", env_steps=4000, num_seeds=3, episodes=20)
        >>> ours == Protocol("CartPole-v1", env_steps=8000, num_seeds=5, episodes=20)
        True
        >>> print(ours.label)
        return: mean of the last 20 training episodes, exploring actions; 4,000 env steps; 3 seeds
    """

    task: str
    task_options: tuple[tuple[str, str], ...] = ()
    metric: str = "return"
    source: str | None = TRAINING
    statistic: str | None = FINAL
    num_values: int | None = 1
    episodes: int | None = None
    actions: str | None = EXPLORING
    success: str = ""
    evaluation_env: tuple[tuple[str, str], ...] = ()
    env_steps: int | None = dataclasses.field(default=None, compare=False)
    env_steps_per_agent_step: int | None = dataclasses.field(default=None, compare=False)
    num_seeds: int | None = dataclasses.field(default=None, compare=False)
    clock: str = dataclasses.field(default=ENV_STEPS, compare=False)

    @property
    def label(self) -> str:
        """The protocol in one line, without the task."""
        value = f"{self.metric}: {self._value_in_words}"
        actions = f"actions {UNKNOWN}" if self.actions is None else f"{self.actions} actions"
        options = f"evaluation environment: {_listed(self.evaluation_env)}"
        measured = [
            value,
            actions if self.actions != "" else "",
            options if self.evaluation_env else "",
        ]
        parts = [", ".join(filter(None, measured)), self._steps_in_words, self._seeds_in_words]
        return "; ".join(parts)

    @property
    def facts(self) -> dict[str, str]:
        """Every part of the protocol in words, for two protocols side by side.

        Example:
            >>> Protocol("CartPole-v1", actions=None).facts["actions"]
            'not stated'
        """
        changed = _listed(self.evaluation_env) or "as in training"
        return {
            "environment": self.task or "several",
            "options of the environment": _listed(self.task_options) or "none",
            "metric": self.metric,
            "episodes of": self.source or UNKNOWN,
            "value": self._value_in_words,
            "actions": UNKNOWN if self.actions is None else self.actions or "n/a",
            "an episode is a success": {"": "n/a"}.get(self.success, f"if {self.success} step is"),
            "evaluation environment": changed if self.source == IN_EVALUATION else "n/a",
            WORDS[self.clock]: UNKNOWN if self.env_steps is None else f"{self.env_steps:,}",
            "env steps per agent step": str(self.env_steps_per_agent_step or UNKNOWN),
            "seeds": str(self.num_seeds or UNKNOWN),
        }

    @property
    def measure(self) -> "Protocol":
        """The protocol without its task, for means over tasks whose scores are normalized.

        Example:
            >>> Protocol("atari/Pong").measure == Protocol("atari/Alien").measure
            True
        """
        return dataclasses.replace(self, task="")

    @property
    def _value_in_words(self) -> str:
        episodes = "" if self.episodes is None else f"{self.episodes} "
        source = f"{episodes}{self.source} episodes" if self.source else f"{episodes}episodes"
        of_each = f"mean of {source}" if self.episodes or self.source == IN_EVALUATION else ""
        if self.statistic is None:
            return f"{of_each}, final or best {UNKNOWN}" if of_each else f"final or best {UNKNOWN}"
        if self.statistic == MEAN_OF_CURVE:
            return f"mean over the {WORDS[self.clock]} of the curve ({of_each or 'training'})"
        if self.statistic == BEST:
            return f"best value of training ({of_each or UNKNOWN})"
        if (self.num_values or 1) > 1:
            return f"mean of the last {self.num_values} values ({of_each or 'training'})"
        if self.source == TRAINING:
            return f"mean of the last {source}" if self.episodes else "last value of training"
        return f"last value ({of_each})" if of_each else "last value"

    @property
    def _steps_in_words(self) -> str:
        if self.env_steps is None:
            return f"{WORDS[self.clock]} {UNKNOWN}"
        each = self.env_steps_per_agent_step or 1
        agent = f" ({self.env_steps // each:,} agent steps of {each})" if each > 1 else ""
        return f"{self.env_steps:,} {WORDS[self.clock]}{agent}"

    @property
    def _seeds_in_words(self) -> str:
        if self.num_seeds is None:
            return f"seeds {UNKNOWN}"
        return "1 seed" if self.num_seeds == 1 else f"{self.num_seeds} seeds"


def protocol_of(trials: Sequence[Trial], objective: Objective | None = None) -> Protocol:
    """The protocol of a number over the seeds of one variant.

    Args:
        trials: The trials that the number is of; at least one.
        objective: What is computed from the results of each trial. None: the final return of
            `sweep_table`, from the last episodes of training.

    Returns:
        The protocol, with the fewest env steps of the trials and their number of seeds.

    Raises:
        ValueError: If there are no trials, or their protocols are unlike; names what differs.

    Example:
        >>> from pathlib import Path
        >>> from rlssl.analysis.results import Episodes
        >>> import numpy as np
        >>> spec = {"env": {"id": "CartPole-v1"}, "evaluation": {"episodes": 10, "explore": False}}
        >>> rows = [{"env_steps": 400, "agent_steps": 100, "evaluation/env_steps": 200}]
        >>> trial = Trial(Path("a"), spec, {}, 0, "", rows, Episodes(*np.empty((4, 0))))
        >>> protocol = protocol_of([trial], Objective("evaluation/episode_return_mean"))
        >>> print(protocol.label.split("; ")[0])
        return: last value (mean of 10 evaluation episodes), deterministic actions
        >>> print(protocol.label.split("; ")[1])
        200 env steps (50 agent steps of 4)
    """
    if not trials:
        raise ValueError("trials must not be empty: there is no number to describe.")
    each = [_protocol_of_trial(trial, objective) for trial in trials]
    require_alike(each)
    steps = [one.env_steps for one in each if one.env_steps is not None]
    repeats = {one.env_steps_per_agent_step for one in each}
    return dataclasses.replace(
        each[0],
        env_steps=min(steps, default=None),
        env_steps_per_agent_step=repeats.pop() if len(repeats) == 1 else None,
        num_seeds=len({trial.seed for trial in trials}),
    )


def require_alike(protocols: Iterable[Protocol], *, over_tasks: bool = False) -> None:
    """Refuses to average over numbers of unlike protocols.

    Args:
        protocols: The protocols of the numbers.
        over_tasks: Whether the tasks may differ, because the scores are normalized.

    Raises:
        ValueError: If two protocols are unlike; names what differs.

    Example:
        >>> require_alike([Protocol("A", actions="sampled"), Protocol("A", actions="exploring")])
        Traceback (most recent call last):
        ValueError: the numbers are of unlike protocols: actions: sampled and exploring.
    """
    first: Protocol | None = None
    for protocol in protocols:
        own = protocol.measure if over_tasks else protocol
        first = first or own
        if found := differences(first, own):
            raise ValueError(f"the numbers are of unlike protocols: {'; '.join(found)}.")


def differences(first: Protocol, second: Protocol) -> list[str]:
    """What makes two protocols unlike, in words; nothing if their numbers may be compared.

    Example:
        >>> differences(Protocol("A", episodes=10), Protocol("B", episodes=10))
        ['environment: A and B']
    """
    if first == second:
        return []
    ours, theirs = first.facts, second.facts
    return [
        f"{name}: {ours[name]} and {theirs[name]}"
        for name in ours
        if name not in _SAID_ONLY and ours[name] != theirs[name]
    ]


def last_episodes(trial: Trial, until: float = math.inf) -> tuple[FloatArray, FloatArray]:
    """Returns and successes of the last episodes of training that ended up to some env step.

    A trial on a data set alone has none; its last evaluation counts, as one value.
    """
    if trial.clock == ENV_STEPS:
        episodes = trial.episodes
        returns = episodes.returns[episodes.env_steps <= until]
        successes = episodes.successes[episodes.env_steps <= until]
        return returns[-FINAL_EPISODES:], successes[-FINAL_EPISODES:]
    last = trial.results[-1] if trial.results else {}
    keys = ("episode_return_mean", "success_rate")
    values = (last.get(f"evaluation/{key}", math.nan) for key in keys)
    found, successes = (np.array([value], np.float64) for value in values)
    return found[np.isfinite(found)], successes


def seeds_with_few_episodes(trials: Sequence[Trial]) -> list[int]:
    """The seeds whose final return is the mean of fewer episodes than its name says.

    Example:
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from rlssl.analysis.results import Episodes
        >>> one = Episodes(*np.ones((4, 1)))
        >>> seeds_with_few_episodes([Trial(Path("a"), {}, {}, 7, "", [], one)])
        [7]
    """
    return [
        trial.seed
        for trial in trials
        if trial.clock == ENV_STEPS and 0 < len(trial.episodes) < FINAL_EPISODES
    ]


def _protocol_of_trial(trial: Trial, objective: Objective | None) -> Protocol:
    used = {**trial.spec, **(trial.spec.get(EFFECTIVE) or {})}
    evaluation = used.get("evaluation") or {}
    training_env = _env(used.get("env"))
    last = trial.results[-1] if trial.results else {}
    key = "episode_return_mean" if objective is None else objective.metric
    if objective is None and trial.clock == UPDATES:
        # It has no training episodes: `sweep_table` takes the last evaluation.
        key = f"{_EVALUATION}{key}"
    common: dict[str, Any] = {
        "task": str(training_env.pop("id", "")),
        # The area takes all values.
        "num_values": 1 if objective is None or key == AREA else objective.last,
        "env_steps_per_agent_step": _repeat(training_env, last),
        "num_seeds": 1,
        "clock": trial.clock,
    }
    if key.startswith((_EVALUATION, _DIAGNOSTICS)):
        changed = dict(evaluation.get("env") or {})
        common["task"] = str(changed.get("id", common["task"]))
        name = key.removeprefix(_EVALUATION)
        clock = clock_of(last)
        steps = last.get(f"{key.partition('/')[0]}/{clock}", last.get(clock))
        return Protocol(
            **common,
            task_options=_task_options(common["task"], {**training_env, **changed}),
            metric=_NAMES.get(name, name),
            source=IN_EVALUATION,
            episodes=evaluation.get("episodes"),
            actions={True: SAMPLED, False: DETERMINISTIC}.get(evaluation.get("explore", "")),
            success=_success(name, evaluation),
            evaluation_env=_task_options(common["task"], changed),
            env_steps=_count(steps),
        )
    is_area = key == AREA
    name = "episode_return_mean" if is_area else key
    return Protocol(
        **common,
        task_options=_task_options(common["task"], training_env),
        metric=_NAMES.get(name, name),
        statistic=MEAN_OF_CURVE if is_area else FINAL,
        episodes=FINAL_EPISODES if name in _WINDOWED else None,
        actions=EXPLORING if name in _WINDOWED else "",
        success=_success(name, evaluation),
        env_steps=_count(last.get(clock_of(last))),
    )


def _env(env: Any) -> dict[str, Any]:
    return dict(env) if isinstance(env, Mapping) else {"id": env or ""}


def _repeat(env: Mapping[str, Any], last: Mapping[str, Any]) -> int | None:
    """Env steps per agent step, as the settings say, or as the results count."""
    known = env.get("action_repeat") or env.get("frame_skip")
    if isinstance(known, int):
        return known
    agent_steps = last.get("agent_steps")
    return round(last[ENV_STEPS] / agent_steps) if agent_steps else None


def _task_options(task: str, options: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    unseen = {*_OF_THE_METHOD}
    for beginnings, names in _SEEN_ONLY.items():
        if task.startswith(beginnings):
            unseen.update(names)
    kept = {str(name): value for name, value in options.items() if name not in unseen}
    return tuple(
        (name, readable_json(value, sort_keys=True, default=str))
        for name, value in sorted(kept.items())
    )


def _success(name: str, evaluation: Mapping[str, Any]) -> str:
    return str(evaluation.get("success") or "any") if name == "success_rate" else ""


def _count(value: Any) -> int | None:
    return None if value is None else int(value)


def _listed(options: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{name}={value}" for name, value in options)
