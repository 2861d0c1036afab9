"""A population without processes: a member's network is one number, which grows by its rate."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from rlssl.analysis.lineage import read_lineage
from rlssl.analysis.objective import Objective
from rlssl.experiment.checkpoints.inherit import EXPLOITS
from rlssl.experiment.checkpoints.manifest import newest_valid
from rlssl.experiment.spec.dimension import Dimension
from rlssl.experiment.tuning.schedulers.explore import Explorer
from rlssl.experiment.tuning.schedulers.pbt import PopulationBasedTraining
from rlssl.experiment.tuning.searchers import write_points
from rlssl.experiment.tuning.trial_config import check_exploits, point_of, values_of
from rlssl.system.files import checksum
from tests.experiment.tuning.controllers import METRIC, LocalTrial

RATE = "training.lr"
#: Env steps between two results, between two comparisons, and of a whole trial.
ITERATION, EVERY, END = 5, 10, 40


class Killed(KeyboardInterrupt):
    """The process of the run was killed."""


def write_checkpoint(
    folder: Path, env_steps: int, weight: float, replay: str, **progress: Any
) -> None:
    """A checkpoint with the files that matter here."""
    files = {
        "algorithm/weights.json": json.dumps(weight),
        "algorithm/replay/rows": replay,
        "run_state.pkl": replay,
    }
    target = folder / f"checkpoint_{env_steps:06}"
    for name, content in files.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        # Never in place: other folders may have hard links.
        (target / name).unlink(missing_ok=True)
        (target / name).write_text(content)
    sums = {name: checksum(target / name) for name in files}
    manifest = {"env_steps": env_steps, "progress": progress, "files": sums}
    (target / "rlssl_checkpoint.json").unlink(missing_ok=True)
    (target / "rlssl_checkpoint.json").write_text(json.dumps(manifest))


class Population:
    """Runs the members under the scheduler, as Tune does, with some slots.

    Args:
        folder: The run's folder; a second object with the same folder resumes the run.
        rates: The rate of each member at the start.
        slots: Number of members that run at the same time.
        kill_after: Number of results after which the run is killed; None: never.
    """

    def __init__(
        self,
        folder: Path,
        rates: list[float],
        *,
        slots: int = 4,
        kill_after: int | None = None,
        scheduler: type[PopulationBasedTraining] = PopulationBasedTraining,
        **changes: Any,
    ) -> None:
        self.folder, self.slots, self.results_left = folder, slots, kill_after
        points = [{RATE: rate} for rate in rates]
        write_points(folder, points, search_seed=0)
        space = [Dimension(RATE, "uniform", (0, 16))]
        arguments: dict[str, Any] = {
            "objective": Objective(METRIC),
            "boundaries": list(range(EVERY, END, EVERY)),
            "quantile": 0.25,
            "explorer": Explorer(space, 0.0, [2.0], lambda _: True),
            "replay": "keep",
            "seed": 0,
        }
        self.scheduler = scheduler(**{**arguments, **changes}, folder=folder)
        self.search_alg = self
        self.weights: dict[str, float] = {}
        self.env_steps: dict[str, int] = {}
        self.trials = [self._trial(point) for point in points]

    def is_finished(self) -> bool:
        """As Tune's search algorithm: every trial was created."""
        return True

    def get_trials(self) -> list[LocalTrial]:
        return self.trials

    def _trial(self, point: Mapping[str, Any]) -> LocalTrial:
        trial = LocalTrial("none", stub=True)
        trial.config = {**point, "seed": 0}
        self.scheduler.on_trial_add(self, trial)
        return trial

    def trial_folder(self, trial: Trial) -> Path:
        return self.folder / f"rate={point_of(trial.config)[RATE]}"

    def run(self) -> "Population":
        """Until every member has ended."""
        while not all(trial.is_finished() for trial in self.trials):
            before = [trial.status for trial in self.trials], dict(self.env_steps)
            running = [trial for trial in self.trials if trial.status == Trial.RUNNING]
            chosen = self.scheduler.choose_trial_to_run(self)
            if chosen is not None and len(running) < self.slots:
                self.start(chosen)
            for trial in running:
                self.train(trial)
            after = [trial.status for trial in self.trials], dict(self.env_steps)
            assert before != after or chosen is not None, "nothing moves: a deadlock"
        return self

    def start(self, trial: Trial) -> None:
        folder = self.trial_folder(trial)
        folder.mkdir(exist_ok=True)
        (folder / "trial.json").write_text(json.dumps({"point": point_of(trial.config), "seed": 0}))
        found = newest_valid(folder)
        check_exploits(found, trial.config)
        weight = (
            0.0
            if found is None
            else json.loads((found.path / "algorithm/weights.json").read_text())
        )
        self.weights[trial.trial_id] = weight
        self.env_steps[trial.trial_id] = 0 if found is None else found.env_steps
        has_ended = self.env_steps[trial.trial_id] >= END
        trial.set_status(Trial.TERMINATED if has_ended else Trial.RUNNING)

    def train(self, trial: Trial) -> None:
        self.weights[trial.trial_id] += values_of(trial.config)[RATE]
        self.env_steps[trial.trial_id] += ITERATION
        self.report(trial, self.weights[trial.trial_id])
        if self.results_left is not None:
            self.results_left -= 1
            if self.results_left == 0:
                raise Killed

    def report(self, trial: Trial, score: float) -> None:
        env_steps = self.env_steps[trial.trial_id]
        if env_steps >= END:
            self.save(trial)
            trial.set_status(Trial.TERMINATED)
            return
        result = {"env_steps": env_steps, METRIC: score}
        if self.scheduler.on_trial_result(self, trial, result) == TrialScheduler.PAUSE:
            if self.results_left == 1:
                raise Killed  # before the checkpoint
            self.save(trial)
            trial.set_status(Trial.PAUSED)

    def save(self, trial: Trial) -> None:
        folder = self.trial_folder(trial)
        progress = {EXPLOITS: len(trial.config[EXPLOITS])}
        weight, steps = self.weights[trial.trial_id], self.env_steps[trial.trial_id]
        write_checkpoint(folder, steps, weight, f"rows of {folder.name}", **progress)

    @property
    def final_weights(self) -> list[float]:
        return [self.weights[trial.trial_id] for trial in self.trials]

    @property
    def lineage(self) -> list[tuple[int, int, int, float]]:
        """(env steps, member, source, new rate) of each exploit."""
        return [
            (one.env_steps, one.member, one.source, one.new[RATE])
            for one in read_lineage(self.folder)
        ]
