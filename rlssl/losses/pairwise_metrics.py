"""Losses of metrics that are learned on all pairs of a batch: MICo and SimSR."""

import torch
import torch.nn.functional as F
from torch import Tensor

from rlssl.losses.checks import check_vectors

#: Least squared sine of an angle; below it, the angle has no gradient, which would be infinite.
_MIN_SQUARED_SINE = 1e-9


def unit_vectors(vectors: Tensor) -> Tensor:
    """Vectors [..., D] scaled to norm 1; 0 stays 0. All gradients are finite.

    Example:
        >>> import torch
        >>> unit_vectors(torch.tensor([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    return vectors * (vectors.square().sum(dim=-1, keepdim=True) + 1e-12).rsqrt()


def mico_distance(x: Tensor, y: Tensor, *, beta: float = 0.1) -> Tensor:
    """MICo's parametrized distance of all pairs.

    ``U(x, y) = 0.5 (|x|^2 + |y|^2) + beta * angle(x, y)`` with the angle in [0, pi]. The distance
    of a vector to itself is its squared norm: a state may have a distance to itself. It is
    symmetric, and gradients are finite also for parallel, opposite and zero vectors.

    Args:
        x: [N, D].
        y: [M, D].
        beta: Weight of the angle, units of the distance per radian.

    Returns:
        [N, M], squared units of the vectors; for angles below 3e-5, too large by up to
        ``3e-5 * beta``.

    Raises:
        ValueError: If the shapes do not fit each other.

    Example:
        25 for (3, 4) with itself; for perpendicular unit vectors, 1 + 0.1 * pi / 2 = 1.15708.

        >>> import torch
        >>> three_four, units = torch.tensor([[3.0, 4.0]]), torch.eye(2)
        >>> mico_distance(three_four, three_four).round(decimals=4)
        tensor([[25.]])
        >>> mico_distance(units[:1], units[1:])
        tensor([[1.1571]])

    Source:
        Castro et al. 2021, arXiv:2106.08229, and its published code. Differs: nothing
        known.
    """
    _check_pairs(x, y)
    norms = 0.5 * (x.square().sum(dim=-1)[:, None] + y.square().sum(dim=-1))
    cosine = unit_vectors(x) @ unit_vectors(y).T
    sine = (1.0 - cosine.square()).clamp(min=_MIN_SQUARED_SINE).sqrt()
    return norms + beta * torch.atan2(sine, cosine)


def cosine_distance(x: Tensor, y: Tensor) -> Tensor:
    """``1 - cos(angle)`` of all pairs; in [0, 2], and 0 for equal directions.

    Args:
        x: [N, D].
        y: [M, D].

    Returns:
        [N, M], no unit. 1 for a zero vector.

    Raises:
        ValueError: If the shapes do not fit each other.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0, 0.0]])
        >>> cosine_distance(x, torch.tensor([[5.0, 0.0], [0.0, 1.0], [-2.0, 0.0]]))
        tensor([[0., 1., 2.]])

    Source:
        Zang et al. 2022, arXiv:2112.15303 (SimSR).
    """
    _check_pairs(x, y)
    return 1.0 - unit_vectors(x) @ unit_vectors(y).T


def pairwise_metric_loss(
    distance: Tensor,
    next_distance: Tensor,
    reward_i: Tensor,
    reward_j: Tensor,
    *,
    gamma: float,
) -> Tensor:
    """Huber loss of distances against a sampled Bellman target, averaged over partners.

    ``mean_j huber(distance_ij - (|reward_i - reward_j| + gamma * next_distance_ij))`` where huber
    is ``0.5 e^2`` for ``|e| <= 1``, else ``|e| - 0.5``. The target has no gradient. All pairs
    count, also those of a row with itself.

    Args:
        distance: [N, M], distances of latents.
        next_distance: [N, M], distances of the next latents.
        reward_i: [N].
        reward_j: [M].
        gamma: Discount of the metric, in [0, 1].

    Returns:
        [N], not reduced over the rows.

    Raises:
        ValueError: If the shapes do not fit each other, or ``gamma`` is outside [0, 1].

    Example:
        The target is 1 + 0.5 * 2 = 2, and the distance 2.4: 0.5 * 0.4^2 = 0.08.

        >>> import torch
        >>> one = torch.ones(1)
        >>> pairwise_metric_loss(
        ...     torch.tensor([[2.4]]), torch.tensor([[2.0]]), one, 0 * one, gamma=0.5
        ... )
        tensor([0.0800])

    Source:
        Castro et al. 2021, arXiv:2106.08229; Zang et al. 2022, arXiv:2112.15303.
    """
    if not 0 <= gamma <= 1:
        raise ValueError(f"gamma must be in [0, 1]; got {gamma}.")
    target = metric_target(next_distance, reward_i, reward_j, gamma=gamma).detach()
    if distance.shape != target.shape:
        raise ValueError(
            f"distance must be [N, M], like next_distance {tuple(target.shape)}; got "
            f"{tuple(distance.shape)}."
        )
    return F.huber_loss(distance, target, reduction="none").mean(dim=1)


def metric_target(
    next_distance: Tensor, reward_i: Tensor, reward_j: Tensor, *, gamma: float
) -> Tensor:
    """[N, M]: ``|reward_i - reward_j| + gamma * next_distance_ij``; see `pairwise_metric_loss`.

    Raises:
        ValueError: If the shapes do not fit each other.
    """
    check_vectors(reward_i=reward_i)
    check_vectors(reward_j=reward_j)
    if next_distance.shape != (len(reward_i), len(reward_j)):
        raise ValueError(
            f"next_distance must be [N, M] = [{len(reward_i)}, {len(reward_j)}], as many as "
            f"rewards; got {tuple(next_distance.shape)}."
        )
    return (reward_i[:, None] - reward_j).abs() + gamma * next_distance


def mico_operator(
    distances: Tensor, rewards: Tensor, transitions: Tensor, *, gamma: float
) -> Tensor:
    """One application of MICo's operator to the distances of the states of a tabular MDP.

    ``T(U)(x, y) = |r_x - r_y| + gamma * E[U(x', y')]`` with independent next states x' and y'. Its
    fixed point is what MICo and SimSR learn from samples; repeated application leads to it if
    ``gamma < 1``. States with random transitions have a distance to themselves.

    Args:
        distances: [S, S].
        rewards: [S], expected rewards of the policy.
        transitions: [S, S], probabilities of the next state under the policy; rows sum to 1.
        gamma: Discount, in [0, 1].

    Returns:
        [S, S].

    Raises:
        ValueError: If the shapes do not fit each other, or ``gamma`` is outside [0, 1].

    Example:
        Two absorbing states with the rewards 0 and 1: the distance is 1 / (1 - gamma).

        >>> import torch
        >>> distances = torch.zeros(2, 2)
        >>> for _ in range(100):
        ...     distances = mico_operator(
        ...         distances, torch.tensor([0.0, 1.0]), torch.eye(2), gamma=0.5
        ...     )
        >>> distances
        tensor([[0., 2.],
                [2., 0.]])

    Source:
        Castro et al. 2021, arXiv:2106.08229.
    """
    if not 0 <= gamma <= 1:
        raise ValueError(f"gamma must be in [0, 1]; got {gamma}.")
    if transitions.shape != distances.shape:
        raise ValueError(
            "distances and transitions must both be [S, S]; got "
            f"{tuple(distances.shape)} and {tuple(transitions.shape)}."
        )
    expected = transitions @ distances @ transitions.T
    return metric_target(expected, rewards, rewards, gamma=gamma)


def _check_pairs(x: Tensor, y: Tensor) -> None:
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"x must be [N, D] and y [M, D]; got {tuple(x.shape)}, {tuple(y.shape)}.")
