"""The points of a search: their scores over each searched setting, and which settings matter."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rlssl.analysis.report.collect import Variant
from rlssl.system.json_output import readable_json

#: With fewer points, importances say nothing.
MIN_POINTS = 16
#: Values that reach over more than this factor are shown on a logarithmic axis.
_WIDE = 20.0


def searched(variants: Sequence[Variant]) -> dict[str, str]:
    """The searched settings with several values: dotted path -> "log", "linear" or "nominal".

    Args:
        variants: The points of one search that have started.

    Example:
        >>> searched([])
        {}
    """
    found = {}
    for path in dict.fromkeys(path for one in variants for path in one.trials[0].point):
        values = [one.trials[0].point.get(path) for one in variants]
        if len({json.dumps(value, sort_keys=True, default=str) for value in values}) > 1:
            found[path] = kind_of(values)
    return found


def kind_of(values: Sequence[Any]) -> str:
    """The axis for values of a setting.

    Example:
        >>> kind_of([1e-4, 1e-2]), kind_of([1, 2]), kind_of(["a", None])
        ('log', 'linear', 'nominal')
    """
    are_numbers = all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values
    )
    if not are_numbers:
        return "nominal"
    return "log" if min(values) > 0 and max(values) > _WIDE * min(values) else "linear"


def value_of(one: Variant, path: str, kind: str) -> Any:
    """The value of a point, as a chart needs it: a number, or text."""
    value = one.trials[0].point.get(path)
    return value if kind != "nominal" else _text(value)


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else readable_json(value, sort_keys=True, default=str)
    return text if len(text) <= 40 else f"{text[:40]}..."


def importances(variants: Sequence[Variant], kinds: Mapping[str, str]) -> dict[str, float]:
    """How much each searched setting decides whether a point is among the best.

    Args:
        variants: The points that have a score.
        kinds: From `searched`.

    Returns:
        Path -> share, the greatest first. They sum to 1.

    Raises:
        ModuleNotFoundError: If Optuna is missing; names the extra to install.

    Source:
        PED-ANOVA: Watanabe et al. 2023, arXiv:2304.10255, as Optuna has it.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the importance of settings needs Optuna: pip install 'rlssl[search]'", name=error.name
        ) from error
    distributions = {path: _distribution(variants, path, kind) for path, kind in kinds.items()}
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="maximize")
        for one in variants:
            values = {path: value_of(one, path, kind) for path, kind in kinds.items()}
            score = one.sign * one.estimate.mean
            study.add_trial(
                optuna.trial.create_trial(params=values, distributions=distributions, value=score)
            )
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
    finally:
        optuna.logging.set_verbosity(before)


def _distribution(variants: Sequence[Variant], path: str, kind: str) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    values = [value_of(one, path, kind) for one in variants]
    if kind == "nominal":
        return CategoricalDistribution(list(dict.fromkeys(values)))
    return FloatDistribution(min(values), max(values), log=kind == "log")
