"""Base of the noise on continuous actions."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


class ActionNoise:
    """Noise on the actions of several environments, drawn from its own generator.

    A subclass defines ``sample``. If its noise depends on earlier noise, it also defines ``reset``.
    """

    def __init__(self, num_envs: int, action_dim: int, *, seed: int | None = None) -> None:
        """Seeds the generator.

        Args:
            num_envs: N.
            action_dim: A, features of an action.
            seed: Seed of the generator; None: from the operating system.

        Raises:
            ValueError: If a size is below 1.
        """
        for name, size in (("num_envs", num_envs), ("action_dim", action_dim)):
            if size < 1:
                raise ValueError(f"{name} must be >= 1; got {size}.")
        self.shape = (num_envs, action_dim)
        self._rng = np.random.default_rng(seed)

    def sample(self, env_steps: float = 0) -> NDArray[np.float32]:
        """The noise of the next step: [N, A], units of the action.

        Args:
            env_steps: Env steps since the start of the run, for schedules.
        """
        raise NotImplementedError

    def reset(self, envs: ArrayLike | None = None) -> None:
        """Resets the noise of environments that start a new episode.

        Args:
            envs: [N] bool, or indices of environments; None: all.
        """

    def get_state(self) -> dict[str, Any]:
        """Everything that later noise depends on."""
        return {"generator": self._rng.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores the result of ``get_state``."""
        self._rng.bit_generator.state = state["generator"]


def add_noise(
    actions: NDArray[np.float32],
    noise: NDArray[np.float32],
    low: ArrayLike = -1.0,
    high: ArrayLike = 1.0,
) -> NDArray[np.float32]:
    """``clip(actions + noise, low, high)``.

    Args:
        actions: [N, A].
        noise: [N, A].
        low: Smallest action: a number or [A].
        high: Largest action: a number or [A].

    Returns:
        [N, A], float32.

    Raises:
        ValueError: If the shapes of actions and noise differ.

    Example:
        >>> actions, noise = np.array([[0.5, -0.5]], "float32"), np.array([[1.0, 0.25]], "float32")
        >>> add_noise(actions, noise).tolist()
        [[1.0, -0.25]]
    """
    if np.shape(actions) != np.shape(noise):
        raise ValueError(
            f"actions and noise must both be [N, A]; got {np.shape(actions)} and {np.shape(noise)}."
        )
    return np.clip(actions + noise, low, high).astype(np.float32, copy=False)
