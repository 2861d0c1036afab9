"""Contrastive pairs, triplets, N-pair and lifted structure: by hand, slow references, gradients."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from rlssl.losses import lifted_structure, n_pair, pair_contrastive, semi_hard_triplet, triplet

LABELS = torch.tensor([0, 0, 1, 2, 1, 0, 2])


def random_rows(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def masks_of(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Positives and negatives of each row among all rows."""
    same = labels[:, None] == labels[None]
    return same & ~torch.eye(len(labels), dtype=torch.bool), ~same


def by_labels(rows: Tensor, labels: Tensor = LABELS, margin: float = 0.2) -> Tensor:
    return semi_hard_triplet(rows, rows, *masks_of(labels), margin=margin)


def test_contrastive_pair_by_hand() -> None:
    # d = 0.6, m = 1: 0.36 if the same, (1 - 0.6)^2 = 0.16 if not; half of them by default.
    first, second = torch.tensor([[0.6, 0.0]] * 2), torch.zeros(2, 2)
    same = torch.tensor([True, False])
    assert pair_contrastive(first, second, same, factor=1.0).tolist() == pytest.approx([0.36, 0.16])
    assert pair_contrastive(first, second, same).tolist() == pytest.approx([0.18, 0.08])


def test_contrastive_pair_equals_the_slow_reference() -> None:
    first, second = random_rows(2, 7, 3).unbind(0)
    same = LABELS > 0
    expected = []
    for a, b, equal in zip(first, second, same, strict=True):
        distance = math.sqrt(sum(float(d) ** 2 for d in a - b))
        expected.append(0.5 * (distance**2 if equal else max(0.0, 2.5 - distance) ** 2))
    found = pair_contrastive(first, second, same, margin=2.5)
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("same", [True, False])
def test_contrastive_pair_at_distance_zero_has_a_finite_gradient(same: bool) -> None:
    first = torch.ones(1, 3, requires_grad=True)
    loss = pair_contrastive(first, torch.ones(1, 3), torch.tensor([same]))
    assert loss.item() == (0.0 if same else 0.5)
    loss.sum().backward()
    assert first.grad is not None and not first.grad.any()


def test_contrastive_pair_beyond_the_margin_has_no_gradient() -> None:
    first = torch.tensor([[2.0, 0.0]], requires_grad=True)
    loss = pair_contrastive(first, torch.zeros(1, 2), torch.tensor([False]))
    loss.sum().backward()
    assert loss.item() == 0 and first.grad is not None and not first.grad.any()


def test_triplet_by_hand() -> None:
    # 0.5 - 0.6 + 0.2 = 0.1; squared: 0.25 - 0.36 + 0.2 = 0.09.
    anchor, positive, negative = torch.tensor([[[0.0]], [[0.5]], [[0.6]]]).unbind(0)
    assert triplet(anchor, positive, negative, squared=False).item() == pytest.approx(0.1)
    assert triplet(anchor, positive, negative).item() == pytest.approx(0.09)
    assert triplet(anchor, anchor, anchor).item() == pytest.approx(0.2)


def test_satisfied_triplet_has_no_gradient_and_equal_points_a_finite_one() -> None:
    anchor = torch.zeros(2, 1, requires_grad=True)
    positive, negative = torch.tensor([[0.1], [0.0]]), torch.tensor([[9.0], [0.0]])
    loss = triplet(anchor, positive, negative, squared=False)
    assert loss.tolist() == pytest.approx([0.0, 0.2])
    loss.sum().backward()
    assert anchor.grad is not None and not anchor.grad.any()


def slow_semi_hard(rows: Tensor, labels: Tensor, margin: float) -> float:
    """The mean over all pairs of an anchor and a positive, as TensorFlow describes it."""
    losses = []
    squares = [[sum(float(d) ** 2 for d in a - b) for b in rows] for a in rows]
    for a, row in enumerate(squares):
        negatives = [row[n] for n in range(len(rows)) if labels[n] != labels[a]]
        for p in range(len(rows)):
            if p == a or labels[p] != labels[a] or not negatives:
                continue
            farther = [value for value in negatives if value > row[p]]
            chosen = min(farther) if farther else max(negatives)
            losses.append(max(0.0, row[p] - chosen + margin))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("margin", [0.2, 3.0])
@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_semi_hard_triplet_equals_the_slow_reference(margin: float, scale: float) -> None:
    rows = scale * random_rows(7, 3)
    found = by_labels(rows, margin=margin).mean().item()
    assert found == pytest.approx(slow_semi_hard(rows, LABELS, margin), rel=1e-5)


def test_semi_hard_negative_is_the_nearest_beyond_the_positive_else_the_farthest() -> None:
    # Anchor 0; positive at 1, D = 1. Negatives 0.5, 2, 3 (D = 0.25, 4, 9): D = 4, 1 - 4 + 5 = 2.
    anchor, other = torch.zeros(1, 1), torch.tensor([[1.0], [0.5], [2.0], [3.0]])
    positives = torch.tensor([[True, False, False, False]])
    assert semi_hard_triplet(anchor, other, positives, ~positives, margin=5.0).tolist() == [2.0]
    # Without 2 and 3 the farthest negative is 0.5: 1 - 0.25 + 5 = 5.75.
    near = torch.tensor([[False, True, False, False]])
    assert semi_hard_triplet(anchor, other, positives, near, margin=5.0).tolist() == [5.75]


def test_semi_hard_gradient_reaches_the_chosen_negative_only() -> None:
    anchor = torch.zeros(1, 1, requires_grad=True)
    other = torch.tensor([[1.0], [0.5], [2.0], [3.0]], requires_grad=True)
    positives = torch.tensor([[True, False, False, False]])
    semi_hard_triplet(anchor, other, positives, ~positives, margin=5.0).sum().backward()
    # d/dx of (x_p - a)^2 - (x_n - a)^2: 2 at the positive, -4 at the negative of 2.
    assert other.grad is not None and other.grad.flatten().tolist() == [2.0, 0.0, -4.0, 0.0]


@pytest.mark.parametrize("labels", [[0, 1, 2], [0, 0, 0]], ids=["no positive", "no negative"])
def test_rows_without_pairs_give_zero_connected_to_the_graph(labels: list[int]) -> None:
    rows = random_rows(3, 2).requires_grad_()
    for loss in (
        by_labels(rows, torch.tensor(labels)),
        lifted_structure(rows, torch.tensor(labels)),
    ):
        assert loss.shape == (3,) and not loss.any()
        (gradient,) = torch.autograd.grad(loss.sum(), rows)
        assert not gradient.any()


def test_anchors_without_a_negative_count_as_no_pair() -> None:
    # Anchor 0 has a pair of loss 1 - 4 + 5 = 2; anchor 1 has no negative. Two rows, one pair.
    anchor, other = torch.zeros(2, 1), torch.tensor([[1.0], [2.0]])
    positives = torch.tensor([[True, False], [True, False]])
    negatives = torch.tensor([[False, True], [False, False]])
    found = semi_hard_triplet(anchor, other, positives, negatives, margin=5.0)
    assert found.tolist() == [4.0, 0.0] and found.mean() == 2.0


def test_no_candidates_give_zero() -> None:
    empty = torch.zeros(2, 0, dtype=torch.bool)
    assert semi_hard_triplet(torch.ones(2, 3), torch.ones(0, 3), empty, empty).tolist() == [
        0.0,
        0.0,
    ]


def test_n_pair_by_hand() -> None:
    # Scores 4 I: log(1 + 3 e^-4) = 0.05349; squared norms of 4 each: 0.0005 * 8 = 0.004.
    rows = 2 * torch.eye(4)
    torch.testing.assert_close(n_pair(rows, rows), torch.full((4,), 0.05749), rtol=0, atol=5e-6)
    without = n_pair(rows, rows, regularization=0.0)
    torch.testing.assert_close(without, torch.full((4,), 0.05349), rtol=0, atol=5e-6)
    torch.testing.assert_close(n_pair(0 * rows, 0 * rows), torch.full((4,), math.log(4)))


def test_n_pair_equals_the_slow_reference() -> None:
    anchor, positive = random_rows(2, 7, 3).unbind(0)
    same = LABELS[:, None] == LABELS[None]
    expected = []
    for i in range(7):
        scores = [sum(float(x) for x in anchor[i] * z) for z in positive]
        total = math.log(sum(map(math.exp, scores)))
        rights = [j for j in range(7) if same[i, j]]
        loss = sum(total - scores[j] for j in rights) / len(rights)
        norms = sum(float(x) ** 2 for x in [*anchor[i], *positive[i]])
        expected.append(loss + 0.1 * norms)
    found = n_pair(anchor, positive, same=same, regularization=0.1)
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def slow_lifted(rows: Tensor, labels: Tensor, margin: float) -> float:
    """Song et al., equation 4, pair by pair."""
    distance = [[math.sqrt(sum(float(d) ** 2 for d in a - b)) for b in rows] for a in rows]
    num, squares, pairs = len(rows), 0.0, 0
    for i in range(num):
        for j in range(i + 1, num):
            if labels[i] != labels[j]:
                continue
            total = sum(
                math.exp(margin - distance[end][k])
                for end in (i, j)
                for k in range(num)
                if labels[k] != labels[end]
            )
            squares += max(0.0, math.log(total) + distance[i][j]) ** 2
            pairs += 1
    return squares / (2 * pairs)


def test_lifted_structure_by_hand_and_by_the_slow_reference() -> None:
    # Points 0, 0, 1, 1: four negatives at distance 1, margin 1: J = log 4, (log 4)^2 / 2.
    points = torch.tensor([[0.0], [0.0], [1.0], [1.0]])
    found = lifted_structure(points, torch.tensor([0, 0, 1, 1]))
    torch.testing.assert_close(found, torch.full((4,), 0.96091), rtol=0, atol=5e-6)
    rows = random_rows(7, 3)
    expected = slow_lifted(rows, LABELS, 2.0)
    assert lifted_structure(rows, LABELS, margin=2.0).mean().item() == pytest.approx(expected)


@pytest.mark.parametrize("scale", [0.0, 1000.0])
def test_lifted_structure_has_finite_gradients_for_equal_and_for_far_rows(scale: float) -> None:
    rows = (scale * random_rows(7, 3)).requires_grad_()
    lifted_structure(rows, LABELS).sum().backward()
    assert rows.grad is not None and rows.grad.isfinite().all()


Loss = Callable[[Tensor], Tensor]


@pytest.mark.parametrize(
    "loss",
    [
        lambda rows: pair_contrastive(rows, rows.flip(0), LABELS > 0),
        lambda rows: triplet(rows, rows.flip(0), rows.roll(1, 0)),
        by_labels,
        lambda rows: lifted_structure(rows, LABELS),
    ],
    ids=["pair", "triplet", "semi_hard", "lifted"],
)
def test_translation_of_all_embeddings_changes_no_loss_of_distances(loss: Loss) -> None:
    rows = random_rows(7, 3)
    assert loss(rows).any()
    torch.testing.assert_close(loss(rows + 3.0), loss(rows), rtol=1e-4, atol=1e-5)


def test_translation_changes_the_n_pair_loss() -> None:
    rows = random_rows(7, 3)
    assert not torch.allclose(n_pair(rows + 3.0, rows + 3.0), n_pair(rows, rows))


ROWS = torch.ones(2, 3)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: pair_contrastive(ROWS, ROWS, torch.ones(3)), r"same must be \[2\]; got \(3,\)"),
        (
            lambda: pair_contrastive(ROWS, ROWS, torch.ones(2), margin=0.0),
            "margin must be > 0; got 0.0",
        ),
        (lambda: triplet(ROWS, ROWS, ROWS[:1]), r"must be \[N, D\], with the same N and D"),
        (lambda: triplet(ROWS, ROWS, ROWS, margin=-1.0), "margin must be > 0; got -1.0"),
        (
            lambda: semi_hard_triplet(ROWS, ROWS, torch.ones(2, 2), torch.ones(2, 2) > 0),
            r"positives must be \[2, 2\] bool; got \(2, 2\) torch.float32",
        ),
        (
            lambda: semi_hard_triplet(ROWS, ROWS[:, :2], ROWS > 0, ROWS > 0),
            r"anchor must be \[N, D\] and other \[M, D\]",
        ),
        (
            lambda: n_pair(ROWS, ROWS, same=torch.zeros(2, 2) > 0),
            r"same must be \[2, 2\] with a true diagonal",
        ),
        (lambda: n_pair(ROWS, ROWS, regularization=-1.0), "regularization must be >= 0; got -1.0"),
        (lambda: lifted_structure(ROWS, torch.ones(3)), r"labels must be \[2\]; got \(3,\)"),
    ],
)
def test_wrong_arguments_are_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
