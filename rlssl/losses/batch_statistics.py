"""Losses of the statistics of a batch: they keep embeddings from collapsing without negatives.

Such a loss is one number for the batch. It is returned once for each row, so that the mean over the
rows is this number with its whole gradient.
"""

import torch
from torch import Tensor

from rlssl.losses.checks import check_pairs

# Added to variances before their root, so that constant features have finite gradients: torch's
# BatchNorm (Barlow Twins) and the published code (VICReg).
_BARLOW_EPS = 1e-5
_VICREG_EPS = 1e-4


def barlow_twins(first: Tensor, second: Tensor, *, off_diagonal: float = 0.0051) -> Tensor:
    """Barlow Twins: the features of two views correlate with themselves and with no other feature.

    With each feature of each view standardized over the batch, and C = first^T second / N::

        loss = sum_d (1 - C_dd)^2 + off_diagonal * sum_{d != e} C_de^2

    The loss is 0 for equal views with uncorrelated features, and D for constant ones. Independent
    views of N rows start near ``D + off_diagonal * D^2 / N``.

    Args:
        first: [N, D], embeddings of the first views. Gradients flow into both views.
        second: [N, D], embeddings of the second views.
        off_diagonal: Weight of the redundancy of features; >= 0, no unit; 0.0051 as published. If
            D >= N, correlations between features cannot all be 0.

    Returns:
        [N], N times the same number; no unit.

    Raises:
        ValueError: If the shapes differ or are not [N, D], if N < 2 (no variance), or if
            ``off_diagonal < 0``.

    Example:
        A duplicated feature: both correlations off the diagonal are 1, so 2 * 0.005 = 0.01.

        >>> import torch
        >>> views = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
        >>> barlow_twins(views, views, off_diagonal=0.005)
        tensor([0.0100, 0.0100])

    Source:
        Zbontar et al. 2021, arXiv:2103.03230, eq. 1 and 2, and its published code.
    """
    _check_rows("barlow_twins", first, second)
    if not off_diagonal >= 0:
        raise ValueError(f"off_diagonal must be >= 0; got {off_diagonal}.")
    correlation = _standardized(first).T @ _standardized(second) / len(first)  # [D, D]
    diagonal = correlation.diagonal()
    redundancy = _off_diagonal_squares(correlation)
    loss = (1 - diagonal).square().sum() + off_diagonal * redundancy
    return loss.expand(len(first))


def vicreg(
    first: Tensor,
    second: Tensor,
    *,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
) -> dict[str, Tensor]:
    """VICReg: equal views, spread features, uncorrelated features.

    With x and y the two views, std and cov over the rows (divided by N - 1)::

        invariance_n = invariance * mean_d (x_n - y_n)_d^2
        variance     = variance * 0.5 * ( mean_d relu(1 - std_d(x)) + mean_d relu(1 - std_d(y)) )
        covariance   = covariance / D * sum_{d != e} ( cov_de(x)^2 + cov_de(y)^2 )

    where std is the root of the variance plus 1e-4. Constant embeddings give 24.75 in all.

    Args:
        first: [N, D], embeddings of the first views. Gradients flow into both views.
        second: [N, D], embeddings of the second views.
        invariance: Weight; >= 0, no unit.
        variance: Weight; >= 0, no unit.
        covariance: Weight; >= 0, no unit. If D >= N, covariances cannot all be 0.

    Returns:
        ``invariance``, ``variance`` and ``covariance``, each [N]. The last two are N times the same
        number.

    Raises:
        ValueError: If the shapes differ or are not [N, D], if N < 2 (no variance), or if a weight
            is negative.

    Example:
        Constant and equal: only the variance term, 25 * (1 - 0.01).

        >>> import torch
        >>> terms = vicreg(torch.zeros(2, 3), torch.zeros(2, 3))
        >>> {name: term.tolist() for name, term in terms.items()}
        {'invariance': [0.0, 0.0], 'variance': [24.75, 24.75], 'covariance': [0.0, 0.0]}

    Source:
        Bardes et al. 2021, arXiv:2105.04906, and its published code. Where they differ, the code:
        means over features of the invariance, and half of each view's variance term.
    """
    _check_rows("vicreg", first, second)
    weights = {"invariance": invariance, "variance": variance, "covariance": covariance}
    for name, weight in weights.items():
        if not weight >= 0:
            raise ValueError(f"{name} must be >= 0; got {weight}.")
    spread, redundancy = first.new_zeros(()), first.new_zeros(())
    for view in (first, second):
        centered = view - view.mean(dim=0)
        cov = centered.T @ centered / (len(view) - 1)  # [D, D]
        std = (cov.diagonal() + _VICREG_EPS).sqrt()
        spread = spread + 0.5 * (1 - std).relu().mean()
        redundancy = redundancy + _off_diagonal_squares(cov) / view.shape[1]
    return {
        "invariance": invariance * (first - second).square().mean(dim=1),
        "variance": (variance * spread).expand(len(first)),
        "covariance": (covariance * redundancy).expand(len(first)),
    }


def _standardized(view: Tensor) -> Tensor:
    centered = view - view.mean(dim=0)
    return centered * (centered.square().mean(dim=0) + _BARLOW_EPS).rsqrt()


def _off_diagonal_squares(matrix: Tensor) -> Tensor:
    off = matrix - torch.diag_embed(matrix.diagonal())
    return off.square().sum()


def _check_rows(loss: str, first: Tensor, second: Tensor) -> None:
    check_pairs(first=first, second=second)
    if len(first) < 2:
        raise ValueError(f"{loss} needs N >= 2: {len(first)} rows have no variance.")
