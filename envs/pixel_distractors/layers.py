"""What is drawn on a frame: noise and discs."""

import math
from statistics import NormalDist

import numpy as np
from rlssl_envs.pixel_distractors.options import DiscOptions, NoiseOptions


class Noise:
    """Gaussian noise, rounded to 256 values of equal probability.

    A table of them takes a random byte a pixel, which is several times as fast as drawing normal
    numbers. The largest value is 2.9 standard deviations.

    Example:
        >>> noise = Noise(NoiseOptions(scale=0.1))
        >>> gray = np.full((3, 40, 40), 128, np.uint8)
        >>> noisy = noise.on(gray, np.random.default_rng(0))
        >>> noisy.dtype, abs(noisy.std() - 0.1 * 255) < 1
        (dtype('uint8'), np.True_)
    """

    def __init__(self, options: NoiseOptions) -> None:
        normal = NormalDist(0.0, options.scale * 255)
        quantiles = [normal.inv_cdf((i + 0.5) / 256) for i in range(256)]
        self._table = np.array(quantiles).round().astype(np.int16)

    def on(self, frame: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A new frame [C, H, W], uint8: the frame with noise on it."""
        # integers() of dtype uint8 costs a third more.
        drawn = np.frombuffer(rng.bytes(frame.size), np.uint8).reshape(frame.shape)
        values = self._table[drawn]
        values += frame
        np.clip(values, 0, 255, out=values)
        return values.astype(np.uint8)


class Discs:
    """Discs that move in straight lines and bounce off the sides of the frame."""

    def __init__(self, options: DiscOptions, size: tuple[int, int]) -> None:
        """Prepares discs for frames of a size (height, width); call `start` before `on`."""
        self._size = np.array(size, np.float64)
        self._number = options.number
        self._radius = max(0.5, options.radius * min(size))
        self._speed = options.speed * min(size)

    def start(self, rng: np.random.Generator) -> None:
        """Draws places, directions and colors."""
        angles = rng.uniform(0, 2 * math.pi, self._number)
        self._places = rng.uniform(0, 1, (self._number, 2)) * self._size
        self._ways = self._speed * np.stack([np.sin(angles), np.cos(angles)], axis=1)
        self._colors = rng.integers(0, 256, (self._number, 3), dtype=np.uint8)

    def step(self) -> None:
        """Moves the discs by one agent step."""
        self._places += self._ways
        for over in (self._places < 0, self._places > self._size):
            self._ways[over] *= -1
        # Reflected at the sides.
        self._places = np.abs(self._places)
        self._places = self._size - np.abs(self._size - self._places)

    def draw(self, frame: np.ndarray) -> None:
        """Draws the discs over a frame [3, H, W], in place."""
        height, width = frame.shape[1:]
        for (y, x), color in zip(self._places, self._colors, strict=True):
            rows = slice(max(0, int(y - self._radius)), min(height, int(y + self._radius) + 2))
            columns = slice(max(0, int(x - self._radius)), min(width, int(x + self._radius) + 2))
            far_y = np.arange(rows.start, rows.stop) + 0.5 - y
            far_x = np.arange(columns.start, columns.stop) + 0.5 - x
            inside = far_y[:, None] ** 2 + far_x**2 <= self._radius**2
            part = frame[:, rows, columns]
            part[:, inside] = color[:, None]
