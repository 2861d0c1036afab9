"""Losses of distances between embeddings of the same and of different things."""

import torch
import torch.nn.functional as F
from torch import Tensor

from rlssl.losses.checks import check_pairs

#: Weight of the squared norms in `n_pair`: TensorFlow's 0.25 times its default of 0.002.
N_PAIR_REGULARIZATION = 0.25 * 0.002


def pair_contrastive(
    first: Tensor, second: Tensor, same: Tensor, *, margin: float = 1.0, factor: float = 0.5
) -> Tensor:
    """Contrastive loss of pairs: equal things attract, different ones repel up to a margin.

    With the Euclidean distance d of a pair::

        loss = factor * d^2                   if the two are the same
               factor * max(0, margin - d)^2  if not

    Two different things at distance 0 have no direction to part: their gradient is 0.

    Args:
        first: [N, D].
        second: [N, D].
        same: [N], bool: whether the two rows of a pair are embeddings of the same thing.
        margin: Distance from which different things do not repel; > 0, units of the embeddings.
        factor: Factor on the loss; > 0; 0.5 in the paper, 1 in TensorFlow's version.

    Returns:
        [N], squared units of the embeddings, not reduced.

    Raises:
        ValueError: If the shapes do not fit each other, or margin or factor is not > 0.

    Example:
        Both pairs are 0.6 apart: 0.6^2 = 0.36 and (1 - 0.6)^2 = 0.16.

        >>> import torch
        >>> first, second = torch.tensor([[0.6, 0.0], [0.0, 0.6]]), torch.zeros(2, 2)
        >>> pair_contrastive(first, second, torch.tensor([True, False]), factor=1.0)
        tensor([0.3600, 0.1600])

    Source:
        Hadsell, Chopra, LeCun 2006, "Dimensionality reduction by learning an invariant mapping".
    """
    check_pairs(first=first, second=second)
    if same.shape != first.shape[:1]:
        raise ValueError(f"same must be [{len(first)}]; got {tuple(same.shape)}.")
    _check_positive(margin=margin, factor=factor)
    # vector_norm has the gradient 0 at 0, where the square root has none.
    distance = torch.linalg.vector_norm(first - second, dim=-1)
    return factor * torch.where(same.bool(), distance, (margin - distance).relu()).square()


def triplet(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    margin: float = 0.2,
    squared: bool = True,
) -> Tensor:
    """Triplet loss: the positive must be nearer than the negative by a margin.

    ``max(0, D(anchor, positive) - D(anchor, negative) + margin)``, D the squared Euclidean distance
    or the Euclidean distance. Equal embeddings give ``margin``.

    Args:
        anchor: [N, D].
        positive: [N, D].
        negative: [N, D].
        margin: > 0, units of the distance.
        squared: Whether distances are squared, as published.

    Returns:
        [N], units of the distance, not reduced.

    Raises:
        ValueError: If the shapes differ or are not [N, D], or if ``margin`` is not > 0.

    Example:
        Distances 0.5 and 0.6: 0.5 - 0.6 + 0.2 = 0.1.

        >>> import torch
        >>> anchor, positive, negative = torch.tensor([[[0.0]], [[0.5]], [[0.6]]])
        >>> triplet(anchor, positive, negative, squared=False)
        tensor([0.1000])

    Source:
        Schroff et al. 2015, arXiv:1503.03832, eq. 2.
    """
    check_pairs(anchor=anchor, positive=positive, negative=negative)
    _check_positive(margin=margin)
    near, far = (
        (anchor - other).square().sum(dim=-1)
        if squared
        else torch.linalg.vector_norm(anchor - other, dim=-1)
        for other in (positive, negative)
    )
    return (near - far + margin).relu()


def semi_hard_triplet(
    anchor: Tensor, other: Tensor, positives: Tensor, negatives: Tensor, *, margin: float = 0.2
) -> Tensor:
    """Triplet loss with semi-hard negatives, over all pairs of an anchor and a positive.

    With squared Euclidean distances D, the negative n of a pair (a, p) is the nearest one that is
    farther than p; if there is none, the farthest negative::

        loss(a, p) = max(0, D_ap - D_an + margin)
        loss_a     = N / P * sum_p loss(a, p)      P: the number of pairs (a, p)

    So the mean over the rows is the mean over the pairs. Equal embeddings give ``margin`` for each
    pair. An anchor without a positive or without a negative counts as no pair and gives 0.

    Args:
        anchor: [N, D].
        other: [M, D], the candidates; the anchors themselves for labels.
        positives: [N, M], bool: which candidates are positives of an anchor. An anchor is not its
            own positive.
        negatives: [N, M], bool: which candidates are negatives. A candidate may be neither.
        margin: > 0, units of the squared distance.

    Returns:
        [N], units of the squared distance, not reduced.

    Raises:
        ValueError: If the shapes do not fit each other, or if ``margin`` is not > 0.

    Example:
        Anchor 0, its positive at 1 (D = 1), negatives at 0.5 and 2 (D = 0.25 and 4). The semi-hard
        negative is the one at 2, beyond the margin of 4: 1 - 4 + 4 = 1.

        >>> import torch
        >>> anchor, other = torch.zeros(1, 1), torch.tensor([[1.0], [0.5], [2.0]])
        >>> positives = torch.tensor([[True, False, False]])
        >>> semi_hard_triplet(anchor, other, positives, ~positives, margin=4.0)
        tensor([1.])

    Source:
        Schroff et al. 2015, arXiv:1503.03832, section 3.2, and TensorFlow's version, which falls
        back to the farthest negative.
    """
    _check_masks(anchor, other, positives=positives, negatives=negatives)
    _check_positive(margin=margin)
    if not len(other):
        return 0.0 * anchor.sum(dim=-1)
    distances = _distances(anchor, other).square()  # [N, M]
    far = _semi_hard_distances(distances, negatives)
    pairs = positives & negatives.any(dim=1, keepdim=True)
    losses = torch.where(pairs, (distances - far + margin).relu(), 0.0).sum(dim=1)
    return losses * len(anchor) / pairs.sum().clamp(min=1)


def _semi_hard_distances(distances: Tensor, negatives: Tensor) -> Tensor:
    """[N, M]: for each anchor and candidate, the distance of the pair's semi-hard negative."""
    count = negatives.sum(dim=1, keepdim=True)
    ordered, order = distances.detach().masked_fill(~negatives, torch.inf).sort(dim=1)
    # The first negative that is farther than the candidate, and not beyond the last negative.
    nearest = torch.searchsorted(ordered, distances.detach(), right=True)
    nearest = torch.minimum(nearest, count - 1).clamp(min=0)
    return distances.gather(1, order.gather(1, nearest))


def n_pair(
    anchor: Tensor,
    positive: Tensor,
    *,
    same: Tensor | None = None,
    regularization: float = N_PAIR_REGULARIZATION,
) -> Tensor:
    """N-pair loss: each anchor must find its positive among the positives of all anchors.

    With scores s_ij = anchor_i . positive_j, which are not normalized, and targets t_ij, the rows
    of ``same`` divided by their sums::

        loss_i = -sum_j t_ij log softmax(s_i)_j
                 + regularization * (|anchor_i|^2 + |positive_i|^2)

    Zero embeddings give ``log N`` nats.

    Args:
        anchor: [N, D].
        positive: [N, D]; row i is the positive of row i.
        same: [N, N], bool: whether positive j shows the same thing as anchor i, with a true
            diagonal; None: only j = i.
        regularization: Weight of the squared norms; >= 0; 0.0005 as in TensorFlow.

    Returns:
        [N], nats plus the regularization, not reduced.

    Raises:
        ValueError: If the shapes do not fit each other, if the diagonal of ``same`` is not true, or
            if ``regularization < 0``.

    Example:
        Embeddings 2 I: log(1 + 3 e^-4) = 0.05349, and 0.0005 * (4 + 4) = 0.004.

        >>> import torch
        >>> n_pair(2 * torch.eye(4), 2 * torch.eye(4))
        tensor([0.0575, 0.0575, 0.0575, 0.0575])

    Source:
        Sohn 2016, "Improved deep metric learning with multi-class N-pair loss objective", and
        TensorFlow's version.
    """
    check_pairs(anchor=anchor, positive=positive)
    if not regularization >= 0:
        raise ValueError(f"regularization must be >= 0; got {regularization}.")
    num = len(anchor)
    if same is None:
        same = torch.eye(num, dtype=torch.bool, device=anchor.device)
    elif same.shape != (num, num) or not bool(same.diagonal().all()):
        raise ValueError(
            f"same must be [{num}, {num}] with a true diagonal; got {tuple(same.shape)}."
        )
    targets = same.float() / same.sum(dim=1, keepdim=True)
    losses = F.cross_entropy(anchor @ positive.T, targets, reduction="none")
    norms = anchor.square().sum(dim=-1) + positive.square().sum(dim=-1)
    return losses + regularization * norms


def lifted_structure(embeddings: Tensor, labels: Tensor, *, margin: float = 1.0) -> Tensor:
    """Lifted structured loss: each positive pair against all negatives of both of its ends.

    With Euclidean distances D, the negatives N(i) (rows of another label) and P pairs i < j of
    equal labels::

        J_ij = log( sum_{k in N(i)} e^(margin - D_ik) + sum_{l in N(j)} e^(margin - D_jl) ) + D_ij
        loss = sum_ij max(0, J_ij)^2 / (2 P)

    Each row gets half of the loss of its pairs, times N, so that the mean over the rows is the
    loss. Pairs without a negative give 0; without a pair, all is 0.

    Args:
        embeddings: [N, D].
        labels: [N], integers: equal for the same thing.
        margin: > 0, units of the embeddings.

    Returns:
        [N], no unit, not reduced.

    Raises:
        ValueError: If the shapes do not fit each other, or if ``margin`` is not > 0.

    Example:
        Points 0, 0, 1, 1: each pair has four negatives at distance 1, so J = log 4.

        >>> import torch
        >>> points = torch.tensor([[0.0], [0.0], [1.0], [1.0]])
        >>> lifted_structure(points, torch.tensor([0, 0, 1, 1])).mean()
        tensor(0.9609)

    Source:
        Song et al. 2016, arXiv:1511.06452, eq. 4, and TensorFlow's version.
    """
    check_pairs(embeddings=embeddings)
    if labels.shape != embeddings.shape[:1]:
        raise ValueError(f"labels must be [{len(embeddings)}]; got {tuple(labels.shape)}.")
    _check_positive(margin=margin)
    num = len(embeddings)
    distances = _distances(embeddings, embeddings)
    same = labels[:, None] == labels[None]
    has_negative = (~same).any(dim=1, keepdim=True)
    pairs = same & has_negative & ~torch.eye(num, dtype=torch.bool, device=same.device)
    # Rows without a negative are in no pair; as -inf, they would have no gradient.
    exponents = (margin - distances).masked_fill(same & has_negative, -torch.inf)
    repulsion = exponents.logsumexp(dim=1)  # [N]
    lifted = torch.logaddexp(repulsion[:, None], repulsion[None]) + distances
    squares = torch.where(pairs, lifted.relu().square(), 0.0)  # each pair twice
    # 2 P is the number of ordered pairs; each unordered pair is given to both of its rows.
    return 0.5 * num * squares.sum(dim=1) / pairs.sum().clamp(min=1)


def _distances(rows: Tensor, others: Tensor) -> Tensor:
    """[N, M], Euclidean distances; the gradient is 0 for equal rows."""
    # Matrix products would be inexact for rows that are close to each other.
    return torch.cdist(rows, others, compute_mode="donot_use_mm_for_euclid_dist")


def _check_masks(anchor: Tensor, other: Tensor, **masks: Tensor) -> None:
    if anchor.ndim != 2 or other.ndim != 2 or anchor.shape[1] != other.shape[1]:
        raise ValueError(
            "anchor must be [N, D] and other [M, D]; got "
            f"{tuple(anchor.shape)} and {tuple(other.shape)}."
        )
    for name, mask in masks.items():
        if mask.shape != (len(anchor), len(other)) or mask.dtype != torch.bool:
            raise ValueError(
                f"{name} must be [{len(anchor)}, {len(other)}] bool; got {tuple(mask.shape)} "
                f"{mask.dtype}."
            )


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} must be > 0; got {value}.")
