"""Running statistics, kept as buffers so that they are checkpointed and moved with the module."""

import itertools
import operator
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rlssl.auxiliary.base import ChunkInfo
from rlssl.peers import ALONE, Peers


class RunningMoments(nn.Module):
    """Mean and variance of all rows seen so far, element by element.

    Computed in float64, kept in float32 with an int64 count: RLlib's checkpoints hold no float64.

    Args:
        shape: Of one row.
    """

    count: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(self, shape: Sequence[int] = ()) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(tuple(shape)))
        self.register_buffer("variance", torch.zeros(tuple(shape)))

    def take_in(self, rows: Tensor) -> None:
        """Merges [N, *shape] rows (Chan et al. 1979); the variance is the population's."""
        # Few operations, none of which waits for a device: this is called in every update.
        self.count.add_(len(rows))
        share = len(rows) / (self.count.double() if self.count.is_cuda else int(self.count))
        rows = rows.double()
        # torch.var_mean takes more than twice as long over rows.
        mean = rows.mean(dim=0)
        variance = (rows - mean).square_().mean(dim=0)
        shift = mean - self.mean
        variance.addcmul_(shift, shift * (1 - share))
        self.variance.copy_(self.variance.double().lerp_(variance, share))
        self.mean.add_(share * shift)


class ObservationNormalizer(nn.Module):
    """Normalises by the mean and deviation of the first rows seen, which then stay fixed.

    The mean is per element; the deviation is one number, the mean of the elements' deviations.

    Args:
        shape: Of one observation.
        num_rows: How many rows the statistics take in before they freeze.

    Source:
        Burda et al. 2018, published code: 10 k steps of a random agent, before training. Differs:
        the first rows of training, whose policy is still near its random start.
    """

    def __init__(self, shape: Sequence[int], *, num_rows: int) -> None:
        super().__init__()
        self.num_rows = num_rows
        self.moments = RunningMoments(shape)

    def observe(self, observations: Tensor) -> None:
        """Takes in [N, ...] rows, as long as fewer than ``num_rows`` were seen."""
        if self.moments.count < self.num_rows:
            self.moments.take_in(observations)

    def forward(self, observations: Tensor) -> Tensor:
        """[N, ...] float32, zero mean and about unit deviation; as it is before any row is seen."""
        deviation = self.moments.variance.sqrt().mean()
        deviation = torch.where(deviation > 0, deviation, 1.0)
        return (observations.float() - self.moments.mean) / deviation


class DiscountedReturnScale(nn.Module):
    """Divides rewards by the running deviation of their discounted return over time.

    ``return_t = gamma * return_{t-1} + reward_t`` runs along each episode, across fragments. The
    current rows enter the deviation before they are divided by it.

    Source:
        Burda et al. 2018, published code (RewardForwardFilter). Differs: the return restarts at an
        episode's start, where theirs runs on.
    """

    def __init__(self, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma
        self.moments = RunningMoments()
        # The running return of each unfinished episode; a resumed run starts these anew.
        self._open_returns: dict[str, float] = {}

    def forward(self, rewards: Tensor, chunks: Sequence[ChunkInfo], peers: Peers = ALONE) -> Tensor:
        """[N] rewards over their deviation.

        Args:
            rewards: [N], in the order they were sampled, chunk after chunk.
            chunks: As ``AuxiliaryLoss.intrinsic_reward`` is given them; N rows in all.
            peers: The Learners that share the batch.
        """
        self.moments.take_in(self._discounted_returns(rewards, chunks, peers))
        return rewards / self.moments.variance.sqrt().clamp(min=1e-8)

    def _discounted_returns(
        self, rewards: Tensor, chunks: Sequence[ChunkInfo], peers: Peers
    ) -> Tensor:
        """[M], of the rows of all Learners."""
        values = iter(rewards.tolist())
        own = [
            (chunk.first_step, chunk.episode_id, list(itertools.islice(values, chunk.num_rows)))
            for chunk in chunks
        ]
        returns: list[float] = []
        open_returns: dict[str, float] = {}
        # Chunks of an episode may lie with several Learners: in the order of their steps.
        parts = itertools.chain(*peers.gather_objects(own))
        for _, episode_id, part in sorted(parts, key=operator.itemgetter(0)):
            running = open_returns.get(episode_id, self._open_returns.get(episode_id, 0.0))
            for value in part:
                running = self.gamma * running + value
                returns.append(running)
            open_returns[episode_id] = running
        self._open_returns = open_returns
        return torch.tensor(returns, dtype=torch.float64, device=rewards.device)
