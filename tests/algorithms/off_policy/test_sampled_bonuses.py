"""Intrinsic rewards that are computed for each batch, with the current weights."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.algorithms.off_policy.batches import INTRINSIC_REWARDS
from rlssl.algorithms.off_policy.sampled_bonuses import with_bonuses
from rlssl.batches import to_tensors
from rlssl.errors import SpecError
from tests.algorithms.a3c.a3c_bench import small_a3c
from tests.algorithms.bench import small_ppo
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import (
    ActorCriticBench,
    small_ddpg,
    small_sac,
)
from tests.algorithms.rainbow.rainbow_bench import CPU, RainbowBench, small_rainbow

SMALL: dict[str, tuple[Callable[..., Any], Callable[[Any], RainbowBench]]] = {
    "rainbow": (small_rainbow, RainbowBench),
    "sac": (small_sac, ActorCriticBench),
    "ddpg": (small_ddpg, ActorCriticBench),
}


def bench_of(algorithm: str, **losses: Any) -> RainbowBench:
    small, bench = SMALL[algorithm]
    return bench(small().training(n_step=1).auxiliary(**losses))


def icm(when: str, **options: Any) -> dict[str, Any]:
    return {"bonus_when": when, "intrinsic_coeff": 0.5, "reward_clip": None, **options}


def sampled_rewards(bench: RainbowBench, batch: dict[str, Tensor]) -> Tensor:
    rows, _ = with_bonuses(batch, dict(bench.module.auxiliary.items()), gamma=bench.config.gamma)
    rewards: Tensor = rows[INTRINSIC_REWARDS]
    return rewards


@pytest.mark.parametrize("clip", [None, 0.9])
@pytest.mark.parametrize("algorithm", SMALL)
def test_before_an_update_they_are_the_stored_ones_and_then_change(
    algorithm: str, clip: float | None
) -> None:
    stored, sampled = (
        bench_of(algorithm, icm=icm(when, reward_clip=clip)) for when in ("stored", "sampled")
    )
    for bench in (stored, sampled):
        bench.add(bench.sample())
    expected, batch = (to_tensors(bench.draw(), CPU) for bench in (stored, sampled))
    assert torch.equal(expected[Columns.OBS], batch[Columns.OBS])
    assert INTRINSIC_REWARDS not in batch
    found = sampled_rewards(sampled, batch)
    torch.testing.assert_close(found, expected[INTRINSIC_REWARDS], rtol=1e-4, atol=1e-5)
    if clip is not None:
        assert (batch[Columns.REWARDS] + found).abs().max() <= clip + 1e-6
        return
    for _ in range(3):
        sampled.update_once()
    assert not torch.allclose(sampled_rewards(sampled, batch), found, rtol=1e-4, atol=1e-5)


def test_updates_learn_from_them() -> None:
    # The same batch with and without the rewards gives other TD errors.
    errors = []
    for coeff in (0.0, 0.5):
        bench = bench_of("rainbow", icm=icm("sampled", intrinsic_coeff=coeff))
        bench.add(bench.sample())
        bench.learner.update_on(bench.draw(), agent_steps=0)
        errors.append(bench.learner.td_errors)
        assert ("aux", "icm", "intrinsic_reward") in bench.learner.latest_metrics
    assert not torch.allclose(errors[0], errors[1])


@pytest.mark.parametrize("algorithm", SMALL)
def test_without_weight_everything_else_is_as_without_the_loss(algorithm: str) -> None:
    states = []
    for losses in ({}, {"icm": icm("sampled", coeff=0.0, intrinsic_coeff=0.0)}):
        bench = bench_of(algorithm, **losses)
        bench.update(bench.sample())
        state = bench.module.state_dict()
        states.append({k: v for k, v in state.items() if not k.startswith("auxiliary")})
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), key


def test_computing_them_changes_no_state() -> None:
    bench = bench_of("sac", icm=icm("sampled"))
    bench.add(bench.sample())
    before = {key: value.clone() for key, value in bench.module.state_dict().items()}
    assert not sampled_rewards(bench, to_tensors(bench.draw(), CPU)).requires_grad
    assert all(torch.equal(value, before[key]) for key, value in bench.module.state_dict().items())


@pytest.mark.parametrize(
    "loss, options",
    [
        ("icm", {"variant": "burda"}),
        *((name, {}) for name in ("disagreement", "episodic_count", "noveld", "ride", "rnd")),
    ],
)
def test_rewards_that_need_the_order_of_steps_are_refused(loss: str, options: Any) -> None:
    with pytest.raises(SpecError, match=f"auxiliary.{loss}: bonus_when=sampled needs a reward"):
        small_sac().auxiliary(**{loss: {**options, "bonus_when": "sampled"}})


@pytest.mark.parametrize("env", ["CartPole-v1", "minatar/Breakout"])
def test_the_rewards_of_several_steps_are_summed_as_a_slow_loop_does(env: str) -> None:
    config = small_rainbow(env, n_step=3, gamma=0.5).auxiliary(icm=icm("sampled"))
    bench = RainbowBench(config if env == "CartPole-v1" else config.model(encoder_config={}))
    bench.add(bench.sample())
    batch = to_tensors(bench.draw(), CPU)
    found = sampled_rewards(bench, batch)
    loss = bench.module.auxiliary["icm"]
    assert {int(k) for k in batch["n_step"]} == {1, 2, 3}  # rows near ends have fewer
    for row, index in enumerate(batch["indices"].tolist()):
        expected = 0.0
        for i in range(int(batch["n_step"][row])):
            # The rows of one copy's steps lie side by side here, one slot each.
            steps = bench.replay.windows(np.array([index]), after=i + 1)
            window = to_tensors(steps, CPU)
            step = {
                Columns.OBS: window[Columns.OBS][:, i],
                Columns.NEXT_OBS: window[Columns.OBS][:, i + 1],
                Columns.ACTIONS: window[Columns.ACTIONS][:, i],
            }
            expected += 0.5**i * 0.5 * float(loss.intrinsic_reward(step))
        assert float(found[row]) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_a_clip_of_the_sums_of_several_steps_is_refused() -> None:
    config = small_rainbow().training(n_step=3).auxiliary(icm={"bonus_when": "sampled"})
    with pytest.raises(SpecError, match=r"reward_clip=1\.0 .* needs training\.n_step=1"):
        config.validate()


@pytest.mark.parametrize("small", [small_ppo, small_a3c])
def test_algorithms_without_a_replay_buffer_are_refused(small: Any) -> None:
    with pytest.raises(SpecError, match=r"bonus_when=sampled needs .* rainbow, sac or ddpg"):
        small().auxiliary(icm={"bonus_when": "sampled"}).validate()
