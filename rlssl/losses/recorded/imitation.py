"""Losses of imitation learning."""

from torch import Tensor

from rlssl.losses.checks import check_vectors


def behavior_cloning_loss(logp: Tensor, entropy: Tensor, *, entropy_coeff: float) -> Tensor:
    """Negative log-likelihood of the demonstrated action, minus an entropy bonus.

    ::

        loss = -logp - entropy_coeff * entropy

    A policy that starts uniform over n actions has a loss of ``(1 - entropy_coeff) * log(n)``.

    Args:
        logp: [N], nats, log-probability (or density) of the demonstrated action under the policy.
        entropy: [N], nats, entropy of the policy.
        entropy_coeff: Weight of the entropy; >= 0, no unit. It keeps a policy from becoming
            deterministic where there are few demonstrations.

    Returns:
        [N], nats, not reduced.

    Raises:
        ValueError: If the shapes differ or are not [N], or if ``entropy_coeff < 0``.

    Example:
        >>> import torch
        >>> logp, entropy = torch.tensor([-0.5, -2.0]), torch.tensor([1.0, 1.0])
        >>> behavior_cloning_loss(logp, entropy, entropy_coeff=0.25).tolist()
        [0.25, 1.75]

    Source:
        Pomerleau 1991; the entropy bonus as in the published code of `imitation` (Gleave et al.
        2022, arXiv:2211.11972).
    """
    check_vectors(logp=logp, entropy=entropy)
    if not entropy_coeff >= 0:
        raise ValueError(f"entropy_coeff must be >= 0; got {entropy_coeff}.")
    return -logp - entropy_coeff * entropy
