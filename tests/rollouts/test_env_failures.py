"""Environments that fail while sampling: what continues, what ends, and the error messages."""

import time
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from ray.rllib.core.columns import Columns

from rlssl.errors import EnvironmentFaultError, TrainingTimeoutError, UnknownNameError
from rlssl.registry import register_env
from rlssl.rollouts import StockEnvRunner, VectorEnvRunner
from tests.rollouts.counting import COUNTING, CountingEnv, ForcedModule, make_config, make_runner
from tests.rollouts.test_vector_env_runner import naive_stacks, rejoin

RUNNERS = pytest.mark.parametrize("runner_cls", [VectorEnvRunner, StockEnvRunner])

NATIVE = "rollouts-test/native"

#: Each fault of rlssl_envs.faulty and the counter it belongs to.
FAULTS = {
    "crash_in_reset": "env_crashes",
    "crash_in_step": "env_crashes",
    "wrong_shape": "bad_observations",
    "wrong_dtype": "bad_observations",
    "nan_observation": "bad_observations",
    "nan_reward": "bad_rewards",
    "huge_reward": "bad_rewards",
}


class NativeVectorEnv(SyncVectorEnv):
    """Looks like the vector environment of a suite: single environments cannot be replaced."""


def make_native(
    config: dict[str, Any], num_envs: int, cls: type[CountingEnv] = CountingEnv
) -> NativeVectorEnv:
    base = config["seed"] or 0
    makers = [lambda i=i: cls({**config, "seed": base + i}) for i in range(num_envs)]
    return NativeVectorEnv(makers, autoreset_mode=AutoresetMode.NEXT_STEP)


def make_nothing(config: dict[str, Any]) -> CountingEnv:
    raise ConnectionError("no simulator")


class NeverResets(CountingEnv):
    def reset(self, **kwargs: Any) -> Any:
        raise OSError("no\ntable")


class NeedsSimulator(CountingEnv):
    """Can only be built while its simulator runs."""

    simulator_runs = False

    def __init__(self, config: dict[str, Any]) -> None:
        if not NeedsSimulator.simulator_runs:
            raise ConnectionError("simulator gone")
        super().__init__(config)


class WatchdogBites(CountingEnv):
    """Raises, as the watchdog does in whatever call it finds running."""

    def step(self, action: Any) -> Any:
        raise TrainingTimeoutError("env steps have not increased")


register_env(NATIVE, CountingEnv, make_vec=make_native)
register_env("rollouts-test/never-resets", NeverResets)
register_env(
    "rollouts-test/needs-simulator",
    NeedsSimulator,
    make_vec=lambda config, num_envs: make_native(config, num_envs, NeedsSimulator),
)
register_env("rollouts-test/watchdog", WatchdogBites)
register_env("rollouts-test/unbuilt", make_nothing)


class Misbehaving(CountingEnv):
    """Applies `spoil` once, at the second step of slot 0's second episode."""

    spoils_left = 0

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict]:
        observation, reward, terminated, truncated, info = super().step(action)
        if (self.slot, self.episode, self.t) == (0, 1, 2) and Misbehaving.spoils_left:
            Misbehaving.spoils_left -= 1
            observation, reward = self.spoil(observation, reward)
        return observation, reward, terminated, truncated, info

    def spoil(self, observation: Any, reward: float) -> tuple[Any, Any]:
        raise NotImplementedError


def runner_with(
    runner_cls: type, env: dict[str, Any], num_envs: int, *, timeout_s: float = 30.0, **more: Any
) -> Any:
    config = make_config(env, num_envs, more.pop("frame_stack", 1))
    config.env_step_timeout_s = timeout_s
    config.vectorize = more.pop("vectorize", "sync")
    return make_runner(runner_cls, config)


def faults(runner: Any) -> dict[str, int]:
    return {name: count.peek() for name, count in runner.get_metrics().get("faults", {}).items()}


def failing(**options: Any) -> dict[str, Any]:
    return {"id": COUNTING, "lengths": [[2, 4]], "fail": (0, 1, 1), **options}


def faulty(**options: float) -> dict[str, Any]:
    return {"id": "faulty/CartPole-v1", **options}


@RUNNERS
def test_a_step_that_always_fails_ends_the_run_with_the_environments_error(
    runner_cls: type,
) -> None:
    runner = runner_with(runner_cls, faulty(crash_in_step=1.0, after=4), num_envs=1)
    words = r"^environment 'faulty/CartPole-v1' failed in step\(\): InjectedFaultError: injected"
    with pytest.raises(EnvironmentFaultError, match=words) as raised:
        runner.sample(num_timesteps=100)
    assert type(raised.value.__cause__).__name__ == "InjectedFaultError"
    assert "\n" not in str(raised.value)
    # The run continues after three faults, and ends with the fourth.
    assert faults(runner)["env_crashes"] == 4
    # Raised again by the next call, because the answer of a remote runner can get lost.
    with pytest.raises(EnvironmentFaultError, match=words):
        runner.sample(num_timesteps=1)


@RUNNERS
def test_a_reset_that_always_fails_ends_the_run_too(runner_cls: type) -> None:
    runner = runner_with(runner_cls, {"id": "rollouts-test/never-resets"}, num_envs=2)
    with pytest.raises(
        EnvironmentFaultError, match=r"in reset\(\): OSError: no table \(.*, line \d+\); "
    ):
        runner.sample(num_timesteps=1)


@RUNNERS
@pytest.mark.parametrize("vectorize", ["sync", "native"])
def test_environments_that_cannot_be_built_again_end_the_run(
    runner_cls: type, vectorize: str
) -> None:
    NeedsSimulator.simulator_runs = True
    env = failing(id="rollouts-test/needs-simulator")
    runner = runner_with(runner_cls, env, num_envs=2, vectorize=vectorize)
    NeedsSimulator.simulator_runs = False
    with pytest.raises(EnvironmentFaultError, match=r"in make\(\): ConnectionError: simulator go"):
        runner.sample(num_timesteps=20)


@RUNNERS
def test_environments_that_cannot_be_built_at_all_show_their_error(
    runner_cls: type,
) -> None:
    words = (
        r"^environment 'rollouts-test/unbuilt' failed in make\(\): ConnectionError: no simulator"
    )
    with pytest.raises(EnvironmentFaultError, match=words):
        runner_with(runner_cls, {"id": "rollouts-test/unbuilt"}, num_envs=1)


def test_the_failed_environment_is_replaced_and_the_others_continue() -> None:
    runner = runner_with(VectorEnvRunner, failing(), num_envs=2)
    chunks = runner.sample(num_timesteps=10)
    # Both slots finish an episode of 2 steps (total 4) and take one step of the next (6). Then slot
    # 0 fails and loses its step (5), and slot 1 continues (6). Slot 0's new environment finishes
    # its first episode of 2 steps while slot 1 finishes its second episode of 4 steps (10).
    assert [(len(c), c.is_terminated, c.is_truncated) for c in chunks] == [
        (2, True, False),
        (2, True, False),
        (2, True, False),
        (4, False, True),
    ]
    slot_episode_t = [c.get_observations()[:, :3].astype(int).tolist() for c in chunks]
    assert slot_episode_t[2] == [[0, 0, 0], [0, 0, 1], [0, 0, 2]]
    assert slot_episode_t[3] == [[1, 1, t] for t in range(5)]
    assert len({c.id_ for c in chunks}) == 4
    metrics = runner.get_metrics()
    assert metrics["num_env_steps_sampled"].peek() == 10
    assert metrics["rlssl_episodes"]["offset"].peek() == [3, 4, 9, 10]
    # Returns of whole episodes: 1 + 2 and 1 + 2 + 3 + 4.
    assert metrics["rlssl_episodes"]["return"].peek() == [3.0, 3.0, 3.0, 10.0]
    counted = {name: count.peek() for name, count in metrics["faults"].items()}
    assert counted == {"env_crashes": 1, "episodes_dropped": 1}


def test_a_native_vector_environment_is_replaced_as_a_whole() -> None:
    runner = runner_with(VectorEnvRunner, failing(id=NATIVE), num_envs=2, vectorize="native")
    chunks = runner.sample(num_timesteps=7)
    # Both slots finish an episode of 2 steps (total 4) and take one step of the next (6). Then slot
    # 0 fails, and both lose that step (4). The new environments start at episode 0 again, and two
    # steps of both (8) reach the 7 requested steps.
    assert [(len(c), c.is_done) for c in chunks] == [(2, True)] * 4
    assert [c.get_observations()[:, 1:3].tolist() for c in chunks] == [[[0, 0], [0, 1], [0, 2]]] * 4
    assert len({c.id_ for c in chunks}) == 4
    metrics = runner.get_metrics()
    assert metrics["num_env_steps_sampled"].peek() == 8
    assert metrics["rlssl_episodes"]["offset"].peek() == [3, 4, 7, 8]
    counted = {name: count.peek() for name, count in metrics["faults"].items()}
    assert counted == {"env_crashes": 1, "episodes_dropped": 2}


@pytest.mark.parametrize("fault, counter", FAULTS.items())
@RUNNERS
def test_an_occasional_fault_is_counted_and_reaches_no_learner(
    runner_cls: type, fault: str, counter: str
) -> None:
    chance = 0.1 if fault == "crash_in_reset" else 0.005
    runner = runner_with(runner_cls, faulty(**{fault: chance}), num_envs=4)
    chunks = [c for _ in range(4) for c in runner.sample(num_timesteps=300)]
    assert sum(len(c) for c in chunks) >= 1200
    for chunk in chunks:
        observations = chunk.get_observations()
        assert observations.dtype == np.float32 and observations.shape == (len(chunk) + 1, 4)
        assert np.isfinite(observations).all()
        # Every step of CartPole has reward 1.
        assert (chunk.get_rewards() == 1.0).all()
    counted = faults(runner)
    assert counted.pop("episodes_dropped", 0) > 0 or fault == "crash_in_reset"
    assert list(counted) == [counter] and counted[counter] > 0


@pytest.mark.parametrize(
    "fault, shown",
    [
        ("crash_in_step", " failed in step(): InjectedFaultError: injected crash in step 1"),
        ("wrong_shape", ": step() gave an observation of shape (8,) and dtype float32, which"),
        ("wrong_dtype", ": step() gave an observation of shape (4,) and dtype float64, which"),
        ("nan_observation", ": step() gave an observation that is not finite: [nan nan nan nan]"),
        ("nan_reward", ": step() gave a reward of nan"),
        ("huge_reward", ": step() gave a reward of 1e+30"),
    ],
)
@RUNNERS
def test_a_fault_at_every_step_ends_the_run(runner_cls: type, fault: str, shown: str) -> None:
    runner = runner_with(runner_cls, faulty(**{fault: 1.0}), num_envs=4)
    with pytest.raises(EnvironmentFaultError) as raised:
        runner.sample(num_timesteps=1000)
    assert str(raised.value).startswith(f"environment 'faulty/CartPole-v1'{shown}")


def test_a_finished_episode_resets_the_count_of_faults() -> None:
    # Every environment fails at its second reset; each finishes an episode before it.
    runner = runner_with(VectorEnvRunner, faulty(crash_in_reset=1.0, after=1), num_envs=2)
    runner.sample(num_timesteps=400)
    assert faults(runner)["env_crashes"] > 8


def test_faults_of_nested_observations_are_found() -> None:
    class Nested(Misbehaving):
        def spoil(self, observation: Any, reward: float) -> tuple[Any, Any]:
            return {**observation, "vector": np.full(4, np.inf, np.float32)}, reward

    register_env("rollouts-test/nested", Nested)
    Misbehaving.spoils_left = 1
    env = {"id": "rollouts-test/nested", "nested": True, "lengths": [[2, 4]]}
    runner = runner_with(VectorEnvRunner, env, num_envs=2)
    for chunk in runner.sample(num_timesteps=20):
        assert np.isfinite(chunk.get_observations()["vector"]).all()
    assert faults(runner) == {"bad_observations": 1, "episodes_dropped": 1}


def test_a_bad_last_step_neither_ends_its_episode_nor_resets_the_new_environment() -> None:
    class Last(Misbehaving):
        def spoil(self, observation: Any, reward: float) -> tuple[Any, Any]:
            return observation, float("nan")

    register_env("rollouts-test/last", Last)
    Misbehaving.spoils_left = 1
    runner = runner_with(VectorEnvRunner, {"id": "rollouts-test/last", "lengths": [[2]]}, 1)
    chunks = runner.sample(num_timesteps=4)
    # The last step of the second episode is bad: its 2 steps are dropped. The new environment
    # begins with its first episode, without a second reset.
    assert [c.get_observations()[:, 1:3].tolist() for c in chunks] == [[[0, 0], [0, 1], [0, 2]]] * 2
    assert runner.get_metrics()["rlssl_episodes"]["return"].peek() == [3.0, 3.0]


def test_one_bad_reward_in_a_native_vector_environment_drops_all_open_episodes() -> None:
    class Bad(Misbehaving):
        def spoil(self, observation: Any, reward: float) -> tuple[Any, Any]:
            return observation, -1e30

    def make_vec(config: dict[str, Any], num_envs: int) -> NativeVectorEnv:
        makers = [lambda i=i: Bad({**config, "seed": i}) for i in range(num_envs)]
        return NativeVectorEnv(makers, autoreset_mode=AutoresetMode.NEXT_STEP)

    register_env("rollouts-test/bad", Bad, make_vec=make_vec)
    Misbehaving.spoils_left = 1
    env = {"id": "rollouts-test/bad", "lengths": [[2, 4]]}
    runner = runner_with(VectorEnvRunner, env, num_envs=2, vectorize="native")
    chunks = runner.sample(num_timesteps=20)
    assert all((c.get_rewards() > 0).all() for c in chunks)
    assert faults(runner) == {"bad_rewards": 1, "episodes_dropped": 2}


def test_observations_of_a_native_vector_environment_must_fit_too() -> None:
    class Wide(NativeVectorEnv):
        def step(self, actions: Any) -> Any:
            results: Any = super().step(actions)
            return np.asarray(results[0], np.float64), *results[1:]

    def make_vec(config: dict[str, Any], num_envs: int) -> Wide:
        makers = [lambda: CountingEnv(config)] * num_envs
        return Wide(makers, autoreset_mode=AutoresetMode.NEXT_STEP)

    register_env("rollouts-test/wide", CountingEnv, make_vec=make_vec)
    runner = runner_with(VectorEnvRunner, {"id": "rollouts-test/wide"}, 2, vectorize="native")
    words = r"step\(\) gave an observation of shape \(2, 4\) and dtype float64, which does not fit"
    with pytest.raises(EnvironmentFaultError, match=words):
        runner.sample(num_timesteps=20)


def test_a_new_environment_begins_a_new_stack() -> None:
    runner = runner_with(VectorEnvRunner, failing(lengths=[[2, 9]]), num_envs=2, frame_stack=3)
    samples = [runner.sample(num_timesteps=n) for n in (7, 6, 9)]
    episodes = rejoin(samples)
    assert faults(runner)["env_crashes"] > 0
    module = ForcedModule(action_space=gym.spaces.Discrete(3))
    for chunks in episodes.values():
        forced = module.forward_inference({Columns.OBS: torch.from_numpy(naive_stacks(chunks, 3))})
        actual = [c.get_extra_model_outputs(Columns.ACTION_DIST_INPUTS) for c in chunks]
        np.testing.assert_allclose(
            np.concatenate(actual), forced[Columns.ACTION_DIST_INPUTS], atol=1e-4
        )


class Sleeping(CountingEnv):
    """Times out at the third step of its first episode, ``sleeps_left`` times in all."""

    sleeps_left = 0

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        if (self.episode, self.t) == (0, 2) and Sleeping.sleeps_left:
            Sleeping.sleeps_left -= 1
            self.sleep()
        return super().step(action)

    def sleep(self) -> None:
        time.sleep(60)


class Stubborn(Sleeping):
    """Retries after any `Exception`, as code that reads from a network does."""

    def sleep(self) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                time.sleep(60)
            except Exception:
                continue


register_env("rollouts-test/sleeping", Sleeping)
register_env("rollouts-test/stubborn", Stubborn)


@pytest.fixture
def fast() -> Iterator[None]:
    start = time.monotonic()
    yield
    Sleeping.sleeps_left = 0
    assert time.monotonic() - start < 20


@RUNNERS
@pytest.mark.parametrize("name", ["sleeping", "stubborn"])
@pytest.mark.parametrize("vectorize", ["sync", "async"])
def test_a_timeout_is_interrupted_and_counted(
    runner_cls: type, name: str, vectorize: str, fast: None
) -> None:
    env = {"id": f"rollouts-test/{name}", "lengths": [[4]]}
    # With "async" each process starts with this number; only one of them sleeps.
    Sleeping.sleeps_left = 1
    runner = runner_with(runner_cls, env, num_envs=2, timeout_s=0.3, vectorize=vectorize)
    if vectorize == "async":
        Sleeping.sleeps_left = 0
    assert sum(len(c) for c in runner.sample(num_timesteps=20)) >= 20
    assert faults(runner) == {"env_timeouts": 1, "episodes_dropped": 2}
    runner.stop()


@RUNNERS
def test_a_second_timeout_in_a_row_ends_the_run(runner_cls: type, fast: None) -> None:
    runner = runner_with(runner_cls, faulty(stall=1.0, after=3), num_envs=4, timeout_s=1.0)
    start = time.monotonic()
    # The second call has half the time limit.
    words = r"^environment 'faulty/CartPole-v1' timed out in step\(\) after 0\.5 s \(env_s"
    with pytest.raises(EnvironmentFaultError, match=words):
        runner.sample(num_timesteps=100)
    assert 1.5 < time.monotonic() - start < 8


@RUNNERS
@pytest.mark.parametrize(
    "fault", ["crash_in_step", "nan_observation", "wrong_shape", "wrong_dtype"]
)
def test_environments_in_other_processes_are_checked_too(runner_cls: type, fault: str) -> None:
    env = faulty(**{fault: 1.0}, after=3)
    runner = runner_with(runner_cls, env, num_envs=2, vectorize="async")
    with pytest.raises(EnvironmentFaultError, match=r"^environment 'faulty/CartPole-v1'"):
        runner.sample(num_timesteps=200)
    runner.stop()


def test_slow_environments_do_not_time_out_if_each_is_fast_enough() -> None:
    class Slow(CountingEnv):
        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
            time.sleep(0.2)
            return super().step(action)

    register_env("rollouts-test/slow", Slow)
    # Eight environments need 1.6 s per vector step, but the limit holds for each of them.
    runner = runner_with(VectorEnvRunner, {"id": "rollouts-test/slow"}, 8, timeout_s=0.6)
    runner.sample(num_timesteps=16)
    assert faults(runner) == {}


def test_the_watchdogs_error_is_no_fault_of_the_environment() -> None:
    runner = runner_with(VectorEnvRunner, {"id": "rollouts-test/watchdog"}, num_envs=2)
    with pytest.raises(TrainingTimeoutError):
        runner.sample(num_timesteps=10)
    assert faults(runner) == {}


def test_a_new_environment_gets_another_seed() -> None:
    def first_observations(runs: int) -> list[list[float]]:
        runner = runner_with(VectorEnvRunner, faulty(crash_in_step=0.01), num_envs=2)
        chunks = runner.sample(num_timesteps=runs)
        assert faults(runner)["env_crashes"] > 1
        return [c.get_observations(0).tolist() for c in chunks if c.t_started == 0]

    first, second = first_observations(300), first_observations(300)
    assert first == second
    assert len({tuple(o) for o in first}) == len(first)


@RUNNERS
def test_an_unknown_environment_is_refused_with_a_suggestion(runner_cls: type) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'CartPole-v1'"):
        make_runner(runner_cls, make_config({"id": "CartPoll-v1"}, num_envs=1))


def test_plugins_are_loaded_before_the_environment_is_looked_up(
    tmp_path: Any, monkeypatch: Any
) -> None:
    (tmp_path / "rollouts_test_plugin.py").write_text(
        "from rlssl.registry import register_env\n"
        "from tests.rollouts.counting import CountingEnv\n"
        "register_env('rollouts-test/plugged', CountingEnv)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = make_config({"id": "rollouts-test/plugged"}, num_envs=1)
    config.plugin_modules = ("rollouts_test_plugin",)
    (chunk,) = make_runner(VectorEnvRunner, config).sample(num_timesteps=1)
    assert len(chunk) == 1
