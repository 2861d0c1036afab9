"""GAIL: its loss and rewards, what the discriminator reads, and the guard of horizons."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ray.rllib.core.columns import Columns

from rlssl.auxiliary.imitation.gail import GAIL
from rlssl.errors import SpecError
from tests.algorithms.bench import Bench, small_ppo
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import (
    ActorCriticBench,
    small_sac,
)
from tests.auxiliary.imitation.recorded import record

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pendulum(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Episodes that always push with 1.5 of 2."""
    path = tmp_path_factory.mktemp("data") / "pendulum"
    return record(path, {"id": "Pendulum-v1"}, [lambda _: np.array([1.5], np.float32)] * 2, most=50)


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Episodes of random actions, which end by termination."""
    return record(tmp_path_factory.mktemp("data") / "cartpole", {"id": "CartPole-v1"}, [None] * 3)


def bench_with(path: str, env: str = "Pendulum-v1", **options: Any) -> Bench:
    return Bench(small_ppo(env).auxiliary(gail={"demonstrations": path, **options}))


def steps(num: int = 6, actions: Any = None) -> dict[str, Any]:
    draw = torch.Generator().manual_seed(0)
    given = torch.randn(num, 1, generator=draw) if actions is None else actions
    return {
        Columns.OBS: torch.randn(num, 3, generator=draw),
        Columns.NEXT_OBS: torch.randn(num, 3, generator=draw),
        Columns.ACTIONS: given,
        Columns.TERMINATEDS: torch.zeros(num, dtype=torch.bool),
    }


def test_loss_and_reward_equal_the_formulas_of_one_row_at_a_time(pendulum: str) -> None:
    loss: GAIL = bench_with(pendulum).module.auxiliary["gail"]
    batch = steps()
    drawn = loss.draw(6, [Columns.OBS, Columns.ACTIONS], CPU)
    found = loss.losses(batch)["discriminator"]
    reward = loss.intrinsic_reward(batch)
    for row in range(6):
        inputs = [
            torch.cat([it[Columns.OBS][row], it[Columns.ACTIONS][row].clamp(-1, 1)])
            for it in (drawn, batch)
        ]
        expert, policy = (loss.discriminator(one[None]).sigmoid().item() for one in inputs)
        assert found[row].item() == pytest.approx(-np.log(expert) - np.log(1 - policy), rel=1e-4)
        assert reward[row].item() == pytest.approx(-np.log(1 - policy), rel=1e-4)


def test_actions_are_read_as_the_environment_took_them(pendulum: str) -> None:
    loss = bench_with(pendulum).module.auxiliary["gail"]
    # The environment clips 3 and 1.2 at its bound, which is 1 here.
    beyond, bound = (
        loss.intrinsic_reward(steps(2, torch.tensor(values)))
        for values in ([[3.0], [-1.2]], [[1.0], [-1.0]])
    )
    assert torch.equal(beyond, bound)
    # 1.5 of 2 in the data set is 0.75 of the policy.
    assert loss.draw(4, [Columns.ACTIONS], CPU)[Columns.ACTIONS].tolist() == [[0.75]] * 4


@pytest.mark.parametrize("states", [False, True])
def test_the_discriminator_reads_actions_or_next_observations(pendulum: str, states: bool) -> None:
    loss = bench_with(pendulum, states=states).module.auxiliary["gail"]
    batch = steps()
    before = loss.intrinsic_reward(batch)
    other_action = loss.intrinsic_reward({**batch, Columns.ACTIONS: -batch[Columns.ACTIONS]})
    other_next = loss.intrinsic_reward({**batch, Columns.NEXT_OBS: -batch[Columns.NEXT_OBS]})
    assert torch.equal(before, other_action) == states
    assert torch.equal(before, other_next) != states


@pytest.mark.parametrize("form", ["softplus", "log_d", "logit"])
def test_steps_of_the_demonstrations_get_the_larger_reward(pendulum: str, form: str) -> None:
    bench = bench_with(pendulum, reward=form, lr=1e-2)
    for _ in range(20):
        result = bench.update(bench.sample())
    metrics = {k: v.peek() for k, v in result["default_policy"]["aux"]["gail"].items()}
    assert metrics["demonstration_accuracy"] > 0.75 and metrics["policy_accuracy"] > 0.5
    loss = bench.module.auxiliary["gail"]
    observations = loss.draw(50, [Columns.OBS], CPU)[Columns.OBS]
    pushed, other = (
        loss.intrinsic_reward({**steps(50, torch.full((50, 1), a)), Columns.OBS: observations})
        for a in (0.75, -0.75)
    )
    assert pushed.mean() > other.mean() + 0.1


def test_the_penalty_is_that_of_points_between_both(pendulum: str) -> None:
    loss = bench_with(pendulum, gradient_penalty=2.0).module.auxiliary["gail"]
    loss.discriminator = torch.nn.Linear(4, 1)
    with torch.no_grad():
        loss.discriminator.weight.copy_(torch.tensor([[3.0, 0.0, 4.0, 0.0]]))
    # The slope is 5 everywhere: 2 * (5 - 1)^2 = 32.
    torch.testing.assert_close(loss.losses(steps())["slope_penalty"], torch.full((6,), 32.0))


def test_shared_features_are_the_encoders_and_get_no_gradient(pendulum: str) -> None:
    bench = bench_with(pendulum, features="shared")
    loss = bench.module.auxiliary["gail"]
    batch = steps()
    inputs = torch.cat([loss.encoder(batch[Columns.OBS]), batch[Columns.ACTIONS].clamp(-1, 1)], 1)
    expected = F.softplus(loss.discriminator(inputs).squeeze(-1))
    torch.testing.assert_close(loss.intrinsic_reward(batch), expected)
    bench.update(bench.sample())  # the Learner checks that the encoder gets no gradient


def test_replayed_steps_are_rewarded_when_they_are_sampled(pendulum: str) -> None:
    config = small_sac(n_step=3).auxiliary(gail={"demonstrations": pendulum, "lr": 1e-2})
    bench = ActorCriticBench(config)
    assert not bench.config.gives_intrinsic_rewards
    bench.add(bench.sample())
    rewards = []
    for _ in range(20):
        bench.update_once()
        rewards.append(bench.learner.latest_metrics["aux", "gail", "intrinsic_reward"])
    assert rewards[0] == pytest.approx(np.log(2), abs=0.05)
    assert rewards[-1] < rewards[0] - 0.1


def test_demonstrations_that_terminate_are_refused(cartpole: str) -> None:
    with pytest.raises(SpecError, match=r"3 of 3 episodes of .* ended by termination"):
        bench_with(cartpole, "CartPole-v1")
    assert bench_with(cartpole, "CartPole-v1", allow_variable_horizon=True)


def test_demonstrations_of_different_lengths_are_refused(tmp_path: Path) -> None:
    from rlssl.data import DatasetWriter, Description, Episode, EpisodeDataset

    path = record(tmp_path / "whole", {"id": "Pendulum-v1"}, [None] * 2, most=9)
    first, second = EpisodeDataset(path).episodes()
    short = Episode(second.observations[:-1], second.actions[:-1], second.rewards[:-1])
    with DatasetWriter(tmp_path / "short", EpisodeDataset(path).description) as writer:
        writer.add(first)
        writer.add(short)
    assert isinstance(EpisodeDataset(path).description, Description)
    with pytest.raises(SpecError, match="have 8 to 9 steps"):
        bench_with(str(tmp_path / "short"))


def test_an_episode_of_training_that_terminates_ends_the_run(tmp_path: Path) -> None:
    path = record(tmp_path / "short", {"id": "CartPole-v1"}, [None] * 2, most=5)
    bench = bench_with(path, "CartPole-v1")
    with pytest.raises(SpecError, match="an episode of training ended by termination"):
        for _ in range(3):
            bench.update(bench.sample())


@pytest.mark.parametrize(
    "options, words",
    [
        ({"reward": "airl"}, r"reward must be one of \['softplus', 'log_d', 'logit'\]"),
        ({"features": "random"}, "features must be own or shared; got 'random'"),
        ({"hidden": [0]}, "hidden must list features"),
        ({"gradient_penalty": -1.0}, "gradient_penalty must be >= 0"),
        ({"normalize": True, "bonus_when": "sampled"}, "normalize needs the order of steps"),
        ({"demonstrations": 3}, "demonstrations must be the path of a data set; got 3"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        small_ppo().auxiliary(gail=options)
