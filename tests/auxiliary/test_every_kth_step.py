"""`every`: a loss and its heads are updated at every k-th gradient step only, on all algorithms."""

from typing import Any

import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.auxiliary import AuxiliaryLoss, AuxiliaryLossConfig, EMACopy
from rlssl.errors import SpecError
from rlssl.registry import register_auxiliary_loss
from tests.algorithms.bench import Bench, small_ppo
from tests.algorithms.common.test_auxiliary_rules import ALGORITHMS, bench_of
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import ActorCriticBench, small_sac
from tests.algorithms.rainbow.rainbow_bench import RainbowBench, small_rainbow


class _Counted(AuxiliaryLoss):
    """The latent must tell the first feature of the observation; counts its calls."""

    reads = frozenset({Columns.OBS})

    def __init__(self, config: AuxiliaryLossConfig, **given: Any) -> None:
        super().__init__(config, **given)
        self.head = torch.nn.Linear(int(self.encoder.output_dim), 1)
        self.slow_head = EMACopy(self.head)
        self.calls = 0

    def losses(self, batch: Any) -> dict[str, Tensor]:
        self.calls += 1
        error = self.head(self.latents(batch)).squeeze(-1) - batch[Columns.OBS][:, 0]
        return {"error": error.square()}

    def after_update(self) -> None:
        self.slow_head.update(self.head, 1.0)


register_auxiliary_loss("test_counted")(_Counted)


def step(bench: Bench) -> None:
    """One gradient step."""
    episodes = bench.sample()
    if isinstance(bench, RainbowBench):
        bench.add(episodes)
        bench.update_once()
        return
    bench.learner.before_gradient_based_update(timesteps={})
    bench.learner.take_step(bench.batch(episodes))


def head_of(bench: Bench) -> Tensor:
    return bench.module.auxiliary["test_counted"].head.weight.detach().clone()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_loss_and_heads_move_at_every_kth_gradient_step_only(algorithm: str) -> None:
    bench = bench_of(algorithm, {"test_counted": {"every": 3}})
    loss = bench.module.auxiliary["test_counted"]
    moved, calls = [], []
    for _ in range(7):
        before, called = head_of(bench), loss.calls
        step(bench)
        moved.append(not head_of(bench).equal(before))
        calls.append(loss.calls - called)
        # Target networks of the loss move with it.
        assert loss.slow_head.target.weight.equal(head_of(bench)) or not any(moved)
    assert moved == [False, False, True, False, False, True, False]
    assert calls == [0, 0, 1, 0, 0, 1, 0]


def test_separate_step_is_left_out_with_the_losses() -> None:
    config = small_sac(auxiliary_step="separate").auxiliary(test_counted={"every": 2})
    bench = ActorCriticBench(config)
    optimizers = dict(bench.learner.get_optimizers_for_module("default_policy"))
    steps = []
    for _ in range(4):
        step(bench)
        states = optimizers["encoder"].state.values()
        steps.append(max((int(state["step"]) for state in states), default=0))
    assert steps == [0, 1, 1, 2]


def test_steps_without_the_loss_equal_those_of_a_run_without_it() -> None:
    with_loss, without = (
        bench_of("ppo", losses) for losses in ({"test_counted": {"every": 2}}, {})
    )
    for number in range(2):
        for bench in (with_loss, without):
            step(bench)
        state = without.module.encoder.state_dict()
        found = with_loss.module.encoder.state_dict()
        assert all(value.equal(found[key]) for key, value in state.items()) == (number == 0)


def test_count_continues_after_a_restore() -> None:
    trained = bench_of("ppo", {"test_counted": {"every": 3}})
    for _ in range(2):
        step(trained)
    restored = bench_of("ppo", {"test_counted": {"every": 3}}, seed=9)
    restored.learner.set_state(trained.learner.get_state())
    before = head_of(restored)
    step(restored)
    assert not head_of(restored).equal(before)


def test_every_1_adds_nothing_to_checkpoints() -> None:
    keys = bench_of("ppo", {"test_counted": {}}).module.state_dict().keys()
    assert not any("pace" in key for key in keys)


def test_two_losses_have_their_own_pace() -> None:
    losses = {"test_counted": {"every": 2}, "inverse_dynamics": {"every": 3}}
    bench = bench_of("ppo", losses)
    inverse = bench.module.auxiliary["inverse_dynamics"].inverse
    moved = []
    for _ in range(6):
        before = head_of(bench), inverse.layers[0].weight.detach().clone()
        step(bench)
        after = head_of(bench), inverse.layers[0].weight
        moved.append(tuple(not torch.equal(a, b) for a, b in zip(before, after, strict=True)))
    assert moved == [(k % 2 == 0, k % 3 == 0) for k in range(1, 7)]


@pytest.mark.parametrize("value", [0, -1, 1.5, True, None])
def test_bad_values_are_refused(value: Any) -> None:
    with pytest.raises(SpecError, match="every must be a whole number >= 1; got"):
        small_ppo().auxiliary(inverse_dynamics={"every": value})


def test_priorities_with_the_loss_need_it_at_every_step() -> None:
    config = small_rainbow(auxiliary_in_priorities=True)
    with pytest.raises(SpecError, match=r"auxiliary\.curl\.every is 2, and training\."):
        config.auxiliary(curl={"every": 2}).validate()
