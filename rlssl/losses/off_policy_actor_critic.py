"""Losses of DDPG, TD3, DrQ-v2 and SAC, which train the actor through the critic."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rlssl.losses.checks import check_vectors
from rlssl.losses.value_based import td_target

_HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


def td3_target(rewards: Tensor, discounts: Tensor, next_q1: Tensor, next_q2: Tensor) -> Tensor:
    """Target of clipped double Q-learning: ``rewards + discounts * min(next_q1, next_q2)``.

    Args:
        rewards: [N], discounted sum of the next k rewards.
        discounts: [N], ``gamma^k * (1 - terminated)``.
        next_q1: [N], the first target critic's values of the state k steps later, with the target
            policy's action. TD3 smooths this action (``smoothed_actions``).
        next_q2: [N], the second target critic's values. With one critic (DDPG): ``next_q1`` again.

    Returns:
        [N], units of the return. Gradients flow unless the caller detaches.

    Raises:
        ValueError: If the shapes differ or are not [N].

    Example:
        >>> import torch
        >>> rewards, discounts = torch.tensor([1.0]), torch.tensor([0.5])
        >>> td3_target(rewards, discounts, torch.tensor([4.0]), torch.tensor([6.0])).tolist()
        [3.0]

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
    """Adds clipped Gaussian noise to actions and keeps them within bounds.

    ``clamp(actions + clamp(std * N(0, 1), -clip, clip), low, high)``. TD3 smooths its target policy
    in this way. DrQ-v2 trains its actor and its critics on such actions.

    Args:
        actions: [N, A], in [low, high].
        std: Standard deviation of the noise; >= 0, units of the action.
        clip: Largest noise; > 0, units of the action. ``math.inf`` clips nothing.
        low: Smallest action, the same in every dimension.
        high: Largest action, the same in every dimension.
        straight_through: Whether gradients flow through the bounds (DrQ-v2). A clamp has no
            gradient there.
        noise: [N, A], standard normal, changed in place; None: it is drawn here.
        generator: Draws the noise, on the generator's device; None: torch's global generator.

    Returns:
        [N, A], units of the action.

    Raises:
        ValueError: If ``std < 0``, ``clip <= 0`` or ``low >= high``.

    Example:
        Noise 0.4 is clipped to 0.25, and the first sum to 1.

        >>> import torch
        >>> actions, noise = torch.tensor([[0.875, -0.5]]), torch.tensor([[2.0, 2.0]])
        >>> smoothed_actions(actions, std=0.2, clip=0.25, noise=noise).tolist()
        [[1.0, -0.25]]

    Source:
        Fujimoto et al. 2018, arXiv:1802.09477, section 5.3; Yarats et al. 2021, arXiv:2107.09645,
        published code. Differs: DrQ-v2 keeps a distance of 1e-6 to the bounds.
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
    """Target of SAC: ``rewards + discounts * (min(next_q1, next_q2) - alpha * next_logp)``.

    Args:
        rewards: [N], discounted sum of the next k rewards, without entropies.
        discounts: [N], ``gamma^k * (1 - terminated)``.
        next_q1: [N], the first target critic's values of the state k steps later, with the online
            policy's action.
        next_q2: [N], the second target critic's values of the same state and action.
        next_logp: [N], nats, log-probability of the same action.
        alpha: Temperature: units of the return per nat; >= 0, a number or a scalar tensor.

    Returns:
        [N], units of the return. Gradients flow unless the caller detaches.

    Raises:
        ValueError: If the shapes differ or are not [N].

    Example:
        1 + 0.5 * (min(4, 6) - 0.5 * -2) = 3.5.

        >>> import torch
        >>> rewards, discounts = torch.tensor([1.0]), torch.tensor([0.5])
        >>> q1, q2, logp = torch.tensor([4.0]), torch.tensor([6.0]), torch.tensor([-2.0])
        >>> soft_q_target(rewards, discounts, q1, q2, logp, alpha=0.5).tolist()
        [3.5]

    Source:
        Haarnoja et al. 2018, arXiv:1812.05905, eq. 3 and 5, with the minimum of two critics.
    """
    check_vectors(next_q1=next_q1, next_q2=next_q2, next_logp=next_logp)
    return td_target(rewards, discounts, next_q1.minimum(next_q2) - alpha * next_logp)


def critic_loss(values: Tensor, targets: Tensor) -> Tensor:
    """Squared error of one critic, or the sum over several critics; no factor 0.5.

    Args:
        values: [N], or [C, N] for C critics, values of the actions taken.
        targets: [N], the same for all critics. Carries no gradient.

    Returns:
        [N], squared units of the return, not reduced.

    Raises:
        ValueError: If the shapes do not fit each other.

    Example:
        (3 - 1)^2 = 4 for the first critic and (0 - 1)^2 = 1 for the second.

        >>> import torch
        >>> critic_loss(torch.tensor([[3.0], [0.0]]), torch.tensor([1.0])).tolist()
        [5.0]

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
        values: [N], the critic's values of the actor's actions. Gradients flow through the actions
            into the actor. TD3 uses its first critic; DrQ-v2 uses the minimum of both.

    Returns:
        [N], units of the return, not reduced.

    Raises:
        ValueError: If the shape is not [N].

    Example:
        >>> import torch
        >>> deterministic_policy_loss(torch.tensor([4.0, -1.0])).tolist()
        [-4.0, 1.0]

    Source:
        Silver et al. 2014, theorem 1; Lillicrap et al. 2015, arXiv:1509.02971, eq. 6.
    """
    check_vectors(values=values)
    return -values


def saturation_penalty(pre_tanh: Tensor) -> Tensor:
    """Keeps a tanh away from its flat ends: the mean square of its inputs.

    If the critic's slope has the same sign everywhere, it drives all actions to a bound. There the
    tanh has almost no gradient, so the actions cannot come back.

    Args:
        pre_tanh: [N, A], the actor's output before its tanh.

    Returns:
        [N], >= 0, no unit.

    Raises:
        ValueError: If the shape is not [N, A].

    Example:
        >>> import torch
        >>> saturation_penalty(torch.tensor([[3.0, -1.0]])).tolist()
        [5.0]

    Source:
        Bjorck et al. 2022, arXiv:2110.11222: saturation is one cause of agents from pixels that
        never learn. Fujimoto et al. 2025, arXiv:2501.16142, use this penalty with a weight of 1e-5
        and scaled rewards.
    """
    if pre_tanh.ndim != 2:
        raise ValueError(f"pre_tanh must be [N, A]; got {tuple(pre_tanh.shape)}.")
    return pre_tanh.square().mean(dim=1)


def soft_policy_loss(logp: Tensor, q1: Tensor, q2: Tensor, *, alpha: Tensor | float) -> Tensor:
    """Actor loss of SAC: ``alpha * logp - min(q1, q2)``.

    Args:
        logp: [N], nats, log-probability of an action that the policy sampled with a gradient.
        q1: [N], the first critic's values of this action.
        q2: [N], the second critic's values of this action.
        alpha: Temperature: units of the return per nat. Carries no gradient.

    Returns:
        [N], units of the return, not reduced.

    Raises:
        ValueError: If the shapes differ or are not [N].

    Example:
        0.5 * -2 - min(4, 3) = -4.

        >>> import torch
        >>> logp, q1, q2 = torch.tensor([-2.0]), torch.tensor([4.0]), torch.tensor([3.0])
        >>> soft_policy_loss(logp, q1, q2, alpha=0.5).tolist()
        [-4.0]

    Source:
        Haarnoja et al. 2018, arXiv:1812.05905, eq. 9.
    """
    check_vectors(logp=logp, q1=q1, q2=q2)
    return alpha * logp - q1.minimum(q2)


def temperature_loss(alpha: Tensor, logp: Tensor, *, target_entropy: float) -> Tensor:
    """Adapts SAC's temperature until the policy's entropy is ``target_entropy``.

    ``-alpha * (logp + target_entropy)``. The gradient flows only into ``alpha``. Gradient descent
    lowers ``alpha`` while the entropy ``-logp`` is above ``target_entropy``.

    Args:
        alpha: Scalar. The paper and CURL's code pass ``log_alpha.exp()``. Stable-Baselines3 and
            RLlib pass ``log_alpha``, whose gradient is not scaled by alpha.
        logp: [N], nats, log-probability of actions that the policy sampled.
        target_entropy: Nats; usually minus the number of dimensions of the action.

    Returns:
        [N], nats times units of alpha, not reduced.

    Raises:
        ValueError: If ``alpha`` is not a scalar, or ``logp`` is not [N].

    Example:
        Entropy 3 is above the target 2: -0.5 * (-3 + 2) = 0.5.

        >>> import torch
        >>> alpha, logp = torch.tensor(0.5), torch.tensor([-3.0])
        >>> temperature_loss(alpha, logp, target_entropy=2.0).tolist()
        [0.5]

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

    with ``log(1 - tanh(u)^2) = 2 * (log 2 - u - softplus(-2 u))``. This form is finite for every
    u; the plain formula is ``log 0`` for ``|u|`` above about 10.

    Args:
        mean: [N, A], mean before the tanh.
        log_std: [N, A], logarithm of the standard deviation before the tanh.
        pre_tanh: [N, A], action before the tanh: ``atanh(action)``.

    Returns:
        [N], nats.

    Raises:
        ValueError: If the shapes differ or are not [N, A].

    Example:
        At 0, with standard deviation 1, the tanh has slope 1: -0.5 * log(2 pi) = -0.9189.

        >>> import torch
        >>> zero = torch.zeros(1, 1)
        >>> squashed_gaussian_log_prob(zero, zero, zero)
        tensor([-0.9189])

    Source:
        Haarnoja et al. 2018, arXiv:1812.05905, appendix C. Differs: published codes add 1e-6
        inside the logarithm, which limits the correction to 13.8 nats per dimension.
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
    """Samples actions ``tanh(mean + std * N(0, 1))``, with log-probabilities and gradients.

    Args:
        mean: [N, A], mean before the tanh.
        log_std: [N, A], logarithm of the standard deviation before the tanh.
        noise: [N, A], standard normal; None: it is drawn here.
        generator: Draws the noise, on the generator's device; None: torch's global generator.

    Returns:
        Actions [N, A] in [-1, 1], and their log-probabilities [N], nats, as in
        ``squashed_gaussian_log_prob``.

    Raises:
        ValueError: If the shapes differ or are not [N, A].

    Example:
        >>> import torch
        >>> zero = torch.zeros(1, 1)
        >>> squashed_gaussian_sample(zero, zero, noise=zero)
        (tensor([[0.]]), tensor([-0.9189]))

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


def _log_prob(log_std: Tensor, noise: Tensor, pre_tanh: Tensor) -> Tensor:
    """[N], nats, of ``tanh(pre_tanh)``; ``noise`` [N, A] is ``(pre_tanh - mean) / std``."""
    gaussian = -0.5 * noise.square() - log_std - _HALF_LOG_TWO_PI
    log_slope = 2.0 * (math.log(2.0) - pre_tanh - F.softplus(-2.0 * pre_tanh))
    return (gaussian - log_slope).sum(dim=-1)


def _check_gaussian(mean: Tensor, log_std: Tensor, pre_tanh: Tensor) -> None:
    if mean.ndim != 2 or not mean.shape == log_std.shape == pre_tanh.shape:
        raise ValueError(
            "mean, log_std and pre_tanh must all be [N, A]; got "
            f"{tuple(mean.shape)}, {tuple(log_std.shape)} and {tuple(pre_tanh.shape)}."
        )
