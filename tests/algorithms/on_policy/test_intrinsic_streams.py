"""Losses with a stream of their own: value head, advantages, and what does not change."""

import random
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.evaluation.postprocessing import Postprocessing
from torch import Tensor

from rlssl.auxiliary import AuxiliaryLoss, BonusConfig
from rlssl.connectors.advantages import STREAM_TARGETS
from rlssl.connectors.intrinsic_reward import TOTAL_REWARDS
from rlssl.errors import SpecError
from rlssl.registry import AUXILIARY_LOSSES
from rlssl.rollouts.runner_state import capture, restore
from rlssl.system.random_state import generators, set_generators
from tests.algorithms.a3c.a3c_bench import A3CBench, small_a3c
from tests.algorithms.bench import Bench, small_ppo
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import small_ddpg, small_sac
from tests.algorithms.rainbow.rainbow_bench import small_rainbow
from tests.rollouts.counting import COUNTING

#: Copies' lengths of episodes in turn: several ends in a fragment, and episodes over fragments.
LENGTHS = [[3, 5, 2], [11, 4]]
COEFF, GAMMA, LAMBDA = 0.5, 0.9, 0.8


def bench_of(algorithm: str, env: str = COUNTING, model: Any = None, **options: Any) -> Bench:
    """A Learner and runner with ICM, unless ``options`` are empty."""
    small, bench = {"ppo": (small_ppo, Bench), "a3c": (small_a3c, A3CBench)}[algorithm]
    config = small(env, lambda_=LAMBDA, normalize_advantages=False).model(**model or {})
    if env == COUNTING:
        config = config.environment(env, env_config={"lengths": LENGTHS})
    return bench(config.auxiliary(icm=options) if options else config)


def own(**options: Any) -> dict[str, Any]:
    return {"stream": "own", "intrinsic_coeff": COEFF, "stream_gamma": GAMMA, **options}


def slow_advantages(rows: Mapping[str, Any], *, episodic: bool) -> Tensor:
    """GAE, step by step along each copy; the copy, episode and step are in the observations."""
    slots, episodes, steps = (rows[Columns.OBS][:, index].int().tolist() for index in range(3))
    found = torch.zeros(len(slots))
    for slot in set(slots):
        mine = [row for row in range(len(slots)) if slots[row] == slot]
        mine.sort(key=lambda row: (episodes[row], steps[row]))
        advantage, after = 0.0, None
        for row in reversed(mine):
            is_end = after is None or episodes[after] != episodes[row]
            if after is None or (
                episodic and (is_end or rows["chunk"][after] != rows["chunk"][row])
            ):
                value, advantage = float(rows["next_value"][row]), 0.0
                if episodic and rows[Columns.TERMINATEDS][row]:
                    value = 0.0
            else:
                value = float(rows["value"][after])
            delta = float(rows["reward"][row]) + GAMMA * value - float(rows["value"][row])
            advantage = delta + GAMMA * LAMBDA * advantage
            found[row], after = advantage, row
    return found


@torch.no_grad()
def rows_of(bench: Bench, num_fragments: int) -> dict[str, Any]:
    """A batch of some fragments in random order, with rewards and values of the stream."""
    chunks = [chunk for _ in range(num_fragments) for chunk in bench.sample(28)]
    random.Random(0).shuffle(chunks)
    # Before the connectors, which add a phantom step to each chunk.
    lengths = torch.tensor([len(chunk) for chunk in chunks])
    rows = bench.batch(chunks)
    module = bench.module
    nexts = {Columns.OBS: rows[Columns.NEXT_OBS]}
    return {
        **rows,
        "chunk": torch.arange(len(chunks)).repeat_interleave(lengths),
        "reward": module.auxiliary["icm"].intrinsic_reward(rows),
        "value": module.compute_intrinsic_values(module.critic_embeddings(rows))["icm"],
        "next_value": module.compute_intrinsic_values(module.critic_embeddings(nexts))["icm"],
    }


@pytest.mark.parametrize("num_fragments", [1, 3])
@pytest.mark.parametrize("episodic", [False, True])
@pytest.mark.parametrize("algorithm", ["ppo", "a3c"])
def test_advantages_of_a_stream_equal_a_slow_loop_over_each_copy(
    algorithm: str, episodic: bool, num_fragments: int
) -> None:
    bench = bench_of(algorithm, **own(stream_episodic=episodic))
    rows = rows_of(bench, num_fragments)
    # Terminated and truncated ends, and two copies.
    assert rows[Columns.TERMINATEDS].any() and len(rows[Columns.OBS][:, 0].unique()) == 2
    assert (rows[Columns.OBS][:, 1] > 1).any()
    slow = slow_advantages(rows, episodic=episodic)
    targets = rows[STREAM_TARGETS]["icm"]
    torch.testing.assert_close(targets, slow + rows["value"], rtol=1e-4, atol=1e-4)
    values = bench.module.compute_values(rows).detach()
    extrinsic = rows[Postprocessing.VALUE_TARGETS] - values
    total = rows[Postprocessing.ADVANTAGES]
    torch.testing.assert_close(total, extrinsic + COEFF * slow, rtol=1e-4, atol=1e-4)


def test_extrinsic_targets_have_no_intrinsic_reward() -> None:
    with_stream, without = (bench_of("ppo", **options) for options in (own(), {}))
    expected, found = (it.batch(it.sample()) for it in (without, with_stream))
    key = Postprocessing.VALUE_TARGETS
    torch.testing.assert_close(found[key], expected[key], rtol=0, atol=1e-6)
    assert not torch.equal(found[Postprocessing.ADVANTAGES], expected[Postprocessing.ADVANTAGES])


MODELS = {
    "separate": {},
    "shared": {"shared_encoder": True},
    "recurrent": {"lstm": {"hidden": 8, "sequence_length": 4}},
    "recurrent-shared": {"shared_encoder": True, "lstm": {"hidden": 8, "sequence_length": 4}},
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("algorithm", ["ppo", "a3c"])
def test_a_stream_without_weight_leaves_everything_else_bit_for_bit(
    algorithm: str, model: str
) -> None:
    states = []
    for options in ({}, {"coeff": 0.0, **own(intrinsic_coeff=0.0)}):
        bench = bench_of(algorithm, "CartPole-v1", MODELS[model], **options)
        for _ in range(2):
            bench.update(bench.sample())
        states.append(bench.module.state_dict())
    without, found = states
    added = {key for key in found if key.startswith(("auxiliary.", "intrinsic_vf.icm."))}
    assert found.keys() - added == without.keys() and any("intrinsic_vf" in key for key in added)
    for key, value in without.items():
        assert torch.equal(value, found[key]), key


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("algorithm", ["ppo", "a3c"])
def test_the_value_head_learns_its_targets(algorithm: str, model: str) -> None:
    bench = bench_of(algorithm, "CartPole-v1", MODELS[model], **own())
    batch = bench.batch(bench.sample())
    head = bench.module.intrinsic_vf["icm"]
    forward = bench.module._forward_train(batch)
    bench.learner.critic_loss(batch, forward).backward()
    embeddings = bench.module.critic_embeddings(batch)
    errors = head(embeddings).squeeze(-1) - batch[STREAM_TARGETS]["icm"]
    # d/db of the mean of 0.5 * error^2.
    torch.testing.assert_close(head.bias.grad, errors.mean()[None], rtol=1e-4, atol=1e-6)
    metrics = bench.update(bench.sample())["default_policy"]["aux"]["icm"]
    assert {"value_loss", "advantage_size", "intrinsic_reward"} <= metrics.keys()


def test_the_value_head_is_only_in_the_learner_and_has_an_optimizer_of_its_own() -> None:
    bench = bench_of("ppo", **own())
    sent = bench.module.get_state(inference_only=True)
    assert not any(key.startswith("intrinsic_vf") for key in sent)
    assert not any(key.startswith("intrinsic_vf") for key in bench.runner.module.state_dict())
    groups = bench.learner.parameter_groups()
    assert groups["intrinsic_values"] == [*bench.module.intrinsic_vf.parameters()]
    assert len(bench.learner.get_optimizers_for_module("default_policy")) == 3


@pytest.mark.parametrize("algorithm", ["ppo", "a3c"])
def test_a_restored_learner_and_runner_continue_bit_for_bit(algorithm: str) -> None:
    def trained(bench: Bench, updates: int) -> dict[str, Any]:
        for _ in range(updates):
            bench.update(bench.sample())
        state: dict[str, Any] = bench.module.state_dict()
        return state

    first, second = (bench_of(algorithm, "CartPole-v1", **own()) for _ in range(2))
    trained(first, 2)
    second.learner.set_state(first.learner.get_state())
    # A3C's runner has the Learner's weights already.
    if algorithm == "ppo":
        second.runner.module.load_state_dict(first.runner.module.state_dict())
    assert restore(second.runner, capture(first.runner, 2**26)) == ""
    state = generators()
    expected = trained(first, 2)
    set_generators(state)
    found = trained(second, 2)
    for key, value in expected.items():
        assert torch.equal(value, found[key]), key


@pytest.mark.parametrize("small", [small_rainbow, small_sac, small_ddpg])
def test_algorithms_with_a_replay_buffer_refuse_a_stream(small: Any) -> None:
    with pytest.raises(SpecError, match=r"auxiliary.icm.stream=own needs .* ppo or a3c"):
        small().auxiliary(icm={"stream": "own"}).validate()


@pytest.mark.parametrize("loss, options", [("icm", {"reward_clip": 1.0}), ("noveld", {})])
def test_a_clip_of_the_sum_of_rewards_is_refused(loss: str, options: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=r"reward_clip clips the sum .* to null; got 1\.0"):
        small_ppo().auxiliary(**{loss: {"stream": "own", **options}})


def test_every_built_in_bonus_may_have_a_stream() -> None:
    built_in = {name: AUXILIARY_LOSSES[name] for name in AUXILIARY_LOSSES if name[:5] != "test_"}
    bonuses = {
        name: loss.Config
        for name, loss in built_in.items()
        if loss.intrinsic_reward is not AuxiliaryLoss.intrinsic_reward
    }
    assert {"icm", "rnd"} <= bonuses.keys()
    assert all(issubclass(config, BonusConfig) for config in bonuses.values()), bonuses


def test_losses_have_separate_streams() -> None:
    options = {"hidden": 8, "output_dim": 8, "stream": "own", "stream_episodic": True}
    bench = Bench(small_ppo(COUNTING).auxiliary(icm=own(), rnd=options, episodic_count={}))
    batch = bench.batch(bench.sample())
    assert batch[STREAM_TARGETS].keys() == bench.module.intrinsic_vf.keys() == {"icm", "rnd"}
    # The episodic count is added to the reward.
    assert not torch.equal(batch[TOTAL_REWARDS], batch[Columns.REWARDS])
    metrics = bench.update(bench.sample())["default_policy"]["aux"]
    assert all(metrics[name]["value_loss"].peek() > 0 for name in ("icm", "rnd"))
    assert "value_loss" not in metrics["episodic_count"]
