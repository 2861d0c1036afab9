"""Losses of implicit Q-learning (IQL): an expectile of values, and a weighted log-likelihood."""

import torch
from torch import Tensor

from rlssl.losses.checks import check_vectors


def expectile_loss(value: Tensor, target: Tensor, *, expectile: float) -> Tensor:
    """Asymmetric squared error, whose minimizer is an expectile of the targets.

    With ``e = target - value``::

        loss = expectile * e^2          where e >= 0
               (1 - expectile) * e^2    elsewhere

    An expectile of 0.5 is half the squared error: the minimizer is the mean. Towards 1, the
    minimizer approaches the largest target.

    Args:
        value: [N], the estimate V(s).
        target: [N], for example Q(s, a) of the data set's actions. Carries no gradient.
        expectile: In (0, 1), no unit; 0.7 in IQL, 0.9 for its AntMaze.

    Returns:
        [N], squared units of the return, not reduced.

    Raises:
        ValueError: If the shapes differ or are not [N], or if the expectile is not in (0, 1).

    Example:
        >>> import torch
        >>> value, target = torch.zeros(2), torch.tensor([2.0, -2.0])
        >>> expectile_loss(value, target, expectile=0.75).tolist()
        [3.0, 1.0]

    Source:
        Kostrikov et al. 2021, arXiv:2110.06169, eq. 5; Newey and Powell 1987.
    """
    check_vectors(value=value, target=target)
    if not 0 < expectile < 1:
        raise ValueError(f"expectile must be in (0, 1); got {expectile}.")
    error = target - value
    return torch.where(error < 0, 1.0 - expectile, expectile) * error.square()


def advantage_weights(
    advantage: Tensor, *, inverse_temperature: float, max_weight: float
) -> Tensor:
    """Weights of actions: ``min(exp(inverse_temperature * advantage), max_weight)``.

    Args:
        advantage: [N], units of the return.
        inverse_temperature: beta of the paper; >= 0, per unit of the return. 0: all weights are 1,
            as in behavior cloning.
        max_weight: Largest weight; > 0, no unit; 100 in IQL.

    Returns:
        [N], > 0, no unit; 1 for an advantage of 0.

    Raises:
        ValueError: If the shape is not [N] or an option is out of range.

    Example:
        >>> import torch
        >>> advantage = torch.tensor([0.0, 9.0])
        >>> advantage_weights(advantage, inverse_temperature=3.0, max_weight=100.0).tolist()
        [1.0, 100.0]

    Source:
        Kostrikov et al. 2021, arXiv:2110.06169, eq. 7; the clip is the published code's.
    """
    check_vectors(advantage=advantage)
    if not inverse_temperature >= 0:
        raise ValueError(f"inverse_temperature must be >= 0; got {inverse_temperature}.")
    if not max_weight > 0:
        raise ValueError(f"max_weight must be > 0; got {max_weight}.")
    # exp of a large product is inf, which the clamp turns into max_weight.
    return (inverse_temperature * advantage).exp().clamp(max=max_weight)


def weighted_log_likelihood_loss(logp: Tensor, weight: Tensor) -> Tensor:
    """Advantage-weighted regression: ``-weight * logp``.

    Args:
        logp: [N], nats, log-probability (or density) of the data set's action under the policy.
        weight: [N], see ``advantage_weights``. Carries no gradient.

    Returns:
        [N], nats, not reduced.

    Raises:
        ValueError: If the shapes differ or are not [N].

    Example:
        >>> import torch
        >>> logp, weight = torch.tensor([-1.0, -0.5]), torch.tensor([2.0, 4.0])
        >>> weighted_log_likelihood_loss(logp, weight).tolist()
        [2.0, 2.0]

    Source:
        Peng et al. 2019, arXiv:1910.00177; Kostrikov et al. 2021, arXiv:2110.06169, eq. 7.
    """
    check_vectors(logp=logp, weight=weight)
    return -weight * logp
