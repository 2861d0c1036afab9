"""Latent statistics: by hand, against slow loops, and where they are logged."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.auxiliary import AuxiliaryLoss
from rlssl.auxiliary.latent_statistics import (
    NUM_ROWS,
    effective_rank,
    latent_statistics,
    pair_distances,
    rank_correlation,
    state_distances,
)
from rlssl.registry import register_auxiliary_loss
from tests.algorithms.a3c.a3c_bench import A3CBench, small_a3c
from tests.algorithms.bench import Bench, small_ppo
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import ActorCriticBench, small_sac
from tests.algorithms.rainbow.rainbow_bench import RainbowBench, small_rainbow


def test_statistics_by_hand() -> None:
    # Three unit vectors: equal singular values, rank 3. Each feature is 1 once and 0 twice:
    # variance 2/9. Each pair is sqrt(2) apart.
    found = {key: value.item() for key, value in latent_statistics(torch.eye(3)).items()}
    expected = {"effective_rank": 3.0, "feature_variance": 2 / 9, "distance": math.sqrt(2)}
    assert found == pytest.approx(expected)


def test_collapsed_latents_show() -> None:
    found = latent_statistics(torch.ones(10, 4))
    assert found["effective_rank"].item() == pytest.approx(1.0, abs=1e-4)
    assert found["feature_variance"] == 0.0 and found["distance"] == 0.0


def test_no_rows_and_one_row_are_no_error() -> None:
    assert all(math.isnan(value) for value in latent_statistics(torch.zeros(0, 4)).values())
    assert latent_statistics(torch.ones(1, 4))["feature_variance"] == 0.0


def test_only_the_first_rows_count() -> None:
    latents = torch.randn(NUM_ROWS + 50, 3, generator=torch.Generator().manual_seed(0))
    spoiled = torch.cat([latents[:NUM_ROWS], 100.0 + latents[NUM_ROWS:]])
    assert latent_statistics(latents) == latent_statistics(spoiled)


def test_rank_correlation_by_hand() -> None:
    # Ranks 1 2 3 4 and 1 3 2 4: 1 - 6 * (0 + 1 + 1 + 0) / (4 * 15) = 0.8.
    assert rank_correlation([1, 5, 6, 9], [0.1, 7, 3, 8]) == pytest.approx(0.8)
    assert rank_correlation([1, 2, 3], [9, 5, 1]) == pytest.approx(-1.0)
    assert math.isnan(rank_correlation([1, 2], [3, 3]))
    assert math.isnan(rank_correlation([1], [2])) and math.isnan(rank_correlation([], []))
    with pytest.raises(ValueError, match="must have the same length; got 2 and 3 numbers"):
        rank_correlation([1, 2], [1, 2, 3])


def test_rank_correlation_equals_a_loop_with_ties() -> None:
    def mean_ranks(values: np.ndarray) -> list[float]:
        return [(values < v).sum() + ((values == v).sum() + 1) / 2 for v in values]

    rng = np.random.default_rng(0)
    for _ in range(5):
        x, y = rng.integers(6, size=40), rng.integers(4, size=40) + rng.normal(size=40).round()
        expected = np.corrcoef(mean_ranks(x), mean_ranks(y))[0, 1]
        assert rank_correlation(x, y) == pytest.approx(expected)


def test_pair_distances_equal_a_loop() -> None:
    rows = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    expected = [np.linalg.norm(rows[i] - rows[j]) for i in range(7) for j in range(i + 1, 7)]
    np.testing.assert_allclose(pair_distances(rows), expected, rtol=1e-6)


def test_state_distances_by_hand() -> None:
    # The first element has std 2 and the second does not change: (0, 4) / 2 is 2 apart.
    np.testing.assert_allclose(state_distances(np.array([[0.0, 7.0], [4.0, 7.0]])), [2.0])
    assert state_distances(np.ones((3, 2))).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("bench", [Bench(small_ppo().auxiliary(deepmdp={})), None])
def test_latent_statistics_are_logged_beside_the_losses(bench: Bench | None) -> None:
    bench = bench or RainbowBench(small_rainbow().auxiliary(deepmdp={}))
    aux = bench.update(bench.sample())["default_policy"]["aux"]
    logged = {key: float(value.peek()) for key, value in aux["latents"].items()}
    assert set(logged) == {"effective_rank", "feature_variance", "distance"}
    assert 1.0 < logged["effective_rank"] <= 16.0 and logged["distance"] > 0.0
    assert set(aux) == {"deepmdp", "latents"}


class _Counting(AuxiliaryLoss):
    """Counts calls, and keeps the latents of the last minibatch for its metrics."""

    reads = frozenset({Columns.OBS})

    def losses(self, batch: Any) -> dict[str, Tensor]:
        latents = self.encoder(batch[Columns.OBS])
        self.num_losses = getattr(self, "num_losses", 0) + 1
        self.kept = latents.detach()
        return {"square": latents.square().mean(-1)}

    def metrics(self, batch: Any) -> dict[str, Tensor]:
        assert not torch.is_grad_enabled() and len(batch[Columns.OBS]) == len(self.kept)
        self.num_metrics = getattr(self, "num_metrics", 0) + 1
        return {"mean": self.kept.mean()}


register_auxiliary_loss("test_counting")(_Counting)


@pytest.mark.parametrize(
    "make",
    [
        lambda losses: Bench(small_ppo().auxiliary(**losses)),
        lambda losses: RainbowBench(small_rainbow().auxiliary(**losses)),
        lambda losses: ActorCriticBench(small_sac().auxiliary(**losses)),
    ],
    ids=["ppo", "rainbow", "sac"],
)
def test_metrics_of_a_loss_are_computed_once_per_result(make: Any) -> None:
    bench = make({"test_counting": {}})
    loss = bench.module.auxiliary["test_counting"]
    for count in (1, 2):
        aux = bench.update(bench.sample())["default_policy"]["aux"]["test_counting"]
        assert loss.num_metrics == count < loss.num_losses
        assert float(aux["mean"].peek()) == float(loss.kept.mean())


def test_metrics_of_a_loss_are_computed_once_per_report_of_a3c() -> None:
    bench = A3CBench(small_a3c().auxiliary(test_counting={}))
    loss = bench.module.auxiliary["test_counting"]
    for _ in range(3):
        bench.learner.compute(bench.sample(16), agent_steps=16)
        bench.learner.apply(worker=0, agent_steps=16, num_steps=16)
    aux = bench.learner.report()["default_policy"]["aux"]["test_counting"]
    assert (loss.num_losses, loss.num_metrics) == (3, 1)
    assert float(aux["mean"].peek()) == float(loss.kept.mean())


def test_without_losses_nothing_is_logged() -> None:
    bench = Bench(small_ppo())
    assert "aux" not in bench.update(bench.sample())["default_policy"]


def test_effective_rank_by_hand() -> None:
    # Equal rows: 1. Four orthonormal directions: 4. Singular values 3 and 1: shares 0.75 and 0.25,
    # entropy 0.75 * log(4 / 3) + 0.25 * log 4 = 0.5623351, exp 1.7547654.
    assert effective_rank(torch.ones(5, 4)).item() == pytest.approx(1.0, abs=1e-4)
    assert effective_rank(torch.eye(4)).item() == pytest.approx(4.0)
    assert effective_rank(torch.diag(torch.tensor([3.0, 1.0]))).item() == pytest.approx(1.7547654)
    assert effective_rank(torch.full((3, 2), float("inf"))).isnan()


def test_a_constant_element_with_a_rounded_mean_does_not_count() -> None:
    # numpy's mean of ten 0.1 is not exactly 0.1, so that their std is 1e-17 instead of 0.
    states = np.full((10, 2), 0.1)
    states[:, 1] = np.arange(10)
    np.testing.assert_allclose(state_distances(states), state_distances(states[:, 1:]))
