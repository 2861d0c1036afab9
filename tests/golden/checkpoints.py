"""Saves runs and checkpoints on one checkout, and continues them on any; see `golden_record.py`.

The folder of work holds

    old/algorithms/CASE   what `Algorithm.save_to_path` wrote
    old/runs/RUN          what an interrupted `rlssl train` left
    old/exports/RUN       what `rlssl export` made of it
    results/RUN           a copy of old/runs/RUN, at the path where it was trained, to continue from

An algorithm's own checkpoint holds no open episodes: a restored algorithm starts new ones, on every
checkout. `rlssl resume` goes on in the middle of an episode.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ray.rllib.algorithms.algorithm import Algorithm

import rlssl
from tests.golden.cases import Case, all_cases
from tests.golden.environments import TRACE
from tests.golden.recording import (
    build,
    check_imports,
    fixed_observations,
    learner_hashes,
    leaves,
    metrics,
    policy_hashes,
    start,
    train,
)

#: Cases of `all_cases` that are saved after their last iteration.
CASES = (
    *("ppo-adaptive_kl-lstm-icm", "ppo-all-losses", "ppo-icm-options-2", "ppo-frames-curl"),
    *("a3c-vectors-none", "a3c-adam-lstm-icm", "a2c-deepmdp"),
    *("rainbow-vectors-curl", "rainbow-frame-stack", "rainbow-prefetch", "rainbow-dqn-none"),
    *("ddpg-vectors-bisimulation", "ddpg-prioritized", "ddpg-drq_v2-curl", "ddpg-lillicrap"),
    *("sac-vectors-deepmdp", "sac-prioritized", "sac-curl", "sac-separate-icm"),
)

_REPLAY = (
    *("training.train_batch_size_per_learner=32", "training.replay_capacity=600"),
    *("training.learning_starts_agent_steps=150", "training.agent_steps_per_iteration=100"),
)
_MLP = "model.encoder_config.hidden=[16]"
_SOON = ("checkpoint.every_env_steps=300",)
_LSTM = "model={lstm: {hidden: 8, sequence_length: 8}, encoder_config: {hidden: [16]}}"
_BATCH = ("training.train_batch_size_per_learner=256", "training.num_epochs=2")

#: Run -> arguments of `rlssl train`, where it stops, and what is set.
RUNS: dict[str, tuple[list[str], int, tuple[str, ...]]] = {
    "ppo-icm-lstm": (
        ["ppo", "CartPole-v1", "--aux", "icm:intrinsic_coeff=0.01"],
        6000,
        (_LSTM, *_BATCH, "checkpoint.every_env_steps=500"),
    ),
    "a3c": (
        ["a3c", "CartPole-v1", "--env-runners", "0"],
        6000,
        (_MLP, "training.agent_steps_per_iteration=200", "checkpoint.every_env_steps=500"),
    ),
    "rainbow-curl": (
        ["rainbow", "CartPole-v1", "--aux", "curl"],
        2000,
        (_MLP, *_REPLAY, *_SOON, "training.lr=[[0, 0.001], [4000, 0.0]]"),
    ),
    "ddpg-bisimulation": (
        ["ddpg", "Pendulum-v1", "--aux", "bisimulation", "--preset", "td3"],
        2000,
        (_MLP, *_REPLAY, *_SOON),
    ),
    "sac-deepmdp": (
        ["sac", "Pendulum-v1", "--aux", "deepmdp"],
        2000,
        (_MLP, *_REPLAY, *_SOON, "training.replay.prioritized=true"),
    ),
}


def main() -> None:
    """Arguments: the imports to expect, make or continue, the folder, a part of names, a label."""
    expected, command, folder, only = sys.argv[1:5]
    work = Path(folder)
    start(expected)
    cases = [case for case in all_cases() if case.name in CASES and only in case.name]
    if command == "make":
        make(work, cases, [run for run in RUNS if only in run])
    else:
        label, out = sys.argv[5], work / f"{sys.argv[5]}.json"
        # What the old checkout continued before is not trained again.
        known = json.loads(out.read_text())["cases"] if label == "old" and out.exists() else {}
        records = continue_all(work, cases, [run for run in RUNS if only in run], known)
        out.write_text(json.dumps({"cases": records}, indent=1))
    check_imports(json.loads(expected))


def make(work: Path, cases: list[Case], runs: list[str]) -> None:
    """Trains and saves what is not there yet."""
    for case in cases:
        folder = work / "old" / "algorithms" / case.name
        if not folder.exists():
            print(f"training {case.name}", flush=True)
            save_algorithm(case, folder)
    for run in runs:
        if not (work / "old" / "exports" / run).exists():
            print(f"training {run} by the command line", flush=True)
            save_run(work, run)


def save_algorithm(case: Case, folder: Path) -> None:
    """Trains a case and saves the algorithm, its replay included."""
    algorithm = build(case)
    train(algorithm, case.iterations)
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    algorithm.save_to_path(str(unfinished))
    algorithm.stop()
    unfinished.rename(folder)


def save_run(work: Path, name: str) -> None:
    """Trains by the command line, interrupts it after its first checkpoint, and exports it.

    Raises:
        RuntimeError: If the run ended before it was interrupted.
    """
    arguments, env_steps, settings = RUNS[name]
    trained, kept = work / "results" / name, work / "old" / "runs" / name
    for folder in (trained, kept):
        shutil.rmtree(folder, ignore_errors=True)
    command = ["train", *arguments, "--stop", f"env_steps={env_steps}", "--name", name]
    process = subprocess.Popen(cli(*command, *as_options(settings)), cwd=work)
    while not list(trained.glob("*/checkpoint_*/rlssl_checkpoint.json")):
        if process.poll() is not None:
            raise RuntimeError(f"{name} ended before its first checkpoint.")
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    if process.wait(timeout=120) != 130:
        raise RuntimeError(f"{name} exited with {process.returncode}; 130 is an interrupted run.")
    kept.parent.mkdir(parents=True, exist_ok=True)
    trained.rename(kept)
    run_cli(work, "export", str(kept), "--out", str(work / "old" / "exports" / name), "--trust")


def continue_all(
    work: Path, cases: list[Case], runs: list[str], known: dict[str, Any]
) -> dict[str, Any]:
    """Continues what `make` saved, unless its record is known; an error is a record, too."""
    records = dict(known)
    todo: dict[str, Callable[[], dict[str, Any]]] = {}
    for case in cases:
        folder = work / "old" / "algorithms" / case.name
        todo[f"{case.name}, restore_from_path"] = partial(restored, case, folder)
        todo[f"{case.name}, from_checkpoint"] = partial(loaded, case, folder)
    for run in runs:
        todo[f"{run}, rlssl resume"] = partial(resumed, work, run)
        exported = work / "old" / "exports" / run
        todo[f"{run}, export of the old checkout"] = partial(outputs_of, exported)
    if "ppo-icm-lstm" in runs:
        todo["ppo-icm-lstm, rlssl train --from"] = partial(warm_started, work, "ppo-icm-lstm")
    for name, run_one in todo.items():
        if "error" not in known.get(name, {"error": "not known"}):
            continue
        try:
            records[name] = run_one()
        except Exception as error:
            records[name] = {"error": f"{type(error).__name__}: {str(error)[-600:]}"}
        print(f"continued {name} {records[name].get('error', '')}", flush=True)
    return records


def restored(case: Case, folder: Path) -> dict[str, Any]:
    """Two iterations of a new algorithm that restores a copy of a checkpoint."""
    with tempfile.TemporaryDirectory(prefix="golden-") as scratch:
        copied = shutil.copytree(folder, Path(scratch) / "checkpoint")
        algorithm = build(case)
        algorithm.restore_from_path(str(copied))
        return continued(algorithm, case)


def loaded(case: Case, folder: Path) -> dict[str, Any]:
    """Two iterations of the algorithm that RLlib builds of a copy of a checkpoint alone."""
    with tempfile.TemporaryDirectory(prefix="golden-") as scratch:
        copied = shutil.copytree(folder, Path(scratch) / "checkpoint")
        torch.manual_seed(0)
        algorithm = Algorithm.from_checkpoint(str(copied))
        return continued(algorithm, case)


def continued(algorithm: Any, case: Case) -> dict[str, Any]:
    """What follows a checkpoint."""
    TRACE.reset()
    torch.manual_seed(1)
    try:
        before = learner_hashes(algorithm)
        rows = train(algorithm, 2)
        after = learner_hashes(algorithm)
        return {
            "iterations": rows,
            **{f"tensors of {part}, restored": hashes for part, hashes in before.items()},
            **{f"tensors of {part}": hashes for part, hashes in after.items()},
            "outputs": policy_hashes(algorithm, case),
        }
    finally:
        algorithm.stop()


def resumed(work: Path, name: str) -> dict[str, Any]:
    """The rest of an interrupted run, its evaluation, and its exported policy."""
    run = work / "results" / name
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(work / "old" / "runs" / name, run)
    run_cli(work, "resume", str(run), "--trust")
    (trial,) = [path.parent for path in run.glob("*/result.json")]
    rows = [json.loads(line) for line in (trial / "result.json").read_text().splitlines()]
    rest = [row for row in rows if row["env_steps_at_start"] > 0]
    if not rest:
        raise RuntimeError(f"{name} trained nothing after it was resumed.")
    evaluated = run_cli(work, "evaluate", str(run), "--episodes", "3", "--json", "--trust")
    with tempfile.TemporaryDirectory(prefix="golden-") as scratch:
        exported = Path(scratch) / "export"
        run_cli(work, "export", str(run), "--out", str(exported), "--trust")
        outputs = actions(exported)
    episodes = (trial / "episodes.csv").read_bytes()
    return {
        # Which other iterations are reported depends on the time.
        "iterations": [{"metrics": metrics(rest[-1])}],
        "episodes.csv": hashlib.sha256(episodes).hexdigest(),
        "evaluation": json.loads(evaluated)[0]["episodes"],
        "outputs": outputs,
    }


def warm_started(work: Path, name: str) -> dict[str, Any]:
    """A new run that starts from the weights of an old one."""
    arguments, _, settings = RUNS[name]
    shutil.rmtree(work / "results" / "warm", ignore_errors=True)
    origin = ["--from", str(work / "old" / "runs" / name), "--trust", "--name", "warm"]
    options = [*origin, "--stop", "env_steps=600", *as_options(settings)]
    run_cli(work, "train", *arguments, *options)
    (trial,) = [path.parent for path in (work / "results" / "warm").glob("*/result.json")]
    rows = [json.loads(line) for line in (trial / "result.json").read_text().splitlines()]
    return {"iterations": [{"metrics": metrics(rows[-1])}]}


def outputs_of(export: Path) -> dict[str, Any]:
    """The record of an exported policy."""
    return {"outputs": actions(export)}


def actions(export: Path) -> list[str]:
    """Hashes of the actions of an exported policy, its modes and samples."""
    policy = rlssl.load_policy(export, trusted=True)
    observations = fixed_observations(policy.observation_space, 8)
    chosen = []
    for explore in (False, True):
        torch.manual_seed(2)
        policy.reset()
        chosen += [policy.act(observation, explore=explore) for observation in observations]
    return leaves(chosen)


def as_options(settings: tuple[str, ...]) -> list[str]:
    """`--set` before each."""
    return [word for setting in settings for word in ("--set", setting)]


def cli(*arguments: str) -> list[str]:
    """The command of this checkout's `rlssl`, by the entry point of its pyproject.toml."""
    module, function = os.environ["GOLDEN_CLI"].split(":")
    code = f"import {module}; {module}.{function}()"
    return [sys.executable, "-P", "-c", code, *arguments]


def run_cli(work: Path, *arguments: str) -> str:
    """What `rlssl` printed.

    Raises:
        RuntimeError: With its errors, if its exit code is not 0.
    """
    done = subprocess.run(cli(*arguments), cwd=work, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"rlssl {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
