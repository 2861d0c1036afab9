"""Measures the constants of docs/scaling.md, and checks its model with up to 32 fake runners.

    python -m benchmarks.scaling [--algorithms sac rainbow ppo a3c] [--runners 32 16 8 4 2 1]
        [--wait-ms 100] [--seconds 8] [--save]

The constants are the times of each part alone. Then fake runners, which are Ray actors, wait as
long as a fragment of real ones takes and return real fragments. The Algorithm is real: it requests,
receives, stores, learns and sends weights, with overlap. The tables show what the model predicts
and what was measured. Driver, Learner and all runners share the cores of this machine, which the
prediction takes into account. `--save` writes benchmarks/results/scaling.json.

Needs Linux and a machine with nothing else to do.
"""

import argparse
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import a3c_ceiling
from benchmarks.harness.machine import load
from benchmarks.harness.report import figures_depend_on
from benchmarks.scaling import measuring
from benchmarks.scaling.fake_runners import keep, put_fakes, set_fragment
from benchmarks.scaling.model import Constants, Setup, predict, predict_a3c, useful_runners

RESULT = Path(__file__).parents[1] / "results" / "scaling.json"
RUNNERS = (32, 16, 8, 4, 2, 1)
#: Parameters of A3C's network, and agent steps of a gradient: 4 copies, 20 vector steps.
A3C_SIZE, A3C_STEPS = 100_000, 80


def setup_of(name: str, config: Any, runners: int, wait_s: float) -> Setup:
    """The setup of an algorithm with its default fragments and updates."""
    copies = measuring.COPIES[name]
    steps, per_step = measuring.STEPS, measuring.UPDATES_PER_STEP.get(name, 0.0)
    if name == "ppo":
        batch = config.total_train_batch_size
        steps = math.ceil(batch / (runners * copies))
        per_step = 1 / (steps * runners * copies)
    return Setup(runners, copies, wait_s, steps, per_step, overlaps=True)


def measure(name: str, runners: Sequence[int], wait_s: float, seconds: float) -> dict[str, Any]:
    """Constants, predictions and measurements of an algorithm."""
    algorithm = measuring.algorithm_of(name)
    setups = [setup_of(name, algorithm.config, count, wait_s) for count in runners]
    of_runner = measuring.of_runner(algorithm)
    fragments = {s.steps: measuring.real_fragment(algorithm, s.steps) for s in setups}
    put_fakes(algorithm, 2)
    constants = measuring.of_driver(algorithm, of_runner, fragments[setups[0].steps])
    print_constants(name, constants)
    put_fakes(algorithm, max(runners))
    rows = [
        row_of(constants, setup, simulate(algorithm, constants, setup, fragments, seconds))
        for setup in setups
    ]
    first = useful_runners(constants, setups[0])
    print(f"The runners are the limit below {first} runners, on a core each.", flush=True)
    algorithm.stop()
    return {"constants": asdict(constants), "rows": rows, "useful_runners": first}


def simulate(
    algorithm: Any, constants: Constants, setup: Setup, fragments: dict[int, Any], seconds: float
) -> float:
    """Env steps a second of real rounds with fake runners."""
    keep(algorithm, setup.runners)
    sample_s = setup.steps * (setup.wait_s + constants.vector_step_s) + constants.fragment_s
    # The fragments of the setup before.
    algorithm.fragment_requests.collect()
    set_fragment(algorithm, fragments[setup.steps], sample_s)
    is_replay = hasattr(algorithm, "replay")
    one_round = algorithm._round if is_replay else algorithm.train
    one_round()
    before, begin = algorithm.clock, time.perf_counter()
    while time.perf_counter() - begin < max(seconds, 2 * sample_s):
        one_round()
    if is_replay:
        algorithm._collect_metrics()
    return float((algorithm.clock - before) / (time.perf_counter() - begin))


def row_of(constants: Constants, setup: Setup, measured: float) -> dict[str, Any]:
    """Prints and returns a row of the table."""
    here = predict(constants, setup, cores=len(os.sched_getaffinity(0)))
    apart = predict(constants, setup)
    ratio = measured / here.env_steps_per_s
    print(
        f"| {setup.runners} | {here.env_steps_per_s:,.0f} | {measured:,.0f} | {ratio:.2f} | "
        f"{apart.env_steps_per_s:,.0f} | {apart.limit} |",
        flush=True,
    )
    return {"setup": asdict(setup), "measured": measured, "ratio": ratio, **asdict(here)}


def print_constants(name: str, constants: Constants) -> None:
    """Prints the constants and the head of the table."""
    print(f"\n{name}")
    for key, value in asdict(constants).items():
        shown = f"{value:,.0f}" if key.endswith("bytes") else f"{1000 * value:.3f} ms"
        print(f"  {key:16}{shown:>14}")
    print("| runners | predicted env steps/s | measured | ratio | on a core each | limit |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)


def measure_a3c(runners: Sequence[int], wait_s: float, seconds: float) -> dict[str, Any]:
    """The driver's time for a gradient, and gradients a second of workers that wait."""
    cores = len(os.sched_getaffinity(0))
    alone = a3c_ceiling.measure(A3C_SIZE, 1, seconds)
    driver_s = alone.driver_ms / 1000
    # One worker that does nothing else: the driver's work, then the worker's.
    call_s = max(0.0, 1 / alone.gradients_per_s - driver_s)
    print(
        f"\na3c: the driver takes {alone.driver_ms:.2f} ms a gradient, a call {1000 * call_s:.2f}"
    )
    print("| workers | predicted env steps/s | measured | ratio |")
    print("| --- | --- | --- | --- |", flush=True)
    rows = []
    for workers, gradient_s in cases_of_a3c(runners, wait_s):
        limits = {"workers": workers, "gradient_s": gradient_s, "driver_s": driver_s}
        predicted = A3C_STEPS * predict_a3c(**limits, call_s=call_s, cores=cores)
        found = a3c_ceiling.measure(A3C_SIZE, workers, max(seconds, 2 * gradient_s), gradient_s)
        measured = A3C_STEPS * found.gradients_per_s
        print(
            f"| {workers}, {gradient_s:g} s a gradient | {predicted:,.0f} | {measured:,.0f} | "
            f"{measured / predicted:.2f} |",
            flush=True,
        )
        rows.append({**limits, "predicted": predicted, "measured": measured})
    return {"driver_s": driver_s, "call_s": call_s, "rows": rows}


def cases_of_a3c(runners: Sequence[int], wait_s: float) -> Iterator[tuple[int, float]]:
    """Workers and seconds of a gradient: 20 vector steps, and nothing."""
    for workers in (max(runners), min(runners)):
        yield workers, 20 * wait_s
    yield max(runners), 0.0


def main() -> None:
    """Parses the command line, measures, prints and saves."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ["sac", "rainbow", "ppo", "a3c"]
    parser.add_argument("--algorithms", nargs="+", choices=names, default=names)
    parser.add_argument("--runners", nargs="+", type=int, default=RUNNERS)
    parser.add_argument("--wait-ms", type=float, default=100.0)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--save", action="store_true")
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # As `rlssl train` sets it: otherwise Ray's workers run at low priority.
    os.environ.update(RAY_worker_niceness="0")
    import ray

    machine = figures_depend_on()
    print(", ".join(f"{key} {value}" for key, value in machine.items()), flush=True)
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    runners = sorted(given.runners, reverse=True)
    report: dict[str, Any] = {"machine": machine}
    for name in given.algorithms:
        arguments = (runners, given.wait_ms / 1000, given.seconds)
        report[name] = measure_a3c(*arguments) if name == "a3c" else measure(name, *arguments)
    machine["load_at_end"] = load()
    ray.shutdown()
    if given.save:
        RESULT.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
