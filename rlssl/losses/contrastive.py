"""Contrastive losses over a batch of paired embeddings."""

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(query: Tensor, key: Tensor, *, temperature: float = 0.1) -> Tensor:
    """InfoNCE loss with in-batch negatives.

    Row ``i`` of ``key`` is the positive of row ``i`` of ``query``; the other B - 1 rows are its
    negatives. With ``s_ij`` the cosine similarity of ``query[i]`` and ``key[j]``::

        loss_i = -log( exp(s_ii / temperature) / sum_j exp(s_ij / temperature) )

    Uninformative embeddings give ``log B`` nats, the value to expect at step 0.

    Args:
        query: [B, D], embeddings of the online branch.
        key: [B, D], embeddings of the target branch. Gradients flow into it unless the caller
            detaches it; MoCo and CURL detach, SimCLR does not.
        temperature: Divides the similarities; > 0, no unit. Not SAC's ``alpha``.

    Returns:
        [B], nats, not reduced.

    Raises:
        ValueError: If the shapes differ or are not [B, D], if B < 2 (no negatives), or if
            ``temperature <= 0``.

    Source:
        van den Oord et al. 2018, arXiv:1807.03748, eq. 4. As in SimCLR (arXiv:2002.05709)
        similarity is cosine; CURL (arXiv:2004.04136) learns a bilinear one instead.
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
