"""Measures of novelty, from the errors and the spread of predictions."""

from torch import Tensor


def novelty_gain(
    after: Tensor, before: Tensor, is_first_visit: Tensor, *, scale: float = 0.5
) -> Tensor:
    """How much more novel the next observation is than the one before, at its first visit.

    ``max(after - scale * before, 0) * 1[first visit]``.

    Args:
        after: [N], >= 0, novelty of the next observation.
        before: [N], >= 0, novelty of the observation before.
        is_first_visit: [N] bool, whether the episode visits the next observation for the first
            time.
        scale: Factor on ``before``; >= 0; no unit.

    Returns:
        [N], >= 0, units of the novelty, not reduced.

    Raises:
        ValueError: If the shapes differ or are not [N], or ``scale`` is negative.

    Example:
        3 - 0.5 * 2 = 2; 1 - 0.5 * 4 is negative; the third row is no first visit.

        >>> import torch
        >>> first = torch.tensor([True, True, False])
        >>> novelty_gain(torch.tensor([3.0, 1.0, 3.0]), torch.tensor([2.0, 4.0, 2.0]), first)
        tensor([2., 0., 0.])

    Source:
        Zhang et al. 2021, NovelD, arXiv:2012.08621, and its published code.
    """
    if after.ndim != 1 or not after.shape == before.shape == is_first_visit.shape:
        raise ValueError(
            "after, before and is_first_visit must all be [N]; got "
            f"{tuple(after.shape)}, {tuple(before.shape)} and {tuple(is_first_visit.shape)}."
        )
    if not scale >= 0:
        raise ValueError(f"scale must be >= 0; got {scale}.")
    return (after - scale * before).clamp(min=0.0) * is_first_visit


def ensemble_disagreement(predictions: Tensor) -> Tensor:
    """The variance of the predictions of several models, mean over the features.

    The variance is unbiased (it divides by K - 1). Identical models have 0.

    Args:
        predictions: [K, N, D], one prediction of each of K >= 2 models.

    Returns:
        [N], squared units of the predictions, not reduced.

    Raises:
        ValueError: If ``predictions`` are not [K, N, D] with K >= 2.

    Example:
        The variance of 0 and 2 is 2, that of 1 and 1 is 0; their mean is 1.

        >>> import torch
        >>> ensemble_disagreement(torch.tensor([[[0.0, 1.0]], [[2.0, 1.0]]]))
        tensor([1.])

    Source:
        Pathak et al. 2019, Self-Supervised Exploration via Disagreement, arXiv:1906.04161, eq. 1;
        unbiased as in the published code of URLB (Laskin et al. 2021, arXiv:2110.15191).
    """
    if predictions.ndim != 3 or len(predictions) < 2:
        raise ValueError(
            f"predictions must be [K, N, D] with K >= 2 models; got {tuple(predictions.shape)}."
        )
    return predictions.var(dim=0, correction=1).mean(dim=-1)


def episodic_impact(after: Tensor, before: Tensor, visits: Tensor) -> Tensor:
    """How far a step moves the latent, divided by the root of the visits in the episode.

    ``||after - before||_2 / sqrt(visits)``.

    Args:
        after: [N, D], latent of the next observation.
        before: [N, D], latent of the observation before.
        visits: [N], >= 1, visits of the next observation in its episode, this one included.

    Returns:
        [N], >= 0, units of the latent, not reduced.

    Raises:
        ValueError: If the shapes do not fit each other.

    Example:
        A step of length 5 to an observation that is visited for the fourth time: 5 / 2.

        >>> import torch
        >>> after, before = torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2)
        >>> episodic_impact(after, before, torch.tensor([4]))
        tensor([2.5000])

    Source:
        Raileanu and Rocktäschel 2020, RIDE, arXiv:2002.12292, eq. 2, and its published code.
    """
    if after.ndim != 2 or after.shape != before.shape or visits.shape != after.shape[:1]:
        raise ValueError(
            "after and before must be [N, D] and visits [N]; got "
            f"{tuple(after.shape)}, {tuple(before.shape)} and {tuple(visits.shape)}."
        )
    return (after - before).norm(dim=-1) * visits.to(after).rsqrt()
