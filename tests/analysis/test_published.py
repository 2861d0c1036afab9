"""Published numbers agree with the medians and means of their papers, to the printed digits."""

import csv
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from rlssl.analysis.protocol import Protocol, differences
from rlssl.analysis.published import (
    atari_100k_games,
    atari_reference,
    human_normalized_scores,
    published_numbers,
)
from rlssl.analysis.statistics import dmc_normalized, iqm, mean_of_tasks, median_of_tasks


def normalized(method: str) -> np.ndarray:
    """[26, 1], the human-normalized scores of a method."""
    scores = []
    for game in atari_100k_games():
        (one,) = (one for one in published_numbers(f"atari/{game}") if one.method == method)
        scores.append(human_normalized_scores(game, [one.mean]))
    return np.array(scores)


@pytest.mark.parametrize(
    ("method", "median", "mean"),
    [  # as printed below Table 2 of arXiv:2004.04136v4
        ("CURL", 0.175, 0.381),
        ("SimPLe", 0.144, 0.443),
        ("OTRainbow", 0.204, 0.264),
        ("Data-Efficient Rainbow", 0.161, 0.285),
        ("human", 1.0, 1.0),
        ("random", 0.0, 0.0),
    ],
)
def test_medians_and_means_equal_the_papers(method: str, median: float, mean: float) -> None:
    scores = normalized(method)
    assert round(median_of_tasks(scores), 3) == median
    assert round(mean_of_tasks(scores), 3) == mean


def test_the_iqm_of_the_table_lies_between_a_random_policy_and_the_mean() -> None:
    # Of 26 games, six are dropped at each end. No paper prints this number: published IQMs are of
    # single runs, and these are means of games.
    scores = normalized("CURL")
    by_hand = np.sort(scores, axis=None)[6:20].mean()
    assert iqm(scores) == pytest.approx(by_hand)
    assert 0.0 < iqm(scores) < mean_of_tasks(scores)


def test_every_id_of_a_game_finds_it() -> None:
    known = [one.mean for one in published_numbers("atari/Pong")]
    for task in ("ALE/Pong-v5", "PongNoFrameskip-v4", "Pong-v0", "PongDeterministic-v4", "Pong"):
        assert [one.mean for one in published_numbers(task)] == known
    assert known == [14.6, -20.7, 12.8, 1.3, -19.3, -16.5]


@pytest.mark.parametrize("task", ["CartPole-v1", "dmc/humanoid-run", "atari/Tetris", "", "dmc/"])
def test_other_tasks_have_no_published_numbers(task: str) -> None:
    assert published_numbers(task) == []


def test_a_game_without_a_human_score_is_refused() -> None:
    with pytest.raises(ValueError, match="'atari/Tetris' has no human score"):
        atari_reference("atari/Tetris")


def test_frames_of_atari_100k_are_not_taken_for_agent_steps() -> None:
    (curl,) = (one for one in published_numbers("atari/Alien") if one.method == "CURL")
    assert (curl.mean, curl.sd) == (558.2, 160.0)
    assert curl.protocol.label == (
        "return: final or best not stated, actions not stated; 400,000 env steps (100,000 agent "
        "steps of 4); 20 seeds"
    )


def test_state_and_pixels_are_told_apart() -> None:
    from_state = published_numbers("dmc/walker-walk")
    from_pixels = published_numbers("dmc-pixels/walker-walk")
    assert {one.method for one in from_state} == {"SAC from state"}
    assert {one.observations for one in from_pixels} == {"pixels", "state"}
    assert len(from_pixels) == 16  # eight methods, after 100,000 and 500,000 env steps


def test_a_published_number_is_unlike_ones_own() -> None:
    for one in published_numbers("dmc-pixels/cheetah-run"):
        assert differences(one.protocol, Protocol("dmc-pixels/cheetah-run", episodes=20))


def test_returns_of_dm_control_are_shares_of_their_greatest_return() -> None:
    means = [one.mean for one in published_numbers("dmc-pixels/ball_in_cup-catch")]
    assert dmc_normalized(means).max() == pytest.approx(0.974)  # SAC from state: 974 of 1000


def test_the_files_name_their_sources() -> None:
    folder = Path(str(files("rlssl.analysis") / "published_scores"))
    found = sorted(folder.glob("*.csv"))
    assert [path.name for path in found] == ["atari_100k.csv", "dm_control.csv"]
    for path in found:
        lines = path.read_text().splitlines()
        assert "arXiv:2004.04136" in "".join(line for line in lines if line.startswith("#"))
        rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
        assert len(rows) == {"atari_100k.csv": 26, "dm_control.csv": 92}[path.name]
