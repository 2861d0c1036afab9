"""Rainbow's loss by hand: targets, the choice of the next action, weights, masks, priorities."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.algorithms.rainbow.rainbow_module import NEXT_CHOICE, NEXT_TARGET, ONLINE
from tests.algorithms.rainbow.rainbow_bench import RainbowBench, small_rainbow


def loss_of(bench: RainbowBench, batch: dict[str, Any], outputs: dict[str, Tensor]) -> Tensor:
    return bench.learner.compute_rl_loss(batch, outputs)


def a_batch(**columns: Any) -> dict[str, Any]:
    """Two rows; the episode of the second row ended."""
    return {
        Columns.ACTIONS: torch.tensor([0, 1]),
        Columns.REWARDS: torch.tensor([1.0, 2.0]),
        "discounts": torch.tensor([0.5, 0.0]),
        "weights": torch.tensor([1.0, 0.5]),
        **columns,
    }


PLAIN = {
    ONLINE: torch.tensor([[1.0, 7.0], [7.0, 2.5]]),
    NEXT_CHOICE: torch.tensor([[3.0, 4.0], [0.0, 0.0]]),
    NEXT_TARGET: torch.tensor([[10.0, 6.0], [9.0, 9.0]]),
}


@pytest.fixture(scope="module")
def plain() -> RainbowBench:
    return RainbowBench(small_rainbow(distributional=False, td_loss="mse"))


def test_squared_error_by_hand(plain: RainbowBench) -> None:
    loss = loss_of(plain, a_batch(), PLAIN)
    # Row 1: chosen 1, target 1 + 0.5 * 6 = 4, error 3, loss 4.5. Row 2: target 2, error -0.5, loss
    # 0.125, weight 0.5. Mean (4.5 + 0.0625) / 2.
    assert loss.item() == pytest.approx(2.28125)
    assert plain.learner.td_errors.tolist() == [3.0, 0.5]


def test_huber_error_by_hand() -> None:
    bench = RainbowBench(small_rainbow(distributional=False, td_loss="huber"))
    # Row 1: 3 - 0.5 = 2.5. Row 2 as above.
    assert loss_of(bench, a_batch(), PLAIN).item() == pytest.approx((2.5 + 0.0625) / 2)


def test_intrinsic_rewards_are_added_to_the_target(plain: RainbowBench) -> None:
    batch = a_batch(intrinsic_rewards=torch.tensor([2.0, 0.0]))
    loss_of(plain, batch, PLAIN)
    assert plain.learner.td_errors.tolist() == [5.0, 0.5]


def test_masked_rows_are_ignored(plain: RainbowBench) -> None:
    batch = a_batch(loss_mask=torch.tensor([False, True]))
    batch[Columns.REWARDS] = torch.tensor([math.nan, 2.0])
    # Only row 2: 0.125 * 0.5.
    assert loss_of(plain, batch, PLAIN).item() == pytest.approx(0.0625)


@pytest.mark.parametrize("priority", ["kl", "cross_entropy"])
def test_distributional_loss_by_hand(priority: Any) -> None:
    bench = RainbowBench(
        small_rainbow(num_atoms=3, v_min=0.0, v_max=2.0, n_step=1, priority=priority)
    )
    uniform, log = torch.zeros(3), math.log
    certain = torch.tensor([0.0, 0.0, 99.0])
    outputs = {
        ONLINE: torch.stack([uniform, uniform]).repeat(2, 1, 1),
        NEXT_CHOICE: torch.tensor([[1.0, 0.0], [1.0, 0.0]]),
        NEXT_TARGET: torch.stack([torch.stack([certain, uniform]), torch.zeros(2, 3)]),
    }
    batch = a_batch()
    batch[Columns.REWARDS] = torch.tensor([0.25, 2.0])
    loss = loss_of(bench, batch, outputs)
    # Row 1: a certain return of 2 gives 0.25 + 0.5 * 2 = 1.25: 0.75 on 1, 0.25 on 2. Row 2: surely
    # 2. With uniform predictions the cross-entropy is log 3 for every target.
    assert loss.item() == pytest.approx(log(3) * (1 + 0.5) / 2, rel=1e-5)
    entropy = -(0.75 * log(0.75) + 0.25 * log(0.25))
    lower = [entropy, 0.0] if priority == "kl" else [0.0, 0.0]
    expected = [log(3) - less for less in lower]
    np.testing.assert_allclose(bench.learner.td_errors, expected, rtol=1e-5)


def forward(bench: RainbowBench) -> tuple[dict[str, Any], dict[str, Tensor]]:
    batch = bench.batch(bench.sample())
    return batch, bench.module.forward_train(batch)


@pytest.mark.parametrize("double", [True, False])
def test_next_action_is_chosen_by_the_online_or_the_target_network(double: bool) -> None:
    bench = RainbowBench(small_rainbow(double=double, noisy=False))
    with torch.no_grad():
        for parameter in bench.module.head.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    batch, out = forward(bench)
    module = bench.module
    online = module.values(module.head(module.encoder(batch[Columns.NEXT_OBS])))
    target = module.values(out[NEXT_TARGET])
    assert not torch.allclose(online, target)
    torch.testing.assert_close(out[NEXT_CHOICE], online if double else target)


def test_noise_differs_between_updates_and_between_online_and_target_network() -> None:
    bench = RainbowBench(small_rainbow(target_update_every_updates=10**6))
    batch, first = forward(bench)
    noise = [layer.noise_values for layer in bench.module.online_noisy]
    target_noise = [layer.noise_values for layer in bench.module.target_noisy]
    assert noise and not any(map(torch.equal, noise, target_noise))
    again = bench.module.forward_train(batch)
    torch.testing.assert_close(first, again)
    for draws in (bench.module.noise_rng, bench.module.target_noise_rng):
        draws.after_update()
    other = bench.module.forward_train(batch)
    for key in (ONLINE, NEXT_CHOICE, NEXT_TARGET):
        assert not torch.allclose(first[key], other[key]), key


def test_gradient_reaches_only_the_online_network() -> None:
    bench = RainbowBench(small_rainbow())
    bench.update(bench.sample())
    module = bench.module
    assert all(parameter.grad is None for parameter in module.target.parameters())
    for part in (module.encoder, module.head):
        assert all(bool(parameter.grad.any()) for parameter in part.parameters())


SWITCHED_OFF: list[dict[str, Any]] = [
    {"double": False},
    {"dueling": False},
    {"distributional": False},
    {"noisy": False},
    {"n_step": 1},
    {"replay": {"prioritized": False}},
    {"noise": "independent"},
    {"target_tau": 0.01},
    {
        **dict.fromkeys(("double", "dueling", "distributional", "noisy"), False),
        "n_step": 1,
        "replay": {"prioritized": False},
    },
]


@pytest.mark.parametrize("off", SWITCHED_OFF, ids=str)
def test_every_part_can_be_switched_off_separately(off: dict[str, Any]) -> None:
    bench = RainbowBench(small_rainbow(**off))
    module = bench.module
    assert (module.head.state is not None) == off.get("dueling", True)
    assert bool(module.online_noisy) == off.get("noisy", True)
    prioritized = off.get("replay", {}).get("prioritized", True)
    assert bench.replay.kind == ("prioritized" if prioritized else "uniform")
    batch, out = forward(bench)
    atoms = (51,) if off.get("distributional", True) else ()
    assert out[ONLINE].shape == (32, 2, *atoms)
    assert set(batch["n_step"].tolist()) <= set(range(1, off.get("n_step", 3) + 1))
    before = {key: value.clone() for key, value in module.state_dict().items()}
    for _ in range(3):
        result = bench.update(bench.sample())["default_policy"]
    moved = {k for k, v in module.state_dict().items() if not torch.equal(v, before[k])}
    assert any(key.startswith("encoder") for key in moved)
    assert any(key.startswith("head") for key in moved)
    assert any(k.startswith("target.target.head") for k in moved) == (
        "target_tau" in off or bool(off.get("noisy", True))
    )
    for key in ("loss", "td_error_mean", "q_mean"):
        assert np.isfinite(result[key].peek())


def test_priorities_exclude_auxiliary_losses() -> None:
    errors = []
    for losses in ({}, {"curl": {"coeff": 100.0}}):
        bench = RainbowBench(small_rainbow().auxiliary(**losses))
        bench.add(bench.sample())
        errors.append(bench.update_once())
    np.testing.assert_array_equal(errors[0], errors[1])


def test_auxiliary_in_priorities_adds_the_loss_to_priorities_and_weights_it() -> None:
    benches, losses = [], []
    for leak in (False, True):
        # Building seeds the global generators, from which the runner draws.
        config = small_rainbow(auxiliary_in_priorities=leak).auxiliary(curl={"coeff": 2.0})
        bench = RainbowBench(config)
        bench.add(bench.sample())
        batch = bench.draw()
        batch["weights"][:] = 0.5
        bench.learner.update_on(batch, agent_steps=64)
        benches.append(bench)
        losses.append(bench.learner.latest_metrics)
    curl = float(losses[0]["aux", "curl", "info_nce"])
    assert curl > 1.0
    difference = benches[1].learner.td_errors - benches[0].learner.td_errors
    np.testing.assert_allclose(difference, 2 * curl, rtol=1e-4)
    # The importance weights halve the auxiliary loss in the total.
    totals = [float(latest[("total_loss",)]) for latest in losses]
    assert totals[0] - totals[1] == pytest.approx(curl, rel=1e-4)


def test_nonfinite_update_is_skipped_and_keeps_priorities() -> None:
    bench = RainbowBench(small_rainbow())
    bench.add(bench.sample())
    batch = bench.draw()
    batch[Columns.REWARDS][0] = np.nan
    before = {key: value.clone() for key, value in bench.module.state_dict().items()}
    errors = bench.learner.update_on(batch, agent_steps=64)
    assert np.isnan(errors[0]) and np.isfinite(errors[1:]).all()
    for key, value in bench.module.state_dict().items():
        assert "noise" in key or torch.equal(value, before[key]), key
    assert bench.learner.num_nonfinite_updates == 1
