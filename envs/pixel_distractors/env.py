"""An environment of dm_control with distractors in its frames."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from rlssl_envs.dmc import PixelSuiteEnv
from rlssl_envs.pixel_distractors.layers import Discs, Noise
from rlssl_envs.pixel_distractors.options import OPTIONS, parse
from rlssl_envs.pixel_distractors.scene import Background, CameraChange, Colors
from rlssl_envs.pixel_distractors.video import Clips

from rlssl.errors import SpecError

# Part of the seeds, so that distractors and environment draw different numbers.
_STREAM = 0xD157

_SPLITS = ("train", "eval")


class DistractedPixels(gym.Wrapper):
    """Draws distractors into the frames of a `PixelSuiteEnv`.

    Args:
        env: A task of dm_control, from pixels.
        given: The options, as for `rlssl_envs.pixel_distractors.options.parse`.
        split: "train" or "eval".
        seed: Seed until a reset has one; None: different in each run.

    Raises:
        SpecError: If the environment is another one, or an option is wrong.
    """

    def __init__(
        self, env: gym.Env, given: Mapping[str, Any], split: str, seed: int | None
    ) -> None:
        super().__init__(env)
        suite = env.unwrapped
        options = parse(given)
        if not isinstance(suite, PixelSuiteEnv):
            raise SpecError(
                f"env.distractors.{next(iter(options))} is drawn into the frames of dm_control and "
                f"needs an environment dmc-pixels/...; got {suite}. Vectors take {{dims: 30}}."
            )
        self._suite = suite
        self._split = _SPLITS.index(split)
        size = suite.frame_size
        self._noise = Noise(options["noise"]) if "noise" in options else None
        self._discs = Discs(options["discs"], size) if "discs" in options else None
        self._colors = Colors(options["colors"], suite.physics) if "colors" in options else None
        self._camera = CameraChange(options["camera"]) if "camera" in options else None
        self._clips = Clips(options["video"], size, split) if "video" in options else None
        self._behind = {
            name
            for name in ("noise", "discs")
            if name in options and options[name].where == "background"
        }
        needs_mask = self._behind or self._clips is not None
        self._background = Background(suite.physics) if needs_mask else None
        suite.scene_change = self._camera
        self._rngs: dict[str, np.random.Generator] = {}
        self._seed(seed)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts an episode; a seed also seeds the distractors."""
        if seed is not None:
            self._seed(seed)
        if self._camera is not None:
            self._camera.start(self._rngs["camera"])
        if self._colors is not None:
            self._colors.start(self._suite.physics, self._rngs["colors"])
        observation, info = self.env.reset(seed=seed, options=options)
        for name, part in (("discs", self._discs), ("video", self._clips)):
            if part is not None:
                part.start(self._rngs[name])
        return self._distracted(observation), info

    def step(self, action: Any) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        """Takes a step; the distractors move by one."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        for part in (self._discs, self._clips):
            if part is not None:
                part.step()
        return self._distracted(observation), reward, terminated, truncated, info

    def render(self) -> np.ndarray:  # type: ignore[override]
        """The last observation, uint8 [height, width, 3]."""
        return np.ascontiguousarray(self._last.transpose(1, 2, 0))

    def _seed(self, seed: int | None) -> None:
        """Starts a stream of random numbers for each distractor."""
        for index, name in enumerate(OPTIONS):
            entropy = None if seed is None else [_STREAM, self._split, index, int(seed)]
            self._rngs[name] = np.random.default_rng(entropy)

    def _distracted(self, frame: np.ndarray) -> np.ndarray:
        """The frame [3, H, W] with the distractors; it may be written to."""
        if self._background is not None:
            mask = self._background.mask(self._suite.segmentation())
            behind = frame.copy() if self._clips is None else self._clips.frame().copy()
            frame = np.where(mask, self._drawn(behind, self._behind), frame)
        self._last = self._drawn(frame, {"noise", "discs"} - self._behind)
        return self._last.copy()

    def _drawn(self, frame: np.ndarray, names: set[str]) -> np.ndarray:
        if self._discs is not None and "discs" in names:
            self._discs.draw(frame)
        if self._noise is not None and "noise" in names:
            return self._noise.on(frame, self._rngs["noise"])
        return frame
