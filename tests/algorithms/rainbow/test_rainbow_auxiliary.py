"""Auxiliary losses with Rainbow: one-step columns, and rewards computed when steps are stored."""

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from rlssl.algorithms.off_policy.batches import AUXILIARY_COLUMNS
from rlssl.batches import to_tensors
from tests.algorithms.rainbow.rainbow_bench import CPU, RainbowBench, small_rainbow


def test_icm_reads_the_next_step_for_any_n_step() -> None:
    bench = RainbowBench(small_rainbow(n_step=3).auxiliary(icm={}))
    bench.add(bench.sample())
    batch = to_tensors(bench.draw(), CPU)
    icm = bench.module.auxiliary["icm"]
    single = {**batch, **batch[AUXILIARY_COLUMNS]}
    assert not torch.equal(single[Columns.NEXT_OBS], batch[Columns.NEXT_OBS])
    expected = torch.stack([loss.mean() for loss in icm.losses(single).values()]).sum()
    given = bench.learner.compute_auxiliary_loss(batch)
    assert given.item() == pytest.approx(expected.item())


def test_intrinsic_reward_is_computed_at_storing_and_summed_over_n_steps() -> None:
    losses = {"icm": {"intrinsic_coeff": 0.5, "reward_clip": None}}
    bench = RainbowBench(small_rainbow(n_step=3, gamma=0.5).auxiliary(**losses))
    episodes = bench.sample(40)
    icm = bench.module.auxiliary["icm"]
    expected = {}
    for episode in episodes:
        obs = torch.as_tensor(np.array(episode.get_observations()))
        rows = {
            Columns.OBS: obs[:-1],
            Columns.NEXT_OBS: obs[1:],
            Columns.ACTIONS: torch.as_tensor(np.array(episode.get_actions())).long(),
        }
        bonus = 0.5 * icm.intrinsic_reward(rows).numpy()
        for t in range(len(bonus)):
            window = bonus[t : t + 3]
            expected[obs[t].numpy().tobytes()] = (window * 0.5 ** np.arange(len(window))).sum()
    bench.add(episodes)
    for _ in range(5):
        bench.update_once()
    batch = bench.draw()
    given = batch["intrinsic_rewards"]
    wanted = [expected[row.tobytes()] for row in batch[Columns.OBS]]
    np.testing.assert_allclose(given, wanted, rtol=1e-3, atol=1e-6)
    # Rewards stay extrinsic: 1 + 0.5 + 0.25, or fewer terms at an episode's end.
    assert set(np.round(batch[Columns.REWARDS], 4)) <= {1.0, 1.5, 1.75}


def test_pathaks_clip_bounds_the_sum_of_every_step() -> None:
    bench = RainbowBench(small_rainbow(n_step=1).auxiliary(icm={"intrinsic_coeff": 100.0}))
    bench.add(bench.sample())
    batch = bench.draw()
    np.testing.assert_allclose(batch[Columns.REWARDS] + batch["intrinsic_rewards"], 1.0)


def test_uniform_rows_of_the_losses_differ_from_the_rl_losss_rows() -> None:
    config = small_rainbow(replay={"uniform_for_auxiliary": True}).auxiliary(curl={})
    bench = RainbowBench(config)
    bench.add(bench.sample())
    batch = to_tensors(bench.draw(), CPU)
    own = batch[AUXILIARY_COLUMNS]
    assert not torch.equal(own[Columns.OBS], batch[Columns.OBS])
    compute = bench.learner.compute_auxiliary_loss
    given = compute(batch)
    assert given.item() == compute(own).item()
    bench.learner.update_on(bench.draw(), agent_steps=64)


def test_images_are_augmented_independently_before_and_after_the_step() -> None:
    config = small_rainbow("minatar/Breakout").model(
        encoder_config={}, augmentation={"shift": {"pad": 2}}
    )
    bench = RainbowBench(config)
    bench.add(bench.sample())
    batch = to_tensors(bench.draw(n_step=1), CPU)
    batch[Columns.NEXT_OBS] = batch[Columns.OBS]
    seen = bench.module.augmentation(batch[Columns.OBS])
    after = bench.module.next_augmentation(batch[Columns.NEXT_OBS])
    assert not torch.equal(seen, after)
    out = bench.module.forward_train(batch)
    assert torch.equal(out["augmented_obs"], seen)
    bench.update(bench.sample())
