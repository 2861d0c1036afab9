"""Measures the speed of rlssl against other libraries, row by row, as ratios of one round.

    python -m benchmarks [--only ROW ...] [--rounds 7] [--seconds S] [--quick]

Needs Linux, `pip install 'rlssl[bench]'` and a machine with nothing else to do. The docstring
of a row's module says what is compared and what is not equal. "By the clock" is wall-clock time.
"Of processors" is the processor time of the contestant and of the processes that it started; it
varies less if other programs run. Rows with at least 5 rounds are saved as
benchmarks/results/ROW.json.
"""

import argparse
import sys
from pathlib import Path

from benchmarks import (
    a3c,
    cartpole,
    curl_sac,
    dqn,
    learning,
    overhead,
    pong,
    ppo,
    runners,
    sac,
    startup,
)
from benchmarks.data import frames
from benchmarks.harness.contests import ContestantDiedError, Row, play_row
from benchmarks.harness.machine import load
from benchmarks.harness.report import figures_depend_on, print_row, row_report, save
from benchmarks.losses import spr
from benchmarks.scaling import overlap

ROWS: tuple[Row, ...] = (
    *cartpole.ROWS,
    *ppo.ROWS,
    *pong.ROWS,
    *runners.ROWS,
    *overlap.ROWS,
    *startup.ROWS,
    *learning.ROWS,
    *dqn.ROWS,
    *sac.ROWS,
    *curl_sac.ROWS,
    *spr.ROWS,
    *a3c.ROWS,
    *overhead.ROWS,
    *frames.ROWS,
)
MIN_ROUNDS = 5


def main() -> None:
    """Parses the command line, measures the rows, prints and saves them."""
    arguments = parse()
    names = arguments.only or [row.name for row in ROWS]
    print(", ".join(f"{key} {value}" for key, value in figures_depend_on().items()), flush=True)
    died = []
    for row in ROWS:
        if row.name in names:
            try:
                run_row(row, arguments)
            except ContestantDiedError as error:
                died.append(row.name)
                print(f"\n{row.name}: {error}", flush=True)
    if died:
        sys.exit(f"not measured: {', '.join(died)}")


def run_row(row: Row, arguments: argparse.Namespace) -> None:
    """Measures one row; saves it if there are enough rounds for its medians."""
    at_start = figures_depend_on()
    samples, skipped = play_row(row, arguments.rounds, arguments.seconds)
    at_start["load_at_end"] = load()
    print_row(row, samples, skipped)
    print(f"  load {at_start['load_at_start']} before, {at_start['load_at_end']} after", flush=True)
    if arguments.rounds >= MIN_ROUNDS:
        report = {"machine": at_start, **row_report(row, samples, skipped)}
        print(save(report, arguments.output), flush=True)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Speed against peers; see the module.")
    parser.add_argument(
        "--only", nargs="+", choices=[row.name for row in ROWS], metavar="ROW", help="%(choices)s"
    )
    parser.add_argument(
        "--rounds", type=int, default=7, help="rounds that are counted (default: 7)"
    )
    parser.add_argument(
        "--seconds", type=float, help="least length of a measurement (default: set by the row)"
    )
    parser.add_argument("--quick", action="store_true", help="at most 2 rounds of half a second")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.seconds = min(arguments.rounds, 2), 0.5
    if arguments.rounds < 1:
        parser.error(f"--rounds must be >= 1; got {arguments.rounds}.")
    return arguments


if __name__ == "__main__":
    main()
