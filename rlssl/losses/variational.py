"""Losses of variational autoencoders."""

import torch
from torch import Tensor


def standard_normal_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Divergence KL(N(mean, variance) || N(0, 1)) of each feature.

    ``-0.5 * (1 + log variance - mean^2 - variance)``; 0 if and only if the mean is 0 and the
    variance 1.

    Args:
        mean: [N, D]. Gradients flow into it.
        log_variance: [N, D], natural logarithm of the variance. Gradients flow into it.

    Returns:
        [N, D], nats, >= 0, not reduced.

    Raises:
        ValueError: If the shapes differ or are not [N, D].

    Example:
        A mean of 1 with variance 1 costs 1/2. A mean of 0 with variance e costs (e - 2) / 2.

        >>> import torch
        >>> standard_normal_kl(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
        tensor([[0.5000, 0.3591]])

    Source:
        Kingma and Welling 2013, arXiv:1312.6114, appendix B. Differs: not summed over the features.
    """
    if mean.ndim != 2 or mean.shape != log_variance.shape:
        raise ValueError(
            "mean and log_variance must both be [N, D]; got "
            f"{tuple(mean.shape)} and {tuple(log_variance.shape)}."
        )
    # expm1 keeps the precision for variances near 1.
    return 0.5 * (mean.square() + torch.expm1(log_variance) - log_variance)
