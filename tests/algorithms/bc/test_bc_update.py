"""Behavior cloning's update: against plain code, by hand, every kind of space, measures."""

import copy
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from rlssl.algorithms.bc.metrics import ACCURACY, ACTION_ERROR, NLL
from rlssl.batches import to_tensors
from rlssl.errors import SpecError
from tests.algorithms.bc.bc_bench import BCBench, random_data, small_bc

CPU = torch.device("cpu")
VECTORS = gym.spaces.Box(-1.0, 1.0, (3,), np.float32)
STEERING = gym.spaces.Box(-4.0, 4.0, (2,), np.float32)


def plain_logp(module: Any, obs: Any, actions: Any) -> Any:
    """Log-likelihoods and entropies, from torch's distributions."""
    inputs = module.pi(module.encoder(obs))
    if not actions.is_floating_point():
        policy: Any = torch.distributions.Categorical(logits=inputs)
        return policy.log_prob(actions), policy.entropy()
    mean, log_std = inputs.chunk(2, dim=1)
    policy = torch.distributions.Normal(mean, log_std.exp())
    return policy.log_prob(actions).sum(dim=1), policy.entropy().sum(dim=1)


@pytest.mark.parametrize("actions", [gym.spaces.Discrete(4), STEERING], ids=["discrete", "box"])
def test_updates_equal_plain_reference_code(tmp_path: Path, actions: gym.Space) -> None:
    config = small_bc(random_data(tmp_path, VECTORS, actions), entropy_coeff=0.1, lr=1e-2)
    bench = BCBench(config)
    plain = copy.deepcopy(bench.module)
    adam = torch.optim.Adam([*plain.encoder.parameters(), *plain.pi.parameters()], lr=1e-2)
    for update in range(3):
        batch = bench.draw()
        bench.learner.update_on(batch, agent_steps=update)
        rows = to_tensors(batch, CPU)
        logp, entropy = plain_logp(plain, rows[Columns.OBS], rows[Columns.ACTIONS])
        adam.zero_grad()
        (-logp.mean() - 0.1 * entropy.mean()).backward()
        adam.step()
        assert float(bench.learner.latest_metrics[(NLL,)]) == pytest.approx(
            -float(logp.detach().mean())
        )
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(bench.module.state_dict()[key], value, rtol=0, atol=1e-5)


def test_actions_at_the_bounds_have_a_density_and_are_in_the_module_units(tmp_path: Path) -> None:
    bench = BCBench(small_bc(random_data(tmp_path, VECTORS, STEERING)))
    batch = bench.draw()
    assert np.abs(batch[Columns.ACTIONS]).max() <= 1.0
    batch[Columns.ACTIONS][:] = 1.0
    bench.learner.update_on(batch, agent_steps=0)
    # A fresh policy is about N(0, 1) in 2 dimensions, at (1, 1): log(2 pi) + 2 * 0.5 = 2.838.
    assert float(bench.learner.latest_metrics[(NLL,)]) == pytest.approx(2.838, abs=0.05)


def test_standard_deviation_stays_above_its_bound_and_can_grow_again(tmp_path: Path) -> None:
    bench = BCBench(small_bc(random_data(tmp_path, VECTORS, STEERING), lr=0.5))
    log_std = bench.module.pi.log_std
    with torch.no_grad():
        log_std.fill_(-7.0)
    batch = bench.draw()
    inputs = bench.module.policy_inputs(to_tensors(batch, CPU))
    # -5 + log(1 + exp(-7 + 5)) = -4.8731
    assert inputs[0, 2:].tolist() == pytest.approx([-4.8731, -4.8731], abs=1e-4)
    bench.learner.update_on(batch, agent_steps=0)
    assert bool((log_std > -7.0).all())


SPACES = {
    "dict": (
        gym.spaces.Dict({"at": VECTORS, "mode": gym.spaces.Discrete(3)}),
        gym.spaces.MultiDiscrete([2, 3]),
    ),
    "chw": (gym.spaces.Box(0, 255, (3, 40, 40), np.uint8), gym.spaces.Discrete(3)),
    "hwc": (gym.spaces.Box(0, 255, (40, 40, 3), np.uint8), STEERING),
    "unbounded": (VECTORS, gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)),
}


@pytest.mark.parametrize("case", SPACES)
def test_every_kind_of_space_learns_and_acts(tmp_path: Path, case: str) -> None:
    observations, actions = SPACES[case]
    config = small_bc(random_data(tmp_path, observations, actions), model={})
    bench = BCBench(config)
    before = copy.deepcopy(bench.module.state_dict())
    batch = bench.draw()
    bench.learner.update_on(batch, agent_steps=0)
    after = bench.module.state_dict()
    assert {key for key, value in before.items() if value.equal(after[key])} == set()
    found = bench.learner.measure(batch)
    assert found["rows"] == 16 and np.isfinite(found[NLL])


def test_measures_by_hand(tmp_path: Path) -> None:
    bench = BCBench(small_bc(random_data(tmp_path, VECTORS, gym.spaces.Discrete(2))))
    bench.module.policy_inputs = lambda rows: torch.tensor([[0.0, 2.0], [0.0, 0.0], [3.0, 0.0]])
    obs = np.zeros((3, 3), np.float32)
    found = bench.learner.measure({Columns.OBS: obs, Columns.ACTIONS: np.array([1, 1, 1])})
    # log(1 + e^-2) + log 2 + log(1 + e^3) = 0.1269 + 0.6931 + 3.0486; the second row is a tie, in
    # which the first action is the most likely one.
    assert found[NLL] == pytest.approx(3.8686, abs=1e-4)
    assert found[ACCURACY] == 1.0 and found["rows"] == 3


def test_measure_of_continuous_actions_by_hand_and_nothing_is_trained(tmp_path: Path) -> None:
    bench = BCBench(small_bc(random_data(tmp_path, VECTORS, STEERING)))
    before = copy.deepcopy(bench.module.state_dict())
    batch = bench.draw()
    found = bench.learner.measure(batch)
    with torch.no_grad():
        mean = bench.module.policy_inputs(to_tensors(batch, CPU))[:, :2]
    expected = ((mean.numpy() - batch[Columns.ACTIONS]) ** 2).mean(axis=1).sum()
    assert found[ACTION_ERROR] == pytest.approx(expected, rel=1e-5)
    assert all(value.equal(bench.module.state_dict()[key]) for key, value in before.items())


def test_auxiliary_loss_trains_the_encoder_beside_the_clone(tmp_path: Path) -> None:
    data = random_data(tmp_path, VECTORS, gym.spaces.Discrete(4))
    config = small_bc(data).auxiliary(inverse_dynamics={"coeff": 2.0})
    bench = BCBench(config)
    bench.learner.update_on(bench.draw(), agent_steps=0)
    metrics = bench.learner.latest_metrics
    total = float(metrics[("total_loss",)])
    auxiliary = 2.0 * float(metrics[("aux", "inverse_dynamics", "inverse")])
    assert total == pytest.approx(float(metrics[("policy_loss",)]) + auxiliary, rel=1e-5)


def test_data_without_actions_are_refused_with_the_way_out(tmp_path: Path) -> None:
    config = small_bc(random_data(tmp_path, VECTORS, None))
    with pytest.raises(SpecError, match="has no actions, and bc learns from actions"):
        config.validate()


def test_settings_that_have_no_effect_or_are_out_of_range_are_refused(tmp_path: Path) -> None:
    data = random_data(tmp_path, VECTORS, gym.spaces.Discrete(4))
    with pytest.raises(SpecError, match="burn_in: 3 warms up an LSTM, and there is none"):
        small_bc(data, burn_in=3).validate()
    lstm = {"lstm": {"hidden": 4, "sequence_length": 8}}
    with pytest.raises(SpecError, match=r"burn_in must be < model.lstm.sequence_length \(8\)"):
        small_bc(data, model=lstm, burn_in=8).validate()
    with pytest.raises(SpecError, match="prioritized"):
        small_bc(data, replay={"prioritized": True}).validate()
