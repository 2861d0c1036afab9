"""Losses of learned dynamics: inverse (predicts the action), forward (predicts the next latent)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def inverse_dynamics_loss(logits_or_mean: Tensor | Sequence[Tensor], action: Tensor) -> Tensor:
    """Error of the action that is predicted from the states before and after it.

    The types of the arguments decide the case::

        discrete:    -log softmax(logits)[action]
        k discrete:  sum_j -log softmax(logits_j)[action_j]
        continuous:  0.5 * sum_d (mean_d - action_d)^2   (a unit Gaussian's, without its constant)

    Uninformative logits give ``log n`` nats, summed over the k parts: expect this value at step 0.

    Args:
        logits_or_mean: [N, n] logits; or a sequence of k tensors [N, n_j]; or [N, A] means.
        action: [N] integer for logits; [N, k] integer for a sequence; [N, A] floating for means.
            Integers count from 0: first subtract the ``start`` of the space.

    Returns:
        [N], nats, not reduced.

    Raises:
        ValueError: If the shapes do not fit each other.

    Example:
        A uniform guess among 4 actions costs log 4 = 1.3863. A continuous action costs
        (1^2 + 2^2) / 2.

        >>> import torch
        >>> inverse_dynamics_loss(torch.zeros(1, 4), torch.tensor([2]))
        tensor([1.3863])
        >>> inverse_dynamics_loss(torch.zeros(1, 2), torch.tensor([[1.0, 2.0]]))
        tensor([2.5000])

    Source:
        Pathak et al. 2017, arXiv:1705.05363, eq. 3 (discrete). Differs: the paper has one discrete
        action; several discrete parts and continuous actions are ours.
    """
    if not isinstance(logits_or_mean, Tensor):
        return _sum_of_cross_entropies(logits_or_mean, action)
    if action.is_floating_point():
        if logits_or_mean.ndim != 2 or logits_or_mean.shape != action.shape:
            raise ValueError(
                "a continuous action and its predicted mean must both be [N, A]; got "
                f"{tuple(action.shape)} and {tuple(logits_or_mean.shape)}."
            )
        return 0.5 * (logits_or_mean - action).square().sum(dim=-1)
    if logits_or_mean.ndim != 2 or action.shape != logits_or_mean.shape[:1]:
        raise ValueError(
            f"logits must be [N, n] and a discrete action [N]; got {tuple(logits_or_mean.shape)} "
            f"and {tuple(action.shape)}."
        )
    return F.cross_entropy(logits_or_mean, action.long(), reduction="none")


def _sum_of_cross_entropies(logits: Sequence[Tensor], action: Tensor) -> Tensor:
    """[N]: sum of the cross-entropies of the k parts [N, n_j] of a multi-discrete action [N, k]."""
    if action.is_floating_point() or action.ndim != 2 or action.shape[1] != len(logits):
        raise ValueError(
            f"{len(logits)} sets of logits need integer actions [N, {len(logits)}]; got "
            f"{tuple(action.shape)} of {action.dtype}."
        )
    parts = [inverse_dynamics_loss(part, action[:, j]) for j, part in enumerate(logits)]
    return torch.stack(parts).sum(dim=0)


def forward_dynamics_loss(
    prediction: Tensor, target: Tensor, *, reduction: str = "half_sum"
) -> Tensor:
    """Squared error of a predicted next latent.

    ``half_sum`` is ``0.5 * sum_d (prediction_d - target_d)^2``; ``mean`` is
    ``mean_d (prediction_d - target_d)^2``. ``half_sum`` is ``D / 2`` times ``mean``.

    Args:
        prediction: [N, D], predicted latent of the next state.
        target: [N, D], actual latent of the next state. Gradients flow into it unless the caller
            detaches it. Burda detaches it; Pathak's code does not.
        reduction: Over the features, never over the batch: ``half_sum`` (Pathak) or ``mean``
            (Burda).

    Returns:
        [N], squared units of the latent, not reduced.

    Raises:
        ValueError: If the shapes differ or are not [N, D], or the reduction is unknown.

    Example:
        >>> import torch
        >>> prediction, target = torch.tensor([[1.0, 2.0, 0.0, 3.0]]), torch.zeros(1, 4)
        >>> forward_dynamics_loss(prediction, target).tolist()
        [7.0]
        >>> forward_dynamics_loss(prediction, target, reduction="mean").tolist()
        [3.5]

    Source:
        half_sum: Pathak et al. 2017, arXiv:1705.05363, eq. 5. mean: Burda et al. 2018,
        arXiv:1808.04355, published code.
    """
    if prediction.ndim != 2 or prediction.shape != target.shape:
        raise ValueError(
            "prediction and target must both be [N, D]; got "
            f"{tuple(prediction.shape)} and {tuple(target.shape)}."
        )
    squared = (prediction - target).square()  # [N, D]
    if reduction == "half_sum":
        return 0.5 * squared.sum(dim=-1)
    if reduction == "mean":
        return squared.mean(dim=-1)
    raise ValueError(f"reduction must be 'half_sum' or 'mean'; got {reduction!r}.")


def lipschitz_penalty(
    output: Tensor, latent: Tensor, direction: Tensor, *, limit: float = 1.0
) -> Tensor:
    """Squared excess of a model's slope over a Lipschitz constant.

    ``max(0, | d <direction, output> / d latent | - limit)^2`` for each row. It is 0 if the slope
    along ``direction`` is at most ``limit``.

    Args:
        output: [N, E], output of a model, computed from ``latent`` with a graph.
        latent: [N, D], requires a gradient. If it is detached from its encoder, the penalty trains
            only the model.
        direction: [N, E], unit vectors. A random direction never overestimates the slope of the
            whole output.
        limit: Largest slope without a penalty; > 0.

    Returns:
        [N], squared units of the slope, not reduced; with a graph.

    Raises:
        ValueError: If the shapes do not fit each other, or ``limit`` is not > 0.

    Example:
        A model with slope 3 exceeds the limit 1 by 2.

        >>> import torch
        >>> latent = torch.ones(1, 1, requires_grad=True)
        >>> lipschitz_penalty(3.0 * latent, latent, torch.ones(1, 1)).tolist()
        [4.0]

    Source:
        Gelada et al. 2019, arXiv:1906.02736, with the penalty of Gulrajani et al. 2017,
        arXiv:1704.00028. Differs: only slopes above the limit are penalized; Gulrajani's penalty
        also raises slopes below it. For a vector output we use the slope along a direction.
    """
    if output.ndim != 2 or output.shape != direction.shape or len(output) != len(latent):
        raise ValueError(
            "output and direction must be [N, E] and latent [N, D]; got "
            f"{tuple(output.shape)}, {tuple(direction.shape)} and {tuple(latent.shape)}."
        )
    if not limit > 0:
        raise ValueError(f"limit must be > 0; got {limit}.")
    (slope,) = torch.autograd.grad(output, latent, grad_outputs=direction, create_graph=True)
    return (slope.norm(dim=-1) - limit).clamp(min=0.0).square()
