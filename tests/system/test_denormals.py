"""Denormal floats are zero while a Learner computes, and unchanged before and after."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from rlssl.algorithms.a3c.a3c_learner import A3CTorchLearner
from rlssl.algorithms.common.learner import BaseLearner
from rlssl.system.denormals import denormals_are_zero
from tests.algorithms.a3c.a3c_bench import A3CBench, small_a3c
from tests.algorithms.bench import Bench, small_ppo
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import ActorCriticBench, small_sac


def is_zero() -> bool:
    # Compared as an integer, because a comparison of floats also treats it as zero.
    return int((torch.tensor([1e-40]) * 1.0).view(torch.int32)) == 0


@pytest.fixture(autouse=True)
def skips_on_processors_without_the_mode() -> None:
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush denormal floats")
    torch.set_flush_denormal(False)


def test_denormals_are_zero_inside_only() -> None:
    assert not is_zero()
    with pytest.raises(KeyError), denormals_are_zero():
        assert is_zero()
        raise KeyError
    assert not is_zero()


def test_a_process_that_already_flushes_denormals_continues_to() -> None:
    torch.set_flush_denormal(True)
    try:
        with denormals_are_zero():
            assert is_zero()
        assert is_zero()
    finally:
        torch.set_flush_denormal(False)


def update_ppo() -> None:
    bench = Bench(small_ppo())
    bench.update(bench.sample())


def update_sac() -> None:
    bench = ActorCriticBench(small_sac())
    bench.add(bench.sample())
    bench.update_once()


def update_a3c() -> None:
    bench = A3CBench(small_a3c())
    num_steps = bench.runner.compute(0)
    bench.learner.apply(worker=0, agent_steps=num_steps, num_steps=num_steps)


@pytest.mark.parametrize(
    "update, expected",
    [
        (update_ppo, 4),
        (update_sac, 2),
        # The gradient, and the optimizer step.
        (update_a3c, 2),
    ],
)
def test_learners_update_without_denormals(
    update: Callable[[], None], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    zero: list[bool] = []
    clip = BaseLearner._clip

    def watched(self: BaseLearner, parameters: Mapping[str, Any]) -> bool:
        zero.append(is_zero())
        return clip(self, parameters)

    def watched_backward(self: A3CTorchLearner, rows: Mapping[str, Any]) -> None:
        zero.append(is_zero())
        backward(self, rows)

    backward = A3CTorchLearner._backward
    monkeypatch.setattr(BaseLearner, "_clip", watched)
    monkeypatch.setattr(A3CTorchLearner, "_backward", watched_backward)
    update()
    assert len(zero) >= expected and all(zero)
    assert not is_zero()
