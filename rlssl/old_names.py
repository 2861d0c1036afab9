"""Tables of old names in files of earlier versions, and today's names.

Checkpoints are pickles, which contain names of modules, classes and attributes. The old names are
listed only here; the readers of checkpoints look them up.
"""

import importlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

#: Old module -> new module, for modules that moved with their whole content.
MODULES = {
    "rlssl.algorithms.actor_critic_config": "rlssl.algorithms.off_policy.actor_critic.config",
    "rlssl.algorithms.actor_critic_learner": "rlssl.algorithms.off_policy.actor_critic.learner",
    "rlssl.algorithms.actor_critic_module": "rlssl.algorithms.off_policy.actor_critic.module",
    "rlssl.algorithms.auxiliary_mixins": "rlssl.algorithms.common.auxiliary_learner",
    "rlssl.algorithms.config_mixin": "rlssl.algorithms.common.config",
    "rlssl.algorithms.eager_adam": "rlssl.algorithms.common.optimizers",
    "rlssl.algorithms.off_policy_config": "rlssl.algorithms.off_policy.config",
    "rlssl.algorithms.off_policy_learner": "rlssl.algorithms.off_policy.learner",
    "rlssl.algorithms.off_policy_module": "rlssl.algorithms.off_policy.module",
    "rlssl.algorithms.ppo.ppo_module": "rlssl.algorithms.on_policy.module",
    "rlssl.auxiliary.bisimulation": "rlssl.auxiliary.metric.bisimulation",
    "rlssl.auxiliary.curl": "rlssl.auxiliary.contrastive.curl",
    "rlssl.auxiliary.deepmdp": "rlssl.auxiliary.predictive.deepmdp",
    "rlssl.auxiliary.diagnostics": "rlssl.auxiliary.latent_statistics",
    "rlssl.auxiliary.icm": "rlssl.auxiliary.bonuses.icm",
    "rlssl.experiment.callbacks": "rlssl.experiment.tuning.callbacks",
    "rlssl.experiment.casualties": "rlssl.experiment.tuning.runner_restarts",
    "rlssl.experiment.checkpoint": "rlssl.experiment.checkpoints.checkpoint",
    "rlssl.experiment.launch": "rlssl.experiment.tuning.launch",
    "rlssl.experiment.retries": "rlssl.experiment.tuning.retries",
    "rlssl.experiment.run_state": "rlssl.experiment.checkpoints.exact_state",
    "rlssl.experiment.schema": "rlssl.experiment.spec.schema",
    "rlssl.experiment.seeded_asha": "rlssl.experiment.tuning.schedulers.seeded_asha",
    "rlssl.experiment.trial": "rlssl.experiment.tuning.trainable",
    "rlssl.experiment.tuning.seeded_asha": "rlssl.experiment.tuning.schedulers.seeded_asha",
    "rlssl.rollouts.connectors": "rlssl.connectors.stack_observations",
    "rlssl.rollouts.env_state": "rlssl.rollouts.runner_state",
    "rlssl.rollouts.episode_log": "rlssl.rollouts.episode_metrics",
    "rlssl.rollouts.frame_stack": "rlssl.connectors.frame_stack",
    "rlssl.rollouts.guarded_envs": "rlssl.rollouts.guarded_env_runner",
    "rlssl.rollouts.halves": "rlssl.rollouts.double_buffering",
    "rlssl.rollouts.lane": "rlssl.rollouts.env_batch",
    "rlssl.rollouts.registered_envs": "rlssl.rollouts.base_env_runner",
    "rlssl.rollouts.slots": "rlssl.rollouts.isolated_vector_env",
}

#: (today's module, old name) -> (new module, new name), for single names that changed or moved.
NAMES = {
    ("rlssl.algorithms.off_policy.actor_critic.module", "ActorCriticModule"): (
        "rlssl.algorithms.off_policy.actor_critic.module",
        "OffPolicyActorCriticModule",
    ),
    ("rlssl.algorithms.on_policy.module", "PPOModule"): (
        "rlssl.algorithms.on_policy.module",
        "ActorCriticModule",
    ),
    ("rlssl.experiment.tuning.schedulers.seeded_asha", "_Point"): (
        "rlssl.experiment.tuning.schedulers.point_scheduler",
        "PointScores",
    ),
    ("rlssl.experiment.tuning.trainable", "TrialRunner"): (
        "rlssl.experiment.tuning.trainable",
        "SpecTrainable",
    ),
    ("rlssl.registry", "_build"): ("rlssl.environments.building", "_build"),
    ("rlssl.rollouts.double_buffering", "HalvedVectorEnv"): (
        "rlssl.rollouts.double_buffering",
        "DoubleBufferedVectorEnv",
    ),
    ("rlssl.rollouts.env_batch", "Lane"): ("rlssl.rollouts.env_batch", "EnvBatch"),
    ("rlssl.rollouts.fragment", "Chunk"): ("rlssl.rollouts.fragment", "ChunkSpan"),
}

#: Old part of a weight's dotted name -> new part.
STATE_KEYS = {
    "draws": "update_rng",
    "noise_draws": "noise_rng",
    "target_noise_draws": "target_noise_rng",
}

#: Old attribute of a pickled EnvRunner or of its parts -> new attribute.
ATTRIBUTES = {"_lanes": "_env_batches", "everybody": "every_env", "flight": "pending_step"}

#: Old key of the progress in a checkpoint's manifest -> new key.
PROGRESS_KEYS = {"casualties": "runner_restarts"}

#: Old value of a setting -> new value. Specs and saved configs may hold the old one.
VALUES = {"factorised": "factorized"}


def renamed_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """A module's ``state_dict`` with today's names of weights.

    Example:
        >>> renamed_state({"auxiliary.curl.draws._extra_state": 1})
        {'auxiliary.curl.update_rng._extra_state': 1}
    """
    return {
        ".".join(STATE_KEYS.get(part, part) for part in name.split(".")): value
        for name, value in state.items()
    }


def renamed(table: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with the keys of ``table`` replaced.

    Example:
        >>> renamed({"old": "new"}, {"old": 1, "kept": 2})
        {'new': 1, 'kept': 2}
    """
    return {table.get(key, key): value for key, value in values.items()}


def current_value(value: Any) -> Any:
    """Today's spelling of a setting's value; other values are returned unchanged.

    Example:
        >>> current_value("factorised"), current_value("independent")
        ('factorized', 'independent')
    """
    return VALUES.get(value, value) if isinstance(value, str) else value


def attribute_finder(module: str) -> Callable[[str], Any]:
    """Returns the ``__getattr__`` of a module from which names have moved."""

    def find(name: str) -> Any:
        if (module, name) not in NAMES:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        new_module, new_name = NAMES[module, name]
        return getattr(importlib.import_module(new_module), new_name)

    return find


class _OldModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds old modules, and gives them the names of the new modules."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The specification of a module of the table; None for all others."""
        if fullname not in MODULES:
            return None
        return importlib.util.spec_from_loader(fullname, self)

    def exec_module(self, module: ModuleType) -> None:
        """Gives the old module a ``__getattr__`` that looks names up in the new module."""
        new_module = MODULES[module.__name__]
        find = attribute_finder(new_module)

        def look_up(name: str) -> Any:
            if (new_module, name) in NAMES:
                return find(name)
            return getattr(importlib.import_module(new_module), name)

        vars(module)["__getattr__"] = look_up


def install() -> None:
    """Lets this process import modules by their old names; idempotent."""
    if not any(isinstance(finder, _OldModules) for finder in sys.meta_path):
        sys.meta_path.append(_OldModules())
