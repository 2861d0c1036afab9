"""AddStackedObservations: rows by hand, phantom rows, list-backed episodes, missing lookback."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from ray.rllib.connectors.learner import AddOneTsToEpisodesAndTruncate
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from rlssl.connectors.stack_observations import AddStackedObservations, StackObservationsEnvToModule

SPACE = gym.spaces.Box(-9, 9, (1,), np.float32)


def episode(frames: list[float], lookback: int = 0, t_started: int = 0) -> SingleAgentEpisode:
    steps = len(frames) - 1
    return SingleAgentEpisode(
        observations=[np.array([f], np.float32) for f in frames],
        observation_space=SPACE,
        actions=[0] * steps,
        rewards=[1.0] * steps,
        len_lookback_buffer=lookback,
        t_started=t_started,
    )


def columns(
    piece: AddStackedObservations, episodes: list[SingleAgentEpisode], *, phantom: bool = False
) -> dict[str, Any]:
    batch: dict[str, Any] = {}
    shared: dict[str, Any] = {}
    if phantom:
        AddOneTsToEpisodesAndTruncate()(
            rl_module=None, batch=batch, episodes=episodes, shared_data=shared
        )
    batch = piece(rl_module=None, batch=batch, episodes=episodes, shared_data=shared)
    wanted = {c: batch[c] for c in (Columns.OBS, Columns.NEXT_OBS) if c in batch}
    return {
        name: [np.concatenate(by_episode[(e.id_,)]).tolist() for e in episodes]
        for name, by_episode in wanted.items()
    }


@pytest.mark.parametrize("to_numpy", [True, False])
def test_rows_are_windows_and_the_start_repeats_the_first_frame(to_numpy: bool) -> None:
    start = episode([1, 2, 3])
    piece = AddStackedObservations(frame_stack=3, next_obs=True)
    rows = columns(piece, [start.to_numpy() if to_numpy else start])
    assert rows == {
        "obs": [[[1, 1, 1], [1, 1, 2]]],
        "new_obs": [[[1, 1, 2], [1, 2, 3]]],
    }


def test_later_chunk_is_stacked_from_its_lookback() -> None:
    # Frames 4 and 5 are lookback; the chunk holds the steps 6 -> 7 -> 8.
    chunk = episode([4, 5, 6, 7, 8], lookback=2, t_started=5).to_numpy()
    rows = columns(AddStackedObservations(frame_stack=3), [chunk])
    assert rows == {"obs": [[[4, 5, 6], [5, 6, 7]]]}


def test_next_observations_of_a_phantom_row_repeat_its_observation() -> None:
    piece = AddStackedObservations(frame_stack=2, next_obs=True)
    rows = columns(piece, [episode([1, 2, 3]).to_numpy(), episode([7, 8]).to_numpy()], phantom=True)
    # The last row of each episode is the phantom: its OBS is the final observation's stack.
    assert rows == {
        "obs": [[[1, 1], [1, 2], [2, 3]], [[7, 7], [7, 8]]],
        "new_obs": [[[1, 2], [2, 3], [2, 3]], [[7, 8], [7, 8]]],
    }


@pytest.mark.parametrize("to_numpy", [True, False])
def test_single_frames_may_be_nested(to_numpy: bool) -> None:
    nested = SingleAgentEpisode(
        observations=[{"a": np.array([t]), "b": t} for t in range(3)],
        actions=[0, 0],
        rewards=[0.0, 0.0],
        len_lookback_buffer=0,
    )
    nested = nested.to_numpy() if to_numpy else nested
    batch = AddStackedObservations(next_obs=True)(rl_module=None, batch={}, episodes=[nested])
    (rows,) = batch[Columns.NEXT_OBS][(nested.id_,)]
    assert (rows["a"].tolist(), rows["b"].tolist()) == ([[1], [2]], [1, 2])


def test_columns_that_are_already_in_the_batch_stay() -> None:
    batch = {Columns.OBS: "theirs"}
    AddStackedObservations()(rl_module=None, batch=batch, episodes=[episode([1, 2]).to_numpy()])
    assert batch == {Columns.OBS: "theirs"}


def test_chunk_without_enough_earlier_frames_is_an_error() -> None:
    chunk = episode([5, 6, 7], lookback=1, t_started=5).to_numpy()
    with pytest.raises(ValueError, match=r"starts at step 5 carries 1 .* needs 3.*horizon >= 3"):
        columns(AddStackedObservations(frame_stack=4), [chunk])


def test_env_to_module_piece_stacks_the_newest_frames() -> None:
    piece = StackObservationsEnvToModule(SPACE, gym.spaces.Discrete(2), frame_stack=3)
    assert piece.observation_space.shape == (3,)
    young, old = episode([1, 2]), episode([3, 4, 5, 6])
    batch = piece(rl_module=None, batch={}, episodes=[young, old])
    items = [batch[Columns.OBS][(e.id_,)][0].tolist() for e in (young, old)]
    assert items == [[1, 1, 2], [4, 5, 6]]
