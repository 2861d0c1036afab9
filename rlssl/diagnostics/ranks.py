"""Ranks: in how many directions latents spread."""

import torch
from torch import Tensor

from rlssl.auxiliary.latent_statistics import entropy_rank

#: Rounding errors of the sums that `ranks` compares.
_SLACK = 1e-9


@torch.no_grad()
def ranks(latents: Tensor, *, delta: float = 0.01) -> dict[str, float]:
    """Three measures of the rank, from the singular values s of the latents.

    The mean of the latents is not subtracted. So equal latents give 1, and a large common mean
    lowers all three. Compare only ranks of the same number of rows N.

    Args:
        latents: [N, D].
        delta: Share of the sum of the singular values that ``srank`` leaves out; in (0, 1).

    Returns:
        No unit; each at most min(N, D), except for rounding:

        - ``srank``: smallest k with ``sum(s[:k]) / sum(s) >= 1 - delta``; s is sorted, largest
          first.
        - ``stable_rank``: ``sum(s^2) / max(s)^2``.
        - ``effective_rank``: ``exp(-sum p log p)``, ``p = s / sum(s)``.

        All three are 1 if all latents are 0, and nan without rows or if a latent is not finite.

    Source:
        Kumar et al. 2021, arXiv:2010.14498 (srank); Roy and Vetterli 2007, "The effective rank: a
        measure of effective dimensionality".

    Example:
        Singular values 3 and 1: shares 0.75 and 0.25; (9 + 1) / 9; exp(0.5623).

        >>> found = ranks(torch.diag(torch.tensor([3.0, 1.0])))
        >>> {name: round(value, 3) for name, value in found.items()}
        {'srank': 2.0, 'stable_rank': 1.111, 'effective_rank': 1.755}
    """
    if not len(latents) or not bool(torch.isfinite(latents).all()):
        return dict.fromkeys(("srank", "stable_rank", "effective_rank"), float("nan"))
    singular = torch.linalg.svdvals(latents.double())
    if not bool(singular.any()):
        return dict.fromkeys(("srank", "stable_rank", "effective_rank"), 1.0)
    sums = singular.cumsum(0) / singular.sum()
    # At k = all, the share is 1 up to rounding, so a k is always found.
    enough = sums >= 1.0 - delta - _SLACK
    return {
        "srank": float(enough.int().argmax() + 1),
        "stable_rank": float((singular / singular[0]).square().sum()),
        "effective_rank": float(entropy_rank(singular)),
    }
