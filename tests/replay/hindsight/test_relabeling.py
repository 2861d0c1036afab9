"""Hindsight by hand: which goals, which rewards, where windows end, and what is refused."""

import re
from typing import Any

import numpy as np
import pytest
from ray.rllib.core.columns import Columns

from rlssl.replay import PrioritizedReplayBuffer, RelabelSettings, ReplayBuffer
from tests.replay.episodes import ACTIONS
from tests.replay.hindsight.goal_episodes import SPACE, functions, goal_chunk, relabeling_buffer

#: Practically every row gets another goal.
ALWAYS = 1e9


def goals_by_step(batch: dict[str, Any]) -> dict[int, set[int]]:
    """Step t -> the goals that it got."""
    found: dict[int, set[int]] = {}
    goals = batch[Columns.OBS]["desired_goal"][:, 0].astype(int).tolist()
    for t, goal in zip(batch[Columns.OBS]["observation"][:, 0].astype(int), goals, strict=True):
        found.setdefault(int(t), set()).add(goal)
    return found


def buffer_with(episode: Any, **options: Any) -> ReplayBuffer:
    buffer = relabeling_buffer(k=ALWAYS, **options)
    buffer.add([episode])
    return buffer


#: States that achieve 0, 10, 20, ...: the goal says from which state it is.
TENS = [10 * t for t in range(6)]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("future", {t: set(TENS[t + 1 :]) for t in range(5)}),
        ("final", {t: {50} for t in range(5)}),
        ("episode", {t: set(TENS) for t in range(5)}),
    ],
)
def test_goals_come_from_the_states_that_the_strategy_names(
    strategy: str, expected: dict[int, set[int]]
) -> None:
    episode = goal_chunk(TENS, 7, [0.0] * 5, truncated=True)
    assert goals_by_step(buffer_with(episode, strategy=strategy).sample(2000)) == expected


def test_later_states_are_equally_likely() -> None:
    buffer = buffer_with(goal_chunk(TENS, 7, [0.0] * 5, truncated=True))
    batch = buffer.sample(20_000)
    first = batch[Columns.OBS]["observation"][:, 0] == 0
    goals = batch[Columns.OBS]["desired_goal"][first, 0]
    counts = np.unique(goals, return_counts=True)[1]
    # Five goals; 20,000 / 5 rows: each has 800 of 4,000; 4 standard deviations are 101.
    assert len(counts) == 5 and np.all(np.abs(counts - counts.mean()) < 101)


@pytest.mark.parametrize("strategy", ["future", "final", "episode"])
def test_an_episode_of_one_step(strategy: str) -> None:
    batch = buffer_with(
        goal_chunk([1, 2], 0, [-9.0], terminated=True), strategy=strategy, terminates=False
    ).sample(8)
    if strategy != "episode":
        # Its only later state: the step reaches the goal.
        assert set(batch[Columns.OBS]["desired_goal"].ravel().tolist()) == {2.0}
        assert batch[Columns.REWARDS].tolist() == [0.0] * 8
    assert set(batch[Columns.OBS]["observation"][:, 0].tolist()) == {0.0}


def test_goals_are_equal_in_both_observations_and_only_goals_change() -> None:
    episode = goal_chunk(TENS, 7, [0.0] * 5, truncated=True)
    buffer = buffer_with(episode, terminates=False)
    batch = buffer.sample(64, n_step=2)
    obs, after = batch[Columns.OBS], batch[Columns.NEXT_OBS]
    np.testing.assert_array_equal(obs["desired_goal"], after["desired_goal"])
    t = obs["observation"][:, 0]
    np.testing.assert_array_equal(obs["achieved_goal"][:, 0], 10 * t)
    np.testing.assert_array_equal(after["achieved_goal"][:, 0], 10 * np.minimum(t + 2, 5))
    # What is stored stays.
    assert set(buffer.get_state()["rows/observations/1"].ravel().tolist()) == {7.0}


def test_the_share_of_replaced_goals_is_k_of_k_plus_one() -> None:
    buffer = relabeling_buffer(k=3)
    buffer.add([goal_chunk(TENS, 7, [-5.0] * 5, truncated=True)])
    batch = buffer.sample(8000)
    # 0.75; 4 standard deviations: 4 sqrt(0.75 * 0.25 / 8000) = 0.019.
    assert abs(batch["relabeled"].mean() - 0.75) < 0.019
    own = ~batch["relabeled"]
    assert set(batch[Columns.OBS]["desired_goal"][own].ravel().tolist()) == {7.0}
    assert set(batch[Columns.REWARDS][own].tolist()) == {-5.0}


def test_n_step_rewards_are_those_of_one_goal_and_windows_end_at_success() -> None:
    # From step 0, the states 1, 4, 2, 2 follow. Rewards are minus the distance to the goal.
    buffer = buffer_with(goal_chunk([0, 1, 4, 2, 2], 3, [9.0] * 4, truncated=True))
    batch = buffer.sample(200, n_step=3, gamma=0.5)
    first = batch[Columns.OBS]["observation"][:, 0] == 0
    goals = batch[Columns.OBS]["desired_goal"][:, 0]
    expected = {
        # reward, steps, terminated, discount
        1: (0.0, 1, True, 0.0),  # 0 at once
        4: (-3.0, 2, True, 0.0),  # -3 + 0.5 * 0
        2: (-2.0, 3, True, 0.0),  # -1 + 0.5 * -2 + 0.25 * 0
    }
    for goal, (reward, steps, terminated, discount) in expected.items():
        rows = first & (goals == goal)
        assert rows.any()
        assert set(batch[Columns.REWARDS][rows].tolist()) == {reward}
        assert set(batch["n_step"][rows].tolist()) == {steps}
        assert set(batch[Columns.TERMINATEDS][rows].tolist()) == {terminated}
        assert set(batch["discounts"][rows].tolist()) == {discount}
        achieved = batch[Columns.NEXT_OBS]["achieved_goal"][rows, 0]
        assert set(achieved.tolist()) == {goal}


def test_without_compute_terminated_terminations_are_those_that_were_recorded() -> None:
    goals = functions()
    goals._terminated = None
    assert not goals.tells_terminations
    buffer = ReplayBuffer(
        50, SPACE, ACTIONS, seed=0, relabel=RelabelSettings(k=ALWAYS), goal_functions=goals
    )
    buffer.add([goal_chunk([0, 2, 2, 2], 1, [9.0] * 3, terminated=True)])
    batch = buffer.sample(64, n_step=2)
    assert set(batch[Columns.REWARDS].tolist()) == {0.0}
    last = batch[Columns.OBS]["observation"][:, 0] >= 1
    np.testing.assert_array_equal(batch[Columns.TERMINATEDS], last)


def test_a_success_with_the_own_goal_is_no_termination_with_another() -> None:
    """The last step reached the goal 1; from state 0, the goal 2 is not reached by it."""
    buffer = buffer_with(
        goal_chunk([0, 2, 0, 1], 1, [9.0] * 3, terminated=True), strategy="episode"
    )
    batch = buffer.sample(400)
    last = batch[Columns.OBS]["observation"][:, 0] == 2
    reached = batch[Columns.OBS]["desired_goal"][:, 0] == 1
    assert (last & reached).any() and (last & ~reached).any()
    np.testing.assert_array_equal(batch[Columns.TERMINATEDS][last], reached[last])
    np.testing.assert_array_equal(batch[Columns.TRUNCATEDS][last], ~reached[last])


def test_a_termination_that_has_nothing_to_do_with_the_goal_stays() -> None:
    # The last state achieves 1, not the goal 3: the robot fell.
    buffer = buffer_with(
        goal_chunk([0, 2, 0, 1], 3, [9.0] * 3, terminated=True), strategy="episode"
    )
    batch = buffer.sample(200)
    last = batch[Columns.OBS]["observation"][:, 0] == 2
    assert batch[Columns.TERMINATEDS][last].all() and not batch[Columns.TRUNCATEDS].any()


def test_unfinished_episodes_give_only_goals_that_are_there() -> None:
    buffer = buffer_with(goal_chunk(TENS[:3], 7, [0.0] * 2))
    assert goals_by_step(buffer.sample(200)) == {0: {10, 20}, 1: {20}}
    buffer.add([goal_chunk(TENS[2:5], 7, [0.0] * 2, t_started=2)])
    assert goals_by_step(buffer.sample(800)) == {
        0: {10, 20, 30, 40},
        1: {20, 30, 40},
        2: {30, 40},
        3: {40},
    }


def test_states_that_were_evicted_are_no_goals() -> None:
    buffer = relabeling_buffer(5, k=ALWAYS, strategy="episode")
    buffer.add([goal_chunk(TENS, 7, [0.0] * 5)])
    # Five rows: the first state is gone.
    assert goals_by_step(buffer.sample(800)) == {t: set(TENS[1:]) for t in (1, 2, 3, 4)}


def test_chunks_of_other_episodes_do_not_mix() -> None:
    buffer = relabeling_buffer(k=ALWAYS)
    for start in (0, 2, 4):
        for copy in (0, 1):
            achieved = [100 * copy + 10 * t for t in range(start, start + 3)]
            name = f"copy {copy}"
            buffer.add([goal_chunk(achieved, 7, [0.0] * 2, t_started=start, id_=name)])
    batch = buffer.sample(500)
    own = batch[Columns.OBS]["achieved_goal"][:, 0] >= 100
    np.testing.assert_array_equal(batch[Columns.OBS]["desired_goal"][:, 0] >= 100, own)


def test_sequences_have_one_goal_and_end_at_success() -> None:
    buffer = buffer_with(goal_chunk([0, 1, 2, 1, 0], 3, [9.0] * 4, truncated=True))
    batch = buffer.sample(300, sequence_length=4)
    goals = batch[Columns.OBS]["desired_goal"][..., 0]
    for row in range(300):
        mask = batch["mask"][row]
        assert len(set(goals[row][mask].tolist())) == 1
        reached = np.flatnonzero(batch[Columns.REWARDS][row][mask] == 0.0)
        # Only its last step reaches the goal.
        assert reached.tolist() in ([], [mask.sum() - 1])
        np.testing.assert_array_equal(
            batch[Columns.TERMINATEDS][row][mask], batch[Columns.REWARDS][row][mask] == 0.0
        )
    assert set(batch["mask"].sum(axis=1).tolist()) == {1, 2, 3, 4}


def test_priorities_belong_to_steps() -> None:
    buffer = relabeling_buffer(k=ALWAYS, kind=PrioritizedReplayBuffer, alpha=1.0)
    buffer.add([goal_chunk(TENS, 7, [0.0] * 5, truncated=True)])
    indices = buffer.drawable_indices()
    buffer.update_priorities(indices, np.array([1.0, 0.0, 0.0, 0.0, 0.0]))
    batch = buffer.sample(64, beta=1.0)
    assert set(batch["indices"].tolist()) == {0}
    assert goals_by_step(batch)[0] == set(TENS[1:])


def test_the_share_of_successes_counts_replaced_goals_only() -> None:
    buffer = relabeling_buffer(k=1)
    assert buffer.relabeler is not None and buffer.relabeler.take_counts() == (0, 0)
    # Own goals are always reached; with a later state as the goal, only the last step reaches it.
    buffer.add([goal_chunk([5, 1, 2], 2, [0.0, 0.0], truncated=True)])
    batch = buffer.sample(4000)
    reached = batch[Columns.REWARDS][batch["relabeled"]] == 0.0
    assert buffer.relabeler.take_counts() == (len(reached), reached.sum())
    # Step 1 always reaches it, step 0 in half of the draws.
    assert abs(reached.mean() - 0.75) < 0.05
    assert buffer.relabeler.take_counts() == (0, 0)


def test_goals_do_not_change_which_steps_are_drawn_first() -> None:
    plain = ReplayBuffer(100, SPACE, ACTIONS, seed=3)
    hindsight = relabeling_buffer(seed=3)
    for buffer in (plain, hindsight):
        buffer.add([goal_chunk(TENS, 7, [0.0] * 5, truncated=True)])
    assert plain.relabeler is None and plain.goals_in({}) is None
    first = [buffer.sample(16)["indices"].tolist() for buffer in (plain, hindsight)]
    assert first[0] == first[1]
    assert "relabeled" not in plain.sample(4)


def test_stacks_of_frames_with_goals_are_refused() -> None:
    with pytest.raises(ValueError, match="frame_stack > 1 needs a Box"):
        relabeling_buffer(frame_stack=2)


def test_the_tables_count_as_memory_and_forget_old_episodes() -> None:
    plain, hindsight = ReplayBuffer(64, SPACE, ACTIONS), relabeling_buffer(64)
    assert hindsight.nbytes - plain.nbytes == 64 * 20
    episode = goal_chunk([1, 2], 0, [0.0], truncated=True)
    hindsight.add([episode] * 2500)
    assert hindsight.relabeler is not None
    # 32 episodes of two rows are alive.
    assert len(hindsight.relabeler._episodes._serials) <= 32 + 1024 + 1
    assert hindsight.sample(8)["relabeled"].shape == (8,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "random"}, "strategy must be one of future, final, episode; got 'random'."),
        ({"k": 0}, "k must be a number > 0; got 0."),
        ({"k": True}, "k must be a number > 0; got True."),
    ],
)
def test_wrong_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        RelabelSettings(**options)
