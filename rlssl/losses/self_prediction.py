"""Distance of predicted latents from the latents that came, for losses without negatives."""

import torch
from torch import Tensor

#: Distances of `latent_prediction_loss`.
DISTANCES = ("cosine", "l2")


def latent_prediction_loss(predicted: Tensor, target: Tensor, distance: str = "cosine") -> Tensor:
    """The distance of predictions from their targets.

    Args:
        predicted: [..., D].
        target: [..., D]. Give it without gradients: with them, the latents collapse.
        distance: ``cosine``: ``2 - 2 cos``, from 0 to 4, the squared distance of the unit vectors;
            ``l2``: the squared distance, mean over features.

    Returns:
        [...]. A zero vector has no direction: its cosine with every vector counts as 0.

    Raises:
        ValueError: If the distance is unknown.

    Source:
        Schwarzer et al. 2021, arXiv:2007.05929 (cosine); Ni et al. 2024, arXiv:2401.08898 (l2).

    Example:
        >>> right, up = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0])
        >>> [float(latent_prediction_loss(right, other)) for other in (3 * right, up, -right)]
        [0.0, 2.0, 4.0]
    """
    if distance == "l2":
        return (predicted - target).square().mean(dim=-1)
    if distance != "cosine":
        raise ValueError(f"distance must be one of {list(DISTANCES)}; got {distance!r}.")
    one, other = (torch.nn.functional.normalize(rows, dim=-1) for rows in (predicted, target))
    return 2.0 - 2.0 * (one * other).sum(dim=-1)
