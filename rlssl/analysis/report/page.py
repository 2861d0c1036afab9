"""The page of a report: one HTML file with its library, data and words."""

import base64
import datetime
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from rlssl.analysis.objective import Objective
from rlssl.analysis.protocol import protocol_of
from rlssl.analysis.report import charts
from rlssl.analysis.report.collect import Group, Report
from rlssl.analysis.report.markdown import markdown_of
from rlssl.analysis.report.metrics import RETURN, Curves, Metric, rounded
from rlssl.analysis.report.parts import Section
from rlssl.analysis.report.tables import measured, summary_csv, summary_table
from rlssl.analysis.report.verdict import Verdict, headline
from rlssl.analysis.results import Trial
from rlssl.clocks import unit_of
from rlssl.system.json_output import readable_json

#: More verdicts are folded.
MOST_OPEN = 4
#: Variants that the plots show at first.
NUM_BEST = 7
_TEMPLATES = "templates"


def render(
    report: Report, verdicts: Sequence[Verdict], curves: Curves, sections: Sequence[Section]
) -> str:
    """The page as text.

    Args:
        report: The runs.
        verdicts: One for each group.
        curves: From `rlssl.analysis.report.metrics.curves_of`.
        sections: What stands below the curves.

    Raises:
        ModuleNotFoundError: If a package of the extra ``report`` is missing; names it.
    """
    jinja2, vl_convert = _libraries()
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    safe = jinja2.filters.Markup
    template = environment.from_string(template_text("report.html.j2"))
    context = _context(report, verdicts, curves, sections)
    text: str = template.render(
        **context,
        css=safe(template_text("report.css")),
        script=safe(template_text("report.js")),
        library=safe(vl_convert.javascript_bundle()),
        data=safe(json_text(page_data(report, curves, sections))),
    )
    return text


def _libraries() -> tuple[Any, Any]:
    try:
        import jinja2
        import vl_convert
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"a report needs {error.name}: pip install 'rlssl[report]'", name=error.name
        ) from error
    return jinja2, vl_convert


def template_text(name: str) -> str:
    """A file beside the code: the page's HTML, style or script."""
    return (resources.files(__package__) / _TEMPLATES / name).read_text(encoding="utf-8")


def _context(
    report: Report, verdicts: Sequence[Verdict], curves: Curves, sections: Sequence[Section]
) -> dict[str, Any]:
    """What the template fills in."""
    csv_data = base64.b64encode(summary_csv(report).encode()).decode()
    now = datetime.datetime.now().astimezone()
    return {
        "title": report.title,
        "made": f"Report of {len(report.runs)} run{'s' * (len(report.runs) > 1)}, "
        f"made {now:%Y-%m-%d %H:%M %Z}",
        "headline": headline(report, verdicts),
        "most_open": MOST_OPEN,
        "verdicts": [_verdict(one) for one in verdicts],
        "states": report.notices,
        "notices": [*report.faults, *report.problems],
        "summaries": [summary_table(group) for group in report.groups],
        "csv_name": "summary.csv",
        "csv_link": f"data:text/csv;base64,{csv_data}",
        "markdown": markdown_of(report, verdicts),
        "groups": report.groups,
        "has_seeds": any(curves.seeds.values()),
        "seeds_shown": len(report.variants) <= 4,
        "many": max(len(group.variants) for group in report.groups) > NUM_BEST,
        "num_best": NUM_BEST,
        "curves_note": _curves_note(curves),
        "sections": sections,
        "footer": "Made by rlssl. Plots: Vega-Lite. The page needs no network.",
    }


def _verdict(one: Verdict) -> dict[str, Any]:
    clear = one.lead is not None and one.lead.is_clear
    return {
        "task": one.group.task,
        "headline": one.headline,
        "certainty": one.certainty,
        "warnings": one.warnings,
        "protocol": f"Protocol: {one.group.protocol.label}.",
        "kind": "" if one.lead is None else "clear" if clear else "unclear",
    }


def _curves_note(curves: Curves) -> str:
    words = [
        "Lines: means over seeds, at steps that all seeds have reached.",
        f"Bands: {charts.interval_words()}; wide bands are cut off.",
        "Wall time: mean over seeds of the time at which the steps were reached.",
    ]
    if curves.left_out:
        first = ", ".join(curves.left_out[:3])
        words.append(
            f"{len(curves.left_out)} metrics are not on this page ({first}, ...): progress.csv of "
            "each trial has them."
        )
    return " ".join(words)


def page_data(report: Report, curves: Curves, sections: Sequence[Section]) -> dict[str, Any]:
    """What the script of the page reads, as plain data."""
    unit, seconds = time_unit(curves.longest)
    steps = unit_of(one.row.clock for one in report.variants)
    return {
        "groups": [_group(group) for group in report.groups],
        "metrics": [
            {"key": one.key, "words": one.words, "family": one.family, "note": _note(one, report)}
            for one in curves.metrics
        ],
        "default_metrics": default_metrics(curves, shown_first(report)),
        "num_best": NUM_BEST,
        "x_titles": {"steps": steps, "time": f"wall time ({unit})"},
        "x": {
            str(index): {
                "steps": [round(step) for step in steps.tolist()],
                "time": rounded(curves.wall_time[index] / seconds),
            }
            for index, steps in curves.env_steps.items()
        },
        "bands": {
            key: {str(index): [rounded(part) for part in band] for index, band in bands.items()}
            for key, bands in curves.bands.items()
        },
        "seeds": {
            key: {str(index): [rounded(seed) for seed in each] for index, each in found.items()}
            for key, found in curves.seeds.items()
        },
        "curve_spec": charts.learning_curves("", ""),
        "charts": {chart.id: chart.spec for section in sections for chart in section.charts},
        "config": {mode: charts.config(mode) for mode in charts.PALETTES},
        "palettes": charts.PALETTES,
        "dashes": charts.DASHES,
    }


def _group(group: Group) -> Mapping[str, Any]:
    variants = [
        {"index": one.index, "label": one.label, "rank": rank, "score": str(one.estimate)}
        for rank, one in enumerate(group.variants)
        if one.trials
    ]
    return {"task": group.task, "variants": variants}


def _note(metric: Metric, report: Report) -> str:
    """The protocol of a metric: how its values are measured. Groups and runs may differ in it."""
    first: dict[tuple[str, str], Sequence[Trial]] = {}
    for group in report.groups:
        for one in (one for one in group.variants if one.trials):
            first.setdefault((group.task, one.run), one.counted)
    objective = None if metric.key == RETURN else Objective(metric.key)
    notes = [measured(protocol_of(trials, objective).label) for trials in first.values()]
    return "; or, in other runs: ".join(dict.fromkeys(notes))


def shown_first(report: Report) -> list[int]:
    """The indices of the variants that the plots show at first."""
    started = [one.index for one in report.groups[0].variants if one.trials]
    return started[:NUM_BEST]


def default_metrics(curves: Curves, shown: Sequence[int]) -> list[str]:
    """The metrics of the first plots: the return, and what tells most beside it.

    Args:
        curves: The curves of the page.
        shown: Indices of the variants that are shown at first. The second metric has a curve of
            each of them; without such a metric, of one of them.
    """
    by_variants = [
        [one for one in curves.metrics if have(index in curves.bands[one.key] for index in shown)]
        for have in (all, any)
    ]
    known = next((metrics for metrics in by_variants if _second_of(metrics)), [])
    second = _second_of(known)
    keys = [one.key for one in curves.metrics]
    return [*([RETURN] if RETURN in keys else keys[:1]), *([second] if second else [])]


def _second_of(metrics: Sequence[Metric]) -> str | None:
    keys = [one.key for one in metrics]
    liked = ("intrinsic_return_mean", "success_rate", "evaluation/episode_return_mean")
    losses = [one.key for one in metrics if one.family in ("auxiliary losses", "throughput")]
    return next((key for key in liked if key in keys), next(iter(losses), None))


def time_unit(seconds: float) -> tuple[str, float]:
    """The unit in which a time is shown, and its seconds.

    Example:
        >>> time_unit(90.0), time_unit(600.0)
        (('seconds', 1.0), ('minutes', 60.0))
    """
    if seconds > 7200:
        return "hours", 3600.0
    return ("minutes", 60.0) if seconds > 180 else ("seconds", 1.0)


def json_text(value: Any) -> str:
    r"""JSON that may stand inside a script element of HTML.

    Example:
        >>> json_text({"name": "</script>"})
        '{"name":"\\u003c/script>"}'
    """
    text = readable_json(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")
