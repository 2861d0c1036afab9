"""A short plug-in with a window and a queue trains on PPO, SAC and Rainbow, vectors and pixels."""

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from rlssl.registry import AUXILIARY_LOSSES
from tests.algorithms.bench import Bench, small_ppo
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import ActorCriticBench, small_sac
from tests.algorithms.rainbow.rainbow_bench import RainbowBench, small_rainbow

PLUGIN = Path(__file__).parent / "plugin_with_queue.py"

CASES: dict[str, tuple[Any, Any, str]] = {
    "ppo": (small_ppo, Bench, "CartPole-v1"),
    "ppo pixels": (small_ppo, Bench, "minatar/Breakout"),
    "rainbow": (small_rainbow, RainbowBench, "CartPole-v1"),
    "rainbow pixels": (small_rainbow, RainbowBench, "minatar/Breakout"),
    "sac": (small_sac, ActorCriticBench, "Pendulum-v1"),
    "sac pixels": (small_sac, ActorCriticBench, "test/dot"),
}


@pytest.fixture(autouse=True)
def plugin() -> Iterator[None]:
    with AUXILIARY_LOSSES.undone_afterwards():
        runpy.run_path(str(PLUGIN))
        yield


def bench_of(case: str, seed: int = 0) -> Any:
    small, bench, env = CASES[case]
    config = small(env).auxiliary(queued_prediction={"size": 512}).debugging(seed=seed)
    if "pixels" in case:
        config.model(encoder=None, encoder_config={})
    return bench(config)


def test_the_plugin_is_short() -> None:
    assert len(PLUGIN.read_text(encoding="utf-8").splitlines()) < 60


@pytest.mark.parametrize("case", CASES)
def test_it_trains_fills_its_queue_and_is_restored(case: str) -> None:
    bench = bench_of(case)
    for _ in range(3):
        found = bench.update(bench.sample())["default_policy"]["aux"]["queued_prediction"]
    assert 0.0 < float(found["info_nce"].peek()) < 20.0
    loss = bench.module.auxiliary["queued_prediction"]
    assert not loss.queue.is_empty and int(loss.queue.count) <= 512
    other = bench_of(case, seed=9)
    other.learner.set_state(bench.learner.get_state())
    restored = other.module.auxiliary["queued_prediction"].state_dict()
    for key, value in loss.state_dict().items():
        assert torch.equal(value, restored[key]), key
