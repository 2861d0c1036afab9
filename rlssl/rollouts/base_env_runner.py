"""The base of both EnvRunners: it loads plug-ins and builds environments by rlssl's ids."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.callbacks.utils import make_callback
from ray.rllib.connectors.common.add_observations_from_episodes_to_batch import (
    AddObservationsFromEpisodesToBatch,
)
from ray.rllib.env.env_context import EnvContext
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

from rlssl.connectors.stack_observations import StackObservationsEnvToModule
from rlssl.environments.building import Vectorize, make_vector_env
from rlssl.environments.vector_infos import DEFAULT_SUCCESS, Success
from rlssl.plugins import load_plugins
from rlssl.registry import restore_registrations
from rlssl.rollouts.double_buffering import force_close
from rlssl.system.allocator import keep_memory

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunnerSettings:
    """The settings that an EnvRunner reads from a config besides RLlib's own."""

    # {"id": ..., **options} of the environment.
    env: dict[str, Any]
    # How copies of the environment are vectorized.
    vectorize: Vectorize
    # Whether one half steps while the policy runs on the other; None: if environments can.
    double_buffering: bool | None
    # Frames in a stacked observation; >= 1.
    frame_stack: int
    # `model.encoder_config`, whose `layout` is the user's word about the channels of images.
    encoder_config: Mapping[str, Any]
    # Whether the runner trains or evaluates.
    split: Literal["train", "eval"]
    # Which steps of an episode make it a success.
    success: Success

    @classmethod
    def of(cls, config: AlgorithmConfig) -> "RunnerSettings":
        """Reads the settings from a config; an RLlib config gives the defaults."""
        return cls(
            env={"id": config.env, **config.env_config},
            vectorize=getattr(config, "vectorize", "native"),
            double_buffering=getattr(config, "double_buffering", None),
            frame_stack=frame_stack_of(config),
            encoder_config=getattr(config, "network", {}).get("encoder_config") or {},
            split="eval" if config.in_evaluation else "train",
            success=getattr(config, "seeded_evaluation", {}).get("success", DEFAULT_SUCCESS),
        )


def frame_stack_of(config: AlgorithmConfig) -> int:
    """Reads ``frame_stack`` from a config; 1 if an RLlib config does not have it."""
    own: int | None = getattr(config, "frame_stack", None)
    return int(config.model_config.get("frame_stack", 1)) if own is None else own


def load_extensions(config: AlgorithmConfig) -> None:
    """Loads the plug-ins and registrations of a config in this process; RLlib's have none."""
    load_plugins(getattr(config, "plugin_modules", ()))
    restore_registrations(getattr(config, "registrations", {}))


class BaseEnvRunner(SingleAgentEnvRunner):
    """An RLlib EnvRunner whose environments come from rlssl's registry; base of the two runners."""

    env: Any
    num_envs: int
    #: How often environments were rebuilt; the seeds of new environments depend on it.
    generation = 0

    def __init__(self, *, config: AlgorithmConfig, **kwargs: Any) -> None:
        """Loads plug-ins and registrations, then builds everything as RLlib does.

        Args:
            config: The algorithm's config; `RunnerSettings` lists what is read besides RLlib's.
            **kwargs: RLlib's arguments: ``worker_index``, ``num_workers``, ``spaces`` and others.
        """
        keep_memory()
        load_extensions(config)
        self.settings = RunnerSettings.of(config)
        super().__init__(config=config, **kwargs)
        # Chunks must include the earlier frames that their first stacks consist of.
        horizon = max(self.config.episode_lookback_horizon, self.settings.frame_stack - 1)
        self.config.episode_lookback_horizon = horizon

    def _global_steps(self, steps: int) -> int:
        """Agent steps of the run before an action: the clock of every schedule of exploration.

        The clock counts the steps of all runners since the start of the run. It is exact with one
        runner. With several, a runner knows only its own new steps. It assumes that the others
        sample as fast, until the Algorithm sends the exact number. The clock stands still in
        evaluation.

        Args:
            steps: Agent steps of this runner before the action, in this call of ``sample``.
        """
        return self.num_env_steps_sampled_lifetime + steps * self._num_sampling

    @property
    def _num_sampling(self) -> int:
        """How many runners advance the clock."""
        return 0 if self.config.in_evaluation else max(1, self.config.num_env_runners)

    def _increase_sampled_metrics(self, num_steps: int, num_episodes_completed: int) -> int:
        # RLlib's own loop also reads this number, at every action.
        self.num_env_steps_sampled_lifetime = self._global_steps(num_steps)
        counted: int = super()._increase_sampled_metrics(num_steps, num_episodes_completed)
        return counted

    @property
    def env_seed(self) -> int | None:
        """Seed of the environments that are built or reset next.

        It changes with each rebuild: with the same seed, an environment might fail again and again.
        """
        if self._seed is None or not self.generation:
            return self._seed
        return int(np.random.SeedSequence((self._seed, self.generation)).generate_state(1)[0])

    def make_env(self) -> None:
        """Builds the vector environment and closes the old one; the next sample resets it.

        Raises:
            SpecError: If the id is unknown or the environment cannot be built.
        """
        self._close_env()
        # Read again, because RLlib lets users change the config and call this method.
        self.settings = RunnerSettings.of(self.config)
        vector_env = self._make_vector_env(self.config.num_envs_per_env_runner)
        if self.env_seed is not None:
            vector_env.action_space.seed(self.env_seed)
        self.env = self._adapt(vector_env)
        self.num_envs = self.env.num_envs
        self._needs_initial_reset = True
        make_callback(
            "on_environment_created",
            callbacks_objects=self._callbacks,
            callbacks_functions=self.config.callbacks_on_environment_created,
            kwargs={
                "env_runner": self,
                "metrics_logger": self.metrics,
                "env": self.env.unwrapped,
                "env_context": EnvContext(
                    self.config.env_config,
                    worker_index=self.worker_index,
                    num_workers=self.num_workers,
                    remote=self.config.remote_worker_envs,
                ),
            },
        )

    def _make_vector_env(self, num_envs: int) -> gym.vector.VectorEnv:
        """Builds all environments as one vector environment."""
        return self._make_part(0, num_envs)

    def _make_part(self, first: int, count: int) -> gym.vector.VectorEnv:
        """Builds ``count`` environments, with the seeds of slots ``first`` and following."""
        settings = self.settings
        return make_vector_env(
            settings.env,
            num_envs=count,
            vectorize=settings.vectorize,
            split=settings.split,
            worker_index=self.worker_index or 0,
            seed=None if self.env_seed is None else self.env_seed + first,
        )

    def make_module(self) -> None:
        """Builds the module for the spaces after the connectors, which include frame stacking."""
        if self.settings.frame_stack > 1 and not self._env_to_module[StackObservationsEnvToModule]:
            self._env_to_module.insert_before(
                AddObservationsFromEpisodesToBatch,
                StackObservationsEnvToModule(
                    frame_stack=self.settings.frame_stack,
                    encoder_config=self.settings.encoder_config,
                ),
            )
        super().make_module()

    def _adapt(self, vector_env: gym.vector.VectorEnv) -> gym.vector.VectorEnv:
        """Wraps a new vector environment for the runner's sampling loop."""
        return vector_env

    def _close_env(self) -> None:
        if self.env is None:
            return
        try:
            if self.generation:
                force_close(self.env)
            else:
                self.env.close()
        except Exception as error:  # it may be closed because it has failed
            name = self.settings.env["id"]
            logger.warning(
                "environment %r failed in close(): %s: %s", name, type(error).__name__, error
            )
