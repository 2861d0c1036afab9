"""Normalizes vector observations by their running mean and standard deviation (std)."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from rlssl.errors import SpecError, suggest

#: Added to the variance. This value and the next one are those of SB3's ``VecNormalize``.
EPSILON = 1e-8

#: Largest size of a normalized value, in standard deviations.
LIMIT = 10.0

#: With fewer rows, a standard deviation says nothing, and observations stay as they are.
MIN_ROWS = 2

#: Parts of a Dict that are points of one space, the goals', and share their statistics.
GOALS = ("achieved_goal", "desired_goal")

#: Prefix of the normalizer's buffers in the state of an RLModule.
NORMALIZER = "normalizer."

_EXACT = ("mean", "variance")


@dataclasses.dataclass(frozen=True)
class NormalizerOptions:
    """The options of ``model.normalize_observations``."""

    # Lower bound of the standard deviations; >= 0; units of the observations. 0.01 in the
    # published code of hindsight experience replay: elements that hardly move stay small.
    min_std: float = 0.0
    # Largest size of a normalized value, in standard deviations; > 0.
    clip: float = LIMIT


def parse_normalizer(setting: Any) -> NormalizerOptions | None:
    """Reads ``model.normalize_observations``: None and false mean no normalizer.

    Raises:
        SpecError: Naming the option and the value.

    Example:
        >>> parse_normalizer(True), parse_normalizer(False)
        (NormalizerOptions(min_std=0.0, clip=10.0), None)
        >>> parse_normalizer({"clip": 5})
        NormalizerOptions(min_std=0.0, clip=5)
    """
    if setting is None or isinstance(setting, bool):
        return NormalizerOptions() if setting else None
    if not isinstance(setting, Mapping):
        raise SpecError(
            "model.normalize_observations must be true, false or options such as {clip: 5}; got "
            f"{setting!r}."
        )
    names = [field.name for field in dataclasses.fields(NormalizerOptions)]
    for key, value in setting.items():
        name = f"model.normalize_observations.{key}"
        if key not in names:
            raise SpecError(f"unknown option {name!r}{suggest(str(key), names)}")
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 <= value < math.inf or (key == "clip" and value == 0):
            bound = "> 0" if key == "clip" else ">= 0"
            raise SpecError(f"{name} must be a number {bound}; got {value!r}.")
    return NormalizerOptions(**setting)


class Moments(NamedTuple):
    """The number of rows, and each feature's mean and variance over these rows.

    Example:
        >>> moments_of(torch.tensor([[0.0, 1.0], [4.0, 1.0]])).variance.tolist()
        [4.0, 0.0]
    """

    num_rows: int
    # [F], float64.
    mean: Tensor
    # [F], float64; the mean of the squared differences from ``mean``.
    variance: Tensor


@torch.no_grad()
def moments_of(rows: Tensor) -> Moments:
    """The moments of rows [N, F], on the CPU; rows with a value that is not finite do not count.

    Example:
        >>> moments = moments_of(torch.tensor([[1.0], [float("nan")], [5.0]]))
        >>> moments.num_rows, moments.mean.item(), moments.variance.item()
        (2, 3.0, 4.0)
    """
    # First to float32, which the networks read: equal inputs then give equal statistics.
    rows = rows.float().double().cpu()
    rows = rows[rows.isfinite().all(dim=1)]
    if not len(rows):
        zeros = torch.zeros(rows.shape[1], dtype=torch.float64)
        return Moments(0, zeros, zeros)
    mean = rows.mean(dim=0)
    return Moments(len(rows), mean, (rows - mean).square_().mean(dim=0))


def merge(first: Moments, second: Moments) -> Moments:
    """The moments of the rows of both.

    With the counts n and m, and s = m / (n + m)::

        mean = mean1 + s * (mean2 - mean1)
        variance = (1 - s) * variance1 + s * variance2 + s * (1 - s) * (mean2 - mean1)^2

    Example:
        The rows 0, 4 and the row 8: the mean is 4, the variance (16 + 0 + 16) / 3.

        >>> parts = torch.tensor([[0.0], [4.0]]), torch.tensor([[8.0]])
        >>> both = merge(*map(moments_of, parts))
        >>> both.num_rows, round(both.mean.item(), 9), round(both.variance.item(), 6)
        (3, 4.0, 10.666667)

    Source:
        Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm for computing
        sample variances".
    """
    num_rows = first.num_rows + second.num_rows
    if not second.num_rows:
        return first
    share = second.num_rows / num_rows
    shift = second.mean - first.mean
    variance = torch.lerp(first.variance, second.variance, share)
    variance += share * (1 - share) * shift.square()
    return Moments(num_rows, first.mean + share * shift, variance)


class VectorNormalizer(nn.Module):
    """Replaces vectors x by ``clip((x - mean) / sqrt(variance + 1e-8), -10, 10)``.

    With fewer than two rows, vectors stay as they are. Every Box is normalized, except images
    (Boxes of three dimensions) and integer Boxes of more than one dimension, which encoders scale.
    Discrete values are not normalized. In a Dict or Tuple, this holds for each part. If vectors are
    stacked, all frames of a stack share the statistics of a single frame.

    Statistics change only in ``update``, never in ``forward``. They are buffers, so they are saved
    and sent with the weights.

    The parts ``achieved_goal`` and ``desired_goal`` of a Dict, if their shapes are equal, share
    their statistics, which are those of the rows of both. Goals that replay draws in hindsight are
    achieved goals, so that the statistics contain them.

    Args:
        space: The space of one observation, with stacked frames.
        frame_stack: Frames in a stack.
        options: Bounds of standard deviations and of normalized values.

    Raises:
        SpecError: If the space has no vectors.

    Example:
        >>> normalizer = VectorNormalizer(gym.spaces.Box(-9, 9, (1,)))
        >>> normalizer.update(normalizer.moments(torch.tensor([[2.0], [6.0]])))
        >>> normalizer(torch.tensor([[4.0], [8.0]])).tolist()  # mean 4, std 2
        [[0.0], [2.0]]

    Source:
        Raffin et al. 2021, Stable-Baselines3, ``VecNormalize``. Differs: its statistics start with
        mean 0, variance 1 and a weight of 1e-4 rows; and observations are normalized from the first
        row on.
    """

    count: Tensor
    mean: Tensor
    variance: Tensor
    shift: Tensor
    scale: Tensor
    low: Tensor
    high: Tensor

    #: Whether ``update`` has no effect.
    is_frozen = False

    def __init__(
        self,
        space: gym.Space,
        frame_stack: int = 1,
        options: NormalizerOptions | None = None,
    ) -> None:
        super().__init__()
        self._options = options or NormalizerOptions()
        self._parts, stacked = _parts(space, 0)
        self._goals = _goals(self._parts)
        check_vectors(space)
        self._frame_stack, size = frame_stack, stacked // frame_stack
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("variance", torch.zeros(size, dtype=torch.float64))
        # What `forward` reads. Derived buffers are copied with all others, but not saved.
        for name, shape in (
            ("shift", (stacked,)),
            ("scale", (stacked,)),
            ("low", ()),
            ("high", ()),
        ):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64), persistent=False)
        self.register_load_state_dict_post_hook(_after_loading)
        self._derive()

    def forward(self, observations: Any) -> Any:
        """Observations [N, ...] of the space, with float32 vectors in place of its vectors."""
        return self._replace(self._parts, observations)

    def moments(self, observations: Any) -> Moments:
        """The moments of the newest frames of observations [N, ...] of the space."""
        leaves: list[Tensor] = []
        _collect(self._parts, observations, leaves)
        rows = torch.cat(leaves, dim=1)
        moments = moments_of(rows[:, -len(self.mean) :])
        return moments if self._goals is None else _pooled(moments, *self._goals)

    def update(self, moments: Moments) -> None:
        """Adds the rows of ``moments`` to the statistics, unless they are frozen."""
        if self.is_frozen:
            return
        own = Moments(int(self.count), self.mean.cpu(), self.variance.cpu())
        both = merge(own, moments)
        self.count.fill_(both.num_rows)
        self.mean.copy_(both.mean)
        self.variance.copy_(both.variance)
        self._derive()

    def statistics(self) -> dict[str, Any]:
        """``count``, and ``mean`` and ``variance`` [F], float64 arrays."""
        arrays = {name: getattr(self, name).cpu().numpy().copy() for name in _EXACT}
        return {"count": int(self.count), **arrays}

    def set_statistics(self, statistics: Mapping[str, Any]) -> None:
        """Sets what ``statistics`` gave."""
        self.count.fill_(int(statistics["count"]))
        for name in _EXACT:
            getattr(self, name).copy_(torch.as_tensor(np.array(statistics[name])))
        self._derive()

    def numpy_function(self) -> Callable[[np.ndarray], np.ndarray]:
        """The same function of vectors [N, D] in numpy, with equal results, bit for bit.

        It is valid until the statistics change.
        """
        shift, scale = self.shift.numpy().copy(), self.scale.numpy().copy()
        low, high = float(self.low), float(self.high)

        def normalize(observations: np.ndarray) -> np.ndarray:
            values = observations - shift
            values *= scale
            np.minimum(np.maximum(values, low, out=values), high, out=values)
            return values.astype(np.float32)

        return normalize

    @torch.no_grad()
    def _derive(self) -> None:
        """Sets the derived buffers; they leave observations as they are if rows are too few."""
        is_known = self.count >= MIN_ROWS
        variance = self.variance.clamp(min=self._options.min_std**2)
        scale = (variance + EPSILON).rsqrt()
        self.shift.copy_(torch.where(is_known, self.mean, 0.0).repeat(self._frame_stack))
        self.scale.copy_(torch.where(is_known, scale, 1.0).repeat(self._frame_stack))
        self.high.copy_(torch.where(is_known, float(self._options.clip), math.inf))
        self.low.copy_(-self.high)

    def _replace(self, part: Any, observations: Any) -> Any:
        if part is None:
            return observations
        if isinstance(part, dict):
            return {key: self._replace(one, observations[key]) for key, one in part.items()}
        if isinstance(part, tuple):
            pairs = zip(part, observations, strict=True)
            return tuple(self._replace(one, leaf) for one, leaf in pairs)
        values = _flat(observations).float() - self.shift[part]
        values.mul_(self.scale[part]).clamp_(self.low, self.high)
        normalized = values.float()
        return normalized if observations.ndim == 2 else normalized.view(observations.shape)


def check_vectors(space: gym.Space) -> None:
    """Raises a SpecError unless a space has vectors that `VectorNormalizer` normalizes."""
    if not _parts(space, 0)[1]:
        raise SpecError(
            f"model.normalize_observations needs vectors, and {space} has none: images and "
            "discrete values are not normalized. Leave model.normalize_observations out."
        )


def _parts(space: gym.Space, start: int) -> tuple[Any, int]:
    """A struct like the space, and the number of features so far.

    A leaf is the slice of a vector among all features, or None for what is not normalized.
    """
    if isinstance(space, gym.spaces.Dict):
        return _sequence(dict(space.spaces), start)
    if isinstance(space, gym.spaces.Tuple):
        found, start = _sequence(dict(enumerate(space.spaces)), start)
        return tuple(found.values()), start
    if not _is_vector(space):
        return None, start
    stop = start + math.prod(space.shape or ())
    return slice(start, stop), stop


def _sequence(spaces: Mapping[Any, gym.Space], start: int) -> tuple[dict[Any, Any], int]:
    found = {}
    for key, space in spaces.items():
        found[key], start = _parts(space, start)
    return found, start


def _goals(parts: Any) -> tuple[slice, slice] | None:
    """The features of the two kinds of goals, if they are vectors of the same size."""
    if not isinstance(parts, dict):
        return None
    achieved, desired = (parts.get(name) for name in GOALS)
    if not isinstance(achieved, slice) or not isinstance(desired, slice):
        return None
    same_size = achieved.stop - achieved.start == desired.stop - desired.start
    return (achieved, desired) if same_size else None


def _pooled(moments: Moments, first: slice, second: slice) -> Moments:
    """The moments in which two groups of features have those of the values of both.

    Example:
        The values 0 and 2, and the values 4 and 6: the mean is 3, the variance (9+1+1+9) / 4.

        >>> moments = moments_of(torch.tensor([[0.0, 4.0], [2.0, 6.0]]))
        >>> pooled = _pooled(moments, slice(0, 1), slice(1, 2))
        >>> pooled.mean.tolist(), pooled.variance.tolist()
        ([3.0, 3.0], [5.0, 5.0])
    """
    mean, variance = moments.mean.clone(), moments.variance.clone()
    own, other = (
        Moments(1, moments.mean[part], moments.variance[part]) for part in (first, second)
    )
    both = merge(own, other)
    for part in (first, second):
        mean[part], variance[part] = both.mean, both.variance
    return Moments(moments.num_rows, mean, variance)


def _is_vector(space: gym.Space) -> bool:
    if not isinstance(space, gym.spaces.Box) or len(space.shape) == 3:
        return False
    return len(space.shape) < 2 or np.issubdtype(space.dtype, np.floating)


def _collect(part: Any, observations: Any, leaves: list[Tensor]) -> None:
    """Appends the vectors of observations [N, ...] to ``leaves``, flat: [N, F_i]."""
    if isinstance(part, slice):
        leaves.append(_flat(torch.as_tensor(observations)).float())
        return
    children = part.items() if isinstance(part, dict) else enumerate(part or ())
    for key, child in children:
        _collect(child, observations[key], leaves)


def _flat(leaf: Tensor) -> Tensor:
    if leaf.ndim == 2:
        return leaf
    return leaf.flatten(1) if leaf.ndim > 2 else leaf[:, None]


def _after_loading(normalizer: VectorNormalizer, _: Any) -> None:
    normalizer._derive()
