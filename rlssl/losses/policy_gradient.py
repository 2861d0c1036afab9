"""Losses of actor-critic methods."""

from torch import Tensor

from rlssl.losses.checks import check_vectors


def clipped_surrogate(logp: Tensor, old_logp: Tensor, advantage: Tensor, *, clip: float) -> Tensor:
    """PPO's clipped surrogate objective, negated: a loss to minimize.

    With ``ratio = exp(logp - old_logp)``::

        loss = -min( ratio * advantage, clamp(ratio, 1 - clip, 1 + clip) * advantage )

    On the data's own policy (ratio 1) it is ``-advantage``: a mean near 0 with normalized
    advantages, the value to expect in the first minibatch.

    Args:
        logp: [N], nats, log-probability of the action under the policy being trained.
        old_logp: [N], nats, under the policy that acted. Carries no gradient.
        advantage: [N], normalized or not. Carries no gradient.
        clip: Largest rewarded change of the ratio; > 0, no unit. ``math.inf`` clips nothing: the
            plain surrogate of the KL-penalized variant.

    Returns:
        [N], units of the advantage, not reduced.

    Raises:
        ValueError: If the shapes differ or are not [N], or if ``clip <= 0``.

    Source:
        Schulman et al. 2017, arXiv:1707.06347, eq. 7.
    """
    check_vectors(logp=logp, old_logp=old_logp, advantage=advantage)
    if not clip > 0:
        raise ValueError(f"clip must be > 0; got {clip}.")
    ratio = (logp - old_logp).exp()
    return -(ratio * advantage).minimum(ratio.clamp(1 - clip, 1 + clip) * advantage)


def value_loss(value: Tensor, target: Tensor) -> Tensor:
    """Squared error of the critic, ``0.5 * (value - target)^2``, without any clamp.

    RLlib's PPO clamps it at ``vf_clip_param``, and a clamped error has no gradient: the critic
    stops learning wherever it is most wrong.

    Args:
        value: [N], the critic's estimate.
        target: [N], return to regress on. Carries no gradient.

    Returns:
        [N], squared units of the return, not reduced.

    Raises:
        ValueError: If the shapes differ or are not [N].

    Source:
        Schulman et al. 2017, arXiv:1707.06347, eq. 9. Differs: the factor 0.5.
    """
    check_vectors(value=value, target=target)
    return 0.5 * (value - target).square()
