"""The charts of a report, as Vega-Lite specs: plain dicts, drawn by the page and into files.

Colors follow Okabe and Ito: color-blind readers can tell them apart. A spec names colors by their
place in a palette, because the page has one palette for light and one for dark.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rlssl.analysis.shares import CONFIDENCE
from rlssl.analysis.sparkline import are_equal

Spec = dict[str, Any]

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"

#: Colors of variants on a light and on a dark page, by rank.
PALETTES = {
    "light": ["#0072B2", "#D55E00", "#009E73", "#A6458A", "#B07A00", "#3A8FC2", "#5B5B5B"],
    "dark": ["#56B4E9", "#FF8A4C", "#2DC99B", "#E39AC8", "#E6B33D", "#9CCBEE", "#BDBDBD"],
}
#: Dashes of the first, second, third seven variants.
DASHES = [[1, 0], [6, 3], [2, 2]]

_INK = {
    "light": {"text": "#3d4350", "grid": "#e4e6eb", "line": "#a9aeb8"},
    "dark": {"text": "#c3c8d2", "grid": "#31363f", "line": "#5b616c"},
}
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"

#: Heights in pixels.
CURVE_HEIGHT, ROW_HEIGHT = 300, 30


def config(mode: str) -> Spec:
    """Vega-Lite's ``config`` of a light or a dark page.

    Args:
        mode: "light" or "dark".

    Example:
        >>> config("dark")["axis"]["labelColor"]
        '#c3c8d2'
    """
    ink = _INK[mode]
    words = {"labelColor": ink["text"], "titleColor": ink["text"]}
    return {
        "background": "transparent",
        "font": _FONT,
        "view": {"stroke": None},
        "axis": {
            **words,
            "gridColor": ink["grid"],
            "domainColor": ink["line"],
            "tickColor": ink["line"],
            "titleFontWeight": "normal",
            "titleFontSize": 12,
            "labelFontSize": 11,
            "labelLimit": 220,
        },
        "legend": {**words, "labelLimit": 360, "symbolType": "square", "symbolOpacity": 1},
        "title": {"color": ink["text"], "anchor": "start", "fontWeight": 600},
        "range": {"category": PALETTES[mode]},
    }


def learning_curves(y_title: str, x_title: str, *, legend: bool = False) -> Spec:
    """A metric over env steps or wall time: mean, interval and single seeds of each variant.

    Its data: ``curves`` with rows of label, color, dash, x, mean, low and high; ``seeds`` with rows
    of label, color, seed, x and value. ``y_domain`` must be filled in, so that wide intervals do
    not hide the means.

    Args:
        y_title: The metric.
        x_title: Env steps, or wall time with its unit.
        legend: Whether the chart has a legend; the page has one of its own.
    """
    x = {"field": "x", "type": "quantitative", "title": x_title, "axis": {"format": "~s"}}
    scale = {"domain": [0, 1], "zero": False, "nice": True}
    value: Spec = {"type": "quantitative", "title": y_title, "scale": scale}
    color: Spec = {"field": "label", "type": "nominal", "scale": {"domain": [], "range": []}}
    color["legend"] = {"title": None, "orient": "bottom", "columns": 1} if legend else None
    tooltip = [
        {"field": "label", "title": "variant"},
        {"field": "x", "title": x_title, "format": ",.4~r"},
        {"field": "words", "title": y_title},
    ]
    return {
        **_chart(CURVE_HEIGHT),
        "datasets": {"curves": [], "seeds": []},
        "encoding": {"x": x, "color": color},
        "layer": [_band(value), _single_seeds(value), _means(value), _hover(value, tooltip)],
    }


def _chart(height: int) -> Spec:
    """What all charts have: they are as wide as their box."""
    return {
        "$schema": SCHEMA,
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
    }


def _band(value: Spec) -> Spec:
    return {
        "data": {"name": "curves"},
        "mark": {"type": "area", "opacity": 0.16, "clip": True},
        "encoding": {"y": {"field": "low", **value}, "y2": {"field": "high"}},
    }


def _single_seeds(value: Spec) -> Spec:
    return {
        "data": {"name": "seeds"},
        "mark": {"type": "line", "strokeWidth": 0.7, "opacity": 0.5, "clip": True},
        "encoding": {"y": {"field": "value", **value}, "detail": {"field": "seed"}},
    }


def _means(value: Spec) -> Spec:
    dash: Spec = {"field": "label", "type": "nominal", "scale": {"domain": [], "range": []}}
    dash["legend"] = None
    return {
        "data": {"name": "curves"},
        "mark": {"type": "line", "strokeWidth": 2.2, "clip": True},
        "encoding": {"y": {"field": "mean", **value}, "strokeDash": dash},
    }


def _hover(value: Spec, tooltip: Sequence[Spec]) -> Spec:
    """The nearest mean, with its numbers."""
    select = {"type": "point", "on": "pointerover", "nearest": True, "clear": "pointerout"}
    shown = {"condition": {"param": "near", "empty": False, "value": 1}, "value": 0}
    return {
        "name": "hover",
        "data": {"name": "curves"},
        "params": [{"name": "near", "select": select}],
        "mark": {"type": "point", "filled": True, "size": 60, "clip": True},
        "encoding": {"y": {"field": "mean", **value}, "opacity": shown, "tooltip": list(tooltip)},
    }


def filled_curves(
    spec: Spec,
    curves: Sequence[Mapping[str, Any]],
    seeds: Sequence[Mapping[str, Any]],
    *,
    styles: Mapping[str, tuple[str, Sequence[int]]],
) -> Spec:
    """A spec of `learning_curves` with its data, for a file; the page does the same itself.

    Args:
        spec: From `learning_curves`; changed and returned.
        curves: Rows of label, x, mean, low and high.
        seeds: Rows of label, seed, x and value.
        styles: Label -> color and dash.
    """
    spec["datasets"] = {"curves": list(curves), "seeds": list(seeds)}
    values = [row["mean"] for row in curves if row["mean"] is not None]
    values += [row["value"] for row in seeds if row["value"] is not None]
    domain = _domain(values)
    spec["encoding"]["color"]["scale"] = {
        "domain": list(styles),
        "range": [color for color, _ in styles.values()],
    }
    for layer in spec["layer"]:
        layer["encoding"]["y"]["scale"]["domain"] = domain
        if "strokeDash" in layer["encoding"]:
            dashes = [dash for _, dash in styles.values()]
            layer["encoding"]["strokeDash"]["scale"] = {"domain": list(styles), "range": dashes}
    return spec


def _domain(values: Sequence[float]) -> list[float]:
    """The ends of the vertical axis, as in the page: equal values may differ by rounding."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    pad = max(abs(low) * 0.1, 0.5) if are_equal(low, high) else 0.0
    return [low - pad, high + pad]


def final_scores(rows: Sequence[Mapping[str, Any]], title: str) -> Spec:
    """The score of each variant with its interval, and of each seed.

    Args:
        rows: Each with label, mean, low, high (None without an interval) and a list of seeds.
        title: What the scores are.
    """
    labels = [row["label"] for row in rows]
    y = {"field": "label", "type": "nominal", "sort": labels, "title": None}
    x: Spec = {"type": "quantitative", "title": title, "scale": {"zero": False, "nice": True}}
    x["axis"] = {"tickCount": 8}
    color: Spec = {"field": "label", "type": "nominal", "sort": labels, "legend": None}
    color["scale"] = {"domain": labels}
    means = [{key: row[key] for key in ("label", "mean", "low", "high", "words")} for row in rows]
    seeds = [{"label": row["label"], "score": score} for row in rows for score in row["seeds"]]
    tooltip = [{"field": "label", "title": "variant"}, {"field": "words", "title": title}]
    intervals = {
        "data": {"name": "means"},
        "transform": [{"filter": "isValid(datum.low)"}],
        "mark": {"type": "rule", "strokeWidth": 3, "opacity": 0.55},
        "encoding": {"x": {"field": "low", **x}, "x2": {"field": "high"}, "color": color},
    }
    singles = {
        "data": {"name": "seeds"},
        "mark": {"type": "point", "size": 26, "opacity": 0.65, "strokeWidth": 1.2},
        "encoding": {"x": {"field": "score", **x}, "color": color},
    }
    dots = {
        "data": {"name": "means"},
        "mark": {"type": "point", "filled": True, "size": 110, "opacity": 1},
        "encoding": {"x": {"field": "mean", **x}, "color": color, "tooltip": tooltip},
    }
    return {
        **_chart(ROW_HEIGHT * len(rows)),
        "datasets": {"means": means, "seeds": seeds},
        "encoding": {"y": {**y, "axis": {"domain": False, "ticks": False, "labelPadding": 8}}},
        # Vega-Lite warns of a layer without data.
        "layer": [
            *([intervals] if any(row["low"] is not None for row in rows) else []),
            singles,
            dots,
        ],
    }


def performance_profiles(
    rows: Sequence[Mapping[str, Any]], labels: Sequence[str], title: str
) -> Spec:
    """The share of runs of all tasks above each normalized score, a line for each method.

    Args:
        rows: Each with label, threshold, share, and low and high of its interval.
        labels: The methods in the order of their colors.
        title: What the scores are.
    """
    color: Spec = {"field": "label", "type": "nominal", "scale": {"domain": list(labels)}}
    color["legend"] = {"title": None, "orient": "bottom", "columns": 1}
    y: Spec = {
        "type": "quantitative",
        "title": "share of runs above the score",
        "scale": {"domain": [0, 1]},
    }
    y["axis"] = {"format": ".0%"}
    x = {"field": "threshold", "type": "quantitative", "title": title}
    return {
        **_chart(CURVE_HEIGHT),
        "data": {"values": list(rows)},
        "encoding": {"x": x, "color": color},
        "layer": [
            {
                "mark": {"type": "area", "opacity": 0.16, "interpolate": "step-after"},
                "encoding": {"y": {"field": "low", **y}, "y2": {"field": "high"}},
            },
            {
                "mark": {"type": "line", "strokeWidth": 2.2, "interpolate": "step-after"},
                "encoding": {"y": {"field": "share", **y}},
            },
        ],
    }


def task_bars(rows: Sequence[Mapping[str, Any]], labels: Sequence[str], title: str) -> Spec:
    """The normalized score of every method on every task.

    Args:
        rows: Each with task, label, score, and low and high of its interval (None without one).
        labels: The methods in the order of their colors.
        title: What the scores are.
    """
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    y: Spec = {"field": "task", "type": "nominal", "sort": tasks, "title": None}
    offset = {"field": "label", "type": "nominal", "sort": list(labels)}
    color: Spec = {"field": "label", "type": "nominal", "scale": {"domain": list(labels)}}
    color["legend"] = {"title": None, "orient": "bottom", "columns": 1}
    x = {"type": "quantitative", "title": title}
    bars = {
        "mark": {"type": "bar", "opacity": 0.75},
        "encoding": {"x": {"field": "score", **x}, "color": color},
    }
    intervals = {
        "transform": [{"filter": "isValid(datum.low)"}],
        "mark": {"type": "rule", "strokeWidth": 1.5, "color": "gray"},
        "encoding": {"x": {"field": "low", **x}, "x2": {"field": "high"}},
    }
    has_intervals = any(row["low"] is not None for row in rows)
    return {
        **_chart(16 * len(rows) + 8 * len(tasks)),
        "data": {"values": list(rows)},
        "encoding": {"y": y, "yOffset": offset},
        "layer": [bars, *([intervals] if has_intervals else [])],
    }


def search_points(rows: Sequence[Mapping[str, Any]], name: str, score: str, kind: str) -> Spec:
    """The score of every point of a search over one of its settings.

    Args:
        rows: Each with label, value, score and words.
        name: The setting.
        score: What the score is.
        kind: "log", "linear", or "nominal" for values that are no numbers.
    """
    x: Spec = {"field": "value", "type": "quantitative", "title": name}
    if kind == "nominal":
        x["type"] = "nominal"
        x["axis"] = {"labelAngle": -30}
    else:
        x["scale"] = _scale(kind)
        x["axis"] = {"format": "~g", "tickCount": 5}
    y = {"field": "score", "type": "quantitative", "title": score, "scale": {"zero": False}}
    tooltip = [
        {"field": "label", "title": "point"},
        {"field": "value", "title": name},
        {"field": "words", "title": score},
    ]
    return {
        **_chart(190),
        "data": {"values": list(rows)},
        "mark": {"type": "point", "filled": True, "opacity": 0.7, "size": 45},
        "encoding": {"x": x, "y": y, "tooltip": tooltip, "color": {"value": PALETTES["light"][5]}},
    }


def _scale(kind: str) -> Spec:
    return {"type": "log", "nice": False} if kind == "log" else {"type": kind, "zero": False}


def bars(rows: Sequence[Mapping[str, Any]], title: str) -> Spec:
    """Horizontal bars, such as the importance of the settings of a search.

    Args:
        rows: Each with name and share, in [0, 1].
        title: What the shares are.
    """
    names = [row["name"] for row in rows]
    return {
        **_chart(24 * len(rows)),
        "data": {"values": list(rows)},
        "mark": {"type": "bar", "color": PALETTES["light"][5], "cornerRadiusEnd": 3},
        "encoding": {
            "y": {"field": "name", "type": "nominal", "sort": names, "title": None},
            "x": {
                "field": "share",
                "type": "quantitative",
                "title": title,
                "axis": {"format": ".0%"},
            },
        },
    }


def member_values(rows: Sequence[Mapping[str, Any]], name: str, *, is_log: bool) -> Spec:
    """The values of a setting in a population, over env steps.

    Args:
        rows: Each with member, env_steps and value.
        name: The setting.
        is_log: Whether the axis is logarithmic.
    """
    scale = _scale("log" if is_log else "linear")
    return {
        **_chart(190),
        "data": {"values": list(rows)},
        "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 2},
        "encoding": {
            "x": {
                "field": "env_steps",
                "type": "quantitative",
                "title": "env steps",
                "axis": {"format": "~s"},
            },
            "y": {
                "field": "value",
                "type": "quantitative",
                "title": name,
                "scale": scale,
                "axis": {"format": "~g", "tickCount": 5},
            },
            "color": {
                "field": "member",
                "type": "nominal",
                "legend": {"orient": "bottom", "columns": 4},
            },
        },
    }


def interval_words() -> str:
    """What the bands and intervals of the charts are."""
    return f"{CONFIDENCE:.0%} interval over seeds: Student's t; shares: Wilson"
