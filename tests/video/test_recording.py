"""Videos of episodes: their frames, and the same episodes as in an evaluation."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import imageio.v3 as iio
import numpy as np
import pytest
import torch

from rlssl.evaluation import EpisodeRecord, evaluate_policy, evaluation_env
from rlssl.video import recording
from rlssl.video.frames import Panel, enlarged
from rlssl.video.recording import Player, Video, record
from rlssl.video.rendering import frame_of
from tests.video.policies import policy_for

CART: dict[str, Any] = {"id": "CartPole-v1"}
#: Half a second of CartPole.
HELD = 25


def played(path: Path, env: dict[str, Any], seeds: range, **options: Any) -> Video:
    options = {"explore": False, **options}
    player = Player(policy_for(env), env, "policy", seeds=seeds, **options)
    return record([player], len(seeds), [path])


def scores_of(episodes: list[EpisodeRecord]) -> list[tuple[int, float, int]]:
    """Without the success, which is NaN here."""
    return [(episode.seed, episode.score, episode.length) for episode in episodes]


def scores(video: Video) -> list[list[tuple[int, float, int]]]:
    return [scores_of(episodes) for episodes in video.episodes]


@pytest.mark.parametrize("explore", [False, True])
@pytest.mark.parametrize(
    "env", [CART, {"id": "Pendulum-v1"}, {"id": "minatar/Breakout", "max_episode_steps": 40}]
)
def test_episodes_are_those_of_an_evaluation(
    tmp_path: Path, env: dict[str, Any], explore: bool
) -> None:
    found = played(tmp_path / "a.mp4", env, range(3, 5), explore=explore, max_steps=60)
    expected = evaluate_policy(
        policy_for(env), env, seeds=range(3, 5), explore=explore, max_steps=60
    )
    assert scores(found) == [scores_of(expected)]


class Sticky(gym.Wrapper[Any, Any, Any, Any]):
    """An environment with a state across its episodes: an episode's reward is its number."""

    number = 0

    def reset(self, **options: Any) -> Any:
        self.number += 1
        return self.env.reset(**options)

    def step(self, action: Any) -> Any:
        observation, _, *others = self.env.step(action)
        return (observation, float(self.number), *others)


def test_episodes_are_dealt_to_environments_as_in_an_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sticky(env: Any, seed: int) -> Any:
        return Sticky(evaluation_env(env, seed))

    monkeypatch.setattr(recording, "evaluation_env", sticky)
    monkeypatch.setattr("rlssl.evaluation.evaluation_env", sticky)
    found = played(tmp_path / "a.mp4", CART, range(10), max_steps=2)
    expected = evaluate_policy(policy_for(CART), CART, seeds=range(10), explore=False, max_steps=2)
    # Episodes 8 and 9 are the second ones of their environments: 2 steps with a reward of 2.
    assert [episode.score for episode in expected] == [2.0] * 8 + [4.0] * 2
    assert scores(found) == [scores_of(expected)]


def test_the_file_has_the_frames_of_the_episode(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    video = played(path, CART, range(1))
    (episode,) = video.episodes[0]
    frames = iio.imread(path)
    # After the reset and after each step; then the last one is held.
    assert len(frames) == video.num_frames == 1 + episode.length + HELD
    assert frames.shape[1:] == (*video.size, 3) == (400 + 44, 600, 3)
    assert iio.immeta(path, plugin="FFMPEG")["fps"] == video.fps == 50.0
    moved = np.abs(np.diff(frames[: 1 + episode.length, 44:].astype(int), axis=0)).max((1, 2, 3))
    assert (moved > 50).mean() > 0.5  # the first steps move by less than a pixel
    held = frames[-HELD:, 44:].astype(int)
    assert np.abs(held - held[0]).max() < 30  # only the encoder's noise


def test_an_episode_begins_with_its_own_first_frame(tmp_path: Path) -> None:
    # Gymnasium's RecordVideo (helpingstar/gym-woodoku, issue 18): the first frame of a video was
    # the last one of the episode before.
    path = tmp_path / "a.mp4"
    video = played(path, CART, range(2))
    first = video.episodes[0][0]
    frame = iio.imread(path)[1 + first.length + HELD]
    env = gym.make("CartPole-v1", render_mode="rgb_array")
    env.reset(seed=1)
    assert np.abs(frame[44:].astype(int) - frame_of(env)).mean() < 2
    last = iio.imread(path)[first.length]
    assert np.abs(last[44:].astype(int) - frame_of(env)).mean() > 2


def test_each_episode_ends_in_its_own_time_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[list[Panel]] = []
    draw = recording.Layout.draw

    def noted(self: Any, panels: Any) -> Any:
        drawn.append(list(panels))
        return draw(self, panels)

    monkeypatch.setattr(recording.Layout, "draw", noted)
    players = [
        Player(policy_for(CART, seed), CART, f"policy {seed}", seeds=[0], explore=False)
        for seed in (0, 1, 2)
    ]
    video = record(players, 1, [tmp_path / "a.mp4", tmp_path / "a.gif"])
    lengths = [episodes[0].length for episodes in video.episodes]
    assert len(set(lengths)) > 1, "the test needs episodes of different lengths"
    assert video.num_frames == len(drawn) == 1 + max(lengths) + HELD
    shortest = int(np.argmin(lengths))
    after = drawn[lengths[shortest] + 1][shortest]
    assert after.has_ended
    assert after.status == f"return {min(lengths)}   step {min(lengths)}   episode seed 0"
    assert (after.frame == drawn[-1][shortest].frame).all()
    assert not drawn[max(lengths) - 1][int(np.argmax(lengths))].has_ended
    assert video.size == (444, 3 * 600 + 2 * 4)
    assert iio.imread(tmp_path / "a.gif").shape[1:] == (*video.size, 3)


def test_players_that_take_turns_do_not_share_random_numbers(tmp_path: Path) -> None:
    players = [Player(policy_for(CART, seed), CART, "", seeds=[5], explore=True) for seed in (0, 1)]
    found = record(players, 1, [tmp_path / "a.mp4"])
    expected = [
        evaluate_policy(policy_for(CART, seed), CART, seeds=[5], explore=True) for seed in (0, 1)
    ]
    assert scores(found) == [scores_of(one) for one in expected]


def test_the_callers_generators_stay_as_they_are(tmp_path: Path) -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    numpy_state: Any = np.random.get_state()
    torch_state = torch.get_rng_state()
    played(tmp_path / "a.mp4", CART, range(1), explore=True)
    numpy_now: Any = np.random.get_state()
    assert (torch.get_rng_state() == torch_state).all()
    assert (numpy_now[1] == numpy_state[1]).all()


def test_an_environment_that_fails_leaves_no_file_and_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []

    class Failing(gym.Wrapper[Any, Any, Any, Any]):
        steps = 0

        def step(self, action: Any) -> Any:
            self.steps += 1
            if self.steps == 5:
                raise RuntimeError("a bug in the environment")
            return self.env.step(action)

        def close(self) -> None:
            closed.append(self.steps)
            self.env.close()

    def failing(env: Any, seed: int) -> Any:
        return Failing(evaluation_env(env, seed))

    monkeypatch.setattr(recording, "evaluation_env", failing)
    with pytest.raises(RuntimeError, match="a bug in the environment"):
        played(tmp_path / "a.mp4", CART, range(1))
    assert list(tmp_path.iterdir()) == []
    assert closed == [5]


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize(
    "name", ["atari/Pong", "MiniGrid-Empty-5x5-v0", "dmc-pixels/cartpole-swingup"]
)
def test_suites_are_recorded(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.mp4"
    video = played(path, {"id": name}, range(1), explore=True, max_steps=12)
    frames = iio.imread(path)
    assert frames.shape == (video.num_frames, *video.size, 3)
    assert min(video.size) >= 240 and not any(side % 2 for side in video.size)
    pictures = frames[:, 44:]
    assert pictures.std() > 0 and (pictures[0] != pictures[-1]).any()
    env = evaluation_env(_rendering(name), 0)
    env.reset(seed=0)
    first = enlarged(frame_of(env))
    assert np.abs(pictures[0, : len(first), : first.shape[1]].astype(int) - first).mean() < 8


def _rendering(name: str) -> dict[str, Any]:
    return {"id": name, **({} if name.startswith("dmc") else {"render_mode": "rgb_array"})}
