"""What a sweep costs beside learning, and what searching brings.

    python -m benchmarks.sweeps trials [--count 60] [--checkout FOLDER] [--reuse | --no-reuse]
    python -m benchmarks.sweeps results [--trials 500] [--each 200]
    python -m benchmarks.sweeps plain-tune [--trials 4] [--each 2000]
    python -m benchmarks.sweeps searchers [--repeats 5] [--points 20]
    python -m benchmarks.sweeps populations [--repeats 5]

`trials` runs sweeps of PPO on CartPole-v1, 2,048 env steps a trial, on two CPUs: with 2 trials, and
with COUNT more. The difference divided by COUNT is the cost of a trial: processor time of all
processes, and wall time. `--checkout` measures another checkout of rlssl; `--reuse` and
`--no-reuse` set `reuse_processes`, which checkouts of earlier versions do not know.

`results` runs trials that only report: results with the keys and sizes of PPO's, as fast as the
driver takes them. It prints the driver's processor time for each result, the bytes that the driver
wrote (to the storage, and to Tune's own files beside it) against the final size of the log files,
and how the driver's memory grew from trial 50 to the last one. `plain-tune` prints what Tune alone
takes for such results, to compare with.

`searchers` compares TPE with random draws: searches with equal numbers of points for PPO on
CartPole-v1, whose best points run again with five other seeds. `populations` compares four members
of DDPG on Pendulum-v1 with exploits to the same four without.

Needs Linux.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.sweeps.answers import compare_populations, compare_searchers
from benchmarks.sweeps.results import measure_plain_tune, measure_results
from benchmarks.sweeps.trials import measure_trials


def main() -> None:
    """Parses the command line, measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    trials = commands.add_parser("trials")
    trials.add_argument("--count", type=int, default=60)
    trials.add_argument("--checkout", type=Path, default=Path(__file__).parents[2])
    trials.add_argument("--reuse", action=argparse.BooleanOptionalAction)
    for name in ("results", "results-here"):
        results = commands.add_parser(name)
        results.add_argument("--trials", type=int, default=500)
        results.add_argument("--each", type=int, default=200)
    plain = commands.add_parser("plain-tune")
    plain.add_argument("--trials", type=int, default=4)
    plain.add_argument("--each", type=int, default=2_000)
    searchers = commands.add_parser("searchers")
    searchers.add_argument("--points", type=int, default=20)
    populations = commands.add_parser("populations")
    for answers in (searchers, populations):
        answers.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.command == "trials":
        measure_trials(arguments.count, arguments.checkout.resolve(), arguments.reuse)
    elif arguments.command == "results":
        # In a process of its own, whose memory and written bytes are those of the driver alone.
        command = [sys.executable, "-m", "benchmarks.sweeps", "results-here"]
        options = ["--trials", str(arguments.trials), "--each", str(arguments.each)]
        subprocess.run([*command, *options], check=True)
    elif arguments.command == "results-here":
        measure_results(arguments.trials, arguments.each)
    elif arguments.command == "plain-tune":
        measure_plain_tune(arguments.trials, arguments.each)
    elif arguments.command == "searchers":
        compare_searchers(arguments.repeats, arguments.points)
    else:
        compare_populations(arguments.repeats)


if __name__ == "__main__":
    main()
