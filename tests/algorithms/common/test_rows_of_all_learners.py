"""Means over the rows of several Learners, by hand: their rows differ in number."""

from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from rlssl.algorithms.common.auxiliary_learner import per_sample_means
from rlssl.algorithms.off_policy.batches import WEIGHTS, weighted_mean
from rlssl.networks.decoders import quantize_pixels
from rlssl.peers import ALONE, Peers
from tests.algorithms.bench import Bench, small_ppo


class Two(Peers):
    """A Learner of two; the numbers of rows of both are given."""

    size = 2

    def __init__(self, *counts: tuple[int, int]) -> None:
        self.counts = counts

    def mean_counts(self, counts: Any) -> list[float]:
        return [sum(both) / 2 for both in self.counts]

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        (both,) = self.counts
        return torch.full_like(value, sum(both) / 2)


def test_the_mean_over_learners_is_the_mean_over_rows() -> None:
    # Learner 1 has the rows 1, 2, 3 of "a", Learner 2 has the row 6: the mean over rows is
    # 12 / 4 = 3. Each divides by 4 / 2 = 2 rows: 6 / 2 = 3 and 6 / 2 = 3. The means of the
    # Learners, 2 and 6, would give 4. Learner 2 has no rows of "b", and nobody has rows of "c".
    peers = Two((3, 1), (2, 0), (0, 0))
    empty = torch.zeros(0)
    first = {"a": torch.tensor([1.0, 2.0, 3.0]), "b": torch.tensor([4.0, 6.0]), "c": empty}
    second = {"a": torch.tensor([6.0]), "b": empty, "c": empty}
    means = [per_sample_means("loss", losses, peers) for losses in (first, second)]
    found = {key: (means[0][key].item() + means[1][key].item()) / 2 for key in first}
    assert found == {"a": 3.0, "b": 5.0, "c": 0.0}


def test_a_learner_alone_takes_plain_means() -> None:
    losses = {"a": torch.tensor([1.0, 2.0, 6.0]), "b": torch.zeros(0)}
    found = per_sample_means("loss", losses, ALONE)
    assert {key: value.item() for key, value in found.items()} == {"a": 3.0, "b": 0.0}


def test_losses_with_two_axes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"loss 'x' gives 'a' of shape \(2, 1\)"):
        per_sample_means("x", {"a": torch.zeros(2, 1)})


def test_importance_weighted_means_count_the_valid_rows_of_all() -> None:
    # Valid: 3 rows here, 1 row there. Here: (1 * 1 + 2 * 2 + 3 * 1) / 2 = 4.
    batch = {
        WEIGHTS: torch.tensor([1.0, 2.0, 1.0, 9.0]),
        Columns.LOSS_MASK: torch.tensor([True, True, True, False]),
    }
    losses = torch.tensor([1.0, 2.0, 3.0, float("nan")])
    assert weighted_mean(losses, batch, Two((3, 1))).item() == 4.0
    assert weighted_mean(losses, batch).item() == pytest.approx(8 / 3)


def test_ppo_weighs_each_learners_minibatch_by_its_rows() -> None:
    # 48 of 48 + 16 rows; a Learner has 32 on average: its loss has the weight 48 / 32 = 1.5.
    losses = []
    for peers in (ALONE, Two((48, 16))):
        bench = Bench(small_ppo())
        batch = bench.batch(bench.sample(48))
        rows = {key: value[:48] for key, value in batch.items() if torch.is_tensor(value)}
        bench.learner.peers = peers
        forward = bench.learner.module["default_policy"].forward_train(rows)
        losses.append(bench.learner.compute_rl_loss(rows, forward).item())
    np.testing.assert_allclose(losses[1], 1.5 * losses[0], rtol=1e-6)


def test_the_dither_of_a_part_is_a_part_of_the_dither() -> None:
    pixels = torch.randint(256, (8, 1, 2, 2), generator=torch.Generator().manual_seed(1))
    whole = quantize_pixels(pixels, generator=torch.Generator().manual_seed(0))
    part = quantize_pixels(pixels[4:], generator=torch.Generator().manual_seed(0), rows=(4, 8))
    assert torch.equal(part, whole[4:])
