"""Losses of actor-critic methods."""

from torch import Tensor

from rlssl.losses.checks import check_vectors


def clipped_surrogate(logp: Tensor, old_logp: Tensor, advantage: Tensor, *, clip: float) -> Tensor:
    """PPO's clipped surrogate objective, negated: a loss to minimize.

    With ``ratio = exp(logp - old_logp)``::

        loss = -min( ratio * advantage, clamp(ratio, 1 - clip, 1 + clip) * advantage )

    In the first minibatch the policy is the one that acted: the ratio is 1 and the loss is
    ``-advantage``. With normalized advantages its mean is then near 0.

    Args:
        logp: [N], nats, log-probability of the action under the policy being trained.
        old_logp: [N], nats, under the policy that acted. Carries no gradient.
        advantage: [N], normalized or not. Carries no gradient.
        clip: Largest change of the ratio that lowers the loss; > 0, no unit. ``math.inf`` clips
            nothing: this gives the surrogate of the KL-penalized variant.

    Returns:
        [N], units of the advantage, not reduced.

    Raises:
        ValueError: If the shapes differ or are not [N], or if ``clip <= 0``.

    Example:
        The ratio is 1.5. The good action is clipped at 1.2; the bad action is not clipped.

        >>> import torch
        >>> logp, old_logp = torch.tensor([1.5, 1.5]).log(), torch.zeros(2)
        >>> clipped_surrogate(logp, old_logp, torch.tensor([2.0, -2.0]), clip=0.2)
        tensor([-2.4000,  3.0000])

    Source:
        Schulman et al. 2017, arXiv:1707.06347, eq. 7.
    """
    check_vectors(logp=logp, old_logp=old_logp, advantage=advantage)
    if not clip > 0:
        raise ValueError(f"clip must be > 0; got {clip}.")
    ratio = (logp - old_logp).exp()
    return -(ratio * advantage).minimum(ratio.clamp(1 - clip, 1 + clip) * advantage)


def value_loss(value: Tensor, target: Tensor) -> Tensor:
    """Squared error of the critic, ``0.5 * (value - target)^2``, not clamped.

    RLlib's PPO clamps this error at ``vf_clip_param``. A clamped error has no gradient, so the
    critic does not learn where its error is largest.

    Args:
        value: [N], the critic's estimate.
        target: [N], the return that the critic learns. Carries no gradient.

    Returns:
        [N], squared units of the return, not reduced.

    Raises:
        ValueError: If the shapes differ or are not [N].

    Example:
        >>> import torch
        >>> value_loss(torch.tensor([1.0, 5.0]), torch.tensor([3.0, 5.0])).tolist()
        [2.0, 0.0]

    Source:
        Schulman et al. 2017, arXiv:1707.06347, eq. 9. Differs: the factor 0.5.
    """
    check_vectors(value=value, target=target)
    return 0.5 * (value - target).square()
