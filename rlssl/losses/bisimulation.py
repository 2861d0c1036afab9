"""Bisimulation losses: latents learn the distance of rewards and next states."""

import torch
import torch.nn.functional as F
from torch import Tensor

from rlssl.losses.checks import check_vectors


def gaussian_w2(
    mean_i: Tensor, std_i: Tensor | None, mean_j: Tensor, std_j: Tensor | None
) -> Tensor:
    """2-Wasserstein distance of diagonal Gaussians, not squared.

    ``sqrt( sum_d (mean_i - mean_j)_d^2 + (std_i - std_j)_d^2 )``. For equal Gaussians the gradient
    is undefined; it is set to 0.

    Args:
        mean_i: [..., D].
        std_i: [..., D], standard deviations; None: 0, all probability is at the mean.
        mean_j: [..., D].
        std_j: [..., D], standard deviations; None exactly if ``std_i`` is None.

    Returns:
        [...], units of the mean, >= 0, symmetric in i and j.

    Raises:
        ValueError: If the shapes differ, or only one of ``std_i`` and ``std_j`` is None.

    Example:
        Means differ by 3, standard deviations by 4: sqrt(9 + 16) = 5.

        >>> import torch
        >>> mean_i, std_i = torch.tensor([[3.0]]), torch.tensor([[1.0]])
        >>> mean_j, std_j = torch.tensor([[0.0]]), torch.tensor([[5.0]])
        >>> gaussian_w2(mean_i, std_i, mean_j, std_j).tolist()
        [5.0]

    Source:
        Zhang et al. 2020, arXiv:2006.10742, section 4.
    """
    _check_gaussians(mean_i, std_i, mean_j, std_j)
    difference = mean_i - mean_j
    if std_i is not None and std_j is not None:
        difference = torch.cat([difference, std_i - std_j], dim=-1)
    return torch.linalg.vector_norm(difference, dim=-1)


def gaussian_nll(mean: Tensor, std: Tensor | None, target: Tensor) -> Tensor:
    """Negative log-likelihood of a diagonal Gaussian, without its constant, averaged over features.

    ``mean_d( 0.5 * ((mean_d - target_d) / std_d)^2 + log std_d )``.

    Args:
        mean: [..., N, D], predicted; [K, N, D] for an ensemble.
        std: Shape of ``mean``, standard deviations > 0; None: 1.
        target: [N, D]. Gradients flow into it unless the caller detaches it, as DBC does.

    Returns:
        [..., N], nats per feature, not reduced.

    Raises:
        ValueError: If the shapes do not fit each other.

    Example:
        Errors 2 and 1, standard deviation 1: (0.5 * 4 + 0.5 * 1) / 2 = 1.25.

        >>> import torch
        >>> gaussian_nll(torch.tensor([[2.0, 1.0]]), None, torch.zeros(1, 2)).tolist()
        [1.25]

    Source:
        Zhang et al. 2020, arXiv:2006.10742, published code of the transition loss, which also
        averages over features.
    """
    if target.ndim != 2 or mean.ndim < 2 or mean.shape[-2:] != target.shape:
        raise ValueError(
            "mean must be [..., N, D] and target [N, D]; got "
            f"{tuple(mean.shape)} and {tuple(target.shape)}."
        )
    if std is None:
        return 0.5 * (mean - target).square().mean(dim=-1)
    if std.shape != mean.shape:
        raise ValueError(
            f"std must have the shape of mean; got {tuple(std.shape)} and {tuple(mean.shape)}."
        )
    return (0.5 * ((mean - target) / std).square() + std.log()).mean(dim=-1)


def bisimulation_loss(
    latent_i: Tensor,
    latent_j: Tensor,
    reward_i: Tensor,
    reward_j: Tensor,
    mean_i: Tensor,
    std_i: Tensor | None,
    mean_j: Tensor,
    std_j: Tensor | None,
    *,
    gamma: float,
    variant: str,
) -> Tensor:
    """Squared error between the distance of two latents and the bisimulation distance.

    ``paper``, one distance per pair::

        ( |latent_i - latent_j|_1 - |reward_i - reward_j| - gamma * W2(P_i, P_j) )^2

    ``code``, one distance per feature d; s is the smooth L1 of a difference (0.5 x^2 if abs(x)
    < 1, else abs(x) - 0.5)::

        mean_d ( s(latent_i - latent_j)_d - s(reward_i - reward_j) - gamma * t_d )^2
        t_d = s(mean_i - mean_j)_d                                        if std is None
        t_d = sqrt( (mean_i - mean_j)_d^2 + (std_i - std_j)_d^2 )         else

    ``std = None`` is the transition type ``''`` of the published code. The published type
    ``deterministic`` has standard deviations of 0: pass zeros. In ``code`` the two are different
    losses; in ``paper`` they are equal. A pair of equal states costs 0. Gradients flow only into
    the latents.

    Args:
        latent_i: [N, D], latents of the first state of each pair.
        latent_j: [N, D], latents of the second state: a permutation of the batch.
        reward_i: [N]. Replayed (``code``), or predicted from the latent (``paper``).
        reward_j: [N].
        mean_i: [N, D], mean of the predicted next latent; [K, N, D] for an ensemble. The loss is
            averaged over K.
        std_i: Shape of ``mean_i``, standard deviations; or None.
        mean_j: See ``mean_i``.
        std_j: See ``std_i``.
        gamma: Discount of the metric, per agent step, in [0, 1].
        variant: ``paper`` or ``code``.

    Returns:
        [N], squared units of the reward, not reduced.

    Raises:
        ValueError: If the shapes do not fit each other, only one of ``std_i`` and ``std_j`` is
            None, ``gamma`` is outside [0, 1], or the variant is unknown.

    Example:
        Latents differ by 5, rewards by 1, next latents by 2: (5 - 1 - 0.5 * 2)^2 = 9.

        >>> import torch
        >>> zero, reward = torch.zeros(1, 1), torch.tensor([1.0])
        >>> bisimulation_loss(
        ...     zero + 5, zero, reward, 0 * reward, zero + 2, None, zero, None,
        ...     gamma=0.5, variant="paper",
        ... ).tolist()
        [9.0]

    Source:
        Zhang et al. 2020, arXiv:2006.10742, eq. 4 (``paper``) and published code (``code``).
        Differs: nothing known.
    """
    if not 0 <= gamma <= 1:
        raise ValueError(f"gamma must be in [0, 1]; got {gamma}.")
    distances = metric_distances(
        latent_i, latent_j, reward_i, reward_j, mean_i, std_i, mean_j, std_j, variant=variant
    )
    reward, future = distances["reward"].detach(), distances["future"].detach()
    if variant == "paper":
        error = distances["latent"] - (reward + gamma * future)  # [..., N]
        return _mean_over_models(error.square())
    error = distances["latent"] - (reward[:, None] + gamma * future)  # [..., N, D]
    return _mean_over_models(error.square().mean(dim=-1))


def metric_distances(
    latent_i: Tensor,
    latent_j: Tensor,
    reward_i: Tensor,
    reward_j: Tensor,
    mean_i: Tensor,
    std_i: Tensor | None,
    mean_j: Tensor,
    std_j: Tensor | None,
    *,
    variant: str,
) -> dict[str, Tensor]:
    """The distances of each pair that ``bisimulation_loss`` compares, for metrics.

    Args:
        latent_i: See ``bisimulation_loss``.
        latent_j: See ``bisimulation_loss``.
        reward_i: See ``bisimulation_loss``.
        reward_j: See ``bisimulation_loss``.
        mean_i: See ``bisimulation_loss``.
        std_i: See ``bisimulation_loss``.
        mean_j: See ``bisimulation_loss``.
        std_j: See ``bisimulation_loss``.
        variant: ``paper`` or ``code``.

    Returns:
        ``reward``: [N]. ``latent``: [N] (``paper``) or [N, D] (``code``). ``future``, the distance
        of the predicted next latents: [..., N] (``paper``) or [..., N, D] (``code``).

    Raises:
        ValueError: See ``bisimulation_loss``.

    Example:
        >>> import torch
        >>> zero, reward = torch.zeros(1, 1), torch.tensor([1.0])
        >>> metric_distances(
        ...     zero + 5, zero, reward, 0 * reward, zero + 2, None, zero, None, variant="paper"
        ... )
        {'latent': tensor([5.]), 'reward': tensor([1.]), 'future': tensor([2.])}
    """
    _check_pairs(latent_i, latent_j, reward_i, reward_j, mean_i)
    _check_gaussians(mean_i, std_i, mean_j, std_j)
    if variant == "paper":
        return {
            "latent": (latent_i - latent_j).abs().sum(dim=-1),
            "reward": (reward_i - reward_j).abs(),
            "future": gaussian_w2(mean_i, std_i, mean_j, std_j),
        }
    if variant == "code":
        return {
            "latent": F.smooth_l1_loss(latent_i, latent_j, reduction="none"),
            "reward": F.smooth_l1_loss(reward_i, reward_j, reduction="none"),
            "future": _feature_distance(mean_i, std_i, mean_j, std_j),
        }
    raise ValueError(f"variant must be 'paper' or 'code'; got {variant!r}.")


def _feature_distance(
    mean_i: Tensor, std_i: Tensor | None, mean_j: Tensor, std_j: Tensor | None
) -> Tensor:
    if std_i is None or std_j is None:
        return F.smooth_l1_loss(mean_i, mean_j, reduction="none")
    return torch.hypot(mean_i - mean_j, std_i - std_j)


def _mean_over_models(losses: Tensor) -> Tensor:
    """[N] is returned unchanged; [K, N] of an ensemble is averaged over K."""
    return losses if losses.ndim == 1 else losses.mean(dim=0)


def _check_pairs(
    latent_i: Tensor, latent_j: Tensor, reward_i: Tensor, reward_j: Tensor, mean_i: Tensor
) -> None:
    check_vectors(reward_i=reward_i, reward_j=reward_j)
    shapes_fit = (
        latent_i.ndim == 2
        and latent_i.shape == latent_j.shape
        and len(reward_i) == len(latent_i)
        and mean_i.ndim in (2, 3)
        and mean_i.shape[-2:] == latent_i.shape
    )
    if not shapes_fit:
        raise ValueError(
            "latents must be [N, D], rewards [N] and means [N, D] or [K, N, D]; got "
            f"{tuple(latent_i.shape)}, {tuple(latent_j.shape)}, {tuple(reward_i.shape)} and "
            f"{tuple(mean_i.shape)}."
        )


def _check_gaussians(
    mean_i: Tensor, std_i: Tensor | None, mean_j: Tensor, std_j: Tensor | None
) -> None:
    if (std_i is None) != (std_j is None):
        raise ValueError("std_i and std_j must both be tensors or both be None; got one of each.")
    given = [tensor for tensor in (mean_i, mean_j, std_i, std_j) if tensor is not None]
    shapes = [tuple(tensor.shape) for tensor in given]
    if len(set(shapes)) != 1:
        raise ValueError(f"means and stds must have the same shape; got {shapes}.")
