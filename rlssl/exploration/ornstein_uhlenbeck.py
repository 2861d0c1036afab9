"""Noise on actions that remembers: a walk pulled back to 0."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlssl.exploration.noise import ActionNoise
from rlssl.schedules import Schedule, check_schedule, value_at


class OrnsteinUhlenbeckNoise(ActionNoise):
    """An Ornstein-Uhlenbeck process a dimension and environment, by Euler's method.

    ::

        x_0     = 0
        x_{t+1} = (1 - theta * dt) * x_t + sigma * sqrt(dt) * N(0, 1)

    Its stationary mean is 0, its variance ``sigma^2 / (2 * theta - theta^2 * dt)``, its correlation
    over k steps ``(1 - theta * dt)^k``. As dt goes to 0 the variance is ``sigma^2 / (2 * theta)``;
    with the defaults it is 8 % above that, 0.144: a deviation of 0.38.

    Source:
        Lillicrap et al. 2015, arXiv:1509.02971, section 7 (theta 0.15, sigma 0.2); Uhlenbeck and
        Ornstein 1930. The paper names no dt; published codes have 1 or 0.01.
    """

    def __init__(
        self,
        num_envs: int,
        action_dim: int,
        *,
        theta: float = 0.15,
        sigma: float = 0.2,
        dt: float = 1.0,
        scale: Schedule = 1.0,
        seed: int | None = None,
    ) -> None:
        """Starts every process at 0.

        Args:
            num_envs: N.
            action_dim: A, features of an action.
            theta: Pull towards 0 a unit of time; > 0, and ``theta * dt < 2``, or the walk grows.
            sigma: Deviation of the steps, for a unit of time; >= 0, units of the action.
            dt: Time between two agent steps; > 0.
            scale: Factor on the noise over env steps, not on the walk itself; >= 0.
            seed: None: from the operating system.

        Raises:
            ValueError: If a value is out of range, naming it.
        """
        super().__init__(num_envs, action_dim, seed=seed)
        check_schedule(scale, "scale")
        if not dt > 0:
            raise ValueError(f"dt must be > 0; got {dt}.")
        if not 0 < theta * dt < 2:
            raise ValueError(f"theta must be in (0, 2 / dt); got theta={theta}, dt={dt}.")
        if not sigma >= 0:
            raise ValueError(f"sigma must be >= 0; got {sigma}.")
        self._keep = np.float32(1.0 - theta * dt)
        self._step = np.float32(sigma * np.sqrt(dt))
        self._scale = scale
        self._walk = np.zeros(self.shape, np.float32)

    def sample(self, env_steps: float = 0) -> NDArray[np.float32]:
        """See ``ActionNoise``."""
        self._walk *= self._keep
        self._walk += self._step * self._rng.standard_normal(self.shape, np.float32)
        return self._walk * np.float32(value_at(self._scale, env_steps))

    def reset(self, envs: ArrayLike | None = None) -> None:
        """See ``ActionNoise``."""
        # As an array: an empty list would be of floats, which cannot index.
        chosen = slice(None) if envs is None else np.asarray(envs)
        if isinstance(chosen, np.ndarray) and chosen.dtype != bool:
            chosen = chosen.astype(np.int64)
        self._walk[chosen] = 0.0

    def get_state(self) -> dict[str, Any]:
        """See ``ActionNoise``."""
        return {**super().get_state(), "walk": self._walk.copy()}

    def set_state(self, state: dict[str, Any]) -> None:
        """See ``ActionNoise``.

        Raises:
            ValueError: If the state is of another number of environments or actions.
        """
        walk = np.asarray(state["walk"], np.float32)
        if walk.shape != self.shape:
            raise ValueError(f"the state is of noise {walk.shape}; this one is {self.shape}.")
        super().set_state(state)
        self._walk = walk.copy()
