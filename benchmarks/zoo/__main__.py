"""The zoo: trains, scores and exports the policies that have no result yet.

    python -m benchmarks.zoo [ALGORITHM/ENVIRONMENT ...] [--folder results/zoo]
    python -m benchmarks.zoo --list
    python -m benchmarks.zoo --page

An entry is a sweep over five seeds; its result is one file in `benchmarks/results/zoo`. Entries
with a result are skipped. The policy of the median seed goes to `rlssl/zoo`. `--page` writes the
table of docs/zoo.md from the results; an entry without a result is "not run".
"""

import argparse
from pathlib import Path

from benchmarks.zoo.entries import ENTRIES, ROOT, run
from benchmarks.zoo.page import write_table


def main() -> None:
    """Parses the command line, and runs, lists or writes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="ALGORITHM/ENVIRONMENT")
    parser.add_argument("--folder", type=Path, default=ROOT / "results" / "zoo")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--page", action="store_true")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - {entry.name for entry in ENTRIES}:
        parser.error(f"no entry {sorted(unknown)}; there are {[entry.name for entry in ENTRIES]}")
    if arguments.page:
        write_table()
        return
    for entry in ENTRIES:
        if arguments.names and entry.name not in arguments.names:
            continue
        state = "finished" if entry.file.exists() else "not run"
        print(f"{entry.name}: {state}", flush=True)
        if state == "not run" and not arguments.list:
            result = run(entry, arguments.folder.resolve())
            print(f"{entry.name}: {result['iqm']:.4g} {result['interval']}", flush=True)


if __name__ == "__main__":
    main()
