"""What latents are worth a look at: do they collapse, and are they arranged as the states are."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

#: Rows that statistics are taken over: their cost grows with the square and the cube.
NUM_ROWS = 128


@torch.no_grad()
def latent_statistics(latents: Tensor) -> dict[str, Tensor]:
    """Whether latents spread or collapse, of the first ``NUM_ROWS``.

    On one core, 128 latents of 50, 256 and 512 features take 0.2, 1.0 and 1.5 ms, most of it
    for the singular values.

    Args:
        latents: [N, D].

    Returns:
        Scalars: ``effective_rank``, see there; ``feature_variance``, a feature's variance over the
        rows, mean over the features; ``distance``, the mean Euclidean distance of two different
        rows. All nan for no rows, the last also for one; 1, 0 and 0 where all latents are equal.
    """
    latents = latents[:NUM_ROWS].float()
    if not len(latents):
        nan = latents.new_tensor(float("nan"))
        return {"effective_rank": nan, "feature_variance": nan, "distance": nan}
    return {
        "effective_rank": effective_rank(latents),
        "feature_variance": latents.var(dim=0, correction=0).mean(),
        "distance": torch.pdist(latents).mean(),
    }


@torch.no_grad()
def effective_rank(latents: Tensor) -> Tensor:
    """Number of directions that latents spread over: exp of the singular values' entropy.

    Of the matrix as it is, its mean included: equal latents give 1.

    Args:
        latents: [N, D].

    Returns:
        Scalar in [1, min(N, D)], no unit; nan where a latent is not finite.

    Source:
        Roy and Vetterli 2007, "The effective rank: a measure of effective dimensionality".
    """
    if not bool(torch.isfinite(latents).all()):
        return latents.new_tensor(float("nan"))
    # By the smaller Gram matrix, in double precision: a third of the time of `svdvals`.
    rows = latents.double()
    gram = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows
    singular = torch.linalg.eigvalsh(gram).clamp(min=0.0).sqrt()
    shares = singular / singular.sum().clamp(min=torch.finfo(torch.float64).tiny)
    return torch.special.entr(shares).sum().exp().float()


def state_distances(states: np.ndarray) -> np.ndarray:
    """[N (N - 1) / 2], Euclidean distances of all pairs of standardised states [N, S].

    Elements that never change do not count.
    """
    states = np.asarray(states, np.float64)
    deviation = states.std(axis=0)
    scaled = states[:, deviation > 0] / deviation[deviation > 0]
    return pair_distances(scaled)


def pair_distances(rows: np.ndarray) -> np.ndarray:
    """[N (N - 1) / 2], Euclidean distances of all pairs of [N, D] rows."""
    tensor = torch.as_tensor(np.asarray(rows, np.float64))
    distances: np.ndarray = torch.pdist(tensor).numpy()
    return distances


def rank_correlation(x: Any, y: Any) -> float:
    """Spearman's: Pearson's correlation of the ranks; equal numbers share their mean rank.

    Args:
        x: [N].
        y: [N].

    Returns:
        In [-1, 1]; nan where one of the two is constant, or there are fewer than two.

    Raises:
        ValueError: If the lengths differ.

    Source:
        Spearman 1904, "The proof and measurement of association between two things".
    """
    first, second = np.ravel(np.asarray(x)), np.ravel(np.asarray(y))
    if len(first) != len(second):
        raise ValueError(f"x and y must be as long; got {len(first)} and {len(second)} numbers.")
    if len(first) < 2:
        return float("nan")
    ranks = [_mean_ranks(values) for values in (first, second)]
    centred = [rank - rank.mean() for rank in ranks]
    sizes = [float(np.sqrt((c**2).sum())) for c in centred]
    if min(sizes) == 0.0:
        return float("nan")
    return float((centred[0] * centred[1]).sum() / (sizes[0] * sizes[1]))


def _mean_ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: np.ndarray = (last - 0.5 * (counts - 1))[inverse]
    return ranks
