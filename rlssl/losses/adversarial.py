"""Losses and rewards of a discriminator between demonstrations and the policy."""

import torch
import torch.nn.functional as F
from torch import Tensor

#: Forms of the reward of a discriminator; see ``discriminator_reward``.
REWARD_FORMS = ("softplus", "log_d", "logit")


def discriminator_loss(demonstration_logits: Tensor, policy_logits: Tensor) -> Tensor:
    """The cross-entropy of telling demonstrations (class 1) from steps of the policy (class 0).

    With ``D = sigmoid(f)``, this is ``-log D(demonstration) - log(1 - D(policy))``, which is
    ``softplus(-f_demonstration) + softplus(f_policy)``. It is 2 log 2 = 1.386 nats if D cannot tell
    them apart.

    Args:
        demonstration_logits: [N], f at steps of the demonstrations.
        policy_logits: [N], f at steps of the policy.

    Returns:
        [N], nats, not reduced.

    Raises:
        ValueError: If the shapes differ or are not [N].

    Example:
        >>> discriminator_loss(torch.zeros(1), torch.zeros(1))
        tensor([1.3863])

    Source:
        Ho and Ermon 2016, Generative Adversarial Imitation Learning, arXiv:1606.03476, algorithm 1.
        Differs: there, D is 1 at steps of the policy.
    """
    if demonstration_logits.ndim != 1 or demonstration_logits.shape != policy_logits.shape:
        raise ValueError(
            "demonstration_logits and policy_logits must both be [N]; got "
            f"{tuple(demonstration_logits.shape)} and {tuple(policy_logits.shape)}."
        )
    return F.softplus(-demonstration_logits) + F.softplus(policy_logits)


def discriminator_reward(logits: Tensor, form: str = "softplus") -> Tensor:
    """The reward of a step, from the logit f of its being from a demonstration.

    With ``D = sigmoid(f)``::

        softplus   -log(1 - D) = softplus(f),   > 0: rewards long episodes
        log_d       log D      = -softplus(-f), < 0: rewards short episodes
        logit       log D - log(1 - D) = f,     of either sign

    Args:
        logits: [N], f.
        form: One of the names above.

    Returns:
        [N], nats.

    Raises:
        ValueError: For another form.

    Example:
        >>> [round(float(discriminator_reward(torch.zeros(()), it)), 3) for it in REWARD_FORMS]
        [0.693, -0.693, 0.0]

    Source:
        Ho and Ermon 2016, arXiv:1606.03476 (log_d and its published code, softplus); Fu et al.
        2017, arXiv:1710.11248 (logit).
    """
    if form == "softplus":
        return F.softplus(logits)
    if form == "log_d":
        return F.logsigmoid(logits)
    if form == "logit":
        return logits
    raise ValueError(f"form must be one of {list(REWARD_FORMS)}; got {form!r}.")


def slope_penalty(outputs: Tensor, inputs: Tensor) -> Tensor:
    """The squared difference of a network's slope from 1: ``(| d output / d input | - 1)^2``.

    Args:
        outputs: [N], computed from ``inputs`` with a graph, each row from its own.
        inputs: [N, D], requires a gradient.

    Returns:
        [N], squared units of the slope, not reduced; with a graph.

    Raises:
        ValueError: If the shapes do not fit each other.

    Example:
        The slope is 3.

        >>> inputs = torch.ones(1, 1, requires_grad=True)
        >>> slope_penalty((3.0 * inputs).squeeze(1), inputs).tolist()
        [4.0]

    Source:
        Gulrajani et al. 2017, arXiv:1704.00028, eq. 3.
    """
    if outputs.ndim != 1 or inputs.ndim != 2 or len(outputs) != len(inputs):
        raise ValueError(
            "outputs must be [N] and inputs [N, D]; got "
            f"{tuple(outputs.shape)} and {tuple(inputs.shape)}."
        )
    (slope,) = torch.autograd.grad(outputs.sum(), inputs, create_graph=True)
    return (slope.norm(dim=-1) - 1.0).square()
