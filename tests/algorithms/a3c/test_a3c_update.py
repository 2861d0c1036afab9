"""A3C's update against a handwritten one; optimizers, staleness and entropy by hand."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import nn

from rlssl.algorithms.a3c.flat import FlatModule
from rlssl.algorithms.a3c.presets import PRESETS
from rlssl.algorithms.a3c.staleness import StalenessLog
from rlssl.algorithms.common.optimizers import RMSProp
from rlssl.auxiliary.latent_statistics import latent_statistics
from rlssl.errors import NonFiniteUpdateError, SpecError
from rlssl.rollouts.vector_env_runner import VectorEnvRunner
from tests.algorithms.a3c.a3c_bench import A3CBench, small_a3c


def record_samples(bench: A3CBench) -> list[dict[str, np.ndarray]]:
    """Makes the runner keep a copy of its samples, before connectors change them."""
    kept: list[dict[str, np.ndarray]] = []
    sample = bench.runner.sample

    def sample_and_keep(**kwargs: Any) -> Any:
        episodes = sample(**kwargs)
        kept.extend(
            {
                "obs": np.array(episode.get_observations()),
                "actions": np.array(episode.get_actions()),
                "rewards": np.array(episode.get_rewards()),
                "terminated": np.array(episode.is_terminated),
            }
            for episode in episodes
        )
        return episodes

    bench.runner.sample = sample_and_keep  # type: ignore[method-assign]
    return kept


def loss_by_hand(module: Any, chunks: list[dict[str, np.ndarray]], config: Any) -> torch.Tensor:
    """n-step returns, one chunk and one step at a time."""
    terms = []
    for chunk in chunks:
        obs = torch.as_tensor(chunk["obs"])
        logits = module.pi(module.encoder(obs[:-1]))
        values = module.vf(module.critic_encoder(obs)).squeeze(-1)
        running = 0.0 if chunk["terminated"] else values[-1].item()
        for t in reversed(range(len(chunk["rewards"]))):
            running = chunk["rewards"][t] + 0.99 * running
            logp = logits[t].log_softmax(-1)
            actor = -logp[chunk["actions"][t]] * (running - values[t].item())
            critic = 0.5 * (values[t] - running) ** 2
            entropy = -(logp.exp() * logp).sum()
            terms.append(actor + config.vf_loss_coeff * critic - config.entropy_coeff * entropy)
    return torch.stack(terms).mean()


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
def test_one_synchronous_worker_makes_the_handwritten_a2c_update(optimizer: str) -> None:
    bench = A3CBench(
        small_a3c(
            synchronous=True,
            optimizer=optimizer,
            optimizer_epsilon=0.1,
            lr=0.01,
            entropy_coeff=0.02,
            grad_clip=0.5,
        )
    )
    chunks = record_samples(bench)
    module = copy.deepcopy(bench.module)
    parameters = [p for p in module.parameters() if p.requires_grad]
    square_means = [torch.zeros_like(p) for p in parameters]
    adam = torch.optim.Adam(parameters, lr=0.01, eps=0.1)
    agent_steps = 0
    for _ in range(3):
        steps = bench.runner.compute(agent_steps)
        agent_steps += steps
        assert bench.learner.apply(worker=0, agent_steps=agent_steps, num_steps=steps)
        loss = loss_by_hand(module, chunks, bench.config)
        gradients = list(torch.autograd.grad(loss, parameters))
        norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
        assert norm > 0.5  # so that clipping is tested
        gradients = [g * 0.5 / (norm + 1e-6) for g in gradients]
        for parameter, gradient, mean in zip(parameters, gradients, square_means, strict=True):
            parameter.grad = gradient
            mean.mul_(0.99).add_(0.01 * gradient**2)
            if optimizer == "rmsprop":
                parameter.data -= 0.01 * gradient / torch.sqrt(mean + 0.1)
        if optimizer == "adam":
            adam.step()
        chunks.clear()
        for (name, ours), theirs in zip(
            bench.module.named_parameters(), module.parameters(), strict=True
        ):
            # Sums in a different order differ by a few units in the last place of float32.
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5, msg=name)


def test_summed_gradient_is_the_mean_times_the_steps_of_the_fragment() -> None:
    gradients = {}
    for reduction in ("mean", "sum"):
        config = small_a3c(gradient_reduction=reduction, entropy_coeff=0.02).auxiliary(icm={})
        bench = A3CBench(config)
        steps = bench.runner.compute(0)
        gradients[reduction] = bench.learner.flat.gradient.clone()
    # 16 steps of 2 environments, or one more where an environment was reset.
    assert steps in (32, 33)
    assert float(gradients["mean"].abs().max()) > 0
    torch.testing.assert_close(gradients["sum"], steps * gradients["mean"], rtol=1e-5, atol=1e-6)


def test_atari_preset_makes_the_originals_first_step() -> None:
    training = PRESETS["a3c_atari"]["training"]
    config = small_a3c(**{**training, "lambda_": 1.0})
    bench = A3CBench(config.env_runners(num_envs_per_env_runner=1, rollout_fragment_length=5))
    chunks = record_samples(bench)
    module = copy.deepcopy(bench.module)
    parameters = [p for p in module.parameters() if p.requires_grad]
    steps = bench.runner.compute(0)
    assert bench.learner.apply(worker=0, agent_steps=steps, num_steps=steps)
    # 5 steps; CartPole's rewards are at most 1, so the norm stays below the limit of 40.
    summed = torch.autograd.grad(5 * loss_by_hand(module, chunks, bench.config), parameters)
    assert steps == 5
    norm = math.sqrt(sum(float(g.square().sum()) for g in summed))
    assert 0 < norm < 40
    pairs = zip(bench.module.parameters(), parameters, summed, strict=True)
    for after, before, gradient in pairs:
        # g = 0.01 d^2; theta - 7e-4 d / sqrt(g + 0.1).
        step = 7e-4 * gradient / torch.sqrt(0.01 * gradient**2 + 0.1)
        torch.testing.assert_close(after, before - step, rtol=0, atol=1e-6)


def test_rmsprop_adds_epsilon_inside_the_root() -> None:
    parameter = nn.Parameter(torch.tensor([1.0]))
    optimizer = RMSProp([parameter], lr=0.1, alpha=0.9, epsilon=0.5)
    parameter.grad = torch.tensor([2.0])
    optimizer.step()
    # g = 0.1 * 4 = 0.4; 1 - 0.1 * 2 / sqrt(0.9).
    assert parameter.item() == pytest.approx(1 - 0.2 / math.sqrt(0.9))
    parameter.grad = torch.tensor([-1.0])
    optimizer.step()
    # g = 0.9 * 0.4 + 0.1 * 1 = 0.46; + 0.1 / sqrt(0.96).
    assert parameter.item() == pytest.approx(1 - 0.2 / math.sqrt(0.9) + 0.1 / math.sqrt(0.96))


@pytest.mark.parametrize("optimizer_state", ["shared", "per_worker"])
def test_optimizer_statistics_are_shared_or_per_worker(optimizer_state: str) -> None:
    config = small_a3c(
        optimizer="rmsprop",
        optimizer_state=optimizer_state,
        optimizer_epsilon=1.0,
        rmsprop_alpha=0.5,
        lr=1.0,
        grad_clip=None,
    ).env_runners(num_env_runners=2)
    config.validate()
    runner = VectorEnvRunner(config=config, worker_index=1, num_workers=2)
    learner = config.build_learner(spaces=runner.get_spaces())
    learner.build()
    before = learner.flat.values.clone()
    for worker, size in ((1, 2.0), (2, 1.0), (1, 1.0)):
        learner.flat.gradient.fill_(size)
        assert learner.apply(worker=worker, agent_steps=0, num_steps=1)
    moved = (before - learner.flat.values)[0].item()
    if optimizer_state == "shared":
        # g: 0.5 * 4 = 2; 0.5 * 2 + 0.5 = 1.5; 0.5 * 1.5 + 0.5 = 1.25.
        expected = 2 / math.sqrt(3) + 1 / math.sqrt(2.5) + 1 / math.sqrt(2.25)
    else:
        # Worker 1: 2, then 0.5 * 2 + 0.5 = 1.5; worker 2: 0.5.
        expected = 2 / math.sqrt(3) + 1 / math.sqrt(1.5) + 1 / math.sqrt(2.5)
    assert moved == pytest.approx(expected, abs=1e-5)
    numbers = {"shared": 1, "per_worker": 2}
    assert len(learner.get_optimizers_for_module("default_policy")) == numbers[optimizer_state]


def test_parameters_and_gradients_are_views_of_the_flat_buffers() -> None:
    layer: Any = nn.Linear(2, 1)
    slow: Any = nn.Linear(2, 1).requires_grad_(False)
    before = [p.detach().clone() for p in (layer.weight, layer.bias, slow.weight, slow.bias)]
    flat = FlatModule({"a": [layer.weight], "b": [layer.bias]}, list(slow.parameters()))
    assert torch.equal(flat.values, torch.cat([p.reshape(-1) for p in before]))
    # Trainable: 2 weights and a bias, out of 6 values in total.
    assert flat.gradient.shape == (3,)
    flat.pull(np.arange(6, dtype=np.float32))
    assert layer.weight.tolist() == [[0.0, 1.0]] and layer.bias.tolist() == [2.0]
    assert slow.weight.tolist() == [[3.0, 4.0]] and slow.bias.tolist() == [5.0]
    layer(torch.tensor([[10.0, 20.0]])).sum().backward()
    assert flat.gradient.tolist() == [10.0, 20.0, 1.0]
    assert np.array(flat.groups["b"].grad).tolist() == [1.0]
    flat.take_mean([np.array([1, 2, 3], np.float32), np.array([3, 2, 1], np.float32)])
    assert layer.weight.grad.tolist() == [[2.0, 2.0]]


def test_parameters_of_two_dtypes_are_refused() -> None:
    layers: list[Any] = [nn.Linear(2, 1), nn.Linear(2, 1).double()]
    with pytest.raises(SpecError, match="parameters of one dtype"):
        FlatModule({"a": [layer.weight for layer in layers]}, [])


def test_worker_acts_with_the_parameters_of_the_last_update() -> None:
    bench = A3CBench(small_a3c(lr=0.1))
    steps = bench.runner.compute(0)
    assert bench.learner.apply(worker=0, agent_steps=steps, num_steps=steps)
    for name, parameter in bench.runner.module.named_parameters():
        theirs = bench.module.get_parameter(name)
        assert parameter.data_ptr() == theirs.data_ptr()
    observations = np.zeros((2, 4), np.float32)
    acting = bench.runner.module.numpy_policy(2)(observations)
    learning = bench.module.forward_inference({Columns.OBS: torch.as_tensor(observations)})
    np.testing.assert_allclose(acting, learning["action_dist_inputs"].detach(), atol=1e-6)


def test_nonfinite_gradient_changes_nothing_and_ten_in_a_row_end_the_run() -> None:
    config = small_a3c().env_runners(num_env_runners=1)
    config.validate()
    runner = VectorEnvRunner(config=config, worker_index=1, num_workers=1)
    learner = config.build_learner(spaces=runner.get_spaces())
    learner.build()
    before = learner.flat.values.clone()
    for size in [math.nan] * 9 + [1.0]:
        learner.flat.gradient.fill_(size)
        was_applied = learner.apply(worker=1, agent_steps=0, num_steps=1)
        assert was_applied == (size == 1.0)
        assert torch.equal(learner.flat.values, before) != was_applied
    assert learner.metrics.peek(("faults", "nonfinite_updates")) == 9
    with pytest.raises(NonFiniteUpdateError, match="10 gradients in a row"):
        for _ in range(10):
            learner.flat.gradient.fill_(math.inf)
            learner.apply(worker=1, agent_steps=0, num_steps=1)


def test_staleness_is_counted_in_updates_and_old_gradients_are_dropped() -> None:
    log = StalenessLog(limit=3)
    # Pulled at versions 5, 5, 4 and 0; applied at 5, 6, 7 and 8: 0, 1, 3 and 8 updates later.
    pairs = [(5, 5), (5, 6), (4, 7), (0, 8)]
    assert [log.admits(pulled=p, now=n) for p, n in pairs] == [True, True, True, False]
    assert log.num_dropped == 1
    seen = log.drain()
    assert seen["mean"] == 3.0 and seen["max"] == 8  # (0 + 1 + 3 + 8) / 4
    bars = {name: count for name, count in seen["histogram"].items() if count}
    assert bars == {"0": 1, "1": 1, "3-4": 1, "5-8": 1}
    assert math.isnan(log.drain()["mean"]) and log.num_dropped == 1
    log.admits(pulled=0, now=1000)
    assert log.drain()["histogram"]["33+"] == 1


def test_staleness_without_a_limit_drops_nothing() -> None:
    assert StalenessLog(limit=None).admits(pulled=0, now=10**6)


def test_entropy_coefficients_repeat_over_the_workers() -> None:
    config = small_a3c(entropy_coeff_per_worker=[0.1, [[0, 0.2], [100, 0.0]]])
    assert [config.entropy_coeff_of(i) for i in (0, 1, 3)] == [0.1, 0.1, 0.1]
    assert config.entropy_coeff_of(2) == config.entropy_coeff_of(4) == [[0, 0.2], [100, 0.0]]
    bench = A3CBench(config)
    bench.learner.worker_index = 2
    bench.learner.compute(bench.sample(50), agent_steps=50)
    # The schedule is at half of 0.2 after 50 of 100 env steps.
    latest = bench.learner.latest_metrics[("entropy_coeff",)]
    assert latest == pytest.approx(0.1)


def test_report_has_latent_statistics_of_the_last_fragment() -> None:
    bench = A3CBench(small_a3c().auxiliary(icm={}))
    steps = bench.runner.compute(0)
    assert bench.learner.apply(worker=0, agent_steps=steps, num_steps=steps)
    found = bench.learner.report()["default_policy"]["aux"]["latents"]
    rows = bench.learner.last_minibatch[Columns.OBS]
    expected = latent_statistics(bench.module.encoder(rows))
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert float(found[key].peek()) == pytest.approx(value.item()), key


def test_learning_rate_follows_env_steps() -> None:
    bench = A3CBench(small_a3c(lr=[[0, 1e-3], [1000, 0.0]]))
    bench.runner.compute(0)
    bench.learner.apply(worker=0, agent_steps=250, num_steps=32)
    ((_, optimizer),) = bench.learner.get_optimizers_for_module("default_policy")
    assert optimizer.param_groups[0]["lr"] == pytest.approx(7.5e-4)


@pytest.mark.parametrize(
    "training, message",
    [
        ({"optimizer": "sgd"}, "training.optimizer must be one of"),
        ({"optimizer_state": "own"}, "training.optimizer_state must be one of"),
        ({"synchronous": True, "optimizer_state": "per_worker"}, "needs synchronous=false"),
        ({"max_staleness": -1}, "training.max_staleness must be >= 0; got -1."),
        ({"worker_timeout_s": 0.0}, "training.worker_timeout_s must be > 0; got 0.0."),
        ({"entropy_coeff_per_worker": [-1.0]}, "entropy_coeff_per_worker must be finite"),
    ],
)
def test_bad_settings_name_key_and_value(training: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as error:
        small_a3c(**training).validate()
    assert message in str(error.value)


def test_learners_of_rllib_are_refused() -> None:
    with pytest.raises(SpecError, match=r"resources\.learners must be 0 for a3c; got 1"):
        small_a3c().learners(num_learners=1).validate()
