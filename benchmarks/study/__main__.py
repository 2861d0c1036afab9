"""What helps where: runs the cells of docs/what_helps.md that have not run yet.

    python -m benchmarks.study [STRATUM ...] [--rows ROW ...] [--folder results/study]
    python -m benchmarks.study --list
    python -m benchmarks.study --page

A cell is one loss on one task with all its seeds. Its sweep is in `tune_configs/study`, its result
is one file in `benchmarks/results/study`. Cells with a result are skipped. `--page` writes the
tables of docs/what_helps.md from the results; a cell without a result is "not run".
"""

import argparse
from pathlib import Path

from benchmarks.study.cells import ROOT, STRATA, cells, run
from benchmarks.study.page import write_tables


def main() -> None:
    """Parses the command line, and runs, lists or writes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("strata", nargs="*", choices=[[], *STRATA], default=[])
    parser.add_argument("--rows", nargs="+")
    parser.add_argument("--folder", type=Path, default=ROOT / "results" / "study")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--page", action="store_true")
    arguments = parser.parse_args()
    if arguments.page:
        write_tables()
        return
    chosen = [cell for stratum in arguments.strata or STRATA for cell in cells(stratum)]
    if arguments.rows:
        if unknown := set(arguments.rows) - {cell.row for cell in chosen}:
            parser.error(f"no row {sorted(unknown)}; there are {[cell.row for cell in chosen]}")
        chosen = [cell for cell in chosen if cell.row in arguments.rows]
    for cell in chosen:
        state = "finished" if cell.file.exists() else "not run"
        print(f"{cell.stratum}/{cell.row}: {state}", flush=True)
        if state == "not run" and not arguments.list:
            result = run(cell, arguments.folder.resolve())
            print(f"{cell.stratum}/{cell.row}: {result['mean']:.4g} {result['interval']}")


if __name__ == "__main__":
    main()
