"""Statistics of latents for reports: do latents collapse, and do they mirror the states?

These numbers are logged and printed. Training does not use them.
"""

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

#: The statistics use this many rows: their cost grows with the square or the cube of the rows.
NUM_ROWS = 128


@torch.no_grad()
def latent_statistics(latents: Tensor) -> dict[str, Tensor]:
    """Tells whether latents spread or collapse, from the first ``NUM_ROWS`` rows.

    On one core, 128 latents of 50, 256 and 512 features take 0.2, 1.0 and 1.5 ms. Most of that
    time goes into the singular values.

    Args:
        latents: [N, D].

    Returns:
        Scalars:

        - ``effective_rank``: see `effective_rank`.
        - ``feature_variance``: variance of a feature over the rows, mean over the features.
        - ``distance``: mean Euclidean distance between two different rows.

        Without rows, all three are nan. With one row, ``distance`` is nan. If all latents are
        equal, the values are 1, 0 and 0.

    Example:
        Three unit vectors: each feature is 1 once and 0 twice, so its variance is 2 / 9.

        >>> found = latent_statistics(torch.eye(3))
        >>> {name: round(value.item(), 3) for name, value in found.items()}
        {'effective_rank': 3.0, 'feature_variance': 0.222, 'distance': 1.414}
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
    """Number of directions in which latents spread: exp of the entropy of the singular values.

    The mean of the latents is not subtracted, so equal latents give 1.

    Args:
        latents: [N, D].

    Returns:
        Scalar in [1, min(N, D)], no unit; nan if a latent is not finite.

    Source:
        Roy and Vetterli 2007, "The effective rank: a measure of effective dimensionality".

    Example:
        >>> effective_rank(torch.eye(4)).item()
        4.0
    """
    if not bool(torch.isfinite(latents).all()):
        return latents.new_tensor(float("nan"))
    # The smaller Gram matrix in double precision takes a third of the time of `svdvals`.
    rows = latents.double()
    gram = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows
    return entropy_rank(torch.linalg.eigvalsh(gram).clamp(min=0.0).sqrt()).float()


def entropy_rank(singular: Tensor) -> Tensor:
    """The effective rank from singular values [K], >= 0, float64: ``exp(-sum p log p)``.

    ``p`` is a singular value over their sum. If all are 0, the value is 1.

    Example:
        >>> entropy_rank(torch.tensor([2.0, 2.0, 0.0], dtype=torch.float64)).item()
        2.0
    """
    shares = singular / singular.sum().clamp(min=torch.finfo(torch.float64).tiny)
    return torch.special.entr(shares).sum().exp()


def state_distances(states: np.ndarray) -> np.ndarray:
    """[N (N - 1) / 2], Euclidean distances between all pairs of standardized states [N, S].

    Elements that never change are ignored.

    Example:
        The first element has a standard deviation of 2, so 0 and 4 are 2 apart.

        >>> state_distances(np.array([[0.0, 7.0], [4.0, 7.0]]))
        array([2.])
    """
    states = np.asarray(states, np.float64)
    # Not std > 0: the std of equal numbers can be a rounding error instead of 0.
    states = states[:, np.ptp(states, axis=0) > 0] if len(states) else states
    return pair_distances(states / states.std(axis=0))


def pair_distances(rows: np.ndarray) -> np.ndarray:
    """[N (N - 1) / 2], Euclidean distances between all pairs of rows [N, D].

    Example:
        >>> pair_distances(np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]]))
        array([5.        , 1.        , 4.24264069])
    """
    # Imported here: importing scipy.spatial takes tenths of a second in every Learner.
    from scipy.spatial.distance import pdist

    distances: np.ndarray = pdist(np.asarray(rows, np.float64))
    return distances


def rank_correlation(x: Any, y: Any) -> float:
    """Spearman's rank correlation; equal numbers share their mean rank.

    Args:
        x: [N].
        y: [N].

    Returns:
        In [-1, 1]; nan if x or y is constant, or if N < 2.

    Raises:
        ValueError: If the lengths differ.

    Source:
        Spearman 1904, "The proof and measurement of association between two things".

    Example:
        Ranks 1 2 3 4 and 1 3 2 4: 1 - 6 * (0 + 1 + 1 + 0) / (4 * 15) = 0.8.

        >>> round(rank_correlation([1, 5, 6, 9], [0.1, 7, 3, 8]), 3)
        0.8
    """
    # Imported here: importing scipy.stats takes about half a second in every Learner.
    from scipy.stats import ConstantInputWarning, spearmanr

    first, second = np.ravel(np.asarray(x)), np.ravel(np.asarray(y))
    if len(first) != len(second):
        raise ValueError(
            f"x and y must have the same length; got {len(first)} and {len(second)} numbers."
        )
    if len(first) < 2:
        return float("nan")
    with warnings.catch_warnings():
        # A constant input gives nan, as documented above.
        warnings.simplefilter("ignore", ConstantInputWarning)
        return float(spearmanr(first, second).statistic)
