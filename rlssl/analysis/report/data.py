"""A report as plain data for JSON."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from rlssl.analysis.report.collect import Group, Report, Variant
from rlssl.analysis.report.tasks import over_tasks
from rlssl.analysis.report.verdict import Comparisons, Verdict, lead_of, verdict_of
from rlssl.analysis.settings_difference import compare_settings
from rlssl.analysis.shares import CONFIDENCE
from rlssl.analysis.statistics import Interval
from rlssl.analysis.table import Estimate


def as_data(report: Report) -> dict[str, Any]:
    """The numbers and words of a report's tables as plain data; unknown numbers are None.

    Args:
        report: From `rlssl.analysis.report.read_report`.

    Returns:
        ``confidence`` of all intervals, ``groups`` with their verdicts and variants,
        ``settings_that_differ`` (setting -> label of a variant -> its values), ``over_tasks`` (None
        with one task), ``runs``, ``faults`` and ``problems``.

    Example:
        >>> from rlssl.analysis.report import read_report
        >>> found = as_data(read_report(["results/quickstart"]))  # doctest: +SKIP
        >>> found["groups"][0]["variants"][0]["final_return"]  # doctest: +SKIP
        {'mean': 0.71, 'interval': [0.62, 0.8], 'num_seeds': 5}
    """
    return {
        "title": report.title,
        "confidence": CONFIDENCE,
        "groups": [_group(verdict_of(group)) for group in report.groups],
        "settings_that_differ": _settings(report),
        "over_tasks": _over_tasks(report),
        "runs": _runs(report),
        "faults": list(report.faults),
        "problems": list(report.problems),
    }


def _group(verdict: Verdict) -> dict[str, Any]:
    group = verdict.group
    return {
        "task": group.task,
        "protocol": {**group.protocol.facts, "label": group.protocol.label},
        "headline": verdict.headline,
        "certainty": verdict.certainty,
        "warnings": list(verdict.warnings),
        "comparisons": _comparisons(verdict.comparisons),
        "variants": [_variant(one, group) for one in group.variants],
    }


def _comparisons(found: Comparisons | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "number": found.num_variants - 1,
        "num_pairs": found.num_pairs,
        "confidence_of_each_pair": found.confidence,
        "clear": [one.label for one in found.clear],
        "clear_if_corrected": [one.label for one in found.clear_together],
    }


def _variant(one: Variant, group: Group) -> dict[str, Any]:
    row = one.row
    return {
        "label": one.label,
        "run": one.run,
        "num_seeds": row.num_seeds,
        "num_finished": row.num_seeds if row.num_finished is None else row.num_finished,
        "num_expected": row.num_seeds if row.num_expected is None else row.num_expected,
        "stopped_at": row.stopped_at,
        row.clock: row.env_steps,
        "final_return": _estimate(row.final_return),
        "success_rate": _estimate(row.success_rate),
        "objective": None
        if row.objective is None
        else {"words": row.objective_words, **_estimate(row.objective)},
        "scores": {str(seed): score for seed, score in one.score_of_seeds.items()},
        "lead_of_the_first": _lead(one, group),
        "trials": [str(trial.path) for trial in one.counted] if one.trials else [],
    }


def _lead(one: Variant, group: Group) -> dict[str, Any] | None:
    """By how much the first variant is better than this one; None for the first one itself."""
    scored = group.scored
    if one not in scored[1:]:
        return None
    found = lead_of(scored[0], one)
    return {
        "value": found.difference.value,
        "interval": _interval(found.difference.interval),
        "method": found.difference.method or None,
        "probability": found.probability,
        "probability_interval": _interval(found.bounds),
    }


def _settings(report: Report) -> dict[str, dict[str, list[Any]]]:
    sides = [one for group in report.groups for one in group.variants if one.trials]
    return {
        row.key: {
            one.label: [_plain(value) for value in values]
            for one, values in zip(sides, row.values, strict=True)
        }
        for row in compare_settings([one.trials for one in sides])
        if row.differs
    }


def _over_tasks(report: Report) -> dict[str, Any] | None:
    found = over_tasks(report)
    if found is None:
        return None
    return {
        "scale": found.scale or None,
        "tasks": [group.task for group in found.groups],
        "methods": {
            method.name: {
                one.name: {"value": one.value, "interval": _interval(one.interval)}
                for one in method.aggregates
            }
            for method in found.methods
        },
        "notes": list(found.notes),
    }


def _runs(report: Report) -> dict[str, dict[str, Any]]:
    found = {}
    for name, run in report.named_runs.items():
        own = [one for one in report.variants if one.run == name]
        provenance = run.trials[0].spec.get("provenance") or {}
        found[name] = {
            "folder": str(run.path),
            "is_running": name in report.running,
            "trials": dict(Counter(trial.status for trial in run.trials)),
            "num_without_result": sum(one.num_without_result for one in own),
            "versions": _plain(provenance.get("versions") or {}),
            "git_commit": provenance.get("git_commit"),
            "machine": _plain(provenance.get("machine")),
        }
    return found


def _estimate(one: Estimate) -> dict[str, Any]:
    mean = None if math.isnan(one.mean) else one.mean
    return {"mean": mean, "interval": _interval(one.interval), "num_seeds": one.num_seeds}


def _interval(interval: Interval | None) -> list[float] | None:
    return None if interval is None else list(interval)


def _plain(value: Any) -> Any:
    """A value of a YAML file as JSON has it: dates, and numbers that are not finite, as text."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    is_plain = value is None or isinstance(value, str | int)
    return value if is_plain or (isinstance(value, float) and math.isfinite(value)) else str(value)
