"""Experts for CartPole and Pendulum of gymnasium.

They read the state of the environment, so any observation will do.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control import CartPoleEnv, PendulumEnv

from rlssl.errors import SpecError

#: Angle from the top, in rad, below which the pendulum is balanced.
_NEAR_TOP = 0.35
#: Speed, in rad/s, below which the pendulum hangs too still to know where to swing.
_STILL = 0.05


class CartPole:
    """Balances CartPole: return 500 of 500.

    It pushes to the right where ``0.1 x + 0.3 v + 1.5 theta + 0.5 omega > 0``, with position and
    speed of the cart, angle and angular speed of the pole.
    """

    def __init__(self, env: gym.Env) -> None:
        """Takes any CartPole.

        Raises:
            SpecError: The environment is not CartPole.
        """
        if not isinstance(env.unwrapped, CartPoleEnv):
            raise _wrong_environment("cartpole", "CartPole-v1", env)
        self._env = env.unwrapped

    def reset(self, observation: Any) -> None:
        """Begins an episode."""

    def act(self, observation: Any, previous_action: Any) -> int:
        """1, to the right, or 0."""
        position, speed, angle, angular_speed = self._env.state  # type: ignore[misc]
        return int(0.1 * position + 0.3 * speed + 1.5 * angle + 0.5 * angular_speed > 0)


class Pendulum:
    """Swings the pendulum up and balances it: return about -140, the mean over seeds.

    Near the top, a linear controller; elsewhere, torque against the lack or excess of energy
    ``omega^2 / 6 + 5 cos(theta) - 5``, which is 0 at rest at the top.
    """

    def __init__(self, env: gym.Env) -> None:
        """Takes gymnasium's Pendulum.

        Raises:
            SpecError: The environment is not Pendulum, or its actions are rescaled.
        """
        inner = env.unwrapped
        if not isinstance(inner, PendulumEnv) or env.action_space != inner.action_space:
            raise _wrong_environment("pendulum", "Pendulum-v1", env)
        self._env = inner

    def reset(self, observation: Any) -> None:
        """Begins an episode."""

    def act(self, observation: Any, previous_action: Any) -> np.ndarray:
        """The torque, in [-2, 2] N m: [1], float32."""
        angle, speed = self._env.state
        angle = (angle + np.pi) % (2 * np.pi) - np.pi
        energy = speed**2 / 6 + 5 * np.cos(angle) - 5
        if abs(angle) < _NEAR_TOP:
            torque = -(12 * angle + 3 * speed)
        elif abs(speed) < _STILL:
            torque = 2.0
        else:
            torque = -3 * energy * speed
        return np.array([np.clip(torque, -2.0, 2.0)], np.float32)


def _wrong_environment(name: str, wanted: str, env: gym.Env) -> SpecError:
    return SpecError(
        f"expert/{name} is for {wanted} with its own actions; got {type(env.unwrapped).__name__} "
        f"with actions {env.action_space}."
    )
