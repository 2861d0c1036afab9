"""A3C in whole runs: counts, asynchrony, dead and hanging workers, checkpoints."""

import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import ray
import torch

from rlssl.algorithms.a3c.a3c import A3C, A3CConfig
from rlssl.algorithms.a3c.pool import Reply
from rlssl.experiment.checkpoints import checkpoint
from rlssl.policy import Policy
from rlssl.ray_internals.env_runner import actor_manager
from rlssl.run_files import POLICY_FOLDER
from tests.algorithms.a3c.a3c_bench import small_a3c

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.usefixtures("own_ray")]


class Sleeping(gym.Env):
    """A step takes 20 ms of sleep, times ``slowness``."""

    observation_space = gym.spaces.Box(0, 1, (4,), np.float32)
    action_space = gym.spaces.Discrete(2)
    slowness = 1

    def __init__(self, config: Any) -> None:
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.steps = 0
        return np.zeros(4, np.float32), {}

    def step(self, action: Any) -> Any:
        time.sleep(0.02 * self.slowness)
        self.steps += 1
        return np.full(4, self.steps / 50, np.float32), 1.0, False, self.steps == 50, {}


def built(config: A3CConfig) -> A3C:
    algorithm: A3C = config.build_algo()
    return algorithm


def record(algorithm: A3C) -> list[tuple[float, int, Reply]]:
    """Records each reply that the pool returns from now on, with its time and worker."""
    assert algorithm.pool is not None
    heard: list[tuple[float, int, Reply]] = []
    wait = algorithm.pool.wait

    def wait_and_record(timeout_s: float = 1.0) -> list[tuple[int, Reply]]:
        replies = wait(timeout_s)
        heard.extend((time.monotonic(), index, reply) for index, reply in replies)
        return replies

    algorithm.pool.wait = wait_and_record  # type: ignore[method-assign]
    return heard


def adam_steps(algorithm: A3C) -> int:
    """The number of steps in the optimizer's own state."""
    ((_, optimizer),) = algorithm.learner.get_optimizers_for_module("default_policy")
    (state,) = optimizer.state.values()
    return int(state["step"])


def pid_of(algorithm: A3C, index: int) -> int:
    actor = actor_manager(algorithm.env_runner_group).actors()[index]
    pid: int = ray.get(actor.apply.remote(_pid), timeout=60)
    return pid


def _pid(runner: Any) -> int:
    return os.getpid()


@pytest.mark.ci
@pytest.mark.parametrize("num_workers, synchronous", [(0, False), (2, False), (2, True)])
def test_every_reply_counts_once(num_workers: int, synchronous: bool) -> None:
    config = small_a3c(synchronous=synchronous).env_runners(num_env_runners=num_workers)
    algorithm = built(config)
    try:
        heard = record(algorithm) if num_workers else []
        results = [algorithm.train() for _ in range(3)]
        updates = adam_steps(algorithm)
    finally:
        algorithm.stop()
    last = results[-1]
    assert last["updates"] == updates > 0
    for number, result in enumerate(results, start=1):
        # A fragment has 2 environments x 16 steps; the one that reaches the goal is the last.
        assert result["agent_steps"] >= 200 * number
        assert result["agent_steps"] < 200 * number + 34 * number * max(1, num_workers)
    if num_workers:
        assert last["agent_steps"] == sum(reply.agent_steps for _, _, reply in heard)
        assert len(heard) == updates * (2 if synchronous else 1)
    if synchronous or not num_workers:
        assert all(result["staleness"]["max"] == 0 for result in results)
    assert all(np.isfinite(result["episode_return_mean"]) for result in results)
    assert last["learners"]["default_policy"]["entropy"] > 0


def set_slowness(runner: Any, slowness: int) -> None:
    for env in runner.env.unwrapped.envs:
        env.unwrapped.slowness = slowness


def rates_of_the_others(synchronous: bool) -> dict[int, float]:
    """Fragments per second of workers 1 and 2, for each slowness of worker 3.

    In turns, so that a machine that is busy for a while slows both alike.
    """
    config = (
        small_a3c(Sleeping, synchronous=synchronous, agent_steps_per_iteration=20)
        .env_runners(num_env_runners=3, num_envs_per_env_runner=1, rollout_fragment_length=10)
        .vectorization("sync")
    )
    algorithm = built(config)
    counts, seconds = {1: 0, 10: 0}, {1: 0.0, 10: 0.0}
    try:
        algorithm.train()
        third = actor_manager(algorithm.env_runner_group).actors()[3]
        heard = record(algorithm)
        for slowness in (1, 10) * 3:
            ray.get(third.apply.remote(set_slowness, slowness), timeout=60)
            algorithm.train()
            heard.clear()
            begin = time.monotonic()
            while time.monotonic() - begin < 5:
                algorithm.train()
            seconds[slowness] += time.monotonic() - begin
            counts[slowness] += sum(index != 3 for _, index, _ in heard)
    finally:
        algorithm.stop()
    return {slowness: counts[slowness] / seconds[slowness] for slowness in counts}


def test_only_synchronous_training_waits_for_a_slow_worker() -> None:
    apart = rates_of_the_others(synchronous=False)
    assert apart[10] >= 0.85 * apart[1]
    in_step = rates_of_the_others(synchronous=True)
    assert in_step[10] < 0.5 * in_step[1]


def train_until_heard(
    algorithm: A3C, heard: list[tuple[float, int, Reply]], num_processes: int
) -> dict[str, Any]:
    """The result of the iteration in which the last of so many worker processes is first heard."""
    until, result = time.monotonic() + 90, {}
    while len({reply.incarnation for _, _, reply in heard}) < num_processes:
        assert time.monotonic() < until
        result = algorithm.train()
    return result


@pytest.mark.parametrize("num_kills", [pytest.param(2, marks=pytest.mark.ci), 10])
def test_kills_lose_only_pending_fragments(num_kills: int) -> None:
    algorithm = built(small_a3c().env_runners(num_env_runners=2))
    try:
        heard = record(algorithm)
        train_until_heard(algorithm, heard, 2)
        for kill in range(1, num_kills + 1):
            os.kill(pid_of(algorithm, 1 + kill % 2), signal.SIGKILL)
            # The other worker continues meanwhile.
            result = train_until_heard(algorithm, heard, 2 + kill)
            assert result["faults"]["worker_restarts"] == kill
        result = algorithm.train()
        updates = adam_steps(algorithm)
    finally:
        algorithm.stop()
    assert result["workers_alive"] == 2
    assert result["env_steps"] == sum(reply.agent_steps for _, _, reply in heard)
    names = [(reply.incarnation, reply.sequence) for _, _, reply in heard]
    assert len(set(names)) == len(names) == result["updates"] == updates
    assert len({reply.incarnation for _, _, reply in heard}) == 2 + num_kills
    assert result["faults"]["duplicate_gradients"] == 0


class Steady(Sleeping):
    """Episodes of 50 steps."""

    slowness = 0


@pytest.mark.ci
def test_episodes_that_a_killed_worker_had_not_reported_are_listed() -> None:
    config = small_a3c(Steady, agent_steps_per_iteration=2000)
    algorithm = built(config.env_runners(num_env_runners=2))
    try:
        heard = record(algorithm)
        assert algorithm.pool is not None
        wait, pid = algorithm.pool.wait, pid_of(algorithm, 1)
        killed: list[int] = []

        def wait_and_kill(timeout_s: float = 1.0) -> list[tuple[int, Reply]]:
            replies = wait(timeout_s)
            # Fragments of 32 steps: about the middle of the iteration, and metrics come at its end.
            if len(heard) >= 30 and not killed:
                killed.append(pid)
                os.kill(pid, signal.SIGKILL)
            return replies

        algorithm.pool.wait = wait_and_kill  # type: ignore[method-assign]
        results = [algorithm.train()]
        while not results[-1]["faults"]["worker_restarts"]:
            results.append(algorithm.train())
        kept = sum(map(len, algorithm._episodes_of_runners._kept.values()))
    finally:
        algorithm.stop()
    steps: Counter[str] = Counter()
    for _, _, reply in heard:
        steps[reply.incarnation] += reply.agent_steps
    # Two environments in step; those of workers that live are listed with their next metrics.
    expected = sum(2 * (each // 2 // 50) for each in steps.values())
    assert sum(len(result["episodes"]) for result in results) + kept == expected


def test_hanging_worker_is_replaced_after_the_timeout() -> None:
    algorithm = built(small_a3c(worker_timeout_s=3.0).env_runners(num_env_runners=2))
    try:
        algorithm.train()
        os.kill(pid_of(algorithm, 1), signal.SIGSTOP)
        begin = time.monotonic()
        result = algorithm.train()
        while result["faults"]["worker_restarts"] < 1 and time.monotonic() - begin < 90:
            result = algorithm.train()
    finally:
        algorithm.stop()
    assert result["faults"]["worker_hangs"] == 1
    assert result["faults"]["worker_restarts"] == 1
    assert result["workers_alive"] == 2


@pytest.mark.parametrize("synchronous", [False, True])
def test_nan_gradient_is_dropped_and_counted_and_its_worker_restarted(synchronous: bool) -> None:
    algorithm = built(small_a3c(synchronous=synchronous).env_runners(num_env_runners=2))
    try:
        algorithm.train()
        assert algorithm.pool is not None
        before = adam_steps(algorithm)
        wait = algorithm.pool.wait
        spoiled: list[int] = []

        def wait_and_spoil(timeout_s: float = 1.0) -> list[tuple[int, Reply]]:
            replies = wait(timeout_s)
            if replies and not spoiled:
                index, reply = replies[0]
                spoiled.append(reply.agent_steps)
                nan = np.full_like(reply.gradient, np.nan)
                replies[0] = (index, reply._replace(gradient=nan))
            return replies

        algorithm.pool.wait = wait_and_spoil  # type: ignore[method-assign]
        heard = record(algorithm)
        steps = algorithm.agent_steps
        until = time.monotonic() + 90
        result = algorithm.train()
        while result["faults"]["worker_restarts"] < 1 and time.monotonic() < until:
            result = algorithm.train()
        updates = adam_steps(algorithm)
        values = algorithm.learner.flat.values
    finally:
        algorithm.stop()
    assert result["faults"]["nonfinite_updates"] == 1 == len(spoiled)
    assert result["faults"]["worker_restarts"] == 1
    # The steps count although their gradients were dropped.
    assert result["agent_steps"] - steps == sum(reply.agent_steps for _, _, reply in heard)
    assert bool(torch.isfinite(values).all())
    if not synchronous:
        assert updates - before == len(heard) - 1


def test_stale_gradients_are_dropped_and_counted() -> None:
    algorithm = built(small_a3c(max_staleness=0).env_runners(num_env_runners=2))
    try:
        heard = record(algorithm)
        results = [algorithm.train() for _ in range(5)]
        updates = adam_steps(algorithm)
    finally:
        algorithm.stop()
    dropped = results[-1]["faults"]["stale_gradients"]
    assert dropped > 0 and updates == len(heard) - dropped
    assert results[-1]["env_steps"] == sum(reply.agent_steps for _, _, reply in heard)
    bars = [sum(result["staleness"]["histogram"].values()) for result in results]
    assert sum(bars) == len(heard)


@pytest.mark.ci
def test_restored_run_in_process_continues_bit_for_bit(tmp_path: Path) -> None:
    config = small_a3c(optimizer="rmsprop", lr=[[0, 1e-2], [2000, 0.0]]).auxiliary(
        icm={"intrinsic_coeff": 0.1}
    )
    ends = []
    whole = built(config.copy())
    try:
        whole.train()
        checkpoint.save(whole, tmp_path, whole.agent_steps)
        results = [whole.train() for _ in range(2)]
        ends.append((results[-1]["env_steps"], whole.learner.flat.values.clone()))
    finally:
        whole.stop()
    resumed = built(config.copy())
    try:
        checkpoint.restore(resumed, checkpoint.check(tmp_path))
        results = [resumed.train() for _ in range(2)]
        ends.append((results[-1]["env_steps"], resumed.learner.flat.values.clone()))
    finally:
        resumed.stop()
    assert ends[0][0] == ends[1][0]
    assert torch.equal(ends[0][1], ends[1][1])


def test_checkpoint_of_two_workers_restores_counts_and_optimizer(tmp_path: Path) -> None:
    config = small_a3c().auxiliary(curl={}).env_runners(num_env_runners=2)
    first = built(config.copy())
    try:
        first.train()
        checkpoint.save(first, tmp_path, first.agent_steps)
        steps, version = first.agent_steps, first.version
        values = first.learner.flat.values.clone()
        states = [o.state_dict()["state"] for o in optimizers(first)]
        policy = Policy.load(tmp_path / POLICY_FOLDER)
    finally:
        first.stop()
    second = built(config.copy())
    try:
        checkpoint.restore(second, checkpoint.check(tmp_path))
        assert (second.agent_steps, second.version) == (steps, version)
        assert torch.equal(second.learner.flat.values, values)
        restored = [o.state_dict()["state"] for o in optimizers(second)]
        for one, other in zip(states, restored, strict=True):
            assert torch.equal(one[0]["exp_avg_sq"], other[0]["exp_avg_sq"])
        result = second.train()
        assert result["env_steps"] >= steps + 200 and result["updates"] > version
        evaluated = second.evaluate_seeded()
    finally:
        second.stop()
    assert policy.act(np.zeros(4, np.float32)) in (0, 1)
    assert evaluated["num_episodes"] == 10


def optimizers(algorithm: A3C) -> list[Any]:
    return [o for _, o in algorithm.learner.get_optimizers_for_module("default_policy")]


def test_rllibs_own_evaluation_uses_plain_runners() -> None:
    config = small_a3c().evaluation(evaluation_interval=1, evaluation_duration=2)
    algorithm = built(config)
    try:
        result = algorithm.train()
        assert type(algorithm.eval_env_runner).__name__ == "VectorEnvRunner"
    finally:
        algorithm.stop()
    assert result["evaluation"]["env_runners"]["num_episodes"] >= 1


def test_running_statistics_reach_the_driver_and_a_new_worker() -> None:
    config = small_a3c().auxiliary(icm={"variant": "burda", "intrinsic_coeff": 1.0})
    algorithm = built(config.env_runners(num_env_runners=1))
    try:
        algorithm.train()
        count = "auxiliary.icm.normalizer.moments.count"
        known = int(algorithm.learner.statistics()[count])
        assert known > 0
        os.kill(pid_of(algorithm, 1), signal.SIGKILL)
        result = algorithm.train()
        while result["faults"]["worker_restarts"] < 1:
            result = algorithm.train()
        # The new worker continues from the driver's statistics, not from zero.
        assert int(algorithm.learner.statistics()[count]) > known
    finally:
        algorithm.stop()
