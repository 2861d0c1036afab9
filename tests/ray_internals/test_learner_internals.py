"""Private names of ray. If ray renames one, a test fails and shows the name."""

import inspect

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from ray.rllib.env.env_runner_group import EnvRunnerGroup

from rlssl.ray_internals.learner import (
    CONFIG_ATTRIBUTES,
    LEARNER_ATTRIBUTES,
    LEARNER_METHODS,
    MODULE_METHODS,
    WEIGHTS_TAG,
)
from tests.algorithms.bench import Bench, small_ppo


def test_ray_still_has_the_methods() -> None:
    for cls, names in ((TorchLearner, LEARNER_METHODS), (TorchRLModule, MODULE_METHODS)):
        assert [name for name in names if not callable(getattr(cls, name, None))] == []


def test_ray_still_sets_the_attributes() -> None:
    learner = Bench(small_ppo()).learner
    assert [name for name in LEARNER_ATTRIBUTES if name not in vars(learner)] == []


def test_config_still_has_the_attributes() -> None:
    assert [name for name in CONFIG_ATTRIBUTES if name not in vars(AlgorithmConfig())] == []


def test_weights_are_sent_under_the_tag() -> None:
    assert f'tag="{WEIGHTS_TAG}"' in inspect.getsource(EnvRunnerGroup.sync_weights)
