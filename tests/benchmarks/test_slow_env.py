import time

from gymnasium.utils.env_checker import check_env

from benchmarks.slow_env import SlowEnv, WaitingEnv
from rlssl.environments.building import make_env
from rlssl.plugins import load_plugins


def test_a_step_uses_the_configured_processor_time() -> None:
    env = SlowEnv({"cpu_ms": 5.0})
    env.reset()
    before = time.thread_time()
    for _ in range(10):
        env.step(0)
    # 10 steps of 5 ms, and the overhead of Python.
    assert 0.05 <= time.thread_time() - before < 0.06


def test_episodes_are_truncated_at_their_length() -> None:
    env = SlowEnv({"cpu_ms": 0.0, "episode_length": 3})
    env.reset()
    assert [env.step(0)[3] for _ in range(3)] == [False, False, True]


def test_the_plug_in_is_loaded_by_name() -> None:
    load_plugins(["benchmarks.slow_env"])
    env = make_env({"id": "bench/slow", "cpu_ms": 0.0})
    assert isinstance(env.unwrapped, SlowEnv)
    check_env(env.unwrapped, skip_render_check=True)


def test_the_waiting_environment_waits_without_working() -> None:
    env = make_env({"id": "bench/waiting", "wait_ms": 5, "episode_length": 3})
    assert isinstance(env.unwrapped, WaitingEnv)
    check_env(env.unwrapped, skip_render_check=True)
    env.reset(seed=0)
    start, before = time.perf_counter(), time.thread_time()
    assert [env.step(env.action_space.sample())[3] for _ in range(3)] == [False, False, True]
    assert time.perf_counter() - start >= 0.015 > time.thread_time() - before
