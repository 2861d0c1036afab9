"""Numbers below the normal ones: zero while a Learner computes, as they were before and after."""

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


def is_lost() -> bool:
    # Compared as an integer: a comparison of floats takes it for zero, too.
    return int((torch.tensor([1e-40]) * 1.0).view(torch.int32)) == 0


@pytest.fixture(autouse=True)
def skips_where_the_processor_cannot() -> None:
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor keeps denormal numbers")
    torch.set_flush_denormal(False)


def test_they_are_zero_within_alone() -> None:
    assert not is_lost()
    with pytest.raises(KeyError), denormals_are_zero():
        assert is_lost()
        raise KeyError
    assert not is_lost()


def test_who_has_none_anyway_goes_on_without() -> None:
    torch.set_flush_denormal(True)
    try:
        with denormals_are_zero():
            assert is_lost()
        assert is_lost()
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
        # The gradient, and the step with it.
        (update_a3c, 2),
    ],
)
def test_learners_update_without_them(
    update: Callable[[], None], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[bool] = []
    clip = BaseLearner._clip

    def watched(self: BaseLearner, parameters: Mapping[str, Any]) -> bool:
        lost.append(is_lost())
        return clip(self, parameters)

    def watched_backward(self: A3CTorchLearner, rows: Mapping[str, Any]) -> None:
        lost.append(is_lost())
        backward(self, rows)

    backward = A3CTorchLearner._backward
    monkeypatch.setattr(BaseLearner, "_clip", watched)
    monkeypatch.setattr(A3CTorchLearner, "_backward", watched_backward)
    update()
    assert len(lost) >= expected and all(lost)
    assert not is_lost()
