"""The sections of a report below its learning curves: scores, search, population, settings."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from rlssl.analysis.confirmation import confirmed_rows
from rlssl.analysis.lineage import Exploit, values_in_words
from rlssl.analysis.report import charts
from rlssl.analysis.report.collect import Group, Report, Variant
from rlssl.analysis.report.comparisons import over_tasks_sections, published_sections
from rlssl.analysis.report.parts import Chart, Section
from rlssl.analysis.report.search import (
    MIN_POINTS,
    importances,
    kind_of,
    searched,
    value_of,
)
from rlssl.analysis.report.tables import Table, settings_tables, text_row
from rlssl.analysis.results import Run
from rlssl.analysis.table import format_number
from rlssl.clocks import steps_of

#: The most variants of a chart of scores, and the most charts of searched settings.
MOST_SCORES, MOST_SETTINGS = 24, 8


def sections_of(report: Report) -> list[Section]:
    """The sections that the report has something for."""
    found = [*over_tasks_sections(report), _scores(report), *published_sections(report)]
    found += [*_searches(report), *_populations(report), *_confirmations(report)]
    text, tables = settings_tables(report)
    found.append(Section("settings", "Settings", text, tables=tables))
    found.append(_runs(report))
    return found


def _scores(report: Report) -> Section:
    found = []
    for number, group in enumerate(report.groups):
        best = group.scored[:MOST_SCORES]
        if not best:
            continue
        rows = [
            {
                "label": one.label,
                "mean": one.estimate.mean,
                "low": one.estimate.interval.low if one.estimate.interval else None,
                "high": one.estimate.interval.high if one.estimate.interval else None,
                "words": str(one.estimate),
                "seeds": one.scores,
            }
            for one in best
        ]
        title = group.protocol.metric
        alt = f"{title} on {group.task}: " + "; ".join(f"{r['label']} {r['words']}" for r in rows)
        of_many = f"the {len(best)} best of {len(group.scored)} variants; "
        note = of_many if len(best) < len(group.scored) else ""
        note += f"dot: mean; line: {charts.interval_words()}; rings: single seeds"
        spec = charts.final_scores(rows, title)
        shown = group.task if len(report.groups) > 1 else ""
        found.append(Chart(f"scores-{number}", shown, spec, alt, f"{group.protocol.label}. {note}"))
    return Section("scores", "Final scores", charts=found)


def _searches(report: Report) -> Iterator[Section]:
    for number, run in enumerate(report.runs):
        for group in report.groups:
            own = [one for one in group.scored if one.trials[0].path.parent == run.path]
            kinds = searched(own)
            if len(own) >= 4 and any(kind != "nominal" for kind in kinds.values()):
                yield _search(f"search-{number}", run, group, own, kinds)


def _search(
    name: str, run: Run, group: Group, own: Sequence[Variant], kinds: Mapping[str, str]
) -> Section:
    """The points of one run."""
    measure = group.protocol.metric
    text = [f"{len(own)} points with a score; each dot is the mean over the seeds of a point."]
    found: list[Chart] = []
    order = list(kinds)
    if len(own) < MIN_POINTS:
        text.append(f"Importances need {MIN_POINTS} points with a score.")
    elif len(kinds) > 1:
        try:
            shares = importances(own, kinds)
        except ModuleNotFoundError as error:
            text.append(f"Not shown: {error}.")
        else:
            order = list(shares)
            rows = [{"name": path, "share": share} for path, share in shares.items()]
            alt = ", ".join(f"{path} {share:.0%}" for path, share in shares.items())
            note = f"PED-ANOVA over {len(own)} points; rough: it says where to look, not why"
            spec = charts.bars(rows, "importance")
            found.append(Chart(f"{name}-importance", "Importance", spec, alt, note))
    for path in order[:MOST_SETTINGS]:
        rows = [
            {
                "label": one.label,
                "value": value_of(one, path, kinds[path]),
                "score": one.estimate.mean,
                "words": str(one.estimate),
            }
            for one in own
        ]
        best = value_of(own[0], path, kinds[path])
        spec = charts.search_points(rows, path, measure, kinds[path])
        alt = f"{measure} over {path}; the best point has {best}"
        found.append(Chart(f"{name}-{path.replace('.', '-')}", "", spec, alt))
    return Section(name, f"Search of {run.path.name}", text, found, grid=True)


def _populations(report: Report) -> Iterator[Section]:
    for number, (name, exploits) in enumerate(report.lineages.items()):
        run = report.named_runs[name]
        header = ["env steps", "member", "continued from", "its score", "score of the source"]
        rows = [
            text_row(
                f"{one.env_steps:,}",
                str(one.member),
                str(one.source),
                format_number(one.score),
                format_number(one.source_score),
                values_in_words(one.new),
            )
            for one in exploits
        ]
        table = Table(f"Lineage of {name}", [*header, "new values"], rows)
        found = list(_values(f"population-{number}", run, exploits))
        text = ["Members that continued from a better member, and the values of every member."]
        title = f"Population of {name}"
        yield Section(f"population-{number}", title, text, found, [table], grid=True)


def _values(name: str, run: Run, exploits: Sequence[Exploit]) -> Iterator[Chart]:
    """The values of every member over env steps, a chart for each number that is searched."""
    end = max((steps_of(row) for trial in run.trials for row in trial.results), default=0)
    for path in run.points[0].values if run.points else ():
        rows = []
        for point in run.points:
            own = [one for one in exploits if one.member == point.index]
            values = [point.values[path], *(one.new.get(path) for one in own)]
            steps = [0, *(one.env_steps for one in own)]
            rows += [
                {"member": f"member {point.index}", "env_steps": step, "value": value}
                for step, value in zip([*steps, end], [*values, values[-1]], strict=True)
            ]
        kind = kind_of([row["value"] for row in rows])
        if kind != "nominal":
            spec = charts.member_values(rows, path, is_log=kind == "log")
            yield Chart(f"{name}-{path.replace('.', '-')}", "", spec, f"{path} of every member")


def _confirmations(report: Report) -> Iterator[Section]:
    for number, (name, (search, chosen)) in enumerate(report.choices.items()):
        rows = [
            text_row(one.label, str(one.search), str(one.confirmed), _optimism(one.optimism))
            for one in confirmed_rows(chosen, report.named_runs[name].trials)
        ]
        header = ["point", "in the search", "confirmed", "optimism"]
        caption = ["optimism: by how much the search found the point better than it is"]
        table = Table(f"Confirmation of {search.name}", header, rows, caption)
        title = f"The best points of {search.name}, with new seeds"
        yield Section(f"confirmation-{number}", title, tables=[table])


def _optimism(value: float) -> str:
    return format_number(value) if math.isfinite(value) else "n/a"


def _runs(report: Report) -> Section:
    rows = []
    for name, run in report.named_runs.items():
        states = Counter(trial.status for trial in run.trials)
        states["without a result"] = sum(
            one.num_without_result for one in report.variants if one.run == name
        )
        running = "running: " if name in report.running else ""
        provenance = run.trials[0].spec.get("provenance") or {}
        versions = provenance.get("versions") or {}
        known = [
            f"{name} {versions[name]}" for name in ("rlssl", "ray", "torch") if name in versions
        ]
        known += [f"commit {commit[:12]}" for commit in [provenance.get("git_commit")] if commit]
        rows.append(
            text_row(
                run.path.name,
                running + ", ".join(f"{n} {state}" for state, n in states.items() if n),
                ", ".join(known) or "not stated",
                str(provenance.get("machine") or "not stated"),
                str(run.path),
            )
        )
    header = ["run", "trials", "versions", "machine", "folder"]
    return Section("runs", "Runs", tables=[Table("Runs", header, rows, words=len(header))])
