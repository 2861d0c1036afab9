"""Independent Gaussian noise on actions."""

import numpy as np
from numpy.typing import NDArray

from rlssl.exploration.noise import ActionNoise
from rlssl.schedules import Schedule, check_schedule, value_at


class GaussianNoise(ActionNoise):
    """``clip(std * N(0, 1), -clip, clip)``, independent for every step, dimension and environment.

    Example:
        >>> noise = GaussianNoise(4, 2, std=[[0, 1.0], [1000, 0.0]], clip=0.5, seed=0)
        >>> noise.sample(env_steps=0).shape, float(np.abs(noise.sample(env_steps=1000)).max())
        ((4, 2), 0.0)

    Source:
        Fujimoto et al. 2018, arXiv:1802.09477 (std 0.1, no clip); Yarats et al. 2021,
        arXiv:2107.09645 (std decreases from 1.0 to 0.1, no clip in acting).
    """

    def __init__(
        self,
        num_envs: int,
        action_dim: int,
        *,
        std: Schedule,
        clip: float | None,
        seed: int | None = None,
    ) -> None:
        """Seeds the generator.

        Args:
            num_envs: N.
            action_dim: A, features of an action.
            std: Standard deviation, a schedule over env steps; >= 0, units of the action.
            clip: Largest noise; > 0, units of the action; None: unbounded.
            seed: Seed of the generator; None: from the operating system.

        Raises:
            ValueError: If a value is out of range; the message names it.
        """
        super().__init__(num_envs, action_dim, seed=seed)
        check_schedule(std, "std")
        if clip is not None and not clip > 0:
            raise ValueError(f"clip must be > 0, or None; got {clip}.")
        self._std, self._clip = std, clip

    def sample(self, env_steps: float = 0) -> NDArray[np.float32]:
        """See ``ActionNoise``."""
        noise = self._rng.standard_normal(self.shape, np.float32)
        noise *= np.float32(value_at(self._std, env_steps))
        return noise if self._clip is None else noise.clip(-self._clip, self._clip, out=noise)
