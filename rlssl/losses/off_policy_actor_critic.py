"""Losses of actors that are trained through their critic: DDPG, TD3, DrQ-v2 and SAC."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rlssl.losses.checks import check_vectors
from rlssl.losses.value_based import td_target

_HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


def td3_target(rewards: Tensor, discounts: Tensor, next_q1: Tensor, next_q2: Tensor) -> Tensor:
    """Clipped double Q-learning: ``rewards + discounts * min(next_q1, next_q2)``.

    Args:
        rewards: [N], sum of the next k rewards, discounted.
        discounts: [N], ``gamma^k * (1 - terminated)``.
        next_q1: [N], first target critic at the state k steps later and the target policy's action
            there, smoothed (``smoothed_actions``) in TD3.
        next_q2: [N], second target critic; the first one's again where there is one (DDPG).

    Returns:
        [N], units of the return. Gradients flow unless the caller detaches.

    Raises:
        ValueError: If the shapes differ or are not [N].

    Source:
        Fujimoto et al. 2018, arXiv:1802.09477, section 4.2.
    """
    check_vectors(rewards=rewards, discounts=discounts, next_q1=next_q1, next_q2=next_q2)
    return td_target(rewards, discounts, next_q1.minimum(next_q2))


def smoothed_actions(
    actions: Tensor,
    *,
    std: float = 0.2,
    clip: float = 0.5,
    low: float = -1.0,
    high: float = 1.0,
    straight_through: bool = False,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Actions with clipped Gaussian noise, within bounds.

    ``clamp(actions + clamp(std * N(0, 1), -clip, clip), low, high)``: TD3's target policy
    smoothing, and the actions that DrQ-v2 trains its actor and critic on.

    Args:
        actions: [N, A], in [low, high].
        std: Deviation of the noise; >= 0, units of the action.
        clip: Largest noise; > 0, units of the action. ``math.inf`` clips nothing.
        low: Least action, the same in every dimension.
        high: Largest action.
        straight_through: Whether gradients pass the bounds, where a clamp has none (DrQ-v2).
        noise: [N, A], standard normal, changed in place; None: drawn.
        generator: Draws the noise, on its own device; None: torch's global one.

    Returns:
        [N, A], units of the action.

    Raises:
        ValueError: If ``std < 0``, ``clip <= 0`` or ``low >= high``.

    Source:
        Fujimoto et al. 2018, arXiv:1802.09477, section 5.3; Yarats et al. 2021, arXiv:2107.09645,
        published code. Differs: DrQ-v2 keeps 1e-6 from the bounds.
    """
    if not std >= 0 or not clip > 0 or not low < high:
        raise ValueError(
            "std must be >= 0, clip > 0 and low < high; got "
            f"std={std}, clip={clip}, low={low}, high={high}."
        )
    if noise is None:
        noise = _standard_normal(actions, generator)
    noise = noise.mul_(std).clamp_(-clip, clip).to(actions.device)
    noisy = (actions + noise).clamp(low, high)
    return actions + (noisy - actions).detach() if straight_through else noisy


def soft_q_target(
    rewards: Tensor,
    discounts: Tensor,
    next_q1: Tensor,
    next_q2: Tensor,
    next_logp: Tensor,
    *,
    alpha: Tensor | float,
) -> Tensor:
    """SAC's target: ``rewards + discounts * (min(next_q1, next_q2) - alpha * next_logp)``.

    Args:
        rewards: [N], sum of the next k rewards, discounted; without entropies.
        discounts: [N], ``gamma^k * (1 - terminated)``.
        next_q1: [N], first target critic at the state k steps later and the online policy's action.
        next_q2: [N], second target critic.
        next_logp: [N], nats, log-probability of that action.
        alpha: Temperature: units of the return a nat; >= 0, a number or a scalar tensor.

    Returns:
        [N], units of the return. Gradients flow unless the caller detaches.

    Raises:
        ValueError: If the shapes differ or are not [N].

    Source:
        Haarnoja et al. 2018, arXiv:1812.05905, eq. 3 and 5, with the minimum of two critics.
    """
    check_vectors(next_q1=next_q1, next_q2=next_q2, next_logp=next_logp)
    return td_target(rewards, discounts, next_q1.minimum(next_q2) - alpha * next_logp)


def critic_loss(values: Tensor, targets: Tensor) -> Tensor:
    """Squared errors of one critic or several, summed over the critics; no factor 0.5.

    Args:
        values: [N], or [C, N] of C critics, at the actions taken.
        targets: [N], the same for all. Carries no gradient.

    Returns:
        [N], squared units of the return, not reduced.

    Raises:
        ValueError: If the shapes do not fit each other.

    Source:
        Fujimoto et al. 2018, arXiv:1802.09477, algorithm 1.
    """
    if targets.ndim != 1 or values.ndim not in (1, 2) or values.shape[-1] != len(targets):
        raise ValueError(
            "values must be [N] or [C, N] and targets [N]; got "
            f"{tuple(values.shape)} and {tuple(targets.shape)}."
        )
    return (values - targets).square().reshape(-1, len(targets)).sum(dim=0)


def deterministic_policy_loss(values: Tensor) -> Tensor:
    """The deterministic policy gradient as a loss: ``-values``.

    Args:
        values: [N], critic at the actor's own action, through which its gradient flows. TD3 asks
            its first critic alone, DrQ-v2 the minimum of both.

    Returns:
        [N], units of the return, not reduced.

    Raises:
        ValueError: If the shape is not [N].

    Source:
        Silver et al. 2014, theorem 1; Lillicrap et al. 2015, arXiv:1509.02971, eq. 6.
    """
    check_vectors(values=values)
    return -values


def saturation_penalty(pre_tanh: Tensor) -> Tensor:
    """What keeps a tanh off its flat ends: the mean square of what it is taken of.

    A critic whose slope has one sign everywhere drives all actions to a bound, where the tanh lets
    no gradient through to take them back.

    Args:
        pre_tanh: [N, A], the actor's output before its tanh.

    Returns:
        [N], >= 0, no unit.

    Raises:
        ValueError: If the shape is not [N, A].

    Source:
        Bjorck et al. 2022, arXiv:2110.11222, find this to be one cause of agents from pixels that
        never start; Fujimoto et al. 2025, arXiv:2501.16142, have this penalty, with a weight of
        1e-5 where rewards are scaled.
    """
    if pre_tanh.ndim != 2:
        raise ValueError(f"pre_tanh must be [N, A]; got {tuple(pre_tanh.shape)}.")
    return pre_tanh.square().mean(dim=1)


def soft_policy_loss(logp: Tensor, q1: Tensor, q2: Tensor, *, alpha: Tensor | float) -> Tensor:
    """SAC's loss of the actor: ``alpha * logp - min(q1, q2)``.

    Args:
        logp: [N], nats, log-probability of an action that the policy drew with its gradient.
        q1: [N], first critic at that action.
        q2: [N], second critic.
        alpha: Temperature: units of the return a nat. Carries no gradient.

    Returns:
        [N], units of the return, not reduced.

    Raises:
        ValueError: If the shapes differ or are not [N].

    Source:
        Haarnoja et al. 2018, arXiv:1812.05905, eq. 9.
    """
    check_vectors(logp=logp, q1=q1, q2=q2)
    return alpha * logp - q1.minimum(q2)


def temperature_loss(alpha: Tensor, logp: Tensor, *, target_entropy: float) -> Tensor:
    """Moves SAC's temperature until the policy's entropy is the wanted one.

    ``-alpha * (logp + target_entropy)``; the gradient reaches ``alpha`` alone: descent
    lowers it while the entropy ``-logp`` is above ``target_entropy``.

    Args:
        alpha: Scalar. The paper and CURL's code give ``log_alpha.exp()``; Stable-Baselines3 and
            RLlib give ``log_alpha`` itself, whose gradient is not scaled by alpha.
        logp: [N], nats, log-probability of actions that the policy drew.
        target_entropy: Nats; usually minus the dimensions of the action.

    Returns:
        [N], nats times units of alpha, not reduced.

    Raises:
        ValueError: If ``alpha`` is no scalar, or ``logp`` is not [N].

    Source:
        Haarnoja et al. 2018, arXiv:1812.05905, eq. 18.
    """
    check_vectors(logp=logp)
    if alpha.numel() != 1:
        raise ValueError(f"alpha must be a scalar; got {tuple(alpha.shape)}.")
    return -alpha.reshape(()) * (logp + target_entropy).detach()


def squashed_gaussian_log_prob(mean: Tensor, log_std: Tensor, pre_tanh: Tensor) -> Tensor:
    """Log-probability of ``tanh(pre_tanh)`` where ``pre_tanh`` is Gaussian.

    ::

        sum_d  log N(u_d; mean_d, std_d) - log(1 - tanh(u_d)^2),      u = pre_tanh

    with ``log(1 - tanh(u)^2) = 2 * (log 2 - u - softplus(-2 u))``, finite for every u, where the
    plain formula is ``log 0`` from ``|u| = 10`` on.

    Args:
        mean: [N, A], before the tanh.
        log_std: [N, A], logarithms of the deviations before the tanh.
        pre_tanh: [N, A], the action before the tanh: ``atanh(action)``.

    Returns:
        [N], nats.

    Raises:
        ValueError: If the shapes differ or are not [N, A].

    Source:
        Haarnoja et al. 2018, arXiv:1812.05905, appendix C. Differs: published codes add
        1e-6 inside the logarithm, which bounds the correction at 13.8 nats a dimension.
    """
    _check_gaussian(mean, log_std, pre_tanh)
    return _log_prob(log_std, (pre_tanh - mean) * (-log_std).exp(), pre_tanh)


def squashed_gaussian_sample(
    mean: Tensor,
    log_std: Tensor,
    *,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Draws ``tanh(mean + std * N(0, 1))`` and its log-probability, with their gradients.

    Args:
        mean: [N, A], before the tanh.
        log_std: [N, A], logarithms of the deviations before the tanh.
        noise: [N, A], standard normal; None: drawn.
        generator: UpdateRNG, on its own device; None: torch's global one.

    Returns:
        Actions [N, A] in [-1, 1], and log-probabilities [N], nats, as
        ``squashed_gaussian_log_prob`` gives them.

    Raises:
        ValueError: If the shapes differ or are not [N, A].

    Source:
        Haarnoja et al. 2018, arXiv:1812.05905, eq. 8 and appendix C.
    """
    _check_gaussian(mean, log_std, mean)
    if noise is None:
        noise = _standard_normal(mean, generator)
    pre_tanh = torch.addcmul(mean, log_std.exp(), noise)
    return pre_tanh.tanh(), _log_prob(log_std, noise, pre_tanh)


def _standard_normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    device = like.device if generator is None else generator.device
    noise = torch.randn(like.shape, generator=generator, device=device, dtype=like.dtype)
    return noise.to(like.device)


def _log_prob(log_std: Tensor, deviations: Tensor, pre_tanh: Tensor) -> Tensor:
    gaussian = -0.5 * deviations.square() - log_std - _HALF_LOG_TWO_PI
    log_slope = 2.0 * (math.log(2.0) - pre_tanh - F.softplus(-2.0 * pre_tanh))
    return (gaussian - log_slope).sum(dim=-1)


def _check_gaussian(mean: Tensor, log_std: Tensor, pre_tanh: Tensor) -> None:
    if mean.ndim != 2 or not mean.shape == log_std.shape == pre_tanh.shape:
        raise ValueError(
            "mean, log_std and pre_tanh must all be [N, A]; got "
            f"{tuple(mean.shape)}, {tuple(log_std.shape)} and {tuple(pre_tanh.shape)}."
        )
