"""Prints and saves the figures of a row."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.harness.contests import (
    Comparison,
    Row,
    Samples,
    Spread,
    fastest,
    ratios,
    reaches,
    rival_of,
)
from benchmarks.harness.machine import load, machine
from benchmarks.peers import sbx

PACKAGES = ("ray", "torch", "gymnasium", "numpy", "ale-py", "stable-baselines3")
ROOT = Path(__file__).parent.parent


def figures_depend_on() -> dict[str, Any]:
    """The machine and the code; ``commit`` ends in -dirty if files have changed since."""
    return {**machine(PACKAGES), **sbx.versions(), "commit": _commit(), "load_at_start": load()}


def row_report(row: Row, samples: Samples, skipped: Mapping[str, str]) -> dict[str, Any]:
    """Every figure of a row: raw samples and comparisons."""
    return {
        "row": row.name,
        "title": row.title,
        "unit": row.unit,
        "contestants": {name: [asdict(one) for one in ones] for name, ones in samples.items()},
        "skipped": dict(skipped),
        "comparisons": [_compared(one, samples) for one in row.comparisons],
    }


def print_row(row: Row, samples: Samples, skipped: Mapping[str, str]) -> None:
    """Prints the speed of each contestant, then the ratios: median [lowest-highest]."""
    print(f"\n{row.name}: {row.title}")
    of_time = any(one.of_time for one in row.comparisons) or row.seconds == 0
    unit = f"s/{row.unit}" if of_time else f"{row.unit}/s"
    print(f"  {'':34}{unit + ', by the clock':>32}{'of processors':>32}")
    for name, ones in samples.items():
        cells = []
        for clock in ("wall", "cpu"):
            values = [1 / one.rate(clock) if of_time else one.rate(clock) for one in ones]
            cells.append(_cell(Spread.of(values), 0 if not of_time else 2))
        print(f"  {name:34}{cells[0]:>32}{cells[1]:>32}")
        for detail in [one.detail for one in ones if one.detail]:
            print("    " + ", ".join(f"{key} {value}" for key, value in detail.items()))
    for name, reason in skipped.items():
        print(f"  {name:34}{'skipped: ' + reason}")
    for comparison in row.comparisons:
        _print_comparison(comparison, samples)


def save(report: Mapping[str, Any], folder: Path) -> Path:
    """Writes a row's report under its name."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{report['row']}.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    return path.resolve()


def _compared(comparison: Comparison, samples: Samples) -> dict[str, Any]:
    report: dict[str, Any] = {
        **asdict(comparison),
        "winners": [fastest(comparison.of, samples), rival_of(comparison, samples)],
    }
    for clock in ("wall", "cpu"):
        values = ratios(comparison, samples, clock)
        report[clock] = {**asdict(Spread.of(values)), "rounds": values} if values else None
    if report["wall"]:
        median = report["wall"]["median"]
        report["reached"] = reaches(median, comparison.must_reach, comparison)
        report["reached_goal"] = reaches(median, comparison.goal, comparison)
    return report


def _print_comparison(comparison: Comparison, samples: Samples) -> None:
    report = _compared(comparison, samples)
    subject, rival = report["winners"]
    if not report["wall"]:
        print(f"  {' or '.join(comparison.of)} / {' or '.join(comparison.against)}: not measured")
        return
    sides = zip((subject, rival), (comparison.of, comparison.against), strict=True)
    which = ("best", "slowest" if comparison.against_slowest else "best")
    label = " / ".join(
        f"{name} ({word})" if len(side) > 1 else name
        for (name, side), word in zip(sides, which, strict=True)
    )
    label += ", time" if comparison.of_time else ""
    cells = [_cell(_spread(report[clock]), 2) for clock in ("wall", "cpu")]
    verdict = ""
    if comparison.must_reach is not None:
        mark = "<=" if comparison.of_time else ">="
        met = "yes" if report["reached"] else "NO"
        verdict = f"   {mark} {comparison.must_reach}: {met}"
    if comparison.goal is not None:
        verdict += f"   goal {comparison.goal}: {'yes' if report['reached_goal'] else 'no'}"
    print(f"  {label}\n  {'':34}{cells[0]:>32}{cells[1]:>32}{verdict}")


def _spread(values: Mapping[str, Any]) -> Spread:
    return Spread(values["median"], values["low"], values["high"])


def _cell(spread: Spread, digits: int) -> str:
    median, low, high = (f"{value:,.{digits}f}" for value in asdict(spread).values())
    return f"{median} [{low}-{high}]"


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return result.stdout.strip() or "unknown"
