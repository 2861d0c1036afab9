"""Linear probes: against known answers."""

import math

import numpy as np
import pytest

from rlssl.diagnostics.probes import (
    Split,
    above_quantile,
    action_probe,
    held_out_rows,
    linear_probe,
    majority,
    reward_probe,
    score,
)

#: Ten episodes of 100 steps.
EPISODES = np.repeat(np.arange(10), 100)


def drawn(num_features: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((len(EPISODES), num_features))


def split(latents: np.ndarray) -> Split:
    return Split(latents, drawn(latents.shape[1], seed=1), held_out_rows(EPISODES))


def test_whole_episodes_are_held_out() -> None:
    held_out = held_out_rows(EPISODES)
    assert set(EPISODES[held_out]) == {1, 6}
    assert set(EPISODES[~held_out]) == set(range(10)) - {1, 6}
    assert held_out_rows(np.array([0, 1])).tolist() == [False, True]


def test_latents_that_hold_the_reward_predict_it() -> None:
    latents = drawn(8)
    found = reward_probe(split(latents), latents[:, 3] * 2.0 - 1.0)
    assert found["f1"] > 0.95 and found["accuracy"] > 0.95
    assert found["positives"] == pytest.approx(0.5, abs=0.05)
    # Other latents know nothing about it.
    assert found["accuracy_random_encoder"] < 0.65


def test_random_labels_are_predicted_at_the_majoritys_rate() -> None:
    rewards = (np.random.default_rng(2).random(len(EPISODES)) < 0.3).astype(float)
    found = reward_probe(split(drawn(4)), rewards)
    rate = 1 - rewards[held_out_rows(EPISODES)].mean()
    assert found["accuracy_majority"] == pytest.approx(rate)
    assert found["accuracy"] == pytest.approx(rate, abs=0.02)
    # The majority's F1: its class has 2 rate / (1 + rate), the other class 0.
    assert found["f1_majority"] == pytest.approx(rate / (1 + rate))


def test_an_episodes_own_mark_does_not_help() -> None:
    # Latents that name the episode, and labels that depend on the episode only: with a split by
    # rows, the probe would be perfect.
    latents = np.eye(10)[EPISODES]
    rewards = np.array([0.0, 1, 1, 0, 0, 1, 0, 0, 1, 1])[EPISODES]
    assert reward_probe(split(latents), rewards)["accuracy"] < 0.9


def test_equal_rewards_cannot_be_judged() -> None:
    found = reward_probe(split(drawn(4)), np.ones(len(EPISODES)))
    assert found.pop("positives") == 1.0
    assert all(math.isnan(value) for value in found.values())


def test_rare_low_rewards_are_told_apart() -> None:
    values = np.array([1.0, 1.0, 1.0, -5.0])
    assert above_quantile(values, np.ones(4, bool), 0.5).tolist() == [1, 1, 1, 0]


def test_the_quantile_is_that_of_the_fitted_rows() -> None:
    values, fitted = np.array([0.0, 1.0, 2.0, 9.0, 9.0]), np.array([True, True, True, False, False])
    assert above_quantile(values, fitted, 0.5).tolist() == [0, 0, 1, 1, 1]


def test_discrete_actions_are_read_by_parts() -> None:
    latents = drawn(6)
    first = latents[:, :3].argmax(1)
    second = (latents[:, 4] > 0).astype(np.int64)
    found = action_probe(split(latents), np.stack([first, second], axis=1))
    assert found["f1"] > 0.9 and found["f1_random_encoder"] < 0.6
    only = action_probe(split(latents), first[:, None])
    assert only["f1"] == linear_probe(latents, first, held_out_rows(EPISODES)).f1


def test_continuous_actions_are_split_at_their_medians() -> None:
    latents = drawn(4)
    constant = np.full(len(latents), 2.0)
    actions = np.stack([latents[:, 0] * 7, -latents[:, 1], constant], axis=1)
    found = action_probe(split(latents), actions)
    # The constant element says nothing and does not count.
    assert found["accuracy"] > 0.95
    assert found["accuracy_majority"] == pytest.approx(0.5, abs=0.06)


def test_features_that_do_not_change_and_large_scales_do_no_harm() -> None:
    latents = np.concatenate([1e6 * drawn(2), np.full((len(EPISODES), 1), 0.1)], axis=1)
    labels = (latents[:, 0] > 0).astype(np.int64)
    scores = linear_probe(latents.astype(np.float32), labels, held_out_rows(EPISODES))
    assert scores.accuracy > 0.95


def test_a_class_of_the_held_out_rows_only_counts_as_wrong() -> None:
    labels, held_out = np.array([0, 1, 1, 2]), np.array([False, False, False, True])
    assert majority(labels, held_out) == (0.0, 0.0)


def test_scores_by_hand() -> None:
    # Class 0: TP 1, FP 1: 2 / 3. Class 1: TP 1, FN 1: 2 / 3. Class 2: TP 1: 1.
    f1, accuracy = score(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2]))
    assert f1 == pytest.approx(7 / 9) and accuracy == 0.75
