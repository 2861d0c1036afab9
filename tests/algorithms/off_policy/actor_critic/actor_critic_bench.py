"""Learners, runners and replay buffers of SAC and DDPG, without Ray's processes."""

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

import rlssl
from rlssl.algorithms.ddpg.ddpg import DDPGConfig
from rlssl.algorithms.off_policy.actor_critic.config import OffPolicyActorCriticConfig
from rlssl.algorithms.off_policy.actor_critic.learner import OffPolicyActorCriticLearner
from rlssl.algorithms.sac.sac import SACConfig
from tests.algorithms.rainbow.rainbow_bench import RainbowBench

#: The online networks of a module for vectors.
NETWORKS = ("encoder", "critic", "actor_encoder", "actor")

#: Sides of the images of `Dot`, and of the crops of `pixel_model`.
SIDE, CROP = 16, 12


class ActorCriticBench(RainbowBench):
    """As `RainbowBench`: a Learner, a runner and a replay buffer."""

    learner: OffPolicyActorCriticLearner

    def __init__(self, config: OffPolicyActorCriticConfig) -> None:
        super().__init__(config)

    def states(self) -> dict[str, Any]:
        """A copy of everything in the module's state."""
        return {key: value.clone() for key, value in self.module.state_dict().items()}

    def moved_by(self, **options: Any) -> set[str]:
        """Keys of the state that one update changes."""
        before = self.states()
        self.learner.update_on(self.draw(**options), agent_steps=self.env_steps)
        after = self.module.state_dict()
        return {key for key, value in before.items() if not value.equal(after[key])}


def learner_by_hand(learner_class: Any, config: Any, **module: Any) -> Any:
    """A Learner whose networks are functions with known results, for its losses and targets."""

    class LearnerByHand(learner_class):
        rl_module = SimpleNamespace(**module)

        def __init__(self) -> None:
            self.config, self.env_steps = config, 0
            self.latest_metrics: dict[Any, Any] = {}

    return LearnerByHand()


def same_numbers(value: float) -> Any:
    """A random number generator that always returns ``value``."""
    return SimpleNamespace(normal=lambda like: torch.full_like(like, value))


def apart(module: Any) -> tuple[nn.ModuleDict, nn.ModuleDict]:
    """Copies of a module's online and target networks, after its targets were changed."""
    with torch.no_grad():
        for parameter in module.target.parameters():
            parameter.mul_(1.1)
    nets = nn.ModuleDict({name: copy.deepcopy(getattr(module, name)) for name in NETWORKS})
    return nets, copy.deepcopy(module.target.target)


def assert_same_networks(module: Any, nets: nn.ModuleDict, slow: nn.ModuleDict) -> None:
    """Asserts that online and target networks equal those of a reference, within 1e-5."""
    pairs = [(getattr(module, name), nets[name]) for name in NETWORKS]
    for learned, plain in [*pairs, (module.target.target, slow)]:
        state = learned.state_dict()
        for key, value in plain.state_dict().items():
            torch.testing.assert_close(state[key], value, rtol=0, atol=1e-5, msg=key)


class Dot(gym.Env):
    """A bright dot that actions move over a shaded image; the reward is the dot's height."""

    observation_space = gym.spaces.Box(0, 255, (3, SIDE, SIDE), np.uint8)
    action_space = gym.spaces.Box(-2.0, 2.0, (2,), np.float32)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self._place, self._steps = self.np_random.uniform(2, SIDE - 2, 2), 0
        return self._image(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self._place = np.clip(self._place + action, 1, SIDE - 2)
        self._steps += 1
        return self._image(), float(self._place[0]) / SIDE, False, self._steps == 20, {}

    def _image(self) -> np.ndarray:
        shade = np.arange(SIDE * SIDE).reshape(SIDE, SIDE) // 2
        image = np.stack([shade, shade.T, 128 - shade]).astype(np.uint8)
        row, column = self._place.astype(int)
        image[:, row - 1 : row + 2, column - 1 : column + 2] = 200
        return image


rlssl.register_env("test/dot", lambda config: Dot())

_SETTINGS = {
    "train_batch_size_per_learner": 32,
    "critic_hidden": [16],
    "actor_hidden": [16],
    "replay_capacity": 2000,
    "learning_starts_agent_steps": 50,
    "random_agent_steps": 0,
}


def small_sac(env: Any = "Pendulum-v1", **training: Any) -> SACConfig:
    """SAC with two environments and networks of 16 features."""
    return small(SACConfig(), env, training)


def small_ddpg(env: Any = "Pendulum-v1", **training: Any) -> DDPGConfig:
    """DDPG with two environments and networks of 16 features."""
    return small(DDPGConfig(), env, training)


def small(config: Any, env: Any, training: dict[str, Any]) -> Any:
    return (
        config.environment(env)
        .env_runners(num_envs_per_env_runner=2)
        .model(encoder_config={"hidden": [16]} if env == "Pendulum-v1" else {})
        .training(**{**_SETTINGS, **training})
        .debugging(seed=0)
    )


def on_pixels(config: Any, *, augmentation: Any = None, **encoder_config: Any) -> Any:
    """The config with two small convolutions, for `Dot`."""
    options = {"num_layers": 2, "num_filters": 4, "feature_dim": 8, **encoder_config}
    return config.model(encoder="curl", encoder_config=options, augmentation=augmentation)


CROPPED = {"crop": {"size": CROP}}

#: Runs a test for SAC and for DDPG.
BOTH = pytest.mark.parametrize("small", [small_sac, small_ddpg], ids=["sac", "ddpg"])
Small = Callable[..., Any]


def pixel_bench(small: Small, augmentation: Any = CROPPED, **training: Any) -> ActorCriticBench:
    losses = training.pop("auxiliary", {})
    config = on_pixels(small("test/dot", **training), augmentation=augmentation)
    bench = ActorCriticBench(config.auxiliary(**losses))
    bench.add(bench.sample())
    return bench


def watch_steps(bench: ActorCriticBench) -> list[tuple[list[str], set[str]]]:
    """A list that gets, for each optimizer step, its optimizers and the state keys it changed."""
    steps: list[tuple[list[str], set[str]]] = []
    optimizer_step = bench.learner.optimizer_step

    def watched(loss: Any, optimizers: Any) -> bool:
        before = bench.states()
        done = optimizer_step(loss, optimizers)
        after = bench.module.state_dict()
        moved = {key for key, value in before.items() if not value.equal(after[key])}
        steps.append((list(optimizers), moved))
        return done

    bench.learner.optimizer_step = watched  # type: ignore[method-assign]
    return steps


def prefixes(keys: set[str], depth: int = 1) -> set[str]:
    return {".".join(key.split(".")[:depth]) for key in keys}
