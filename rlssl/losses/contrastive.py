"""Contrastive losses over a batch of paired embeddings."""

import torch
import torch.nn.functional as F
from torch import Tensor

from rlssl.losses.checks import check_pairs

# Gradients of similarities below this size change no weight. Products with them can be denormal
# floats (below 1.2e-38), which processors compute many times slower.
_LEAST_GRADIENT = 1e-30

# Vectors up to this norm have no direction.
_LEAST_NORM = 1e-12


def unit_vectors(vectors: Tensor) -> Tensor:
    """Vectors of norm 1 with the directions of ``vectors``; a zero vector stays zero.

    A zero vector has a finite gradient, which is that of the identity. torch's ``normalize`` would
    multiply its gradient by 1e12.

    Args:
        vectors: [..., D].

    Returns:
        [..., D], no unit.

    Example:
        >>> import torch
        >>> unit_vectors(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    norm = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / torch.where(norm > _LEAST_NORM, norm, 1.0)


def info_nce(query: Tensor, key: Tensor, *, temperature: float = 0.1) -> Tensor:
    """InfoNCE loss with in-batch negatives.

    Row ``i`` of ``key`` is the positive of row ``i`` of ``query``; the other B - 1 rows are its
    negatives. With ``s_ij`` the cosine similarity of ``query[i]`` and ``key[j]``::

        loss_i = -log( exp(s_ii / temperature) / sum_j exp(s_ij / temperature) )

    Uninformative embeddings give ``log B`` nats: expect this value at step 0.

    Args:
        query: [B, D], embeddings of the online branch.
        key: [B, D], embeddings of the target branch. Gradients flow into it unless the caller
            detaches it. MoCo and CURL detach it; SimCLR does not.
        temperature: Divides the similarities; > 0, no unit. Not SAC's ``alpha``.

    Returns:
        [B], nats, not reduced.

    Raises:
        ValueError: If the shapes differ or are not [B, D], if B < 2 (no negatives), or if
            ``temperature <= 0``.

    Example:
        Four equal embeddings: log 4 = 1.3863.

        >>> import torch
        >>> info_nce(torch.ones(4, 2), torch.ones(4, 2))
        tensor([1.3863, 1.3863, 1.3863, 1.3863])

    Source:
        van den Oord et al. 2018, arXiv:1807.03748, eq. 4. The similarity is cosine, as in SimCLR
        (arXiv:2002.05709); CURL (arXiv:2004.04136) learns a bilinear similarity instead.
    """
    if query.ndim != 2 or query.shape != key.shape:
        raise ValueError(
            f"query and key must both be [B, D]; got {tuple(query.shape)} and {tuple(key.shape)}."
        )
    if query.shape[0] < 2:
        raise ValueError("info_nce needs B >= 2: with one row there are no negatives.")
    if temperature <= 0:
        raise ValueError(f"temperature must be > 0; got {temperature}.")

    similarity = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).T  # [B, B]
    positives = torch.arange(query.shape[0], device=query.device)  # [B]
    return F.cross_entropy(similarity / temperature, positives, reduction="none")


def nt_xent(first: Tensor, second: Tensor, *, temperature: float = 0.5) -> Tensor:
    """NT-Xent loss (SimCLR): each of 2 N embeddings must find its partner among the 2 N - 1 others.

    With the 2 N rows z of both views, the cosine similarity s and the partner p(i) of row i::

        l_i    = -log( exp(s_ip(i) / temperature) / sum_{j != i} exp(s_ij / temperature) )
        loss_n = (l_n + l_{N + n}) / 2

    Equal embeddings give ``log(2 N - 1)`` nats: expect about this value at step 0.

    Args:
        first: [N, D], embeddings of the first views. Gradients flow into both views.
        second: [N, D], embeddings of the second views; row n is the partner of row n.
        temperature: Divides the similarities; > 0, no unit.

    Returns:
        [N], nats, not reduced; the same if the two views are swapped.

    Raises:
        ValueError: If the shapes differ or are not [N, D], if N < 2 (no negatives), or if
            ``temperature <= 0``.

    Example:
        Four equal embeddings: log 3 = 1.0986.

        >>> import torch
        >>> nt_xent(torch.ones(2, 5), torch.ones(2, 5))
        tensor([1.0986, 1.0986])

    Source:
        Chen et al. 2020, arXiv:2002.05709, eq. 1. Differs: the mean of the rows is the paper's mean
        over 2 N; the published code adds the means of the two views, which is twice as large.
    """
    check_pairs(first=first, second=second)
    num = len(first)
    if num < 2:
        raise ValueError(f"nt_xent needs N >= 2: with {num} there are no negatives.")
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0; got {temperature}.")
    both = unit_vectors(torch.cat([first, second]))  # [2 N, D]
    itself = torch.eye(2 * num, dtype=torch.bool, device=both.device)
    logits = (both @ both.T / temperature).masked_fill(itself, -torch.inf)
    partners = torch.arange(2 * num, device=both.device).roll(num)
    losses = F.cross_entropy(logits, partners, reduction="none")
    return (losses[:num] + losses[num:]) / 2


def queue_info_nce(
    query: Tensor,
    key: Tensor,
    negatives: Tensor,
    *,
    temperature: float = 0.07,
    allowed: Tensor | None = None,
) -> Tensor:
    """InfoNCE loss whose negatives are given, for example the keys of a queue (MoCo).

    With the cosine similarities p_i of query i and its key, and s_ij of query i and negative j::

        loss_i = -log( exp(p_i / temperature) / (exp(p_i / temperature)
                                                 + sum_{j allowed} exp(s_ij / temperature)) )

    Equal vectors give ``log(K + 1)`` nats. A query without an allowed negative gives 0.

    Args:
        query: [N, D], embeddings of the online branch.
        key: [N, D], the positive of each query. Gradients flow into it unless the caller detaches
            it, as MoCo does.
        negatives: [K, D]; K = 0 is allowed.
        temperature: Divides the similarities; > 0, no unit.
        allowed: [N, K] or [1, K], bool: which negatives count for which query; None: all.

    Returns:
        [N], nats, not reduced.

    Raises:
        ValueError: If the shapes do not fit each other, or if ``temperature <= 0``.

    Example:
        Equal vectors, three negatives: log 4 = 1.3863; only the first negative: log 2.

        >>> import torch
        >>> query, negatives = torch.ones(1, 2), torch.ones(3, 2)
        >>> queue_info_nce(query, query, negatives)
        tensor([1.3863])
        >>> queue_info_nce(query, query, negatives, allowed=torch.tensor([[True, False, False]]))
        tensor([0.6931])

    Source:
        He et al. 2019, arXiv:1911.05722, eq. 1 and algorithm 1.
    """
    check_pairs(query=query, key=key)
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0; got {temperature}.")
    if negatives.ndim != 2 or negatives.shape[1] != query.shape[1]:
        raise ValueError(
            f"negatives must be [K, {query.shape[1]}], as the queries; got "
            f"{tuple(negatives.shape)}."
        )
    query = unit_vectors(query)
    positive = (query * unit_vectors(key)).sum(dim=-1, keepdim=True)  # [N, 1]
    others = query @ unit_vectors(negatives).T  # [N, K]
    if allowed is not None:
        if allowed.shape not in (others.shape, (1, len(negatives))):
            raise ValueError(
                f"allowed must be {tuple(others.shape)}, queries by negatives; got "
                f"{tuple(allowed.shape)}."
            )
        others = others.masked_fill(~allowed, -torch.inf)
    logits = torch.cat([positive, others], dim=1) / temperature
    labels = torch.zeros(len(query), dtype=torch.int64, device=query.device)
    return F.cross_entropy(logits, labels, reduction="none")


def bilinear_info_nce(
    query: Tensor,
    key: Tensor,
    weight: Tensor,
    *,
    scale: float = 1.0,
    positives: Tensor | None = None,
) -> Tensor:
    """InfoNCE loss with a learned similarity: ``s_ij = query[i] @ weight @ key[j]``.

    ::

        loss_i = -log( exp(scale * s_ii) / sum_j exp(scale * s_ij) )

    Uninformative embeddings give ``log M`` nats. The similarities are not bounded: if the weight is
    drawn from U[0, 1), the loss can start well above ``log M``.

    Args:
        query: [N, D], embeddings of the online branch.
        key: [M, D], embeddings of the target branch; M = N unless ``positives`` is given.
            Gradients flow into it unless the caller detaches it, as CURL does.
        weight: [D, D], the learned W.
        scale: Factor on the similarities; > 0, no unit. CURL on Atari uses 0.1.
        positives: [N], integers: for each query, the row of its positive in ``key``. Needed if keys
            come from several Learners or are shuffled. None: row ``i`` for query ``i``.

    Returns:
        [N], nats, not reduced.

    Raises:
        ValueError: If the shapes do not fit each other, if M < 2 (no negatives), or if
            ``scale <= 0``.

    Example:
        The positive of each query is the key with similarity 0; the other key has 1000.

        >>> import torch
        >>> query, key, positives = 1000 * torch.eye(2), torch.eye(2), torch.tensor([1, 0])
        >>> bilinear_info_nce(query, key, torch.eye(2), positives=positives).tolist()
        [1000.0, 1000.0]

    Source:
        Laskin et al. 2020, arXiv:2004.04136, eq. 4 and published code.
    """
    if not scale > 0:
        raise ValueError(f"scale must be > 0; got {scale}.")
    similarity = bilinear_similarity(query, key, weight)  # [N, M]
    if len(key) < 2:
        raise ValueError("bilinear_info_nce needs 2 keys or more: with one there are no negatives.")
    if positives is None:
        if len(query) != len(key):
            raise ValueError(
                f"{len(query)} queries and {len(key)} keys need positives: the key of each query."
            )
        positives = torch.arange(len(query), device=query.device)
    if similarity.requires_grad:
        similarity.register_hook(lambda gradient: F.hardshrink(gradient, _LEAST_GRADIENT))
    # The published code subtracts the largest entry of each row first; so does cross_entropy.
    return F.cross_entropy(scale * similarity, positives, reduction="none")


def bilinear_similarity(query: Tensor, key: Tensor, weight: Tensor) -> Tensor:
    """``query[i] @ weight @ key[j]`` for all pairs i, j.

    Args:
        query: [N, D].
        key: [M, D].
        weight: [D, D].

    Returns:
        [N, M], no unit.

    Raises:
        ValueError: If the shapes do not fit each other.

    Example:
        >>> import torch
        >>> bilinear_similarity(torch.eye(2), torch.eye(2), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        tensor([[1., 2.],
                [3., 4.]])
    """
    dim = query.shape[-1]
    if query.ndim != 2 or key.ndim != 2 or key.shape[1] != dim or weight.shape != (dim, dim):
        raise ValueError(
            "query must be [N, D], key [M, D] and weight [D, D]; got "
            f"{tuple(query.shape)}, {tuple(key.shape)} and {tuple(weight.shape)}."
        )
    return query @ weight @ key.T


def masked_info_nce(logits: Tensor, positives: Tensor, allowed: Tensor | None = None) -> Tensor:
    """InfoNCE loss with given logits, over the candidates that are allowed for each row.

    ::

        loss_i = -log( exp(s_i,p(i)) / sum_{j allowed for i, or j = p(i)} exp(s_ij) )

    Equal logits give ``log m_i`` nats, where m_i counts the positive and the allowed candidates.
    Without an allowed negative the loss is 0, and it has no gradient.

    Args:
        logits: [N, M], similarities of rows and candidates.
        positives: [N], integers: the column of each row's positive. The positive is a candidate
            even if ``allowed`` leaves it out.
        allowed: [N, M], bool: the candidates of each row; None: all of them.

    Returns:
        [N], nats, not reduced.

    Raises:
        ValueError: If the shapes do not fit each other.

    Example:
        Three equal logits, of which row 1 may use two: log 3 and log 2.

        >>> import torch
        >>> allowed = torch.tensor([[True, True, True], [False, True, True]])
        >>> masked_info_nce(torch.zeros(2, 3), torch.tensor([0, 1]), allowed)
        tensor([1.0986, 0.6931])

    Source:
        van den Oord et al. 2018, arXiv:1807.03748, eq. 4.
    """
    if logits.ndim != 2 or positives.shape != logits.shape[:1]:
        raise ValueError(
            "logits must be [N, M] and positives [N]; got "
            f"{tuple(logits.shape)} and {tuple(positives.shape)}."
        )
    if allowed is None:
        return F.cross_entropy(logits, positives, reduction="none")
    if allowed.shape != logits.shape:
        raise ValueError(
            f"allowed must have the shape {tuple(logits.shape)} of logits; got "
            f"{tuple(allowed.shape)}."
        )
    columns = torch.arange(logits.shape[1], device=logits.device)
    left_out = ~(allowed | (columns == positives[:, None]))
    # cross_entropy subtracts the largest entry of each row first.
    return F.cross_entropy(logits.masked_fill(left_out, -torch.inf), positives, reduction="none")


def info_nce_at_places(
    query: Tensor, key: Tensor, positives: Tensor, allowed: Tensor | None = None
) -> Tensor:
    """InfoNCE loss at each place of feature maps, over the same place of the other rows' maps.

    With the similarities ``s_ijp = query[i, p] . key[j, p]``, which are not normalized::

        loss_ip = -log( exp(s_i,p(i),p) / sum_{j allowed for i, or j = p(i)} exp(s_ijp) )

    Candidates are never vectors of another place. Equal maps give ``log m_i`` nats, where m_i
    counts the positive and the allowed rows.

    Args:
        query: [N, P, C], a vector for each place; or [N, C], one vector for all places.
        key: [M, P, C], maps of the candidates.
        positives: [N], integers: the row of ``key`` that belongs to each query.
        allowed: [N, M], bool: the candidates of each row; None: all of them.

    Returns:
        [N, P], nats, not reduced.

    Raises:
        ValueError: If the shapes do not fit each other.

    Example:
        Three equal maps of two places: log 3.

        >>> import torch
        >>> info_nce_at_places(torch.ones(3, 4), torch.ones(3, 2, 4), torch.arange(3))
        tensor([[1.0986, 1.0986],
                [1.0986, 1.0986],
                [1.0986, 1.0986]])

    Source:
        Anand et al. 2019, arXiv:1906.08226 (ST-DIM), and its published code.
    """
    fits = key.ndim == 3 and query.shape[1:] in (key.shape[1:], key.shape[2:])
    if not fits or positives.shape != query.shape[:1]:
        raise ValueError(
            "query must be [N, P, C] or [N, C], key [M, P, C] and positives [N]; got "
            f"{tuple(query.shape)}, {tuple(key.shape)} and {tuple(positives.shape)}."
        )
    equation = "nc,mpc->npm" if query.ndim == 2 else "npc,mpc->npm"
    logits = torch.einsum(equation, query, key)
    places = key.shape[1]
    if allowed is not None:
        allowed = allowed.repeat_interleave(places, dim=0)
    losses = masked_info_nce(logits.flatten(0, 1), positives.repeat_interleave(places), allowed)
    return losses.unflatten(0, (len(query), places))
