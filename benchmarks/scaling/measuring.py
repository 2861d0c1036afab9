"""Measures the constants of the model on this machine, one part after the other."""

import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.off_policy import random_episodes
from benchmarks.scaling.fake_runners import as_new, set_fragment
from benchmarks.scaling.model import Constants

PLUGIN, ENV = "benchmarks.slow_env", "bench/waiting"
#: Copies of the environment in a runner, and updates for an agent step.
COPIES = {"sac": 1, "rainbow": 1, "ppo": 8}
UPDATES_PER_STEP = {"sac": 1.0, "rainbow": 0.25}
#: Vector steps of a fragment of Rainbow and SAC.
STEPS = 4
#: Steps in the replay buffer.
NUM_STEPS = 10_000


def algorithm_of(name: str, *, overlaps: bool = True) -> Any:
    """A built Algorithm with one remote runner, whose environments do not wait."""
    from ray.rllib.env import INPUT_ENV_SINGLE_SPACES

    import rlssl

    configs: dict[str, Any] = {
        "sac": rlssl.SACConfig,
        "rainbow": rlssl.RainbowConfig,
        "ppo": rlssl.PPOConfig,
    }
    config = (
        configs[name]()
        .plugins([PLUGIN])
        .environment({"id": ENV, "wait_ms": 0, "discrete": name == "rainbow"})
        .env_runners(num_env_runners=1, num_envs_per_env_runner=COPIES[name])
        .training(overlap_sampling=overlaps)
        .debugging(seed=0, log_level="ERROR")
    )
    if name != "ppo":
        config.training(
            learning_starts_agent_steps=0,
            updates_per_agent_step=UPDATES_PER_STEP[name],
            replay_capacity=4 * NUM_STEPS,
        )
    algorithm = config.build_algo()
    if name != "ppo":
        frame, actions = algorithm.spaces[INPUT_ENV_SINGLE_SPACES]
        for episode in random_episodes(frame, actions, NUM_STEPS):
            algorithm.replay.add([episode])
    return algorithm


def real_fragment(algorithm: Any, vector_steps: int) -> Any:
    """A fragment of the remote runner, with its metrics."""
    from rlssl.rollouts.fragment_requests import sampled

    count = vector_steps * algorithm.config.num_envs_per_env_runner
    (fragment,) = algorithm.env_runner_group.foreach_env_runner(
        sampled, kwargs={"num_timesteps": count}, local_env_runner=False
    )
    return fragment


def of_runner(algorithm: Any) -> dict[str, float]:
    """The constants of a runner, measured in its process; the runner is a real one."""
    (figures,) = algorithm.env_runner_group.foreach_env_runner(_time_runner, local_env_runner=False)
    return dict(figures)


def _time_runner(runner: Any) -> dict[str, float]:
    from ray import cloudpickle

    from rlssl.rollouts.fragment_requests import sampled

    copies, seconds, sizes = runner.num_envs, {}, {}
    for steps in (STEPS, 16 * STEPS):
        count = steps * copies
        seconds[steps] = median_s(lambda count=count: sampled(runner, num_timesteps=count), 40)
        sizes[steps] = len(cloudpickle.dumps(sampled(runner, num_timesteps=count)))
    more = 15 * STEPS
    step_s = max(0.0, seconds[16 * STEPS] - seconds[STEPS]) / more
    step_bytes = (sizes[16 * STEPS] - sizes[STEPS]) / (more * copies)
    return {
        "vector_step_s": step_s,
        "fragment_s": max(0.0, seconds[STEPS] - STEPS * step_s),
        "step_bytes": step_bytes,
        "fragment_bytes": sizes[STEPS] - STEPS * copies * step_bytes,
    }


def of_driver(algorithm: Any, runner: dict[str, float], fragment: Any) -> Constants:
    """All constants; the Algorithm has two fake runners.

    Args:
        algorithm: Its runners are fakes.
        runner: The result of `of_runner`.
        fragment: What the fake runners return.
    """
    group, requests = algorithm.env_runner_group, algorithm.fragment_requests
    runners = group.num_healthy_remote_workers()
    set_fragment(algorithm, fragment, 0.0)
    request_s, receive_s = zip(*(_request_and_receive(algorithm) for _ in range(40)), strict=True)
    before = sum(_cpu_of(algorithm))
    for _ in range(40):
        requests.send()
        requests.collect()
    call_s = (sum(_cpu_of(algorithm)) - before) / (40 * runners)
    weights_s, send_s, weights_bytes = _weights(algorithm)
    return Constants(
        **runner,
        call_s=call_s,
        receive_s=statistics.median(receive_s) / runners,
        request_s=statistics.median(request_s) / runners,
        store_s=_store_s(algorithm, fragment),
        weights_s=weights_s,
        send_s=send_s,
        update_s=_update_s(algorithm, fragment),
        weights_bytes=weights_bytes,
    )


def _request_and_receive(algorithm: Any) -> tuple[float, float]:
    """Seconds of the driver to request the fragments, and to receive them when they are there."""
    requests = algorithm.fragment_requests
    request_s = seconds_of(requests.send)
    time.sleep(0.02)
    begin = time.perf_counter()
    metrics = [fragment.metrics for fragment in requests.collect()]
    algorithm.metrics.aggregate(metrics, key="env_runners")
    return request_s, time.perf_counter() - begin


def _cpu_of(algorithm: Any) -> list[float]:
    return list(
        algorithm.env_runner_group.foreach_env_runner(
            lambda _: __import__("time").process_time(), local_env_runner=False
        )
    )


def _weights(algorithm: Any) -> tuple[float, float, float]:
    """Seconds to read and put the weights, seconds to send them to a runner, and their bytes."""
    import ray

    component = "learner/rl_module"

    def read() -> Any:
        state = algorithm.learner_group.get_state(components=component, inference_only=True)
        return ray.put(state)

    state = algorithm.learner_group.get_state(components=component, inference_only=True)
    sent, group = read(), algorithm.env_runner_group
    send_s = median_s(
        lambda: group.foreach_env_runner(
            "set_state", kwargs={"state": sent}, local_env_runner=False, timeout_seconds=0.0
        ),
        40,
        pause_s=0.02,
    )
    size = float(len(ray.cloudpickle.dumps(state)))
    return median_s(read, 40), send_s / group.num_healthy_remote_workers(), size


def _store_s(algorithm: Any, fragment: Any) -> float:
    if not hasattr(algorithm, "replay"):
        return 0.0
    steps = fragment.agent_steps
    return median_s(lambda: algorithm._store(as_new(fragment).episodes), 40) / steps


def _update_s(algorithm: Any, fragment: Any) -> float:
    """Seconds of an update; with PPO, of all epochs on a batch."""
    if hasattr(algorithm, "replay"):
        return median_s(algorithm._update, 60)
    config = algorithm.config
    parts = -(-config.total_train_batch_size // fragment.agent_steps)
    episodes = [each for _ in range(parts) for each in as_new(fragment).episodes]
    return median_s(
        lambda: algorithm.learner_group.update(
            episodes=episodes,
            timesteps={"num_env_steps_sampled_lifetime": 0},
            num_epochs=config.num_epochs,
            minibatch_size=config.minibatch_size,
        ),
        5,
    )


def seconds_of(call: Callable[[], Any]) -> float:
    """Seconds of one call."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def median_s(call: Callable[[], Any], repeats: int, *, pause_s: float = 0.0) -> float:
    """The median of the seconds of calls, after a tenth that are not counted."""
    taken = []
    for _ in range(repeats + repeats // 10 + 1):
        taken.append(seconds_of(call))
        time.sleep(pause_s)
    return statistics.median(taken[-repeats:])
