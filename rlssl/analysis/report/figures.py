"""The figures of a report as PNG and SVG files."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlssl.analysis.report import charts
from rlssl.analysis.report.collect import Group, Report
from rlssl.analysis.report.metrics import Curves, Metric
from rlssl.analysis.report.page import NUM_BEST, default_metrics, shown_first, time_unit
from rlssl.analysis.report.parts import Section
from rlssl.clocks import unit_of

#: Width in pixels; PNG files have twice as many.
WIDTH, _SCALE = 720, 2.0


def write_figures(
    report: Report, curves: Curves, sections: Sequence[Section], folder: Path
) -> list[Path]:
    """Writes each figure that the page shows at first as PNG and SVG.

    The page exports any other choice of metrics and variants.

    Args:
        report: The runs.
        curves: Their curves.
        sections: The sections of the page with its other charts.
        folder: Where they are written; made if it is missing.

    Returns:
        The files.

    Raises:
        OSError: If the folder cannot be written.
    """
    import vl_convert

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, spec in _figures(report, curves, sections):
        fixed = {**spec, "width": WIDTH, "config": charts.config("light"), "background": "white"}
        fixed["padding"] = 12
        png, svg = folder / f"{name}.png", folder / f"{name}.svg"
        png.write_bytes(vl_convert.vegalite_to_png(fixed, scale=_SCALE))
        svg.write_text(vl_convert.vegalite_to_svg(fixed), encoding="utf-8")
        paths += [png, svg]
    return paths


def _figures(
    report: Report, curves: Curves, sections: Sequence[Section]
) -> Iterator[tuple[str, charts.Spec]]:
    keys = default_metrics(curves, shown_first(report))
    metrics = [one for one in curves.metrics if one.key in keys]
    for number, group in enumerate(report.groups):
        place = f"-{number}" if len(report.groups) > 1 else ""
        for metric in metrics:
            for axis in ("env_steps", "wall_time"):
                name = f"{metric.key.replace('/', '-')}{place}-over-{axis}"
                yield name, _curves(group, curves, metric, axis)
    for section in sections:
        for chart in section.charts:
            title = chart.title or section.title
            yield chart.id, {**chart.spec, "title": title}


def _curves(group: Group, curves: Curves, metric: Metric, axis: str) -> charts.Spec:
    """A metric of the best variants."""
    unit, seconds = time_unit(curves.longest)
    steps = unit_of(one.row.clock for one in group.variants)
    title = steps if axis == "env_steps" else f"wall time ({unit})"
    rows: list[dict[str, Any]] = []
    singles: list[dict[str, Any]] = []
    styles = {}
    palette = charts.PALETTES["light"]
    for rank, one in enumerate(group.variants[:NUM_BEST]):
        band = curves.bands[metric.key].get(one.index)
        if band is None:
            continue
        x = curves.env_steps[one.index] if axis == "env_steps" else curves.wall_time[one.index]
        x = x if axis == "env_steps" else x / seconds
        mean, low, high = (mean_or(part, band[0]) for part in band)
        styles[one.label] = (palette[rank % len(palette)], charts.DASHES[0])
        known = np.flatnonzero(np.isfinite(band[0]) & np.isfinite(x))
        for at in known.tolist():
            values = {"mean": float(mean[at]), "low": float(low[at]), "high": float(high[at])}
            rows.append({"label": one.label, "x": float(x[at]), **values})
        if len(group.variants) <= 4:
            for seed, values in enumerate(curves.seeds.get(metric.key, {}).get(one.index, ())):
                singles += [
                    {"label": one.label, "seed": f"{rank}/{seed}", "x": float(x[at]), "value": v}
                    for at in known.tolist()
                    if np.isfinite(v := float(values[at]))
                ]
    spec = charts.learning_curves(metric.words, title, legend=True)
    spec["layer"] = [layer for layer in spec["layer"] if layer.get("name") != "hover"]
    return {**charts.filled_curves(spec, rows, singles, styles=styles), "title": group.task}


def mean_or(part: Any, mean: Any) -> Any:
    """A part of a band; the mean if there is no interval."""
    return mean if part is None else part
