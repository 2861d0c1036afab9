"""Losses of methods that learn the values of actions: DQN and its relatives."""

import torch
import torch.nn.functional as F
from torch import Tensor

from rlssl.losses.checks import check_vectors


def td_target(rewards: Tensor, discounts: Tensor, next_values: Tensor) -> Tensor:
    """The target of a value: ``rewards + discounts * next_values``.

    Args:
        rewards: [N], discounted sum of the next k rewards.
        discounts: [N], ``gamma^k * (1 - terminated)``. It is 0 where the environment ended the
            episode, but not where a time limit did.
        next_values: [N], the target network's value of the state k steps later.

    Returns:
        [N], units of the return. Gradients flow unless the caller detaches.

    Raises:
        ValueError: If the shapes differ or are not [N].

    Example:
        >>> import torch
        >>> rewards, discounts = torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.0])
        >>> td_target(rewards, discounts, torch.tensor([10.0, 10.0])).tolist()
        [6.0, 2.0]

    Source:
        Sutton and Barto 2018, Reinforcement Learning, eq. 7.1.
    """
    check_vectors(rewards=rewards, discounts=discounts, next_values=next_values)
    return rewards + discounts * next_values


def double_q_target(
    rewards: Tensor, discounts: Tensor, online_next_values: Tensor, target_next_values: Tensor
) -> Tensor:
    """Target of double Q-learning.

    The online network chooses the next action; the target network gives the value of that action.

    ::

        a*     = argmax_a online_next_values[a]
        target = rewards + discounts * target_next_values[a*]

    With the target network's values for both arguments, this is the target of plain DQN.

    Args:
        rewards: [N], discounted sum of the next k rewards.
        discounts: [N], ``gamma^k * (1 - terminated)``.
        online_next_values: [N, A], the online network's values of the state k steps later.
        target_next_values: [N, A], the target network's values of the same state.

    Returns:
        [N], units of the return. Gradients flow into ``target_next_values`` unless the caller
        detaches it.

    Raises:
        ValueError: If the shapes do not fit each other.

    Example:
        The online network prefers action 1, to which the target network gives the value 5.

        >>> import torch
        >>> online, target = torch.tensor([[1.0, 2.0]]), torch.tensor([[7.0, 5.0]])
        >>> double_q_target(torch.tensor([1.0]), torch.tensor([0.5]), online, target).tolist()
        [3.5]

    Source:
        van Hasselt et al. 2016, arXiv:1509.06461, eq. 4.
    """
    if online_next_values.ndim != 2 or online_next_values.shape != target_next_values.shape:
        raise ValueError(
            "online_next_values and target_next_values must both be [N, A]; got "
            f"{tuple(online_next_values.shape)} and {tuple(target_next_values.shape)}."
        )
    chosen = select_action_values(target_next_values, online_next_values.argmax(dim=1))
    return td_target(rewards, discounts, chosen)


def select_action_values(values: Tensor, actions: Tensor) -> Tensor:
    """Selects, from each row, the entry of the row's action.

    Args:
        values: [N, A], or [N, A, atoms].
        actions: [N], integers of any width, counted from 0.

    Returns:
        [N], or [N, atoms].

    Raises:
        ValueError: If the shapes do not fit each other, or the actions are not integers.

    Example:
        >>> import torch
        >>> values = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
        >>> select_action_values(values, torch.tensor([2, 0])).tolist()
        [3.0, 4.0]
    """
    if values.ndim not in (2, 3) or actions.shape != values.shape[:1]:
        raise ValueError(
            "values must be [N, A] or [N, A, atoms] and actions [N]; got "
            f"{tuple(values.shape)} and {tuple(actions.shape)}."
        )
    if actions.is_floating_point():
        raise ValueError(f"actions must be integers; got {actions.dtype}.")
    index = actions.long().view(-1, *[1] * (values.ndim - 1)).expand(-1, 1, *values.shape[2:])
    return values.gather(1, index).squeeze(1)


def td_error(values: Tensor, targets: Tensor) -> Tensor:
    """Temporal-difference error, ``targets - values``.

    Prioritized replay uses its absolute value as the priority.

    Args:
        values: [N], the online network's values of the actions taken.
        targets: [N], see ``td_target``. Gradients flow into it unless the caller detaches it.

    Returns:
        [N], units of the return.

    Raises:
        ValueError: If the shapes differ or are not [N].

    Example:
        >>> import torch
        >>> td_error(torch.tensor([1.0, 5.0]), torch.tensor([3.0, 4.0])).tolist()
        [2.0, -1.0]
    """
    check_vectors(values=values, targets=targets)
    return targets - values


def huber_loss(values: Tensor, targets: Tensor, *, delta: float = 1.0) -> Tensor:
    """Huber loss of the TD error: quadratic near 0, linear beyond ``delta``.

    With ``e = targets - values``::

        loss = 0.5 * e^2                        where |e| <= delta
               delta * (|e| - 0.5 * delta)      elsewhere

    Its gradient is the error, clipped to [-delta, delta]: the "error clipping" of DQN.

    Args:
        values: [N], the online network's values of the actions taken.
        targets: [N], see ``td_target``. Gradients flow into it unless the caller detaches it.
        delta: Absolute error from which the loss is linear; > 0, units of the return.

    Returns:
        [N], squared units of the return, not reduced.

    Raises:
        ValueError: If the shapes differ or are not [N], or if ``delta <= 0``.

    Example:
        >>> import torch
        >>> huber_loss(torch.zeros(2), torch.tensor([0.5, 3.0])).tolist()
        [0.125, 2.5]

    Source:
        Huber 1964; Mnih et al. 2015, Nature 518, methods.
    """
    check_vectors(values=values, targets=targets)
    if not delta > 0:
        raise ValueError(f"delta must be > 0; got {delta}.")
    return F.huber_loss(values, targets, reduction="none", delta=delta)


def large_margin(values: Tensor, actions: Tensor, *, margin: float) -> Tensor:
    """How much a given action lacks to be better than all others by a margin.

    ``max_b [Q(b) + margin * 1[b != a]] - Q(a)``. It is 0 if action a is better by the margin.

    Args:
        values: [N, A], values of all actions.
        actions: [N], integers, the given actions.
        margin: >= 0, units of the return.

    Returns:
        [N], >= 0, units of the return, not reduced.

    Raises:
        ValueError: If the shapes do not fit each other, or ``margin`` is negative.

    Example:
        Action 0 is better by 1, action 1 should be better than action 0 by 0.5.

        >>> import torch
        >>> values = torch.tensor([[3.0, 2.0], [3.0, 2.0]])
        >>> large_margin(values, torch.tensor([0, 1]), margin=0.5)
        tensor([0.0000, 1.5000])

    Source:
        Hester et al. 2017, Deep Q-learning from Demonstrations, arXiv:1704.03732, eq. 3.
    """
    if not margin >= 0:
        raise ValueError(f"margin must be >= 0; got {margin}.")
    given = select_action_values(values, actions)
    others = torch.full_like(values, margin)
    others.scatter_(1, actions.long()[:, None], 0.0)
    return (values + others).amax(dim=1) - given
