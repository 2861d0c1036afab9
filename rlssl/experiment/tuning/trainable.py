"""One trial of Tune: builds an Algorithm from a spec, trains it, checkpoints by env steps."""

import math
import os
from pathlib import Path
from typing import Any

import torch
from ray import tune
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_LEARNER_GROUP, COMPONENT_RL_MODULE
from ray.tune.result import SHOULD_CHECKPOINT

from rlssl.experiment.checkpoints import checkpoint
from rlssl.experiment.spec.building import build_config
from rlssl.experiment.spec.loading import at_point, load_spec
from rlssl.experiment.spec.schema import Spec
from rlssl.experiment.spec.search_space import num_trials
from rlssl.experiment.tuning.runner_restarts import RunnerRestarts
from rlssl.experiment.tuning.watchdog import Watchdog
from rlssl.plugins import load_plugins
from rlssl.ray_internals.tuning import TRAINABLE_COUNTERS, storage_of
from rlssl.registry import restore_registrations
from rlssl.run_files import ALGORITHM_FOLDER

#: Keys of a trial's config beside the searched paths.
SPEC_KEY, SEED_KEY, WARM_START_KEY = "spec", "seed", "warm_start"
#: What the launching script registered itself, by value; see `rlssl.registry`.
REGISTRATIONS_KEY = "registrations"

#: Where the run stood when this process took it up; what was logged beyond it is repeated.
ENV_STEPS_AT_START = "env_steps_at_start"


class TrialRunner(tune.Trainable):
    """Wraps an rlssl Algorithm, so that train, sweep, retry and resume are one code path.

    Its config holds the sweep's spec as plain data, a seed, and a value for each searched path.
    """

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """`resources.cpus`, and what its runners and Learners ask; see `is_spread`."""
        spec = load_spec(config[SPEC_KEY])
        algorithm_config = build_config(at_point(spec, point_of(config), config[SEED_KEY]))
        request = algorithm_config.algo_class.default_resource_request(algorithm_config)
        return spread(request) if is_spread(spec) else request

    def setup(self, config: dict[str, Any]) -> None:
        """Builds the Algorithm, and continues from the trial's newest valid checkpoint, if any."""
        # Ray's count of this process's CPUs.
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        load_plugins(config[SPEC_KEY].get("plugins", []))
        restore_registrations(config.get(REGISTRATIONS_KEY, {}))
        self.spec = trial_spec(config)
        algorithm_config = build_config(self.spec)
        folder = self._trial_folder()
        if folder is not None:
            # Where a Learner leaves a batch that it could not learn from.
            algorithm_config.run_folder = str(folder)
            checkpoint.remove_unfinished(folder)
            checkpoint.publish_through(storage_of(self))
        # Not `build_algo()`: without a storage, Tune makes a folder in the user's home for it.
        self.algorithm = algorithm_config.algo_class(
            config=algorithm_config, storage=storage_of(self)
        )
        self.runner_restarts = RunnerRestarts(self.algorithm)
        self.env_steps = 0
        self.last_checkpoint_env_steps = 0
        if config.get(WARM_START_KEY):
            self._load_weights(Path(config[WARM_START_KEY]))
        found = None if folder is None else checkpoint.newest_or_none_yet(folder)
        if found is not None:
            self._restore(found)
        self.env_steps_at_start = self.env_steps
        limit_s = self.algorithm.config.watchdog_s
        self.watchdog = Watchdog(limit_s, lambda: self.algorithm.work_done)

    def step(self) -> dict[str, Any]:
        """One iteration of the Algorithm."""
        result = self.algorithm.train()
        result.pop("config", None)
        self.env_steps = result["env_steps"]
        self.watchdog.report(self.env_steps)
        self.runner_restarts.add_to(result)
        result[ENV_STEPS_AT_START] = self.env_steps_at_start
        result[SHOULD_CHECKPOINT] = self._checkpoint_is_due()
        return result

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Everything that the trial needs to continue, and the policy on its own."""
        progress = {
            "counters": {key: getattr(self, key) for key in TRAINABLE_COUNTERS},
            "runner_restarts": self.runner_restarts.counts(),
        }
        checkpoint.save(self.algorithm, Path(checkpoint_dir), self.env_steps, progress)

    def restore(self, checkpoint_path: Any) -> None:
        """Tune's hook, with its own newest checkpoint; `setup` has restored the newest valid one.

        Tune's may be damaged or gone, and it may not know of the newest one.
        """
        folder = self._trial_folder()
        saved = getattr(checkpoint_path, "checkpoint", checkpoint_path)
        if folder is None or Path(getattr(saved, "path", saved)).parent != folder:
            super().restore(checkpoint_path)

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Restores a checkpoint of another trial's.

        Raises:
            SpecError: If it is not valid.
        """
        self._restore(checkpoint.check(Path(checkpoint_dir)))
        self.env_steps_at_start = self.env_steps

    def cleanup(self) -> None:
        """Stops the Algorithm's processes."""
        self.watchdog.stop()
        self.algorithm.stop()

    def _checkpoint_is_due(self) -> bool:
        every = checkpoint_period(self.spec)
        if self.env_steps // every <= self.last_checkpoint_env_steps // every:
            return False
        self.last_checkpoint_env_steps = self.env_steps
        return True

    def _restore(self, found: checkpoint.CheckpointInfo) -> None:
        abandoned = checkpoint.restore(self.algorithm, found)
        self.runner_restarts.go_on_from(
            found.progress.get("runner_restarts", {}), newly_abandoned=abandoned
        )
        for key, value in found.progress.get("counters", {}).items():
            setattr(self, key, value)
        self.env_steps = self.last_checkpoint_env_steps = found.env_steps

    def _load_weights(self, run: Path) -> None:
        """Warm start: the whole RLModule's weights, and nothing else, from a checkpoint."""
        component = f"{COMPONENT_LEARNER_GROUP}/{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}"
        path = run / ALGORITHM_FOLDER / component
        self.algorithm.restore_from_path(str(path), component=component)
        self.algorithm.env_runner_group.sync_weights(
            from_worker_or_learner_group=self.algorithm.learner_group, inference_only=True
        )

    def _trial_folder(self) -> Path | None:
        """Where the checkpoints are; None without a storage, as in a script of a user's own."""
        storage = storage_of(self)
        return None if storage is None else Path(storage.trial_fs_path)


def is_spread(spec: Spec) -> bool:
    """Whether the processes of a trial go to as many nodes as there are, or keep together.

    The runners of a single trial are spread, so that every node has work, and a lost node costs
    some of them. Trials of a sweep keep together, each on as few nodes as can hold it: there is
    work for every node, and samples stay where they are. So do Learners, which exchange gradients.
    """
    return num_trials(spec) == 1 and not spec.resources.learners


def spread(request: tune.PlacementGroupFactory) -> tune.PlacementGroupFactory:
    """The same request, with equally many runners on every node as far as they go.

    Ray deals out the largest bundles first. As large as those of the runners, the trial's own
    would count as one of them, and some nodes would get two more runners than others: a byte of
    memory makes them larger.
    """
    own, *runners = request.bundles
    larger = [{**bundle, "memory": bundle.get("memory", 0) + 1} for bundle in runners]
    return tune.PlacementGroupFactory([own, *larger], strategy="SPREAD")


def checkpoint_period(spec: Spec) -> int:
    """Env steps between checkpoints: as the spec says, or a tenth of the run."""
    return spec.checkpoint.every_env_steps or max(1, int(spec.stop["env_steps"]) // 10)


def trial_spec(config: dict[str, Any]) -> Spec:
    """The concrete spec of a trial's config."""
    return at_point(load_spec(config[SPEC_KEY]), point_of(config), config[SEED_KEY])


def point_of(config: dict[str, Any]) -> dict[str, Any]:
    """The searched values of a trial's config, by dotted path."""
    known = (SPEC_KEY, SEED_KEY, WARM_START_KEY, REGISTRATIONS_KEY)
    return {key: value for key, value in config.items() if key not in known}


def variant_label(point: dict[str, Any]) -> str:
    """The searched values in a few characters, for tables and folder names."""
    if not point:
        return "default"
    return ", ".join(_label(path, value) for path, value in point.items())


def _label(path: str, value: Any) -> str:
    if isinstance(value, dict):
        return "+".join(value) or "none"
    if isinstance(value, float) and math.isfinite(value):
        value = f"{value:.4g}"
    return f"{path.rsplit('.', 1)[-1]}={value}" if path.count(".") < 2 else f"{path}={value}"
