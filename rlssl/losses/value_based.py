"""Losses of methods that learn the values of actions: DQN and its relatives."""

import torch.nn.functional as F
from torch import Tensor

from rlssl.losses.checks import check_vectors


def td_target(rewards: Tensor, discounts: Tensor, next_values: Tensor) -> Tensor:
    """What a value is regressed on: ``rewards + discounts * next_values``.

    Args:
        rewards: [N], sum of the next k rewards, discounted.
        discounts: [N], ``gamma^k * (1 - terminated)``: 0 where the environment ended the episode,
            not where a time limit did.
        next_values: [N], value of the state k steps later, of the target network.

    Returns:
        [N], units of the return. Gradients flow unless the caller detaches.

    Raises:
        ValueError: If the shapes differ or are not [N].

    Source:
        Sutton and Barto 2018, Reinforcement Learning, eq. 7.1.
    """
    check_vectors(rewards=rewards, discounts=discounts, next_values=next_values)
    return rewards + discounts * next_values


def double_q_target(
    rewards: Tensor, discounts: Tensor, online_next_values: Tensor, target_next_values: Tensor
) -> Tensor:
    """Double Q-learning's target: the online network chooses the action, the target values it.

    ::

        a*     = argmax_a online_next_values[a]
        target = rewards + discounts * target_next_values[a*]

    The target network's values given twice make it plain DQN's.

    Args:
        rewards: [N], sum of the next k rewards, discounted.
        discounts: [N], ``gamma^k * (1 - terminated)``.
        online_next_values: [N, A], of the online network at the state k steps later.
        target_next_values: [N, A], of the target network at the same state.

    Returns:
        [N], units of the return. Gradients flow into the target's values unless detached.

    Raises:
        ValueError: If the shapes do not fit each other.

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
    """The entry of each row's action.

    Args:
        values: [N, A], or [N, A, atoms].
        actions: [N], integer of any width, counted from 0.

    Returns:
        [N], or [N, atoms].

    Raises:
        ValueError: If the shapes do not fit each other, or the actions are no integers.
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
    """Temporal-difference error, ``targets - values``; its size is the priority of a replay.

    Args:
        values: [N], of the actions taken, of the online network.
        targets: [N], see ``td_target``. Gradients flow into it unless the caller detaches it.

    Returns:
        [N], units of the return.

    Raises:
        ValueError: If the shapes differ or are not [N].
    """
    check_vectors(values=values, targets=targets)
    return targets - values


def huber_loss(values: Tensor, targets: Tensor, *, delta: float = 1.0) -> Tensor:
    """Huber's loss of the TD error: squared near 0, linear beyond.

    With ``e = targets - values``::

        loss = 0.5 * e^2                        where |e| <= delta
               delta * (|e| - 0.5 * delta)      elsewhere

    Its gradient is DQN's "error clipping": the error, clipped to [-delta, delta].

    Args:
        values: [N], of the actions taken, of the online network.
        targets: [N], see ``td_target``. Gradients flow into it unless the caller detaches it.
        delta: Where the loss turns linear; > 0, units of the return.

    Returns:
        [N], squared units of the return, not reduced.

    Raises:
        ValueError: If the shapes differ or are not [N], or if ``delta <= 0``.

    Source:
        Huber 1964; Mnih et al. 2015, Nature 518, methods.
    """
    check_vectors(values=values, targets=targets)
    if not delta > 0:
        raise ValueError(f"delta must be > 0; got {delta}.")
    return F.huber_loss(values, targets, reduction="none", delta=delta)
