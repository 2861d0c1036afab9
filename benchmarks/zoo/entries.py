"""The entries of the zoo: an algorithm on an environment, its settings, and its measured scores."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness.machine import load, machine
from rlssl.analysis.results import Trial, read_sweep
from rlssl.analysis.statistics import bootstrap_interval, iqm
from rlssl.evaluation import evaluate_policy, summarize
from rlssl.experiment.commands.sweep import sweep
from rlssl.experiment.runs import load_policy, policy_folders
from rlssl.experiment.spec.loading import load_spec
from rlssl.experiment.spec.tuned import tuned_settings
from rlssl.zoo import FOLDER, folder_name

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "zoo"
#: Seeds of training, and of the episodes that score a policy after training.
SEEDS, EPISODES = (0, 1, 2, 3, 4), range(10_000, 10_100)
#: Larger files are not shipped.
MOST_BYTES = 1_000_000
#: PPO on grid worlds: the settings of the sweep `quickstart`, without its bonus.
GRID_WORLD = {
    "env_runners": {"num_envs": 16},
    "training": {"lr": 1e-3, "minibatch_size": 256, "num_epochs": 4, "entropy_coeff": 0.01},
}
#: PPO on MinAtar's games: the settings of its learning test.
MINATAR = {"training": {"entropy_coeff": 0.01}}
#: Their settings are also used on environments for which nothing was tuned.
CARTPOLE = ("ppo", "CartPole-v1")


@dataclass(frozen=True)
class Entry:
    """An algorithm on an environment.

    Args:
        algorithm: Name of the algorithm.
        env: Id of the environment.
        env_steps: Length of a run.
        source: Where the settings come from, for the table.
        settings: A partial spec; None: the tuned settings.
    """

    algorithm: str
    env: str
    env_steps: int
    source: str = "tuned"
    settings: Mapping[str, Any] | None = field(default=None, hash=False)

    @property
    def name(self) -> str:
        """The name of its policy, without ``zoo/``."""
        return f"{self.algorithm}/{self.env}"

    @property
    def file(self) -> Path:
        """Where its result is, or will be."""
        return RESULTS / self.algorithm / f"{folder_name(self.env)}.json"

    @property
    def policy(self) -> Path:
        """Where its exported policy is, or will be."""
        return FOLDER / self.algorithm / folder_name(self.env)

    def document(self, storage: Path) -> dict[str, Any]:
        """The spec of its sweep over seeds."""
        given = self.settings
        return {
            **(tuned_settings(self.algorithm, self.env) if given is None else given),
            "name": f"zoo-{self.algorithm}-{folder_name(self.env)}",
            "algorithm": self.algorithm,
            "env": self.env,
            "seeds": list(SEEDS),
            "stop": {"env_steps": self.env_steps},
            "storage": str(storage),
        }


ENTRIES = (
    Entry("ppo", "CartPole-v1", 20_000),
    Entry("ppo", "MiniGrid-Empty-5x5-v0", 20_000, "quickstart", GRID_WORLD),
    Entry("ppo", "Acrobot-v1", 60_000, "tuned for CartPole-v1", tuned_settings(*CARTPOLE)),
    Entry("ppo", "MiniGrid-Empty-8x8-v0", 40_000, "quickstart", GRID_WORLD),
    Entry("sac", "Pendulum-v1", 8_000),
    Entry("ddpg", "Pendulum-v1", 8_000),
    Entry("a3c", "CartPole-v1", 60_000),
    Entry("ppo", "MiniGrid-DoorKey-5x5-v0", 100_000, "quickstart", GRID_WORLD),
    Entry("ppo", "MiniGrid-LavaGapS5-v0", 100_000, "quickstart", GRID_WORLD),
    *(
        Entry("ppo", f"minatar/{game}", 300_000, "entropy 0.01", MINATAR)
        for game in ("Breakout", "Asterix", "Freeway", "Seaquest", "SpaceInvaders")
    ),
    *(
        Entry("sac", f"dmc/{task}", 30_000, "defaults", {})
        for task in (
            "cartpole-swingup",
            "reacher-easy",
            "finger-spin",
            "walker-walk",
            "cheetah-run",
        )
    ),
)


def run(entry: Entry, folder: Path) -> dict[str, Any]:
    """Trains an entry's seeds, scores them, and exports the policy of the median seed.

    Args:
        entry: The entry.
        folder: Where its runs are kept.

    Raises:
        RuntimeError: If the sweep fails, or the policy is too large to ship.
    """
    busy, begin = load(), time.monotonic()
    spec = load_spec(entry.document(folder))
    if (folder / spec.name).exists():
        raise RuntimeError(f"{folder / spec.name} exists: delete it, or give another --folder")
    if code := sweep(spec):
        raise RuntimeError(f"{entry.name} ended with exit code {code}")
    trials = sorted(read_sweep(folder / spec.name), key=lambda trial: trial.seed)
    seeds = [_of_trial(trial) for trial in trials]
    ranked = sorted(range(len(seeds)), key=lambda index: seeds[index]["return"])
    median = ranked[len(ranked) // 2]
    _export(Path(trials[median].path), entry.policy)
    result = {
        "algorithm": entry.algorithm,
        "env": entry.env,
        "env_steps": entry.env_steps,
        "settings": entry.source,
        "spec": {key: value for key, value in entry.document(folder).items() if key != "storage"},
        "commit": _commit(),
        "machine": machine(["torch", "ray", "gymnasium"]),
        "load_at_start": busy,
        "wall_seconds": round(time.monotonic() - begin),
        "episodes": len(EPISODES),
        "seeds": seeds,
        "exported_seed": seeds[median]["seed"],
        **_scores([seed["return"] for seed in seeds]),
    }
    entry.file.parent.mkdir(parents=True, exist_ok=True)
    entry.file.write_text(json.dumps(result, indent=1) + "\n")
    return result


def _of_trial(trial: Trial) -> dict[str, Any]:
    """The scores of a trial's last policy, which acts without exploration."""
    if not trial.is_complete:
        raise RuntimeError(f"{trial.path} is {trial.status}")
    policy = load_policy(trial.path)
    records = evaluate_policy(policy, policy.settings["env"], seeds=EPISODES, explore=False)
    found = summarize(records)
    success = found["success_rate"]
    return {
        "seed": trial.seed,
        "env_steps": int(trial.results[-1]["env_steps"]),
        "return": found["episode_return_mean"],
        "return_std": found["episode_return_std"],
        **({"success": success} if success == success else {}),
        "trial_seconds": round(float(trial.results[-1]["time_total_s"]), 1),
    }


def _scores(returns: list[float]) -> dict[str, Any]:
    """IQM over seeds, and its percentile bootstrap interval."""
    low, high = bootstrap_interval(returns, iqm)
    return {"iqm": iqm(returns), "interval": [low, high]}


def _export(trial: Path, target: Path) -> None:
    (policy,) = policy_folders(trial)
    size = max(path.stat().st_size for path in policy.iterdir())
    if size > MOST_BYTES:
        raise RuntimeError(f"{policy} has a file of {size:,} bytes; at most {MOST_BYTES:,}")
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(policy, target)


def _commit() -> str:
    shown = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    return subprocess.run(shown, check=True, capture_output=True, text=True).stdout.strip()


def finished() -> Iterator[dict[str, Any]]:
    """The results of all entries that have run."""
    for path in sorted(RESULTS.glob("*/*.json")):
        yield json.loads(path.read_text())
