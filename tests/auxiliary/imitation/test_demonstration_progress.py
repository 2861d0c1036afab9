"""The reward for passing the checkpoints of a demonstration."""

import copy
import math
import threading
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from rlssl.auxiliary.base import ChunkInfo
from rlssl.auxiliary.imitation.demonstration_progress import (
    MAX_OPEN_EPISODES,
    DemonstrationProgress,
)
from rlssl.auxiliary.imitation.demonstrations import Demonstrations
from rlssl.data import Episode
from rlssl.errors import SpecError
from rlssl.experiment.checkpoints.exact_state import _kept, _set_kept
from tests.algorithms.bench import Bench, small_ppo
from tests.auxiliary.imitation.recorded import record
from tests.auxiliary.latents import Half, Meeting, Scaled

PLANE = gym.spaces.Box(-2, 2, (2,), np.float32)
#: Nine points on a circle, 40 degrees apart; their mean is 0.
CIRCLE = np.array(
    [[math.cos(2 * math.pi * k / 9), math.sin(2 * math.pi * k / 9)] for k in range(9)], np.float32
)


def loss_with(frames: np.ndarray = CIRCLE, **options: Any) -> DemonstrationProgress:
    """The embedding of a frame is the frame. The cosine of 40 degrees is 0.77."""
    loss = DemonstrationProgress(
        DemonstrationProgress.Config(**{"spacing": 4, "threshold": 0.8, **options}),
        encoder=Scaled(2),
        observation_space=PLANE,
        action_space=gym.spaces.Discrete(2),
    )
    episode = Episode(frames, None, np.zeros(len(frames) - 1, np.float32))
    loss._demonstrations = Demonstrations([episode], PLANE, gym.spaces.Discrete(2))
    return loss


def rewards(
    loss: Any, frames: np.ndarray, name: str = "a", first: int = 0, done: bool = True
) -> Any:
    """Of the steps that lead to ``frames``."""
    chunks = [ChunkInfo(name, len(frames), first, done)]
    batch = {Columns.NEXT_OBS: torch.from_numpy(frames.copy()), "chunks": chunks}
    return loss.intrinsic_reward(batch).tolist()


def test_the_demonstration_gets_half_for_each_checkpoint_and_a_reversed_one_at_most_one() -> None:
    # Checkpoints are the frames 4 and 8.
    loss = loss_with()
    assert rewards(loss, CIRCLE[1:]) == [0, 0, 0, 0.5, 0, 0, 0, 0.5]
    # Backwards, frame 4 comes after frame 8, which then does not come again.
    assert rewards(loss, CIRCLE[-2::-1]) == [0, 0, 0, 0.5, 0, 0, 0, 0]
    assert loss.metrics({})["passed_share"] == 0.5


def test_a_checkpoint_pays_once_and_the_last_one_ends_it() -> None:
    loss = loss_with()
    here, end = CIRCLE[4], CIRCLE[8]
    assert rewards(loss, np.stack([end, here, here, end, end, here])) == [0, 0.5, 0, 0.5, 0, 0]


def test_embeddings_are_centered_and_compared_by_their_angle() -> None:
    # The same circle elsewhere and larger: without the center, all frames would be alike.
    loss = loss_with(100.0 + 3.0 * CIRCLE)
    assert rewards(loss, 100.0 + 5.0 * CIRCLE[1:]) == [0, 0, 0, 0.5, 0, 0, 0, 0.5]


def test_progress_continues_over_chunks_and_restores_and_ends_with_the_episode() -> None:
    loss = loss_with()
    assert sum(rewards(loss, CIRCLE[1:6], done=False)) == 0.5
    assert rewards(loss, CIRCLE[1:6], "b", done=False)[3] == 0.5
    restored = loss_with()
    _set_kept(restored, copy.deepcopy(_kept(loss)))
    for one in (loss, restored):
        assert rewards(one, CIRCLE[6:], first=5) == [0, 0, 0.5]
        # A new episode of the same id starts again.
        assert rewards(one, CIRCLE[8:]) == [0]
        assert list(one._open_progress) == ["b"]


def test_two_learners_with_the_chunks_of_one_episode_agree_with_one() -> None:
    cuts = [(CIRCLE[1:3], 0), (CIRCLE[3:6], 2), (CIRCLE[6:8], 5), (CIRCLE[8:], 7)]
    expected = rewards(loss_with(), CIRCLE[1:])
    meeting, found = Meeting(), [[], []]  # type: ignore[var-annotated]

    def learn(rank: int) -> None:
        loss = loss_with()
        loss.peers = Half(rank, 0, meeting)
        for frames, first in cuts[rank::2]:
            found[rank].append(rewards(loss, frames, first=first, done=first == 7))

    threads = [threading.Thread(target=learn, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    joined = [*found[0][0], *found[1][0], *found[0][1], *found[1][1]]
    assert joined == expected


def test_episodes_that_never_end_are_forgotten() -> None:
    loss = loss_with()
    loss._open_progress = {str(k): 1 for k in range(MAX_OPEN_EPISODES)}
    rewards(loss, CIRCLE[1:2], "new", done=False)
    assert len(loss._open_progress) == MAX_OPEN_EPISODES
    assert "0" not in loss._open_progress and "new" in loss._open_progress


@pytest.fixture(scope="module")
def pendulum(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("data") / "pendulum"
    return record(path, {"id": "Pendulum-v1"}, ["expert/pendulum"] * 2, most=40)


def bench_with(path: str, seed: int = 0, **options: Any) -> Bench:
    losses = {"demonstration_progress": {"demonstrations": path, **options}}
    return Bench(small_ppo("Pendulum-v1").debugging(seed=seed).auxiliary(**losses))


def test_the_embedding_stays_while_the_encoder_learns_and_is_restored(pendulum: str) -> None:
    bench, other = bench_with(pendulum), bench_with(pendulum, seed=9)
    loss = bench.module.auxiliary["demonstration_progress"]
    before = copy.deepcopy(loss.embedding.state_dict())
    bench.update(bench.sample())
    after, encoder = loss.embedding.target.state_dict(), bench.module.encoder.state_dict()
    assert all(torch.equal(before[f"target.{key}"], value) for key, value in after.items())
    assert not all(torch.equal(encoder[key], value) for key, value in after.items())
    device = torch.device("cpu")
    restored = other.module.auxiliary["demonstration_progress"]
    assert not torch.equal(restored._embedded(device)[0], loss._embedded(device)[0])
    other.learner.set_state(bench.learner.get_state())
    assert torch.equal(restored._embedded(device)[0], loss._embedded(device)[0])


@pytest.mark.parametrize(
    "options, words",
    [
        ({"episode": 2}, "episode must be below 2, the number of episodes"),
        ({"spacing": 41}, "spacing must be at most 40, the steps of episode 0"),
        ({"threshold": 1.0}, r"threshold must be in \(-1, 1\)"),
        ({"spacing": 0}, "spacing must be a whole number >= 1"),
    ],
)
def test_bad_options_are_refused(pendulum: str, options: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=words):
        bench_with(pendulum, **options)
