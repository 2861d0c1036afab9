import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from dm_control import suite
from gymnasium.spaces import Box
from gymnasium.utils.env_checker import check_env

from rlssl.environments.building import list_environments, make_env, make_vector_env
from rlssl.environments.env_check import preflight
from rlssl.errors import SpecError, UnknownNameError
from rlssl.plugins import load_plugins

load_plugins(["rlssl_envs"])

TASKS = [f"{domain}-{task}" for domain, task in suite.ALL_TASKS]
# They include scalar observations, bounds other than -1 and 1, no bounds, another default camera,
# and a reset that renders.
HANDFUL = ["ball_in_cup-catch", "walker-walk", "quadruped-escape", "lqr-lqr_2_1"]


@pytest.fixture
def build() -> Iterator[Any]:
    """Builds environments, and frees their renderers after the test."""
    built: list[gym.Env] = []

    def make(name: str, **options: Any) -> Any:
        built.append(make_env({"id": name, **options}))
        return built[-1]

    yield make
    for env in built:
        env.close()


def episode(env: gym.Env, steps: int, seed: int | None) -> list[Any]:
    """All observations and pictures of an episode with fixed actions."""
    rng = np.random.default_rng(7)
    seen: list[Any] = [env.reset(seed=seed)[0]]
    for _ in range(steps):
        action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
        observation, reward, *_ = env.step(action)
        seen += [observation, reward]
    return seen


def equal(left: list[Any], right: list[Any]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


def test_ids_are_those_of_the_suite_with_both_prefixes() -> None:
    listed = {row["id"] for row in list_environments()}
    ours = {name for name in listed if name.startswith("dmc")}
    assert ours == {f"{kind}/{name}" for kind in ("dmc", "dmc-pixels") for name in TASKS}
    # BENCHMARKING 28 + EXTRA 23
    assert len(TASKS) == len(suite.BENCHMARKING) + len(suite.EXTRA) == 51


@pytest.mark.parametrize("prefix", ["dmc", "dmc-pixels"])
@pytest.mark.parametrize(
    ("task", "repeat"),
    [("cartpole-swingup", 8), ("finger-spin", 2), ("walker-walk", 2), ("cheetah-run", 4)],
)
def test_action_repeat_is_that_of_the_curl_paper(
    build: Any, prefix: str, task: str, repeat: int
) -> None:
    assert build(f"{prefix}/{task}").action_repeat == repeat
    assert build(f"{prefix}/{task}", action_repeat=3).action_repeat == 3


@pytest.mark.parametrize("task", HANDFUL)
def test_state_is_the_flat_observation_of_dm_control(build: Any, task: str) -> None:
    domain, _, name = task.partition("-")
    env = build(f"dmc/{task}", action_repeat=1)
    reference = suite.load(
        domain, name, {"random": 0}, environment_kwargs={"flat_observation": True}
    )
    reference.task.random.seed(3)
    observation, _ = env.reset(seed=3)
    expected = reference.reset().observation["observations"]
    assert observation.dtype == np.float32
    np.testing.assert_array_equal(observation, expected.astype(np.float32))
    bounds = reference.action_spec()
    low, high = bounds.minimum, bounds.maximum
    if domain == "lqr":  # MuJoCo uses 1e10 for no bound
        low, high = -np.ones_like(low), np.ones_like(high)
    for share in (0.0, 0.25, 1.0):  # of the way from the lower to the upper bound
        action = np.full(bounds.shape, 2 * share - 1, np.float32)
        frame = reference.step(low + share * (high - low))
        observation, reward, *_ = env.step(action)
        # Equal except for the rounding of the scaled action, 1e-16, which physics magnifies
        np.testing.assert_allclose(observation, frame.observation["observations"], 1e-5, 1e-6)
        assert reward == pytest.approx(frame.reward, rel=1e-5, abs=1e-9)


def test_rewards_of_repeated_frames_are_summed(build: Any) -> None:
    single = build("dmc/walker-walk", action_repeat=1)
    triple = build("dmc/walker-walk", action_repeat=3)
    single.reset(seed=0)
    triple.reset(seed=0)
    for value in (0.5, -1.0):
        action = np.full(6, value, np.float32)
        frames = [single.step(action) for _ in range(3)]
        observation, reward, *_ = triple.step(action)
        assert reward == pytest.approx(sum(frame[1] for frame in frames), rel=1e-12)
        assert frames[0][1] > 0
        np.testing.assert_array_equal(observation, frames[-1][0])


@pytest.mark.parametrize(
    # 1000 / 8 = 125; 1000 / 300 = 3.33, so that the fourth step has 100 frames left.
    ("task", "repeat", "steps"),
    [("cartpole-swingup", 8, 125), ("cartpole-swingup", 300, 4), ("lqr-lqr_6_2", 300, 4)],
)
def test_episode_is_truncated_at_1000_frames_and_never_terminated(
    build: Any, task: str, repeat: int, steps: int
) -> None:
    env = build(f"dmc/{task}", action_repeat=repeat)
    env.reset(seed=0)
    for _ in range(2):
        ends = [env.step(env.action_space.sample())[2:4] for _ in range(steps)]
        assert ends == [(False, False)] * (steps - 1) + [(False, True)]
        with pytest.raises(gym.error.ResetNeeded):
            env.step(env.action_space.sample())
        # An unfinished episode does not shorten the next one.
        env.reset()
        env.step(env.action_space.sample())
        env.reset()


def test_rewards_stop_at_the_end_of_an_episode(build: Any) -> None:
    # cartpole-balance has a reward of at most 1 per frame, and close to 1 in the first frames. Of
    # the 1000 frames, the third step of 400 has only 200.
    env = build("dmc/cartpole-balance", action_repeat=400)
    env.reset(seed=0)
    rewards = [env.step(np.zeros(1, np.float32))[1] for _ in range(3)]
    assert 0 < rewards[2] <= 200
    assert 200 < rewards[0] <= 400


def test_solved_lqr_ends_as_truncated_with_the_discount_of_the_suite(build: Any) -> None:
    env = build("dmc/lqr-lqr_2_1", action_repeat=4)
    env.reset(seed=0)
    physics = env.unwrapped.physics
    assert env.step(np.zeros(1, np.float32))[4]["discount"] == 1.0
    physics.data.qpos[:] = physics.data.qvel[:] = 0
    physics.forward()
    *_, terminated, truncated, info = env.step(np.zeros(1, np.float32))
    assert (terminated, truncated, info["discount"]) == (False, True, 0.0)


@pytest.mark.parametrize("name", ["dmc/reacher-easy", "dmc-pixels/reacher-easy"])
def test_seeded_episode_depends_on_its_seed_only(build: Any, name: str) -> None:
    env, other = build(name), build(name)
    first = episode(env, 3, seed=5)
    unseeded = episode(env, 3, seed=None)
    assert not equal(first, unseeded)
    assert equal(first, episode(env, 3, seed=5))
    # Episodes without a seed continue the random stream.
    assert equal(unseeded, episode(env, 3, seed=None))
    assert equal(first, episode(other, 3, seed=5))
    assert not equal(first, episode(other, 3, seed=6))


def test_fresh_environments_differ_and_long_seeds_are_taken(build: Any) -> None:
    env, other = build("dmc/reacher-easy"), build("dmc/reacher-easy")
    assert not np.array_equal(env.reset()[0], other.reset()[0])
    first, _ = env.reset(seed=2**40)
    assert not np.array_equal(first, env.reset(seed=2**41)[0])
    np.testing.assert_array_equal(first, other.reset(seed=2**40)[0])


def test_lqr_copies_are_the_same_system(build: Any) -> None:
    # The springs are drawn when the task is loaded.
    first, second = build("dmc/lqr-lqr_6_2"), build("dmc/lqr-lqr_6_2")
    assert equal(episode(first, 2, seed=0), episode(second, 2, seed=0))


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (3, 84, 84)),
        ({"size": 100}, (3, 100, 100)),
        ({"size": [48, 64]}, (3, 48, 64)),
    ],
)
def test_frames_are_bytes_with_channels_first(
    build: Any, options: dict[str, Any], shape: tuple[int, ...]
) -> None:
    env = build("dmc-pixels/cartpole-swingup", **options)
    assert env.observation_space == Box(0, 255, shape, np.uint8)
    assert env.action_space == Box(-1, 1, (1,), np.float32)
    observation, info = env.reset(seed=0)
    assert observation in env.observation_space and observation.flags.c_contiguous
    assert info == {}
    np.testing.assert_array_equal(observation, env.render().transpose(2, 0, 1))
    # Neither of them is a view of the renderer's buffer.
    picture = env.render()
    kept = observation.copy(), picture.copy()
    env.step(np.ones(1, np.float32))
    np.testing.assert_array_equal(observation, kept[0])
    np.testing.assert_array_equal(picture, kept[1])


@pytest.mark.parametrize("size", [84, [700, 60]])  # dm_control's own buffer is 480 high
def test_full_quality_equals_dm_controls_rendering(build: Any, size: Any) -> None:
    env = build("dmc-pixels/quadruped-walk", render_quality="full", size=size)
    height, width = (size, size) if isinstance(size, int) else size
    observation, _ = env.reset(seed=2)
    reference = suite.load("quadruped", "walk", {"random": 0})
    reference.physics.model.ptr.vis.global_.offheight = 700
    reference.task.random.seed(2)
    reference.reset()
    drawn = reference.physics.render(height, width, camera_id=2)  # DrQ's camera for this task
    np.testing.assert_array_equal(observation, drawn.transpose(2, 0, 1))
    reference.physics.free()


def test_fast_renderer_has_the_image_size_and_the_lowest_quality(build: Any) -> None:
    env = build("dmc-pixels/cartpole-swingup", size=[48, 64])
    opened = env.unwrapped.physics.contexts.mujoco.ptr  # the settings that MuJoCo has read
    assert (opened.offHeight, opened.offWidth) == (48, 64)
    assert (opened.offSamples, opened.shadowSize) == (0, 0)


def test_fast_frames_stay_close_to_full_ones(build: Any) -> None:
    fast = build("dmc-pixels/cartpole-swingup")
    full = build("dmc-pixels/cartpole-swingup", render_quality="full")
    pairs = zip(episode(fast, 10, 0)[1::2], episode(full, 10, 0)[1::2], strict=True)
    apart = [np.abs(a.astype(int) - b).mean() for a, b in pairs]
    assert 0 < max(apart) < 2  # of 255; measured: 1.3 to 1.4


def test_camera_is_the_requested_one(build: Any) -> None:
    views = [
        build("dmc-pixels/walker-walk", **option).reset(seed=0)[0]
        for option in ({}, {"camera": 0}, {"camera": 1}, {"camera": -1})
    ]
    np.testing.assert_array_equal(views[0], views[1])
    assert not np.array_equal(views[0], views[2])
    assert not np.array_equal(views[0], views[3])


def test_info_has_the_state_if_requested(build: Any) -> None:
    pixels = build("dmc-pixels/cartpole-swingup", info_state=True)
    plain = build("dmc-pixels/cartpole-swingup")
    states = build("dmc/cartpole-swingup")
    action = np.full(1, 0.3, np.float32)
    state, _ = states.reset(seed=1)
    np.testing.assert_array_equal(pixels.reset(seed=1)[1]["state"], state)
    assert plain.reset(seed=1)[1] == {}
    np.testing.assert_array_equal(pixels.step(action)[4]["state"], states.step(action)[0])
    assert plain.step(action)[4] == {"discount": 1.0}


def test_renderers_in_one_process_do_not_mix(build: Any) -> None:
    names = ("cartpole-swingup", "walker-walk")
    alone = [build(f"dmc-pixels/{name}").reset(seed=0)[0] for name in names]
    both = [build(f"dmc-pixels/{name}") for name in names]
    for _ in range(2):
        for env, expected in zip(both, alone, strict=True):
            np.testing.assert_array_equal(env.reset(seed=0)[0], expected)


def test_closing_frees_the_renderer_and_may_be_repeated(build: Any) -> None:
    env = build("dmc-pixels/cartpole-swingup")
    env.reset(seed=0)
    physics = env.unwrapped.physics
    assert physics._contexts is not None
    env.close()
    assert physics._contexts is None
    env.close()


def test_state_environment_opens_no_renderer_until_it_renders(build: Any) -> None:
    env = build("dmc/cartpole-swingup", size=[32, 40])
    env.reset(seed=0)
    assert env.unwrapped.physics._contexts is None
    assert env.render().shape == (32, 40, 3)


@pytest.mark.parametrize("name", ["dmc/quadruped-walk", "dmc-pixels/cartpole-swingup"])
@pytest.mark.filterwarnings("ignore:.*(minimum value is -infinity|maximum value is infinity).*")
@pytest.mark.filterwarnings("ignore:.*Not able to test alternative render modes.*")
def test_gymnasium_finds_nothing_wrong_and_preflight_passes(build: Any, name: str) -> None:
    env = build(name)
    check_env(env)
    spaces = preflight({"id": name})
    assert spaces.observation_space == env.observation_space
    assert spaces.action_repeat == env.action_repeat


def test_vector_environment_runs_past_the_end_of_an_episode() -> None:
    vector = make_vector_env(
        {"id": "dmc-pixels/cartpole-swingup", "action_repeat": 500}, num_envs=2
    )
    vector.reset(seed=0)
    steps = [vector.step(vector.action_space.sample()) for _ in range(4)]
    # 500 frames, 1000 frames, reset, 500 frames
    assert [step[3].tolist() for step in steps] == [
        [False] * 2,
        [True] * 2,
        [False] * 2,
        [False] * 2,
    ]
    assert not any(step[2].any() for step in steps)
    vector.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"action_repat": 2}, r"unknown option env.action_repat .*did you mean 'action_repeat'"),
        ({"action_repeat": 0}, "env.action_repeat must be a whole number >= 1; got 0"),
        ({"size": [84]}, r"env.size must be a whole number >= 1, or two .*; got \[84\]"),
        ({"size": True}, "env.size must be a whole number or a list, .*; got True"),
        ({"camera": 2}, "env.camera must be an integer from -1 to 1; got 2"),
        ({"camera": -2}, "env.camera must be an integer from -1 to 1; got -2"),
        ({"camera": "side"}, "env.camera must be a whole number or null; got 'side'"),
        ({"render_quality": "ful"}, "must be 'fast' or 'full'; got 'ful'; did you mean 'full'"),
        ({"info_state": 1}, "env.info_state must be true or false; got 1"),
    ],
)
def test_bad_option_is_refused_with_its_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make_env({"id": "dmc-pixels/cartpole-swingup", **options})


def test_state_environment_has_no_option_info_state() -> None:
    with pytest.raises(SpecError, match=r"unknown option env.info_state of dmc/cheetah-run"):
        make_env({"id": "dmc/cheetah-run", "info_state": True})


@pytest.mark.parametrize(
    ("name", "closest"),
    [
        ("dmc/cartpole-swing_up", "dmc/cartpole-swingup"),
        ("dmc-pixels/cheeta-run", "dmc-pixels/cheetah-run"),
        ("dmc/ball-in-cup-catch", "dmc/ball_in_cup-catch"),
    ],
)
def test_unknown_task_gets_a_suggestion(name: str, closest: str) -> None:
    with pytest.raises(UnknownNameError, match=f"did you mean '{closest}'"):
        make_env({"id": name})


def run_alone(code: str, **variables: str) -> str:
    """Runs a new process, because a process chooses its renderer once; returns its stdout."""
    ours = ("MUJOCO_EGL_DEVICE_ID", "LP_NUM_THREADS")
    environment = {k: v for k, v in os.environ.items() if k not in ours}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("variable", "cause"),
    [
        ({"MUJOCO_GL": "disabled"}, "No OpenGL rendering backend"),
        # EGL's library without a driver
        ({"MUJOCO_GL": "egl", "__EGL_VENDOR_LIBRARY_FILENAMES": "/none"}, "Cannot initialize"),
    ],
)
def test_impossible_rendering_is_a_spec_error_with_the_fix(
    variable: dict[str, str], cause: str
) -> None:
    message = run_alone(
        "from rlssl.errors import SpecError\n"
        "from rlssl.environments import make_env\n"
        "try: make_env({'id': 'dmc-pixels/cartpole-swingup'}).reset()\n"
        "except SpecError as error: print(error)",
        **variable,
    )
    assert message.startswith(f"dm_control cannot render with MUJOCO_GL='{variable['MUJOCO_GL']}'")
    assert cause in message and "apt-get install libegl1 libgl1-mesa-dri" in message


def test_process_renders_on_its_first_gpu_and_child_processes_do_not_inherit_it() -> None:
    # Here RLlib imports dm_control first. Without a GPU, device 0 of EGL is Mesa's.
    lines = run_alone(
        "import os, ray.rllib.env\n"
        "from dm_control._render.pyopengl import egl_renderer\n"
        "asked, create = [], egl_renderer.create_initialized_headless_egl_display\n"
        "def record():\n"
        "    asked.append(os.environ['MUJOCO_EGL_DEVICE_ID'])\n"
        "    return create()\n"
        "egl_renderer.create_initialized_headless_egl_display = record\n"
        "from rlssl.environments import make_env\n"
        "make_env({'id': 'dmc-pixels/cartpole-swingup'}).reset()\n"
        "print(asked, 'MUJOCO_EGL_DEVICE_ID' in os.environ)",
        MUJOCO_GL="egl",
        CUDA_VISIBLE_DEVICES="0,1",
    )
    assert lines.splitlines()[-1] == "['0'] False"


@pytest.mark.parametrize(
    "before",
    [
        "make_env(env).reset()",  # this process already has a renderer
        "import ray.rllib.env",  # imports dm_control before rlssl can configure Mesa
    ],
)
def test_forked_environments_render(before: str) -> None:
    shape = run_alone(
        "from rlssl.environments import make_env, make_vector_env\n"
        "env = {'id': 'dmc-pixels/cartpole-swingup'}\n"
        f"{before}\n"
        "vector = make_vector_env(env, num_envs=2, vectorize='async')\n"
        "vector.reset(seed=0)\n"
        "print(vector.step(vector.action_space.sample())[0].shape)\n"
        "vector.close()",
        MUJOCO_GL="egl",
    )
    assert shape == "(2, 3, 84, 84)\n"


@pytest.mark.parametrize("visible", ["", "99", "GPU-0123"])
def test_process_without_a_gpu_that_egl_sees_still_renders(
    visible: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dm_control._render.pyopengl import egl_renderer
    from rlssl_envs import dmc

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    before = egl_renderer.EGL_DISPLAY
    dmc.choose_egl_device()
    assert egl_renderer.EGL_DISPLAY is before


@pytest.mark.parametrize(
    ("visible", "cuda_of", "expected"),
    [
        # Without a GPU of its own, process 7 takes the second of the two that EGL knows: 7 % 2 = 1.
        ("", [None, 1, 0], 2),
        ("", [None, None], None),
        # CUDA counts in another order than EGL.
        ("1", [None, 1, 0], 1),
        ("0", [None, 1, 0], 2),
        # The driver numbers only the visible GPUs.
        ("3", [None, None, 0, None], 2),
        ("3,1", [None, 1, 0, None], 2),
        # A GPU that EGL does not know, and one that has no number.
        ("5", [1, 0], None),
        ("GPU-0123", [1, 0], None),
        # EGL knows no number: both count in the same order, as far as anybody knows.
        ("1", [None, None], 1),
        ("2", [None, None], None),
    ],
)
def test_gpu_to_render_on(visible: str, cuda_of: list[int | None], expected: int | None) -> None:
    from rlssl_envs import dmc

    assert dmc.egl_device(visible, cuda_of, process=7) == expected


def test_devices_of_mesa_have_no_number_of_cuda() -> None:
    from dm_control._render.pyopengl import egl_renderer
    from rlssl_envs import dmc

    found = dmc.cuda_devices(egl_renderer.EGL)
    assert len(found) == len(egl_renderer.EGL.eglQueryDevicesEXT())
    if not torch.cuda.is_available():
        assert set(found) == {None}


def try_task(name: str, build: Any) -> None:
    env = build(name)
    first = episode(env, 2, seed=0)
    assert all(np.isfinite(seen).all() for seen in first)
    assert first[-2] in env.observation_space
    env.reset()
    assert equal(first, episode(env, 2, seed=0))


@pytest.mark.parametrize("task", HANDFUL)
def test_task_builds_resets_and_steps(build: Any, task: str) -> None:
    try_task(f"dmc/{task}", build)


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("prefix", ["dmc", "dmc-pixels"])
def test_every_task_builds_resets_and_steps(build: Any, prefix: str, task: str) -> None:
    try_task(f"{prefix}/{task}", build)
