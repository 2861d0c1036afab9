"""Updates a second of the algorithms on a GPU; see `benchmarks.gpu.__main__`."""

import itertools
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch

from benchmarks.off_policy import filled_replay, learner_of
from rlssl.algorithms.off_policy.batches import draw
from rlssl.auxiliary.needs import Needs
from rlssl.replay import Prefetcher

BATCHES = (128, 256, 512, 1024)
NUM_STEPS = 3_000

VECTOR = gym.spaces.Box(-9.0, 9.0, (17,), np.float32)
FRAME = gym.spaces.Box(0, 255, (3, 100, 100), np.uint8)
ATARI = gym.spaces.Box(0, 255, (1, 84, 84), np.uint8)
CONTINUOUS = gym.spaces.Box(-1.0, 1.0, (6,), np.float32)
DISCRETE: gym.spaces.Discrete = gym.spaces.Discrete(6)


class Workload(NamedTuple):
    """An off-policy algorithm on random steps."""

    name: str
    document: dict[str, Any]
    frame: gym.Space
    actions: gym.Space


WORKLOADS = (
    Workload("SAC", {"algorithm": "sac", "env": "Pendulum-v1"}, VECTOR, CONTINUOUS),
    Workload(
        "CURL-SAC",
        {"algorithm": "sac", "preset": "curl", "env": "dmc-pixels/cheetah-run"},
        FRAME,
        CONTINUOUS,
    ),
    Workload("Rainbow", {"algorithm": "rainbow", "env": "atari/Pong"}, ATARI, DISCRETE),
)


class Parts(NamedTuple):
    """What makes the updates of a workload."""

    learner: Any
    # Draws a batch in numpy.
    draw: Callable[[], dict[str, Any]]


def parts_of(workload: Workload, batch_size: int) -> Parts:
    """A Learner on the GPU and a filled replay buffer."""
    from rlssl.experiment.spec.building import build_config
    from rlssl.experiment.spec.loading import load_spec

    training = {"train_batch_size_per_learner": batch_size, "replay_capacity": NUM_STEPS + 9}
    config = build_config(load_spec({**workload.document, "training": training}))
    config.learners(num_gpus_per_learner=1)
    learner = learner_of(config, workload.frame, workload.actions)
    replay = filled_replay(config, workload.frame, workload.actions, NUM_STEPS)
    needs = learner.needs

    def draw_one() -> dict[str, Any]:
        return draw(
            replay, batch_size, n_step=config.n_step, gamma=config.gamma, beta=1.0, needs=needs
        )

    return Parts(learner, draw_one)


def updates_per_s(update: Callable[[], object], seconds: float) -> float:
    """How often ``update`` can be called in a second, with the work that it gives to the GPU."""
    for _ in range(5):
        update()
    torch.cuda.synchronize()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        update()
        count += 1
    torch.cuda.synchronize()
    return count / (time.perf_counter() - start)


def measure(workload: Workload, batch_size: int, seconds: float) -> dict[str, Any]:
    """Updates a second in the three ways of the script's docstring."""
    parts = parts_of(workload, batch_size)
    learner = parts.learner
    resident = itertools.cycle([learner.transfers.prepare(parts.draw()) for _ in range(4)])
    row: dict[str, Any] = {"name": workload.name, "batch": batch_size}
    with busy_percent() as busy:
        row["resident"] = updates_per_s(
            lambda: learner.update_on(next(resident), agent_steps=10_000), seconds
        )
    row["busy %"] = busy()

    def prepare() -> Any:
        return learner.transfers.prepare(parts.draw())

    with Prefetcher(prepare, depth=2) as batches:
        row["drawn ahead"] = updates_per_s(
            lambda: learner.update_on(batches.get(), agent_steps=10_000), seconds
        )
    row["in turn"] = updates_per_s(
        lambda: learner.update_on(parts.draw(), agent_steps=10_000), seconds
    )
    return row


def measure_ppo(batch_size: int, seconds: float) -> dict[str, Any]:
    """Minibatch steps a second of PPO on Atari frames, on rows that are on the GPU."""
    import rlssl

    config = (
        rlssl.PPOConfig()
        .environment("atari/Pong")
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=2 * batch_size, minibatch_size=batch_size)
        .learners(num_gpus_per_learner=1)
        .debugging(seed=0)
    )
    config.validate()
    runner = config.env_runner_cls(config=config, worker_index=0, num_workers=0)
    learner: Any = config.build_learner(spaces=runner.get_spaces())
    learner.build()
    learner.rl_module.train()
    rows = learner.run_pipeline(runner.sample(num_timesteps=batch_size, random_actions=False))
    with busy_percent() as busy:
        speed = updates_per_s(lambda: learner.take_step(rows), seconds)
    runner.stop()
    return {"name": "PPO", "batch": batch_size, "resident": speed, "busy %": busy()}


@contextmanager
def busy_percent() -> Iterator[Callable[[], float]]:
    """Gives a function that returns the GPU's mean utilization in the context; nan if unknown."""
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    try:
        process = subprocess.Popen([*command, "-i", "0", "-lms", "200"], stdout=subprocess.PIPE)
    except FileNotFoundError:
        yield lambda: float("nan")
        return
    values: list[float] = []
    try:
        yield lambda: float(np.mean(values)) if values else float("nan")
    finally:
        process.terminate()
        text = process.communicate()[0].decode()
        values += [float(line) for line in text.split() if line.isdigit()]


def one_of_two(rank: int, store: str, speeds: Any) -> None:
    """One of two Learners on a GPU each; writes its updates a second."""
    import torch.distributed as dist

    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", init_method=f"file://{store}", rank=rank, world_size=2)
    from rlssl.algorithms.sac.sac import SACConfig

    config = SACConfig().environment("Pendulum-v1").debugging(seed=0)
    config.learners(num_learners=2, num_gpus_per_learner=1, local_gpu_idx=rank)
    config.training(train_batch_size_per_learner=256, replay_capacity=NUM_STEPS + 9)
    learner = learner_of(config, VECTOR, CONTINUOUS)
    replay = filled_replay(config, VECTOR, CONTINUOUS, NUM_STEPS)
    batch = draw(replay, 512, n_step=1, gamma=0.99, beta=1.0, needs=Needs())
    # Both make the same number of updates: each waits for the other's gradients.
    count = 200
    for _ in range(5):
        learner.update_on_part(batch, agent_steps=10_000)
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(count):
        learner.update_on_part(batch, agent_steps=10_000)
    torch.cuda.synchronize()
    speeds[rank] = count / (time.perf_counter() - start)
    dist.destroy_process_group()


def measure_two_learners() -> dict[str, Any]:
    """SAC's updates a second with two Learners and batches of 2 x 256."""
    speeds = torch.zeros(2).share_memory_()
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(one_of_two, (f"{folder}/store", speeds), nprocs=2)
    return {"name": "SAC, two Learners", "batch": 512, "in turn": float(speeds.min())}


def rows(seconds: float) -> Iterator[dict[str, Any]]:
    """All measurements, one after another."""
    for workload, batch_size in itertools.product(WORKLOADS, BATCHES):
        yield measure(workload, batch_size, seconds)
    for batch_size in BATCHES:
        yield measure_ppo(batch_size, seconds)
    if torch.cuda.device_count() > 1:
        yield measure_two_learners()
    else:
        print("two Learners: not measured, there is one device")
