"""Running statistics in buffers, so that they are checkpointed and moved with their module."""

import itertools
from collections.abc import Sequence

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from rlssl.auxiliary.base import ChunkInfo
from rlssl.image_spaces import ImageSpace, image_layout, is_image
from rlssl.peers import ALONE, Peers

#: A chunk and its rewards.
_Part = tuple[ChunkInfo, list[float]]


def known_std(mean: Tensor, variance: Tensor) -> Tensor:
    """The standard deviation (std), or 0 where nothing is known about it.

    The std of fewer than two rows is not known. Rows that are equal up to float32 rounding have no
    std either: their variance is only rounding noise.

    Example:
        >>> mean = torch.tensor([1.0, 1000.0, 5.0])
        >>> known_std(mean, torch.tensor([4.0, 1e-9, 0.0]))
        tensor([2., 0., 0.])
    """
    std = variance.sqrt()
    return torch.where(std > torch.finfo(torch.float32).eps * mean.abs(), std, 0.0)


def divisor(mean: Tensor, variance: Tensor) -> Tensor:
    """What rows are divided by: their std; 1 where it is not known (see ``known_std``).

    Example:
        >>> divisor(torch.tensor([1.0, 5.0]), torch.tensor([4.0, 0.0]))
        tensor([2., 1.])
    """
    std = known_std(mean, variance)
    return torch.where(std > 0, std, 1.0)


def unbounded(space: gym.spaces.Box) -> gym.spaces.Box:
    """The space of normalized observations of a Box; images keep their layout.

    Example:
        >>> unbounded(gym.spaces.Box(0, 255, (2,), np.uint8))
        Box(-inf, inf, (2,), float32)
    """
    high = np.full(space.shape, np.inf, np.float32)
    if is_image(space):
        return ImageSpace(-high, high, image_layout(space))
    return gym.spaces.Box(-high, high, dtype=np.float32)


class RunningMoments(nn.Module):
    """Mean and variance of each element over all rows so far.

    The sums are computed in float64. The results are kept in float32 and the count in int64,
    because RLlib's checkpoints hold no float64.

    Args:
        shape: Shape of one row.

    Example:
        >>> moments = RunningMoments((2,))
        >>> moments.update(torch.tensor([[0.0, 1.0], [4.0, 1.0]]))
        >>> moments.mean, moments.variance
        (tensor([2., 1.]), tensor([4., 0.]))
    """

    count: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(self, shape: Sequence[int] = ()) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(tuple(shape)))
        self.register_buffer("variance", torch.zeros(tuple(shape)))

    def update(self, rows: Tensor) -> None:
        """Adds rows, [N, ...] (Chan et al. 1979); the variance divides by the number of rows."""
        # This runs in every update: few operations, and none waits for a device.
        self.count.add_(len(rows))
        share = len(rows) / (self.count.double() if self.count.is_cuda else int(self.count))
        rows = rows.double()
        # torch.var_mean along rows takes more than twice as long.
        mean = rows.mean(dim=0)
        variance = (rows - mean).square_().mean(dim=0)
        shift = mean - self.mean
        variance.addcmul_(shift, shift * (1 - share))
        self.variance.copy_(self.variance.double().lerp_(variance, share))
        self.mean.add_(share * shift)


class ObservationNormalizer(nn.Module):
    """Normalizes by the mean and standard deviation (std) of the first rows; then both are fixed.

    Each element has its own mean. The std is one number: the mean of the elements' stds.

    Args:
        shape: Shape of one observation.
        num_rows: Number of rows after which the statistics are fixed.

    Source:
        Burda et al. 2018, published code: 10,000 steps of a random agent, before training. Differs:
        here the first rows of training are used; their policy is still nearly random.
    """

    def __init__(self, shape: Sequence[int], *, num_rows: int) -> None:
        super().__init__()
        self.num_rows = num_rows
        self.moments = RunningMoments(shape)

    def observe(self, observations: Tensor) -> None:
        """Adds rows [N, ...] to the statistics, unless these are fixed already."""
        if self.moments.count < self.num_rows:
            self.moments.update(observations)

    def forward(self, observations: Tensor) -> Tensor:
        """[N, ...] float32, mean 0 and std about 1; unchanged before the first `observe`.

        After one row, its mean is subtracted, but nothing is divided.
        """
        std = known_std(self.moments.mean, self.moments.variance).mean()
        std = torch.where(std > 0, std, 1.0)
        return (observations.float() - self.moments.mean) / std


class RunningNormalizer(nn.Module):
    """Normalizes each element by its running mean and standard deviation (std), and clips.

    Elements whose std is not known are not divided; see ``divisor``.

    Args:
        shape: Shape of one observation.
        limit: Largest size of a normalized value, in stds; > 0.

    Example:
        >>> normalizer = RunningNormalizer((1,), limit=5.0)
        >>> normalizer.observe(torch.tensor([[1.0], [3.0]]))
        >>> normalizer(torch.tensor([[4.0], [99.0]])).tolist()  # mean 2, std 1
        [[2.0], [5.0]]

    Source:
        Burda et al. 2018, Random Network Distillation, arXiv:1810.12894, section 2.4. Differs:
        there is no random agent that primes the statistics before training.
    """

    def __init__(self, shape: Sequence[int], *, limit: float) -> None:
        super().__init__()
        self.limit = limit
        self.moments = RunningMoments(shape)

    def observe(self, observations: Tensor) -> None:
        """Adds rows [N, ...] to the statistics."""
        if len(observations):
            self.moments.update(observations)

    def forward(self, observations: Tensor) -> Tensor:
        """[N, ...] float32, in +-``limit``."""
        mean, variance = self.moments.mean, self.moments.variance
        normalized = (observations.float() - mean) / divisor(mean, variance)
        return normalized.clamp_(-self.limit, self.limit)


class DiscountedReturnScale(nn.Module):
    """Divides rewards by the running standard deviation (std) of their discounted return.

    The return ``return_t = gamma * return_{t-1} + reward_t`` is summed along each episode, across
    batches. The std includes the current rows. Rewards are not divided while the std is not known:
    with fewer than two rows, or if all returns are equal.

    Args:
        gamma: Discount of the return; in [0, 1).
        episodic: Whether the return starts at 0 in each episode. If not, a new episode continues
            the return with which an earlier episode ended, the one that ended first. With a single
            environment, that is always the episode before.

    Source:
        Burda et al. 2018, published code (RewardForwardFilter), which is not episodic. Differs:
        their code has one return for each environment. Chunks do not name their environment, so
        with several environments, a new episode may continue the return of another one.
    """

    def __init__(self, gamma: float, *, episodic: bool = True) -> None:
        super().__init__()
        self.gamma = gamma
        self.episodic = episodic
        self.moments = RunningMoments()
        # Episode id -> return so far. Unfinished episodes; kept only by exact restores.
        self._open_returns: dict[str, float] = {}
        # Returns of ended episodes that no new episode continues yet; kept as above.
        self._ended_returns: list[float] = []

    def forward(self, rewards: Tensor, chunks: Sequence[ChunkInfo], peers: Peers = ALONE) -> Tensor:
        """[N], rewards divided by the std of their discounted return.

        Args:
            rewards: [N], in the order in which they were sampled, chunk after chunk.
            chunks: The chunks in the same order, with N rows in all; see
                ``AuxiliaryLoss.intrinsic_reward``.
            peers: The Learners that share the batch.
        """
        self.moments.update(self._discounted_returns(rewards, chunks, peers))
        return rewards / divisor(self.moments.mean, self.moments.variance)

    def _discounted_returns(
        self, rewards: Tensor, chunks: Sequence[ChunkInfo], peers: Peers
    ) -> Tensor:
        """[M], returns at the rows of all Learners."""
        values = iter(rewards.tolist())
        own = [(chunk, list(itertools.islice(values, chunk.num_rows))) for chunk in chunks]
        # Learner k of n handles chunks k, k + n, k + 2n, ... This is the order before.
        in_turn = itertools.zip_longest(*peers.gather_objects(own))
        parts = [part for turn in in_turn for part in turn if part is not None]
        returns: list[float] = []
        open_returns: dict[str, float] = {}
        for chunk, part in self._in_order(parts):
            key = chunk.episode_id
            running = open_returns.get(key, self._open_returns.get(key))
            if running is None:
                running = self._ended_returns.pop(0) if self._ended_returns else 0.0
            for value in part:
                running = self.gamma * running + value
                returns.append(running)
            open_returns[key] = running
            if chunk.is_done and not self.episodic:
                self._ended_returns.append(running)
        self._open_returns = open_returns
        return torch.tensor(returns, dtype=torch.float64, device=rewards.device)

    def _in_order(self, parts: list[_Part]) -> list[_Part]:
        """Chunks of an episode by their first step: several Learners may hold some of them.

        If returns continue, the episodes that are open already come before new ones.
        """
        if self.episodic:
            return sorted(parts, key=lambda part: part[0].first_step)
        # The order of a dict's keys is that of their first appearance.
        names = dict.fromkeys(chunk.episode_id for chunk, _ in parts)
        place = {name: index for index, name in enumerate(names)}

        def order(part: _Part) -> tuple[bool, int, int]:
            chunk = part[0]
            is_new = chunk.episode_id not in self._open_returns
            return is_new, place[chunk.episode_id], chunk.first_step

        return sorted(parts, key=order)
