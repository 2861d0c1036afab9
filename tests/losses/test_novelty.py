"""Novelty: values by hand, degenerate cases, bad arguments."""

import pytest
import torch

from rlssl.losses import ensemble_disagreement, episodic_impact, novelty_gain


def test_novelty_gain_by_hand() -> None:
    # max(4 - 0.5 * 2, 0) = 3; max(1 - 0.5 * 4, 0) = 0; a second visit: 0.
    after, before = torch.tensor([4.0, 1.0, 4.0]), torch.tensor([2.0, 4.0, 2.0])
    first = torch.tensor([True, True, False])
    assert novelty_gain(after, before, first).tolist() == [3.0, 0.0, 0.0]
    # With scale 1: 4 - 2 = 2.
    assert novelty_gain(after, before, first, scale=1.0).tolist() == [2.0, 0.0, 0.0]


def test_without_novelty_there_is_no_gain() -> None:
    zero = torch.zeros(2)
    assert novelty_gain(zero, zero, torch.tensor([True, True])).tolist() == [0.0, 0.0]


def test_identical_models_do_not_disagree() -> None:
    prediction = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ensemble_disagreement(prediction.expand(5, 4, 3)), torch.zeros(4))


def test_disagreement_equals_a_loop() -> None:
    predictions = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0))
    expected = []
    for row in range(4):
        total = 0.0
        for feature in range(3):
            values = [float(predictions[model, row, feature]) for model in range(5)]
            mean = sum(values) / 5
            total += sum((value - mean) ** 2 for value in values) / 4
        expected.append(total / 3)
    torch.testing.assert_close(ensemble_disagreement(predictions), torch.tensor(expected))


def test_impact_by_hand() -> None:
    # ||(3, 4)|| = 5: at the first visit 5, at the fourth 5 / 2. No step, no impact.
    after = torch.tensor([[3.0, 4.0], [3.0, 4.0], [0.0, 0.0]])
    visits = torch.tensor([1, 4, 1])
    assert episodic_impact(after, torch.zeros(3, 2), visits).tolist() == [5.0, 2.5, 0.0]


def test_bad_arguments_are_refused_with_their_shapes() -> None:
    one, two = torch.zeros(1), torch.zeros(2)
    with pytest.raises(ValueError, match=r"must all be \[N\]; got \(1,\), \(2,\) and \(1,\)"):
        novelty_gain(one, two, one.bool())
    with pytest.raises(ValueError, match="scale must be >= 0; got -1"):
        novelty_gain(one, one, one.bool(), scale=-1.0)
    with pytest.raises(ValueError, match=r"K >= 2 models; got \(1, 4, 3\)"):
        ensemble_disagreement(torch.zeros(1, 4, 3))
    with pytest.raises(ValueError, match=r"visits \[N\]; got \(2, 3\), \(2, 3\) and \(1,\)"):
        episodic_impact(torch.zeros(2, 3), torch.zeros(2, 3), one)
