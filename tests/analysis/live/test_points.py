"""The points of a running sweep: a table that fits the terminal."""

import math

from rich.console import Console

from rlssl.analysis.live.points import (
    ERROR,
    PENDING,
    RUNNING,
    TERMINATED,
    PointProgress,
    SeedProgress,
    points_table,
)


def rendered(points: list[PointProgress], num_rows: int) -> list[str]:
    console = Console(width=80)
    with console.capture() as capture:
        console.print(points_table(points, num_rows))
    return [line.rstrip() for line in capture.get().splitlines() if line.strip()]


def test_table_fits_80_columns_and_shortens_long_labels() -> None:
    seeds = [SeedProgress(RUNNING, 123_456, 1234.5), SeedProgress(ERROR, 99, math.nan)]
    points = [
        PointProgress("lr=0.1", seeds, None),
        PointProgress("icm coeff=0.1, " * 9, seeds[:1], 50_000),
        PointProgress("lr=0.3", [SeedProgress(PENDING, 0, math.nan)], None),
    ]
    lines = rendered(points, 10)
    assert len(lines) == 2 + 3 and max(map(len, lines)) <= 80
    assert lines[2].split() == ["lr=0.1", "1/2", "99", "1,234", "running,", "1", "failed"]
    assert "…" in lines[3] and lines[3].endswith("stopped at 50,000")
    assert lines[4].split() == ["lr=0.3", "0/1", "0", "-", "waiting"]


def test_of_too_many_points_running_ones_and_then_the_best_are_shown() -> None:
    points = [
        PointProgress(f"p{score}", [SeedProgress(TERMINATED, 9, float(score))], None)
        for score in range(6)
    ]
    points.append(PointProgress("now", [SeedProgress(RUNNING, 1, -5.0)], None))
    lines = rendered(points, 4)
    assert [line.split()[0] for line in lines[2:]] == ["p4", "p5", "now", "..."]
    assert lines[-1].strip() == "... and 4 more"
