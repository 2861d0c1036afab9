"""A plug-in: CartPole and Pendulum whose steps wait, so that runs last without using a core."""

import time
from collections.abc import Mapping
from typing import Any

import gymnasium as gym

import rlssl


class Waiting(gym.Wrapper[Any, Any, Any, Any]):
    """Waits ``wait_s`` seconds before each step, and changes nothing else."""

    def __init__(self, env: gym.Env[Any, Any], wait_s: float) -> None:
        super().__init__(env)
        self.wait_s = wait_s

    def step(self, action: Any) -> Any:
        time.sleep(self.wait_s)
        return self.env.step(action)


def cart_pole(config: Mapping[str, Any]) -> gym.Env[Any, Any]:
    return Waiting(gym.make("CartPole-v1"), config.get("wait_s", 0.0))


def pendulum(config: Mapping[str, Any]) -> gym.Env[Any, Any]:
    return Waiting(gym.make("Pendulum-v1"), config.get("wait_s", 0.0))


rlssl.register_env("chaos/CartPole", cart_pole)
rlssl.register_env("chaos/Pendulum", pendulum)
