"""Methods over several tasks: normalized scores, their aggregates, profiles and bars."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlssl.analysis.labels import point_labels
from rlssl.analysis.protocol import require_alike
from rlssl.analysis.published import human_normalized_scores
from rlssl.analysis.report.collect import Group, Report, Variant
from rlssl.analysis.statistics import (
    Aggregate,
    Caution,
    FloatArray,
    aggregates,
    dmc_normalized,
)

#: Scales on which tasks can be compared.
HUMAN, DMC, SUCCESS = "human-normalized score", "return / 1000", "success rate"


@dataclass(frozen=True)
class Method:
    """What was run on every task.

    Args:
        name: The label of its variants, without the task.
        variants: One for each task, in the order of the tasks.
        scores: [num_tasks, num_seeds], normalized.
        aggregates: IQM, median, mean and optimality gap over tasks.
        cautions: What is to be said about their intervals.
    """

    name: str
    variants: Sequence[Variant]
    scores: FloatArray
    aggregates: Sequence[Aggregate]
    cautions: Sequence[Caution]


@dataclass(frozen=True)
class OverTasks:
    """Methods that were run on the same tasks.

    Args:
        groups: One for each task.
        scale: What a normalized score is; "" if the tasks cannot be aggregated.
        methods: The one with the highest IQM first.
        notes: What a reader must know; if there is no scale, why.
    """

    groups: Sequence[Group]
    scale: str
    methods: Sequence[Method]
    notes: Sequence[str]

    @property
    def headline(self) -> str:
        """The best method in a sentence; "" without one."""
        if not self.methods:
            return ""
        first = self.methods[0]
        words = (
            f"{first.name} has the highest IQM of the {self.scale} over {len(self.groups)} tasks"
        )
        words = f"{words}: {aggregate_words(first.aggregates[0])}."
        if len(self.methods) > 1:
            second = self.methods[1]
            words += f" Next: {second.name}, {aggregate_words(second.aggregates[0])}."
        return words


def aggregate_words(one: Aggregate) -> str:
    """``value [low, high]``, with two decimals."""
    if one.interval is None:
        return f"{one.value:.2f} [n/a]"
    return f"{one.value:.2f} [{one.interval.low:.2f}, {one.interval.high:.2f}]"


def over_tasks(report: Report) -> OverTasks | None:
    """Aggregates methods over the tasks of a report; None if there is one task only.

    Args:
        report: The runs; each task is a group.
    """
    groups = [group for group in report.groups if group.scored]
    tasks = [(group.protocol.task, group.protocol.task_options) for group in groups]
    if len(set(tasks)) < 2:
        return None
    if len(set(tasks)) < len(tasks):
        why = "Tasks are not aggregated: a task has several protocols or numbers of env steps."
        return OverTasks(groups, "", [], [why])
    try:
        require_alike((group.protocol for group in groups), over_tasks=True)
    except ValueError as error:
        return OverTasks(groups, "", [], [f"Tasks are not aggregated: {error}"])
    scale = _scale(groups)
    if not scale:
        why = "Tasks are not aggregated: their scores have no common scale."
        return OverTasks(groups, "", [], [why])
    return _aggregated(groups, scale)


def _aggregated(groups: Sequence[Group], scale: str) -> OverTasks:
    named = [_by_method(group) for group in groups]
    if any(len(methods) < len(group.scored) for methods, group in zip(named, groups, strict=True)):
        why = "Tasks are not aggregated: on one task, several variants have the same name."
        return OverTasks(groups, "", [], [why])
    common = [name for name in named[0] if all(name in methods for methods in named)]
    others = sorted({name for methods in named for name in methods} - set(common))
    notes = []
    if others:
        notes.append(f"Left out, because they were not run on every task: {', '.join(others)}.")
    found = [_method(name, [methods[name] for methods in named], scale) for name in common]
    found.sort(key=lambda one: -one.aggregates[0].value)
    notes += [_fewest_seeds(one) for one in found if _fewest_seeds(one)]
    notes += dict.fromkeys(caution.words for one in found for caution in one.cautions)
    budgets = {group.budget for group in groups}
    if len(budgets) > 1:
        shown = ", ".join("not stated" if one is None else f"{one:,}" for one in budgets)
        notes.append(f"Tasks have different numbers of env steps: {shown}.")
    return OverTasks(groups, scale, found, notes)


def _method(name: str, variants: Sequence[Variant], scale: str) -> Method:
    each = [normalized(one, scale) for one in variants]
    num_seeds = min(map(len, each))
    scores = np.stack([of_task[:num_seeds] for of_task in each])
    found, cautions = aggregates(scores)
    return Method(name, variants, scores, found, cautions)


def _fewest_seeds(method: Method) -> str:
    counts = [len(one.scores) for one in method.variants]
    if min(counts) == max(counts):
        return ""
    return f"{method.name}: of each task, the first {min(counts)} seeds; some tasks have more."


def normalized(one: Variant, scale: str) -> FloatArray:
    """The scores of a variant's seeds on a scale: [num_seeds]."""
    task = one.protocol.task
    if scale == HUMAN:
        return human_normalized_scores(task, one.scores)
    return dmc_normalized(one.scores) if scale == DMC else np.asarray(one.scores, np.float64)


def _scale(groups: Sequence[Group]) -> str:
    """The scale that all tasks have; "" if there is none."""
    metric = groups[0].protocol.metric
    if metric == SUCCESS:
        return SUCCESS
    if metric != "return":
        return ""
    for scale in (HUMAN, DMC):
        if scale == DMC and not all(g.protocol.task.startswith("dmc") for g in groups):
            continue
        try:
            for group in groups:
                for one in group.scored:
                    normalized(one, scale)
        except ValueError:  # a game without a human score, or a return outside of the scale
            continue
        return scale
    return ""


def _by_method(group: Group) -> dict[str, Variant]:
    """Name -> variant: the label without the task."""
    return {method_name(one): one for one in group.scored}


def method_name(one: Variant) -> str:
    """The label of a variant without what says its task.

    A point that only sets the environment has the name of its run's settings: "default".
    """
    point = one.trials[0].point
    rest = {path: value for path, value in point.items() if path.split(".")[0] != "env"}
    return one.row.variant if len(rest) == len(point) else point_labels([rest])[0]
