"""The agent of the ICM paper (preset ``icm`` of A3C): its parts, and that each part learns."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from rlssl.experiment.spec.building import build_config
from rlssl.experiment.spec.loading import load_spec
from rlssl.registry import register_env
from tests.algorithms.a3c.a3c_bench import A3CBench


class Game(gym.Env):
    """Gray frames of the published size; the brightness counts how often action 1 was taken."""

    observation_space = gym.spaces.Box(0, 255, (1, 42, 42), np.uint8)
    action_space = gym.spaces.Discrete(4)
    suggested_frame_stack = 4
    action_repeat = 4

    def __init__(self, config: Any) -> None:
        self.steps = self.count = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = self.count = 0
        return self._frame(), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        self.count += int(action == 1)
        return self._frame(), 0.0, False, self.steps == 30, {}

    def _frame(self) -> np.ndarray:
        noise = self.np_random.integers(20, size=(1, 42, 42))
        return (7 * self.count + noise).astype(np.uint8)


register_env("test/Game", Game)


def agent(**sections: Any) -> Any:
    """The preset's config; ``sections`` override it, as in a spec."""
    document = {"algorithm": "a3c", "preset": "icm", "env": {"id": "test/Game"}, **sections}
    return build_config(load_spec(document))


def test_agent_is_the_published_one() -> None:
    config = agent()
    assert (config.num_env_runners, config.num_envs_per_env_runner) == (20, 1)
    assert config.get_rollout_fragment_length() == 20
    bench = A3CBench(agent(resources={"env_runners": 0}))
    sizes = {name: tuple(p.shape) for name, p in bench.module.named_parameters()}
    convolutions = [size for name, size in sizes.items() if len(size) == 4]
    # Encoders of the policy and of curiosity: 4 stacked frames, 32 features, four 3x3 convolutions.
    assert convolutions == 2 * [(32, 4, 3, 3), *3 * [(32, 32, 3, 3)]]
    # Four gates of 256 cells; 42x42 pixels give 288 features.
    assert (1024, 288) in sizes.values() and (1024, 256) in sizes.values()
    loss = bench.module.auxiliary["icm"]
    assert (loss.config.variant, loss.config.intrinsic_coeff) == ("pathak", 0.01)
    assert (loss.config.scale, loss.config.forward_weight) == (10.0, 0.2)
    assert (loss.config.grad_clip, config.grad_clip) == (40.0, 40.0)


def test_every_part_of_the_agent_learns_within_three_updates() -> None:
    bench = A3CBench(agent(resources={"env_runners": 0}))
    before = {name: p.detach().clone() for name, p in bench.module.named_parameters()}
    steps = 0
    for _ in range(3):
        count = bench.runner.compute(steps)
        steps += count
        assert bench.learner.apply(worker=0, agent_steps=steps, num_steps=count)
    assert steps == 60
    still = [n for n, p in bench.module.named_parameters() if torch.equal(p, before[n])]
    assert still == []
    report = bench.learner.report()["default_policy"]
    # log 4, for the policy and the inverse model: both are still close to uniform.
    assert float(report["entropy"].peek()) == pytest.approx(np.log(4), abs=0.05)


@pytest.mark.slow
@pytest.mark.usefixtures("own_ray")
def test_each_worker_has_its_own_adam_statistics() -> None:
    training = {"agent_steps_per_iteration": 200}
    algorithm = agent(resources={"env_runners": 2}, training=training).build_algo()
    try:
        result = algorithm.train()
        result = algorithm.train()
        learner = algorithm.learner
        names = {name for name, _ in learner.get_optimizers_for_module("default_policy")}
        counts = [
            int(state["step"])
            for name, optimizer in learner.get_optimizers_for_module("default_policy")
            for state in optimizer.state_dict()["state"].values()
            if "icm" not in name
        ]
    finally:
        algorithm.stop()
    assert sorted(name[-8:] for name in names) == 2 * ["worker_1"] + 2 * ["worker_2"]
    assert len(counts) == 2 and sum(counts) == result["updates"] >= 20
    assert result["aux"]["icm"]["inverse_error"] < 1.5
    assert result["intrinsic_return_mean"] > 0
