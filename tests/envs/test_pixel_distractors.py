"""Distractors in the frames of dm_control: what changes, what must not, and their seeds."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box
from rlssl_envs.pixel_distractors.layers import Discs, Noise
from rlssl_envs.pixel_distractors.options import DiscOptions, NoiseOptions
from rlssl_envs.pixel_distractors.video import files_of, read

from rlssl.environments.building import make_env, make_vector_env
from rlssl.errors import SpecError
from tests.experiment.spec.specs import refused

SIZE = 32


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Four images, each of one color: red of 40, 80, 120 and 160."""
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path_factory.mktemp("clips")
    for number in range(4):
        image.new("RGB", (90, 60), (40 * (number + 1), 0, 0)).save(folder / f"{number}.png")
    return str(folder)


#: Name -> options of each distractor; `video` gets a folder.
CASES: dict[str, dict[str, Any]] = {
    "noise": {"noise": True},
    "noise-background": {"noise": {"where": "background"}},
    "discs": {"discs": {"number": 4}},
    "discs-background": {"discs": {"number": 9, "radius": 0.2, "where": "background"}},
    "colors": {"colors": True},
    "camera": {"camera": {"degrees": 10}},
    "video": {"video": {"gray": True}},
    "all": {"noise": {}, "discs": {}, "colors": {}, "camera": {}, "video": {}},
}


def options_of(case: str, clips: str) -> dict[str, Any]:
    options = dict(CASES[case])
    if "video" in options:
        options["video"] = {"folder": clips, **options["video"]}
    return options


@pytest.fixture
def build() -> Iterator[Any]:
    """Builds environments, and frees their renderers after the test."""
    built: list[gym.Env] = []

    def make(distractors: Any = None, split: Any = "train", **more: Any) -> Any:
        env = {"id": "dmc-pixels/cheetah-run", "size": SIZE, "info_state": True, **more}
        built.append(make_env({**env, "distractors": distractors}, split=split))
        return built[-1]

    yield make
    for env in built:
        env.close()


def play(env: gym.Env, seed: int | None = 0, steps: int = 4) -> dict[str, np.ndarray]:
    """Frames, states and rewards of an episode with fixed actions."""
    rng = np.random.default_rng(7)
    frame, info = env.reset(seed=seed)
    frames, states, rewards = [frame], [info["state"]], [0.0]
    assert env.action_space.shape is not None
    for _ in range(steps):
        action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
        frame, reward, _, _, info = env.step(action)
        frames.append(frame)
        states.append(info["state"])
        rewards.append(float(reward))
    return {
        "frames": np.stack(frames),
        "states": np.stack(states),
        "rewards": np.array(rewards),
    }


@pytest.mark.parametrize("case", CASES)
def test_frames_change_and_nothing_else(case: str, clips: str, build: Any) -> None:
    clean = play(build())
    env = build(options_of(case, clips))
    seen = play(env)
    assert env.observation_space == Box(0, 255, (3, SIZE, SIZE), np.uint8)
    assert seen["frames"].dtype == np.uint8 and seen["frames"].shape == clean["frames"].shape
    assert (seen["frames"] != clean["frames"]).any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(seen["states"], clean["states"])
    np.testing.assert_array_equal(seen["rewards"], clean["rewards"])
    np.testing.assert_array_equal(env.render(), seen["frames"][-1].transpose(1, 2, 0))


@pytest.mark.parametrize("case", CASES)
def test_a_seed_repeats_the_frames_and_splits_differ(case: str, clips: str, build: Any) -> None:
    options = options_of(case, clips)
    env = build(options)
    first = play(env, seed=3)["frames"]
    second_episode = play(env, seed=None)["frames"]
    np.testing.assert_array_equal(play(env, seed=3)["frames"], first)
    np.testing.assert_array_equal(play(env, seed=None)["frames"], second_episode)
    np.testing.assert_array_equal(play(build(options), seed=3)["frames"], first)
    assert (play(build(options, split="eval"), seed=3)["frames"] != first).any()


@pytest.mark.parametrize("vectorize", ["native", "sync"])
def test_copies_of_a_vector_environment_are_those_of_single_ones(
    vectorize: Any, clips: str, build: Any
) -> None:
    options = options_of("all", clips)
    env = {"id": "dmc-pixels/cheetah-run", "size": SIZE, "distractors": options}
    vector: Any = make_vector_env(env, num_envs=3, vectorize=vectorize)
    try:
        frames = vector.reset(seed=[5, 6, 7])[0]
    finally:
        vector.close()
    assert (frames[0] != frames[1]).any()
    for copy, seed in enumerate((5, 6, 7)):
        np.testing.assert_array_equal(frames[copy], build(options).reset(seed=seed)[0])


def test_a_distractor_does_not_change_the_numbers_of_another(clips: str, build: Any) -> None:
    options = {"number": 3}
    alone = play(build({"discs": options}))["frames"]
    # The colors of the model change, but the discs are at the same places.
    both = play(build({"discs": options, "colors": True}))["frames"]
    clean = play(build())["frames"]
    discs = alone != clean
    assert (both[discs] == alone[discs]).mean() > 0.99


def test_what_is_behind_leaves_the_body(clips: str, build: Any) -> None:
    clean = play(build())["frames"]
    replaced = play(build({"video": {"folder": clips}}))["frames"]
    red = np.isin(replaced[:, 0], (40, 80, 120)) & (replaced[:, 1] == 0) & (replaced[:, 2] == 0)
    # Most of the frame is floor and sky; all other pixels are as they were.
    assert 0.6 < red.mean() < 0.99
    kept = np.broadcast_to(~red[:, None], clean.shape)
    np.testing.assert_array_equal(replaced[kept], clean[kept])


def test_colors_and_view_change_with_the_episode_only(build: Any) -> None:
    env = build({"colors": {"scale": 0.5}, "camera": True})
    physics = env.unwrapped.physics
    base = np.array(physics.model.mat_rgba)
    env.reset(seed=0)
    first = np.array(physics.model.mat_rgba)
    env.step(env.action_space.sample())
    np.testing.assert_array_equal(physics.model.mat_rgba, first)
    for _ in range(5):
        env.reset()
        # Each shift starts from the model's own colors.
        assert np.abs(np.array(physics.model.mat_rgba) - base).max() <= 0.5
    assert (np.array(physics.model.mat_rgba) != first).any()
    np.testing.assert_array_equal(np.array(physics.model.mat_rgba)[:, 3], base[:, 3])


def test_the_quality_full_finds_the_background_too(build: Any) -> None:
    env = build({"noise": {"where": "background"}}, render_quality="full")
    clean = build(render_quality="full")
    changed = (env.reset(seed=0)[0] != clean.reset(seed=0)[0]).any(axis=0)
    assert 0.6 < changed.mean() < 0.99


def test_noise_has_its_standard_deviation() -> None:
    gray = np.full((3, 64, 64), 128, np.uint8)
    noise = Noise(NoiseOptions(scale=0.05)).on(gray, np.random.default_rng(0)).astype(float) - 128
    # 12,288 numbers; the table lacks the tails beyond 2.9 standard deviations.
    assert noise.std() == pytest.approx(0.05 * 255, rel=0.03) and abs(noise.mean()) < 0.4
    white = Noise(NoiseOptions(scale=0.3)).on(gray + 127, np.random.default_rng(0))
    assert white.max() == 255 and white.min() < 200  # clipped, not wrapped around


def test_discs_bounce_and_stay_in_the_frame() -> None:
    discs = Discs(DiscOptions(number=5, speed=0.5, radius=0.1), (20, 30))
    discs.start(np.random.default_rng(1))
    for _ in range(200):
        discs.step()
        frame = np.zeros((3, 20, 30), np.uint8)
        discs.draw(frame)
        # A disc of radius 2 has about 12 pixels; a quarter of it is in the frame at least.
        assert frame.any(axis=0).sum() >= 3


def test_a_disc_has_its_radius() -> None:
    discs = Discs(DiscOptions(number=1, radius=0.25), (80, 80))
    discs.start(np.random.default_rng(0))
    discs._places[:] = 40.0
    frame = np.zeros((3, 80, 80), np.uint8)
    discs.draw(frame)
    # pi * 20^2
    assert frame.any(axis=0).sum() == pytest.approx(1256.6, rel=0.02)


def test_evaluation_shows_other_files(clips: str, tmp_path: Path) -> None:
    train, evaluation = (files_of(clips, split) for split in ("train", "eval"))
    assert [file.name for file in train] == ["0.png", "1.png", "2.png"]
    assert [file.name for file in evaluation] == ["3.png"]
    folders = {"train": "a.mp4", "eval": "b.png"}
    for split, name in folders.items():
        (tmp_path / split).mkdir()
        (tmp_path / split / name).touch()
        (tmp_path / split / "notes.txt").touch()
    for split, name in folders.items():
        assert [file.name for file in files_of(str(tmp_path), split)] == [name]


def test_files_are_cropped_in_the_middle_and_scaled(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:5, 10:20], wide[5:, 10:20] = 200, 100  # the middle square
    image.fromarray(wide).save(tmp_path / "wide.png")
    clip = read(tmp_path / "wide.png", (10, 10), False)
    assert clip.shape == (1, 3, 10, 10)
    assert (clip[0, :, :5] == 200).all() and (clip[0, :, 5:] == 100).all()
    small = read(tmp_path / "wide.png", (4, 4), False)[0]
    np.testing.assert_allclose(small[:, [0, -1]].mean(axis=(0, 2)), [200, 100], atol=5)


def test_frames_of_a_video_follow_each_other(tmp_path: Path, build: Any) -> None:
    image = pytest.importorskip("PIL.Image")
    for name in ("a.gif", "b.gif"):
        pictures = [image.new("L", (40, 40), 20 * number) for number in range(6)]
        pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:])
    clip = read(tmp_path / "a.gif", (SIZE, SIZE), False)
    assert [int(frame.mean()) for frame in clip] == [0, 20, 40, 60, 80, 100]
    frames = play(build({"video": str(tmp_path)}), steps=8)["frames"]
    shown = [int(np.median(frame)) for frame in frames]
    start = shown[0]
    assert shown == [(start + 20 * step) % 120 for step in range(9)]


def test_files_that_cannot_be_used_are_named(tmp_path: Path, build: Any) -> None:
    with pytest.raises(SpecError, match=r"must be a folder; there is no '/nowhere'"):
        build({"video": "/nowhere"})
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(SpecError, match="needs two files or more"):
        build({"video": str(tmp_path)})
    (tmp_path / "b.png").write_text("no image")
    with pytest.raises(SpecError, match=r"a.png' cannot be read: .* Remove the file"):
        build({"video": str(tmp_path)}).reset(seed=0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"noise": {"scale": 0}}, "env.distractors.noise.scale must be a number in (0, 1]; got 0"),
        ({"noise": 0.3}, "env.distractors.noise must be options, or true; got 0.3"),
        ({"noise": {"where": "sky"}}, "noise.where must be everywhere or background; got 'sky'"),
        ({"discs": {"number": 1.5}}, "discs.number must be a whole number >= 1; got 1.5"),
        ({"discs": {"radios": 1}}, "unknown option env.distractors.discs.radios; did you mean"),
        ({"colors": {"scale": 2}}, "env.distractors.colors.scale must be a number in (0, 1]"),
        ({"camera": {"degrees": 90}}, "env.distractors.camera.degrees must be a number in (0, 45]"),
        ({"camera": {"zoom": -1}}, "env.distractors.camera.zoom must be a number in (0, 0.5]"),
        ({"video": True}, "env.distractors.video must be a folder, or a mapping of options"),
        ({"video": {"gray": True}}, "env.distractors.video needs a folder"),
        ({"noise": True, "dims": 3}, "unknown option env.distractors.dims"),
    ],
)
def test_wrong_options_are_refused_in_words(options: Any, words: str) -> None:
    env = {"id": "dmc-pixels/cheetah-run", "distractors": options}
    assert words in refused({"env": env})


@pytest.mark.parametrize("name", ["CartPole-v1", "dmc/cheetah-run"])
def test_other_environments_refuse_them(name: str) -> None:
    with pytest.raises(SpecError, match=r"needs an environment dmc-pixels/\.\.\."):
        make_env({"id": name, "distractors": {"colors": True}})
    with pytest.raises(SpecError, match=r"needs an environment dmc-pixels/\.\.\."):
        make_vector_env({"id": name, "distractors": {"colors": True}}, num_envs=2)
