"""Atari against ale-py's own vector environment; lives, clipping and frame limits of a game."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from ale_py.vector_env import AtariVectorEnv

from rlssl.environments.building import find_environment, make_env, make_vector_env
from rlssl.environments.env_check import preflight
from rlssl.errors import SpecError, UnknownNameError
from rlssl.plugins import load_plugins
from rlssl.rollouts import VectorEnvRunner
from tests.rollouts.counting import make_config, make_runner

load_plugins(["rlssl_envs"])

BREAKOUT = {"id": "atari/Breakout"}
INVADERS = {"id": "atari/SpaceInvaders"}


def ids() -> list[str]:
    entry = find_environment("atari/Pong")
    assert entry is not None
    return entry.members()


def ale(rom: str, num_envs: int, **arguments: Any) -> AtariVectorEnv:
    """ale-py's own environment, with the settings of the literature."""
    usual = {"stack_num": 1, "use_fire_reset": False, "reward_clipping": False, "num_threads": 1}
    return AtariVectorEnv(rom, num_envs, **{**usual, **arguments})


def random_actions(env: Any, num_steps: int, num_envs: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, env.single_action_space.n, (num_steps, num_envs))


def play(env: Any, actions: np.ndarray, seed: int | None = None) -> dict[str, np.ndarray]:
    """Plays, also past the end of a game; returns the results of each step."""
    rows: dict[str, list] = {key: [] for key in ("frame", "reward", "end", "soft", "clipped")}
    env.reset(seed=seed)
    end = False
    for action in actions:
        if end:
            (frame, _), reward, end, info = env.reset(), 0.0, False, {}
        else:
            frame, reward, terminated, truncated, info = env.step(action)
            end = terminated or truncated
        soft, clipped = info.get("soft_terminated", False), info.get("learning_reward", 0.0)
        for key, value in zip(rows, (frame, reward, end, soft, clipped), strict=True):
            rows[key].append(value)
    return {key: np.stack(values) for key, values in rows.items()}


@pytest.mark.parametrize("sticky_actions", [0.0, 0.25])
def test_steps_equal_ale_pys_own_across_resets(sticky_actions: float) -> None:
    theirs = ale("breakout", 2, repeat_action_probability=sticky_actions)
    env = {**BREAKOUT, "sticky_actions": sticky_actions, "num_threads": 2}
    ours = make_vector_env(env, num_envs=2)
    assert ours.single_observation_space == theirs.single_observation_space
    assert ours.action_space == theirs.action_space
    np.testing.assert_array_equal(ours.reset(seed=7)[0], theirs.reset(seed=7)[0])
    ends = 0
    # A game of Breakout lasts about 180 random steps.
    for actions in random_actions(ours, 300, 2):
        mine, own = ours.step(actions)[:4], theirs.step(actions)[:4]
        for a, b in zip(mine, own, strict=True):
            np.testing.assert_array_equal(a, b)
        ends += int(np.sum(own[2]))
    assert ends >= 2
    assert mine[1].dtype == np.float64


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ({"img_size": 42}, {"img_height": 42, "img_width": 42}),
        ({"img_size": [96, 64]}, {"img_height": 96, "img_width": 64}),
        ({"frame_skip": 2, "max_pool": False}, {"frameskip": 2, "maxpool": False}),
        ({"noop_max": 0, "use_fire_reset": True}, {"noop_max": 0, "use_fire_reset": True}),
        ({"full_action_space": True}, {"full_action_space": True}),
    ],
)
def test_option_reaches_ale_py(options: dict[str, Any], arguments: dict[str, Any]) -> None:
    theirs = ale("breakout", 1, **arguments)
    ours = make_env({**BREAKOUT, **options})
    assert ours.observation_space == theirs.single_observation_space
    assert ours.action_space == theirs.single_action_space
    np.testing.assert_array_equal(ours.reset(seed=1)[0], theirs.reset(seed=1)[0][0])
    for actions in random_actions(theirs, 30):
        np.testing.assert_array_equal(ours.step(actions[0])[0], theirs.step(actions)[0][0])


def test_channels_come_first() -> None:
    theirs = ale("breakout", 2, grayscale=False)
    ours = make_vector_env({**BREAKOUT, "grayscale": False}, num_envs=2)
    assert ours.single_observation_space.shape == (3, 84, 84)
    assert ours.observation_space.shape == (2, 3, 84, 84)
    expected: Any = theirs.reset(seed=1)[0]  # [2, 1, 84, 84, 3]
    for channel in range(3):
        np.testing.assert_array_equal(
            ours.reset(seed=1)[0][:, channel], expected[:, 0, :, :, channel]
        )


def test_a_single_game_equals_that_of_the_vector_environment() -> None:
    vector, single = make_vector_env(BREAKOUT, num_envs=1), make_env(BREAKOUT)
    assert single.observation_space == vector.single_observation_space
    assert single.action_space == vector.single_action_space
    actions = random_actions(vector, 400)
    rows = play(single, actions[:, 0], seed=5)
    assert rows["end"].sum() >= 2 and rows["soft"].sum() >= 8
    vector.reset(seed=5)
    for t, action in enumerate(actions):
        frames, rewards, terminated, _, infos = vector.step(action)
        np.testing.assert_array_equal(frames[0], rows["frame"][t])
        given = (rewards, terminated, infos["soft_terminated"], infos["learning_reward"])
        for value, key in zip(given, ("reward", "end", "soft", "clipped"), strict=True):
            assert value[0] == rows[key][t]


def test_seeded_game_does_not_depend_on_the_games_before() -> None:
    env = make_env({**INVADERS, "sticky_actions": 0.25})
    actions = np.random.default_rng(1).integers(0, 6, 120)
    first = play(env, actions, seed=3)["frame"]
    assert not np.array_equal(play(env, actions, seed=4)["frame"], first)
    env.reset()
    np.testing.assert_array_equal(play(env, actions, seed=3)["frame"], first)


def test_each_game_has_a_seed_which_may_have_more_than_31_bits() -> None:
    env = {**INVADERS, "noop_max": 300}  # so that equal numbers of no-ops are unlikely
    vector: Any = make_vector_env(env, num_envs=2)
    # 2 ** 40 modulo 2 ** 31 is 0: ale-py takes 31 bits.
    frames = [vector.reset(seed=seed)[0] for seed in (8, [8, 9], np.int64(8), 2**40, 0)]
    np.testing.assert_array_equal(frames[0], frames[1])
    np.testing.assert_array_equal(frames[0], frames[2])
    np.testing.assert_array_equal(frames[3], frames[4])
    assert not np.array_equal(frames[0], frames[3])
    np.testing.assert_array_equal(make_env(env).reset(seed=9)[0], frames[0][1])
    with pytest.raises(ValueError, match="seed must be >= 0; got -1"):
        vector.reset(seed=-1)


def test_lost_life_ends_the_learning_episode_and_not_the_game() -> None:
    config = make_config(INVADERS, num_envs=1)
    config.vectorize = "native"
    runner = make_runner(VectorEnvRunner, config)
    chunks = runner.sample(num_timesteps=1200, random_actions=True)
    finished = runner.get_metrics()["rlssl_episodes"]

    # The same actions on ale-py's own environment, without soft terminations and clipping.
    theirs = ale("space_invaders", 1)
    frame: Any
    frame, infos = theirs.reset(seed=runner.env_seeds[0])
    lives, scores, lengths, lost = [int(infos["lives"][0])], [0.0], [0], 0
    for chunk in chunks:
        observations, rewards = chunk.get_observations(), chunk.get_rewards()
        np.testing.assert_array_equal(observations[0], frame[0])
        for t, action in enumerate(chunk.get_actions()):
            frame, reward, terminated, _, infos = theirs.step(np.array([action]))
            np.testing.assert_array_equal(observations[t + 1], frame[0])
            assert rewards[t] == min(reward[0], 1)
            lives.append(int(infos["lives"][0]))
            scores[-1] += reward[0]
            lengths[-1] += 1
            ends = bool(terminated[0] or 0 < lives[-1] < lives[-2])
            assert ends == (chunk.is_terminated and t == len(chunk) - 1)
            lost += ends and not terminated[0]
            if terminated[0]:
                frame, *_, infos = theirs.step(np.array([0]))  # the reset
                scores.append(0.0)
                lengths.append(0)
                lives.append(int(infos["lives"][0]))

    # Each game has three lives, so two soft terminations; the last game is not finished.
    assert len(scores) >= 3 and 0 <= lost - 2 * (len(scores) - 1) <= 2
    assert finished["return"].peek() == scores[:-1]
    assert finished["length"].peek() == lengths[:-1]
    assert all(score % 5 == 0 and score > 0 for score in scores[:-1])  # an invader scores 5 to 30


# Frogger continues for some steps with 0 lives, without a lost life and without a game over.
@pytest.mark.parametrize(("game", "rom"), [("Breakout", "breakout"), ("Frogger", "frogger")])
def test_soft_terminations_are_those_that_ale_py_reports(game: str, rom: str) -> None:
    theirs = ale(rom, 2, life_loss_info=True)
    ours = make_vector_env({"id": f"atari/{game}"}, num_envs=2)
    theirs.reset(seed=0)
    ours.reset(seed=0)
    soft = ends = 0
    for actions in random_actions(ours, 300, 2):
        _, _, terminated, _, infos = ours.step(actions)
        np.testing.assert_array_equal(
            terminated | infos["soft_terminated"], theirs.step(actions)[2]
        )
        soft += int(infos["soft_terminated"].sum())
        ends += int(terminated.sum())
    assert soft >= 6 and ends >= 2


def first_lost_life(frame_skip: int) -> int:
    """Frames from the reset with seed 0 to the step that loses the first life, inclusive."""
    env = make_env({**BREAKOUT, "frame_skip": frame_skip})
    env.reset(seed=0)
    for t in range(1, 1000):
        if env.step(1)[-1]["soft_terminated"]:
            return t * frame_skip
    raise AssertionError


def test_frame_limit_is_a_truncation_even_if_a_life_is_lost() -> None:
    frames = first_lost_life(4)
    vector = make_vector_env({**BREAKOUT, "max_frames": frames}, num_envs=1)
    fire = np.array([1])
    _, infos = vector.reset(seed=0)
    start = infos["episode_frame_number"][0]
    for _ in range(frames // 4 - 1):
        *_, terminated, truncated, infos = vector.step(fire)
        assert not (terminated[0] or truncated[0] or infos["soft_terminated"][0])
    *_, terminated, truncated, infos = vector.step(fire)
    assert (terminated[0], truncated[0]) == (False, True)
    assert infos["lives"][0] == 4 and not infos["soft_terminated"][0]
    assert infos["episode_frame_number"][0] - start == frames
    # The next step is the reset. Even after extra lives it is no lost life.
    vector._lives[:] = 9  # type: ignore[attr-defined]
    *_, terminated, truncated, infos = vector.step(fire)
    assert infos["lives"][0] == 5
    assert not (terminated[0] or truncated[0] or infos["soft_terminated"][0])


@pytest.mark.slow
def test_game_is_truncated_after_108000_frames_by_default() -> None:
    env = make_env(BREAKOUT)
    env.reset(seed=0)
    steps, ended = 0, False
    while not ended:  # without FIRE the game waits for the ball
        *_, terminated, truncated, _ = env.step(0)
        steps, ended = steps + 1, terminated or truncated
    assert (steps, terminated, truncated) == (27_000, False, True)


def test_evaluation_has_whole_games_and_true_rewards_only() -> None:
    vector = make_vector_env(BREAKOUT, num_envs=2, split="eval")
    vector.reset(seed=0)
    for actions in random_actions(vector, 60, 2):
        infos = vector.step(actions)[-1]
        assert infos.keys() == {"lives", "episode_frame_number"}
    assert min(infos["lives"]) < 5
    single = make_env(BREAKOUT, split="eval")
    single.reset(seed=0)
    assert single.step(0)[-1].keys() == {"lives", "episode_frame_number"}


@pytest.mark.parametrize(
    ("option", "key"),
    [("life_loss_terminal", "soft_terminated"), ("clip_rewards", "learning_reward")],
)
def test_infos_without_an_option_lack_its_key(option: str, key: str) -> None:
    env = make_env({**BREAKOUT, option: False})
    env.reset(seed=0)
    left = {"soft_terminated", "learning_reward"} - {key}
    assert env.step(0)[-1].keys() == {"lives", "episode_frame_number"} | left


def test_masked_reset_does_not_change_the_other_games() -> None:
    vector: Any = make_vector_env(BREAKOUT, num_envs=2)
    single = make_env(BREAKOUT)
    vector.reset(seed=0)
    actions = random_actions(vector, 80, 2)
    for action in actions[:40]:
        before = vector.step(action)[0]
    frames, _ = vector.reset(seed=[6], options={"reset_mask": np.array([False, True])})
    np.testing.assert_array_equal(frames[0], before[0])
    np.testing.assert_array_equal(frames[1], single.reset(seed=6)[0])
    for action in actions[40:]:
        frames, *_, infos = vector.step(action)
        frame, *_, info = single.step(action[1])
        np.testing.assert_array_equal(frames[1], frame)
        assert infos["soft_terminated"][1] == info["soft_terminated"]


def test_returned_frames_do_not_change_later() -> None:
    vector = make_vector_env(BREAKOUT, num_envs=2)
    given = [vector.reset(seed=0)[0]]
    given += [vector.step(actions)[0] for actions in random_actions(vector, 50, 2)]
    copies = [frames.copy() for frames in given]
    for actions in random_actions(vector, 50, 2):
        vector.step(actions)
    vector.close()
    np.testing.assert_array_equal(given, copies)


@pytest.mark.parametrize("repeat", [1, 4])
def test_action_is_repeated_for_the_frames_of_an_agent_step(repeat: int) -> None:
    env = {**INVADERS, "frame_skip": repeat}
    assert preflight(env).action_repeat == repeat
    single = make_env(env)
    _, info = single.reset(seed=0)
    assert single.step(0)[-1]["episode_frame_number"] - info["episode_frame_number"] == repeat


def test_preflight_learns_the_spaces() -> None:
    spaces = preflight({"id": "atari/MsPacman", "img_size": 42})
    assert spaces.observation_space == gym.spaces.Box(0, 255, (1, 42, 42), np.uint8)
    assert spaces.action_space == gym.spaces.Discrete(9)


@pytest.mark.parametrize("sticky_actions", [0.0, 0.25])
def test_rendered_picture_is_the_screen_of_the_same_game(sticky_actions: float) -> None:
    # A color observation of the screen's size is the screen.
    size = {"img_size": [210, 160], "grayscale": False}
    shown = {"render_mode": "rgb_array", "sticky_actions": sticky_actions}
    env = make_env({**BREAKOUT, **size, **shown})
    frame, _ = env.reset(seed=0)
    rng = np.random.default_rng(0)
    ends = 0
    for _ in range(500):
        picture: Any = env.render()
        np.testing.assert_array_equal(picture.transpose(2, 0, 1), frame)
        frame, _, over, _, _ = env.step(rng.integers(4))
        if over:
            ends += 1
            frame, _ = env.reset()
    assert ends >= 1


def test_there_is_no_picture_without_render_mode() -> None:
    env = make_env(BREAKOUT)
    env.reset(seed=0)
    assert env.render() is None


def test_game_that_is_over_needs_a_reset() -> None:
    env = make_env({**BREAKOUT, "max_frames": 4})
    with pytest.raises(gym.error.ResetNeeded, match="call reset"):
        env.step(0)
    env.reset(seed=0)
    assert env.step(0)[3]
    with pytest.raises(gym.error.ResetNeeded, match="call reset"):
        env.step(0)
    env.reset()
    assert env.step(0)[3]


@pytest.mark.parametrize("action", [-1, 4, [0, 0], 0.5])
def test_invalid_action_is_refused_because_ale_py_would_hang(action: Any) -> None:
    vector = make_vector_env(BREAKOUT, num_envs=1)
    vector.reset(seed=0)
    with pytest.raises(ValueError, match="actions must be"):
        vector.step(np.atleast_1d(action))
    vector.step(np.array([3]))


def test_metadata_of_other_vector_environments_does_not_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Empty, because the environments of ale-py in this file have written into it.
    monkeypatch.setattr(gym.vector.VectorEnv, "metadata", {})
    assert make_vector_env(BREAKOUT, num_envs=1).metadata.keys() == {"autoreset_mode"}
    assert gym.vector.VectorEnv.metadata == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frameskip": 4}, "unknown option env.frameskip of .*did you mean 'frame_skip'"),
        ({"frame_skip": 0}, "env.frame_skip must be a whole number >= 1; got 0"),
        ({"img_size": [84, 84, 1]}, r"env.img_size must be .*; got \[84, 84, 1\]"),
        ({"img_size": 84.0}, r"env.img_size must be a whole number or a list, .*; got 84.0"),
        ({"sticky_actions": True}, "env.sticky_actions must be a number; got True"),
        ({"sticky_actions": 1.5}, "env.sticky_actions must be a probability.*; got 1.5"),
        ({"grayscale": 1}, "env.grayscale must be true or false; got 1"),
        ({"max_frames": None}, "env.max_frames must be a whole number; got None"),
        ({"render_mode": "human"}, "env.render_mode must be 'rgb_array' or null; got 'human'"),
    ],
)
def test_bad_option_is_refused_with_its_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make_env({**BREAKOUT, **options})


@pytest.mark.parametrize(
    ("name", "guess"), [("atari/Breakot", "Breakout"), ("atari/ms_pacman", "MsPacman")]
)
def test_unknown_game_gets_a_suggestion(name: str, guess: str) -> None:
    for build in (make_env, lambda env: make_vector_env(env, num_envs=1)):
        with pytest.raises(UnknownNameError, match=f"did you mean 'atari/{guess}'"):
            build({"id": name})


def test_games_are_those_that_ale_py_registers() -> None:
    registered = {name for name in gym.registry if name.startswith("ALE/")}
    assert len(ids()) == 104
    assert {f"ALE/{name.removeprefix('atari/')}-v5" for name in ids()} == registered


@pytest.mark.slow
@pytest.mark.parametrize("name", ids())
def test_every_game_passes_preflight(name: str) -> None:
    preflight({"id": name})
