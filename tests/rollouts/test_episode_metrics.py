"""EpisodeLog and the reading of infos, with numbers computed by hand."""

import math
from typing import Any

import numpy as np
import pytest

from rlssl.rollouts.episode_metrics import EpisodeLog, success_of, vector_info, vector_success

BOTH = np.array([True, True])
SECOND = np.array([False, True])
ALL = slice(0, 2)


def test_episodes_are_scored_by_their_steps_and_not_by_resets() -> None:
    log = EpisodeLog(2)
    log.step(np.array([1.0, 10.0]), BOTH, ALL, 2)
    log.step(np.array([2.0, 20.0]), BOTH, ALL, 2)
    log.finish(0, 1.0)
    # Environment 0 resets.
    log.step(np.array([0.0, 30.0]), SECOND, ALL, 1)
    log.step(np.array([4.0, 40.0]), BOTH, ALL, 2)
    log.finish(0, 0.0)
    log.finish(1, math.nan)
    episodes = [(e.episode_return, e.length, e.offset) for e in log.drain()]
    # Agent steps in order: 0 1 | 0 1 | 1 | 0 1, so the ends are the third, sixth and seventh.
    assert episodes == [(3.0, 2, 3), (4.0, 1, 6), (100.0, 4, 7)]
    assert log.drain() == []


def test_offsets_count_from_the_last_drain_and_lost_steps_do_not_count() -> None:
    log = EpisodeLog(2)
    log.step(np.zeros(2), BOTH, ALL, 2)
    log.drain()
    log.step(np.zeros(2), BOTH, ALL, 2)
    log.step(np.zeros(2), BOTH, ALL, 2)
    log.restart(2, lost_steps=4)
    log.step(np.array([5.0, 6.0]), BOTH, ALL, 2)
    log.finish(1, 1.0)
    (episode,) = log.drain()
    assert (episode.episode_return, episode.length, episode.offset) == (6.0, 1, 2)


def test_offsets_go_on_where_a_batch_takes_several_samples() -> None:
    log = EpisodeLog(2)
    log.step(np.zeros(2), BOTH, ALL, 2)
    assert log.drain(keeps_counting=True) == []
    log.step(np.zeros(2), BOTH, ALL, 2)
    log.finish(1, math.nan)
    (episode,) = log.drain(keeps_counting=True)
    assert episode.offset == 4
    log.count_from(0)
    log.step(np.zeros(2), BOTH, ALL, 2)
    log.finish(1, math.nan)
    (episode,) = log.drain(keeps_counting=True)
    assert episode.offset == 2


@pytest.mark.parametrize(
    "info, success",
    [
        ({"success": True}, 1.0),
        ({"is_success": 0}, 0.0),
        ({"success": 0.25, "is_success": 1.0}, 0.25),
        ({"success": None}, math.nan),
        ({}, math.nan),
    ],
)
def test_success_is_what_the_last_info_says(info: dict[str, Any], success: float) -> None:
    assert success_of(info) == pytest.approx(success, nan_ok=True)


def test_vector_infos_hold_only_for_the_environments_that_gave_them() -> None:
    infos = {"success": np.array([True, True]), "_success": SECOND}
    assert math.isnan(vector_success(infos, 0, 2))
    assert vector_success(infos, 1, 2) == 1.0


def test_vector_infos_without_a_mask_hold_for_all() -> None:
    given = vector_info({"soft_terminated": SECOND}, "soft_terminated", 2)
    assert given is not None
    assert (given[0].tolist(), given[1].tolist()) == ([False, True], [True, True])
    assert vector_info({}, "soft_terminated", 2) is None


def test_same_step_autoreset_puts_the_infos_of_last_steps_in_final_info() -> None:
    infos: dict[str, Any] = {
        # From the reset of environment 0, and from the step of environment 1.
        "lives": np.array([5, 2]),
        "final_info": {"lives": np.array([0, 0]), "_lives": np.array([True, False])},
        "_final_info": np.array([True, False]),
    }
    given = vector_info(infos, "lives", 2)
    assert given is not None
    assert [part.tolist() for part in given] == [[0, 2], [True, True]]


def test_infos_of_a_reset_are_not_those_of_the_step_before() -> None:
    infos: dict[str, Any] = {
        "success": np.array([1.0, 1.0]),
        "final_info": {},
        "_final_info": np.array([True, False]),
    }
    assert math.isnan(vector_success(infos, 0, 2))
    assert vector_success(infos, 1, 2) == 1.0
