"""The base of both EnvRunners: it loads plug-ins and builds environments by rlssl's ids."""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.callbacks.utils import make_callback
from ray.rllib.connectors.common.add_observations_from_episodes_to_batch import (
    AddObservationsFromEpisodesToBatch,
)
from ray.rllib.env.env_context import EnvContext
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from rlssl.connectors.stack_observations import StackObservationsEnvToModule
from rlssl.environments.building import Vectorize, make_vector_env, takes_seed_list
from rlssl.environments.vector_infos import DEFAULT_SUCCESS, Success
from rlssl.plugins import load_plugins
from rlssl.ray_internals.cluster import num_own_restarts
from rlssl.registry import restore_registrations
from rlssl.rollouts.double_buffering import DoubleBufferedVectorEnv, force_close
from rlssl.rollouts.episode_metrics import EpisodeLog, FinishedEpisode
from rlssl.system.allocator import keep_memory
from rlssl.system.random_state import (
    OwnGenerators,
    generators,
    set_generators,
    undisturbed_generators,
)
from rlssl.system.seeding import PROCESS_RESTART, SamplerSeeds, integer, sampler_index

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
    # Whether a batch takes several samples, so that offsets of episodes go on between them.
    samples_in_rounds: bool
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
            env=getattr(config, "env_settings", {"id": config.env, **config.env_config}),
            vectorize=getattr(config, "vectorize", "native"),
            double_buffering=getattr(config, "double_buffering", None),
            samples_in_rounds=getattr(config, "samples_in_rounds", False),
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
    #: Whether the next reset is the first of its environments, which is seeded.
    _needs_seed = True
    #: The generation whose seeds the environments were built with.
    _built_generation = 0
    #: The episodes since the last `get_metrics`; each subclass makes it.
    _episode_log: EpisodeLog

    def __init__(self, *, config: AlgorithmConfig, **kwargs: Any) -> None:
        """Loads plug-ins and registrations, then builds everything as RLlib does.

        Args:
            config: The algorithm's config; `RunnerSettings` lists what is read besides RLlib's.
            **kwargs: RLlib's arguments: ``worker_index``, ``num_workers``, ``spaces`` and others.
        """
        keep_memory()
        load_extensions(config)
        self.settings = RunnerSettings.of(config)
        index = kwargs.get("worker_index")
        sampler = sampler_index(index, kwargs.get("num_workers", config.num_env_runners))
        #: Where all random numbers of this runner come from.
        self.seeds = SamplerSeeds(config.seed, sampler, config.in_evaluation)
        #: How often Ray has restarted this runner; 0 for the runner in the trial's process.
        self.num_restarts = num_own_restarts() if index else 0
        self.generation = PROCESS_RESTART * self.num_restarts
        self._own_generators = None
        if config.seed is not None:
            process = self.seeds.stream("process", restart=self.generation)
            self._own_generators = OwnGenerators(process)
        # RLlib seeds the process, which the local runner shares with others.
        with contextlib.nullcontext() if index else undisturbed_generators():
            super().__init__(config=config, **kwargs)
        if index and self._own_generators is not None and self._device.type == "cuda":
            torch.cuda.manual_seed_all(integer(process))
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
    def env_seeds(self) -> list[int] | None:
        """Seeds of the environments that are built or reset next; None: no seeds.

        They change with each rebuild: with the same seed, an environment might fail again and
        again, and it would repeat its episodes.
        """
        count = self.config.num_envs_per_env_runner
        return self.seeds.environments(count, restart=self.generation)

    @contextlib.contextmanager
    def own_generators(self) -> Iterator[None]:
        """Context in which the process's global generators are those of this runner."""
        if self._own_generators is None:
            yield
            return
        with self._own_generators.in_place():
            yield

    def global_generators(self) -> dict[str, Any]:
        """The states of the global generators that this runner draws from."""
        own = self._own_generators
        return {**generators(), **({} if own is None else _without_cuda(own.get()))}

    def set_global_generators(self, states: Mapping[str, Any]) -> None:
        """Sets what `global_generators` returned."""
        if self._own_generators is None:
            set_generators(states)
            return
        self._own_generators.set(states)
        set_generators({**generators(), "cuda": states["cuda"]})

    def start_over(self, generation: int) -> None:
        """Lets the next sample begin in new environments with the seeds of ``generation``."""
        self.generation = generation
        self._needs_seed = self._needs_initial_reset = True

    def continue_at(self, agent_steps: int | None, offset: int) -> None:
        """Sets where the next fragment begins; called after `get_metrics`.

        Args:
            agent_steps: Agent steps of the run so far; None: the runner's own estimate is kept.
            offset: Agent steps of this runner since the Algorithm's last result, to which the
                offsets of its episodes are added.
        """
        if agent_steps is not None:
            self.num_env_steps_sampled_lifetime = agent_steps
        self._episode_log.count_from(offset)

    def newly_finished(self) -> list[FinishedEpisode]:
        """The episodes finished since the last call; the next metrics have them, too."""
        return self._episode_log.newly_finished()

    def sample(self, **kwargs: Any) -> list[SingleAgentEpisode]:
        """Samples with this runner's global generators; see RLlib's SingleAgentEnvRunner."""
        with self.own_generators():
            return super().sample(**kwargs)

    def make_env(self) -> None:
        """Builds the vector environment and closes the old one; the next sample resets it.

        Raises:
            SpecError: If the id is unknown or the environment cannot be built.
        """
        with self.own_generators():
            self._make_env()

    def _make_env(self) -> None:
        self._close_env()
        # Read again, because RLlib lets users change the config and call this method.
        self.settings = RunnerSettings.of(self.config)
        vector_env = self._make_vector_env(self.config.num_envs_per_env_runner)
        if self.seeds.run_seed is not None:
            source = self.seeds.stream("action_space", restart=self.generation)
            vector_env.action_space.seed(integer(source) % 2**31)
        self.env = self._adapt(vector_env)
        self.num_envs = self.env.num_envs
        self._needs_initial_reset = self._needs_seed = True
        self._built_generation = self.generation
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
        settings, seeds = self.settings, self.env_seeds
        return make_vector_env(
            settings.env,
            num_envs=count,
            vectorize=settings.vectorize,
            split=settings.split,
            worker_index=self.worker_index or 0,
            seed=None if seeds is None else seeds[first : first + count],
            native_seed=None if seeds is None else seeds[0] + first,
        )

    def _reset_seed(self) -> list[int] | int | None:
        """What the first reset of environments gets: a seed for each copy, if it takes them.

        Other vector environments seed copy i with the first seed + i.
        """
        seeds, vector_env = self.env_seeds, self.env.unwrapped
        halves = vector_env.halves if isinstance(vector_env, DoubleBufferedVectorEnv) else ()
        if seeds is None or all(map(takes_seed_list, halves or (vector_env,))):
            return seeds
        return seeds[0]

    def make_module(self) -> None:
        """Builds the module for the spaces after the connectors, which include frame stacking.

        Its first weights are those of the Learner, which is seeded with the run's seed.
        """
        if self.settings.frame_stack > 1 and not self._env_to_module[StackObservationsEnvToModule]:
            self._env_to_module.insert_before(
                AddObservationsFromEpisodesToBatch,
                StackObservationsEnvToModule(
                    frame_stack=self.settings.frame_stack,
                    encoder_config=self.settings.encoder_config,
                ),
            )
        with torch.random.fork_rng(devices=[]):
            if self.config.seed is not None:
                torch.default_generator.manual_seed(self.config.seed)
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


def _without_cuda(states: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in states.items() if key != "cuda"}
