"""The EnvRunner of a run that trains from a data set alone: it has no environment."""

from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.utils.checkpoints import Checkpointable

from rlssl.connectors.frame_stack import stacked_space
from rlssl.rollouts.base_env_runner import RunnerSettings
from rlssl.system.random_state import generators, set_generators


class NoEnvRunner(EnvRunner, Checkpointable):
    """Knows the spaces of the data and never samples.

    RLlib reads the spaces of an Algorithm from its EnvRunners, and sends them weights. This one
    gives the spaces of the config, which are those of the data set, and ignores weights.
    """

    #: As in other runners; there are none of them.
    env = module = None
    num_envs = 0
    generation = num_restarts = 0
    worker_index = 0
    num_env_steps_sampled_lifetime = 0

    def __init__(self, *, config: AlgorithmConfig, **kwargs: Any) -> None:
        """Reads the spaces of one environment from the config; builds nothing."""
        self.settings = RunnerSettings.of(config)
        super().__init__(config=config, **kwargs)

    def assert_healthy(self) -> None:
        """RLlib's check; there is nothing that could break."""

    def get_spaces(self) -> dict[str, Any]:
        """The spaces of one environment, and those of the module, whose observations are stacks."""
        observations, actions = self.config.observation_space, self.config.action_space
        settings = self.settings
        stacked = stacked_space(observations, settings.frame_stack, settings.encoder_config)
        return {
            INPUT_ENV_SPACES: (observations, actions),
            INPUT_ENV_SINGLE_SPACES: (observations, actions),
            DEFAULT_MODULE_ID: (stacked, actions),
        }

    def sample(self, **_: Any) -> Any:
        """Refuses: there is no environment.

        Raises:
            RuntimeError: Always.
        """
        raise RuntimeError("a run that trains from a data set alone does not sample.")

    def get_metrics(self) -> dict[str, Any]:
        """No metrics."""
        return {}

    def get_state(self, *_: Any, **__: Any) -> dict[str, Any]:
        """No state."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Ignores weights: nothing acts here."""

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of the constructor."""
        return (), {"config": self.config}

    def start_over(self, generation: int) -> None:
        """There are no environments to start again."""

    def global_generators(self) -> dict[str, Any]:
        """The states of this process's global generators."""
        return generators()

    def set_global_generators(self, states: dict[str, Any]) -> None:
        """Sets what `global_generators` returned."""
        set_generators(states)
