"""What searching brings: TPE against random draws, and a population with and without exploits."""

import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlssl.analysis.confirmation import confirmed_rows, read_choice, trial_score
from rlssl.analysis.objective import Objective
from rlssl.analysis.results import read_sweep
from rlssl.analysis.statistics import mean_interval

#: PPO over wide ranges of five settings.
_SEARCH: Mapping[str, Any] = {
    "algorithm": "ppo",
    "env": {"id": "CartPole-v1"},
    "training": {"train_batch_size_per_learner": 1_024},
    "search": {
        "training.lr": {"loguniform": [1e-5, 1e-1]},
        "training.gamma": {"choice": [0.9, 0.95, 0.98, 0.99, 0.999]},
        "training.lambda_": {"uniform": [0.5, 1.0]},
        "training.num_epochs": {"choice": [1, 5, 10, 20]},
        "training.entropy_coeff": {"loguniform": [1e-4, 1e-1]},
    },
    "objective": {"metric": "area"},
    "confirm": {"top": 1, "seeds": [100, 101, 102, 103, 104]},
    "stop": {"env_steps": 8_192},
}

#: DDPG over learning rates of three orders of magnitude, with networks that are fast on a CPU.
_POPULATION: Mapping[str, Any] = {
    "algorithm": "ddpg",
    "env": {"id": "Pendulum-v1"},
    "training": {
        "actor_hidden": [64],
        "critic_hidden": [64],
        "train_batch_size_per_learner": 64,
        "updates_per_agent_step": 0.5,
        "learning_starts_agent_steps": 500,
        "random_agent_steps": 500,
        "agent_steps_per_iteration": 1_000,
    },
    "model": {"encoder_config": {"hidden": [64]}},
    "search": {
        "training.lr": {"loguniform": [1e-5, 1e-2]},
        "training.gamma": {"choice": [0.8, 0.9, 0.95, 0.98, 0.99]},
    },
    "objective": {"metric": "evaluation/episode_return_mean"},
    "evaluation": {"every_env_steps": 2_000, "episodes": 10},
    "checkpoint": {"keep": 1},
    "stop": {"env_steps": 12_000},
}


def compare_searchers(repeats: int, num_points: int) -> None:
    """Prints the confirmed score of the best point of searches by TPE and by random draws.

    Args:
        repeats: Number of searches with each searcher; each has its own seed.
        num_points: Points of each search.
    """
    rows = []
    for seed in range(repeats):
        found = {}
        for name, more in (("random", {}), ("optuna", {"n_startup_trials": num_points // 4})):
            searcher = {name: {"num_samples": num_points, "seed": seed, **more}}
            found[name] = _confirmed({**_SEARCH, "seeds": [seed], "searcher": searcher})
        rows.append((found["optuna"], found["random"]))
        print(f"search {seed}: TPE {rows[-1][0]:.1f}, random {rows[-1][1]:.1f}", flush=True)
    _print_difference("TPE", "random", rows)


def _confirmed(document: Mapping[str, Any]) -> float:
    with _sweep(document) as results:
        folder = results / "sweep-confirm"
        choice = read_choice(folder)
        assert choice is not None
        (row,) = confirmed_rows(choice[1], read_sweep(folder))
        return row.confirmed.mean


def compare_populations(repeats: int) -> None:
    """Prints how four members end with exploits, and the same four without.

    Args:
        repeats: Number of populations; each has its own points and its own seed.
    """
    means, bests = [], []
    for seed in range(repeats):
        points = {"random": {"num_samples": 4, "seed": seed}}
        document = {**_POPULATION, "seeds": [seed], "searcher": points}
        pbt = {"scheduler": {"pbt": {"every_env_steps": 2_000, "seed": seed}}}
        with_exploits, without = _ends({**document, **pbt}), _ends(document)
        means.append((sum(with_exploits) / 4, sum(without) / 4))
        bests.append((max(with_exploits), max(without)))
        told = (" ".join(f"{end:.0f}" for end in sorted(ends)) for ends in (with_exploits, without))
        print("population {}: with exploits {}, without {}".format(seed, *told), flush=True)
    print("mean of the members:")
    _print_difference("with exploits", "without", means)
    print("best member:")
    _print_difference("with exploits", "without", bests)


def _ends(document: Mapping[str, Any]) -> list[float]:
    """The objective of every trial at its end."""
    with _sweep(document) as results:
        trials = read_sweep(results / "sweep")
        ends = [trial_score(trial, Objective.of(trial.spec)) for trial in trials]
    assert len(ends) == 4
    return [math.nan if end is None else end for end in ends]


def _print_difference(one: str, other: str, pairs: Sequence[tuple[float, float]]) -> None:
    """Prints the means of pairs, and the mean difference with its 95 % interval."""
    for name, values in ((one, [a for a, _ in pairs]), (other, [b for _, b in pairs])):
        low, high = mean_interval(values)
        print(f"  {name}: {sum(values) / len(values):.1f} [{low:.1f}, {high:.1f}]")
    differences = [a - b for a, b in pairs]
    low, high = mean_interval(differences)
    print(f"  difference: {sum(differences) / len(pairs):+.1f} [{low:+.1f}, {high:+.1f}]")


@contextlib.contextmanager
def _sweep(document: Mapping[str, Any]) -> Iterator[Path]:
    """The folder of the results of a sweep that ran in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="b-") as folder:
        spec = {**document, "name": "sweep", "storage": f"{folder}/results"}
        # YAML reads JSON.
        Path(folder, "sweep.yaml").write_text(json.dumps(spec))
        command = [sys.executable, "-m", "rlssl.cli", "sweep", f"{folder}/sweep.yaml"]
        environment = {**os.environ, "XDG_STATE_HOME": f"{folder}/state"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise RuntimeError(f"{command} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        yield Path(folder, "results")
