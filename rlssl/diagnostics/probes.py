"""Linear probes: can the reward and the action be read from frozen latents?"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

#: Weight of the squared coefficients in the mean loss; inputs have standard deviation 1.
RIDGE = 1e-3

#: Most iterations of the solver.
_MAX_ITERATIONS = 100

#: Every so many episodes, one is held out.
_HOLD_OUT_EVERY = 5


class Scores(NamedTuple):
    """How well labels of held-out rows are predicted; nan: there is nothing to tell apart."""

    # Mean over the classes of 2 TP / (2 TP + FP + FN).
    f1: float
    # Share of correct rows.
    accuracy: float


UNKNOWN = Scores(float("nan"), float("nan"))


class Split(NamedTuple):
    """Rows of two encoders, and which of the rows test the probe."""

    # [N, D], latents of the trained encoder.
    latents: np.ndarray
    # [N, D], latents of a newly initialized encoder of the same architecture.
    random_latents: np.ndarray
    # [N], bool: rows of held-out episodes.
    held_out: np.ndarray


def held_out_rows(episodes: np.ndarray) -> np.ndarray:
    """Which rows test a probe: those of every fifth episode, from the second episode on.

    Neighboring rows of an episode are almost equal. So whole episodes are held out.

    Args:
        episodes: [N], number of each row's episode, from 0.

    Returns:
        [N], bool.

    Example:
        >>> held_out_rows(np.array([0, 0, 1, 2, 6, 7])).tolist()
        [False, False, True, False, True, False]
    """
    held_out: np.ndarray = episodes % _HOLD_OUT_EVERY == 1
    return held_out


def above_quantile(values: np.ndarray, fitted: np.ndarray, quantile: float) -> np.ndarray:
    """Labels 1 for large values and 0 for small ones, split at a quantile of the fitted rows.

    Labels are ``values > q``. If no fitted value is above q, as where most rewards are 1 and some
    are 0, they are ``values >= q``.

    Args:
        values: [N].
        fitted: [N], bool: rows whose quantile counts.
        quantile: In (0, 1).

    Returns:
        [N], int.

    Example:
        >>> everything = np.ones(4, bool)
        >>> above_quantile(np.array([0.0, 0.0, 0.0, 1.0]), everything, 0.5).tolist()
        [0, 0, 0, 1]
        >>> above_quantile(np.array([0.0, 1.0, 1.0, 1.0]), everything, 0.5).tolist()
        [0, 1, 1, 1]
    """
    threshold = np.quantile(values[fitted], quantile, method="lower")
    strictly = values > threshold
    above = strictly if strictly[fitted].any() else values >= threshold
    return above.astype(np.int64)


def reward_probe(rows: Split, rewards: np.ndarray, *, quantile: float = 0.5) -> dict[str, float]:
    """Predicts from a latent whether the reward of the step is above a quantile.

    Args:
        rows: The latents of the observations before the steps.
        rewards: [N], rewards of the steps.
        quantile: See `above_quantile`.

    Returns:
        The scores of `compared`, and ``positives``, the share of rows above the quantile. Scores
        are nan if the fitted or the held-out rewards are all equal.

    Source:
        Zhang et al. 2022, arXiv:2208.12345. Differs: the threshold is a quantile, and not 0; whole
        episodes are held out; the rows are those of evaluations.
    """
    labels = above_quantile(rewards, ~rows.held_out, quantile)
    return {**compared(rows, labels[:, None]), "positives": float(labels.mean())}


def action_probe(rows: Split, actions: np.ndarray) -> dict[str, float]:
    """Predicts from a latent the action that the policy chose.

    Args:
        rows: The latents of the observations.
        actions: [N, P], integers: the parts of discrete actions. Or floats: the elements of
            continuous ones, of which the probe predicts whether each is above its median.

    Returns:
        The scores of `compared`.

    Source:
        Zhang et al. 2022, arXiv:2208.12345. Differs: the actions are those of the policy instead of
        an expert's; the loss is the cross-entropy instead of the focal loss; also continuous.
    """
    if np.issubdtype(actions.dtype, np.integer):
        return compared(rows, actions)
    fitted = ~rows.held_out
    labels = [above_quantile(column, fitted, 0.5) for column in actions.T]
    return compared(rows, np.stack(labels, axis=1))


def compared(rows: Split, labels: np.ndarray) -> dict[str, float]:
    """Scores of a linear probe on held-out rows, beside two rows to compare them with.

    Args:
        rows: The latents.
        labels: [N, P], int: class of each row, for P tasks. The scores are means over the tasks
            that have two classes or more.

    Returns:
        ``f1`` and ``accuracy``; with ``_majority``, of always predicting the most frequent class of
        the fitted rows; with ``_random_encoder``, of a probe on a newly initialized encoder.
    """
    predictors: dict[str, Callable[[np.ndarray], Scores]] = {
        "": lambda column: linear_probe(rows.latents, column, rows.held_out),
        "_majority": lambda column: majority(column, rows.held_out),
        "_random_encoder": lambda column: linear_probe(rows.random_latents, column, rows.held_out),
    }
    found: dict[str, float] = {}
    for ending, predict in predictors.items():
        known = [scores for scores in map(predict, labels.T) if not np.isnan(scores.f1)]
        means = np.mean(known, axis=0) if known else UNKNOWN
        found[f"f1{ending}"], found[f"accuracy{ending}"] = map(float, means)
    return found


def linear_probe(latents: np.ndarray, labels: np.ndarray, held_out: np.ndarray) -> Scores:
    """Fits a softmax regression on the rows that are not held out, and tests it on the others.

    Features are standardized by the fitted rows. The squared coefficients have a weight of 1e-3.

    Args:
        latents: [N, D].
        labels: [N], int.
        held_out: [N], bool.

    Returns:
        The scores; nan if one part has no row, or a single class.

    Example:
        >>> labels = np.array([0, 1, 0, 1])
        >>> latents = labels[:, None] * 2.0
        >>> linear_probe(latents, labels, np.array([False, False, True, True]))
        Scores(f1=1.0, accuracy=1.0)
    """
    if not _can_be_judged(labels, held_out):
        return UNKNOWN
    fitted = latents[~held_out].astype(np.float64)
    center, scale = fitted.mean(0), fitted.std(0)
    # A feature that never changes can have a std that is a rounding error.
    scale = np.where(np.ptp(fitted, axis=0) > 0, scale, 1.0)
    inputs = (latents.astype(np.float64) - center) / scale
    classes, targets = np.unique(labels[~held_out], return_inverse=True)
    weights, biases = softmax_regression(inputs[~held_out], targets, len(classes))
    predicted = classes[(inputs[held_out] @ weights + biases).argmax(1)]
    return score(predicted, labels[held_out])


def majority(labels: np.ndarray, held_out: np.ndarray) -> Scores:
    """The scores of always predicting the most frequent label of the rows not held out."""
    if not _can_be_judged(labels, held_out):
        return UNKNOWN
    classes, counts = np.unique(labels[~held_out], return_counts=True)
    tested = labels[held_out]
    return score(np.full(len(tested), classes[counts.argmax()]), tested)


def score(predicted: np.ndarray, labels: np.ndarray) -> Scores:
    """F1, a mean over the classes of ``labels``, and accuracy.

    Args:
        predicted: [N], int.
        labels: [N], int.

    Example:
        Class 0: TP 2, FN 1, so 4 / 5. Class 1: TP 1, FP 1, so 2 / 3.

        >>> score(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1]))
        Scores(f1=0.7333333333333334, accuracy=0.75)
    """
    each = []
    for label in np.unique(labels):
        hits = np.sum((predicted == label) & (labels == label))
        each.append(2 * hits / (np.sum(predicted == label) + np.sum(labels == label)))
    return Scores(float(np.mean(each)), float(np.mean(predicted == labels)))


def softmax_regression(
    inputs: np.ndarray, targets: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Minimizes ``mean cross-entropy + RIDGE / 2 * sum(weights^2)`` with L-BFGS.

    Args:
        inputs: [N, D].
        targets: [N], int, from 0.
        num_classes: C.

    Returns:
        Weights [D, C] and biases [C]. The logits of x are ``x @ weights + biases``.

    Example:
        Three of four labels are 1, and the input says nothing: the odds are 3.

        >>> zeros = np.zeros((4, 1))
        >>> _, biases = softmax_regression(zeros, np.array([0, 1, 1, 1]), 2)
        >>> round(float(np.exp(biases[1] - biases[0])), 2)
        3.0
    """
    # Imported here: scipy.optimize takes tenths of a second, and only diagnostics need it.
    from scipy.optimize import minimize

    num_rows, num_features = inputs.shape
    wanted = np.eye(num_classes)[targets]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat[num_classes:].reshape(num_features, num_classes)
        logits = inputs @ weights + flat[:num_classes]
        logits -= logits.max(1, keepdims=True)
        sums = np.exp(logits).sum(1, keepdims=True)
        logs = logits - np.log(sums)
        errors = (np.exp(logs) - wanted) / num_rows
        value = -(wanted * logs).sum() / num_rows + RIDGE / 2 * (weights**2).sum()
        gradient = inputs.T @ errors + RIDGE * weights
        return float(value), np.concatenate([errors.sum(0), gradient.ravel()])

    start = np.zeros(num_classes * (1 + num_features))
    options = {"maxiter": _MAX_ITERATIONS}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x
    return found[num_classes:].reshape(num_features, num_classes), found[:num_classes]


def _can_be_judged(labels: np.ndarray, held_out: np.ndarray) -> bool:
    parts = labels[~held_out], labels[held_out]
    return all(len(part) > 0 for part in parts) and len(np.unique(parts[0])) > 1
