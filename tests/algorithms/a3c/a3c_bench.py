"""A small A3C, its Learner and runner without Ray's processes."""

from typing import Any

from rlssl.algorithms.a3c.a3c import A3CConfig
from rlssl.algorithms.a3c.a3c_learner import A3CTorchLearner
from rlssl.algorithms.a3c.worker import BaseWorker
from tests.algorithms.bench import Bench


class A3CBench(Bench):
    """As `Bench`; the runner is a worker that shares the Learner's parameters."""

    learner: A3CTorchLearner
    runner: BaseWorker

    def __init__(self, config: A3CConfig) -> None:
        super().__init__(config)
        self.runner.attach(self.learner)


def small_a3c(env: Any = "CartPole-v1", **training: Any) -> A3CConfig:
    """A3C with two environments, 16 features, and Adam, whose moments tests inspect."""
    return (
        A3CConfig()
        .environment(env)
        .env_runners(num_envs_per_env_runner=2, rollout_fragment_length=16)
        .model(encoder_config={"hidden": [16]})
        .training(**{"optimizer": "adam", "agent_steps_per_iteration": 200, **training})
        .debugging(seed=0)
    )
