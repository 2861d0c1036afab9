"""Running statistics, kept as buffers so that they are checkpointed and moved with the module."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn


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

    count: Tensor
    mean: Tensor
    square_sum: Tensor

    def __init__(self, shape: Sequence[int], *, num_rows: int) -> None:
        super().__init__()
        self.num_rows = num_rows
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(tuple(shape), dtype=torch.float64))
        self.register_buffer("square_sum", torch.zeros(tuple(shape), dtype=torch.float64))

    def observe(self, observations: Tensor) -> None:
        """Takes in [N, ...] rows, as long as fewer than ``num_rows`` were seen."""
        if self.count >= self.num_rows:
            return
        rows = observations.double()
        total = self.count + len(rows)
        batch_mean = rows.mean(0)
        shift = batch_mean - self.mean
        self.square_sum += ((rows - batch_mean) ** 2).sum(0)
        self.square_sum += shift**2 * self.count * len(rows) / total
        self.mean += shift * len(rows) / total
        self.count.copy_(total)

    def forward(self, observations: Tensor) -> Tensor:
        """[N, ...] float32, zero mean and about unit deviation; unchanged before any row is seen."""
        deviation = (self.square_sum / self.count.clamp(min=1.0)).sqrt().mean()
        deviation = torch.where(deviation > 0, deviation, 1.0)
        return ((observations - self.mean) / deviation).float()


class DiscountedReturnScale(nn.Module):
    """Divides rewards by the running deviation of their discounted return over time.

    ``return_t = gamma * return_{t-1} + reward_t`` runs along each episode, across fragments. The
    current rows enter the deviation before they are divided by it.

    Source:
        Burda et al. 2018, published code (RewardForwardFilter). Differs: the return restarts at an
        episode's start, where theirs runs on.
    """

    count: Tensor
    mean: Tensor
    square_sum: Tensor

    def __init__(self, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma
        for name in ("count", "mean", "square_sum"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))
        # The running return of each unfinished episode; a resumed run starts these anew.
        self._open_returns: dict[str, float] = {}

    def forward(self, rewards: Tensor, chunks: Sequence[tuple[str, int]]) -> Tensor:
        """[N] rewards over their deviation.

        Args:
            rewards: [N], in the order they were sampled, chunk after chunk.
            chunks: (episode id, number of rows) of each chunk; the numbers add up to N.
        """
        self._take_in(self._discounted_returns(rewards, chunks))
        deviation = (self.square_sum / self.count).sqrt()
        return (rewards / deviation.clamp(min=1e-8)).float()

    def _discounted_returns(self, rewards: Tensor, chunks: Sequence[tuple[str, int]]) -> Tensor:
        returns: list[float] = []
        open_returns: dict[str, float] = {}
        values = iter(rewards.tolist())
        for episode_id, length in chunks:
            running = open_returns.get(episode_id, self._open_returns.get(episode_id, 0.0))
            for value in itertools.islice(values, length):
                running = self.gamma * running + value
                returns.append(running)
            open_returns[episode_id] = running
        self._open_returns = open_returns
        return torch.tensor(returns, dtype=torch.float64, device=self.mean.device)

    def _take_in(self, returns: Tensor) -> None:
        total = self.count + len(returns)
        shift = returns.mean() - self.mean
        self.square_sum += ((returns - returns.mean()) ** 2).sum()
        self.square_sum += shift**2 * self.count * len(returns) / total
        self.mean += shift * len(returns) / total
        self.count.copy_(total)
