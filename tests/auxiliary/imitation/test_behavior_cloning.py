"""Behavior cloning beside RL: losses by hand, which networks learn, and the Q-filter."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from rlssl.errors import SpecError
from tests.algorithms.a3c.a3c_bench import A3CBench, small_a3c
from tests.algorithms.bench import Bench, small_ppo
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import (
    ActorCriticBench,
    on_pixels,
    small_ddpg,
    small_sac,
)
from tests.algorithms.rainbow.rainbow_bench import RainbowBench, small_rainbow
from tests.auxiliary.imitation.recorded import random_episodes, record, with_demonstrations

NAME = "behavior_cloning"
CPU = torch.device("cpu")
ACTORS: dict[str, Callable[..., Any]] = {"sac": small_sac, "ddpg": small_ddpg}


@pytest.fixture(scope="module")
def pendulum(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Episodes that always push with 1.5 of 2: 0.75 of the policy."""
    path = tmp_path_factory.mktemp("data") / "pendulum"
    return record(path, {"id": "Pendulum-v1"}, [lambda _: np.array([1.5], np.float32)] * 2, most=60)


class SizeOfActions(torch.nn.Module):
    def __init__(self, sign: float) -> None:
        super().__init__()
        self.sign = sign

    def forward(self, latents: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        return self.sign * actions.abs().T


def drawn(loss: Any, num: int) -> tuple[Any, torch.Tensor]:
    steps = loss.draw(num, [Columns.OBS, Columns.ACTIONS], CPU)
    return steps[Columns.OBS], steps[Columns.ACTIONS]


def losses_of(bench: Any, num: int = 8) -> torch.Tensor:
    loss = bench.module.auxiliary[NAME]
    batch = {Columns.ACTIONS: torch.zeros(num), "policy": bench.module}
    found: torch.Tensor = loss.losses(batch)["cloning"]
    return found


def test_a_gaussian_policy_learns_by_its_likelihood(pendulum: str) -> None:
    bench = Bench(small_ppo("Pendulum-v1").auxiliary(behavior_cloning={"demonstrations": pendulum}))
    observations, actions = drawn(bench.module.auxiliary[NAME], 8)
    # The std is 1 at the start: -log pi = (a - mean)^2 / 2 + log(2 pi) / 2.
    mean = bench.module.pi(bench.module.encoder(observations))[:, :1]
    expected = 0.5 * (actions - mean).square().squeeze(1) + 0.5 * np.log(2 * np.pi)
    torch.testing.assert_close(losses_of(bench), expected)
    assert actions.flatten().tolist() == [0.75] * 8


@pytest.mark.parametrize("env", ["CartPole-v1", "minatar/Breakout"])
def test_a_discrete_policy_learns_by_its_likelihood(env: str) -> None:
    config = small_ppo(env).model(encoder_config={})
    bench = Bench(config.auxiliary(**with_demonstrations({NAME: {}}, config.env_settings)))
    observations, actions = drawn(bench.module.auxiliary[NAME], 8)
    logits = bench.module.pi(bench.module.encoder(observations))
    expected = torch.nn.functional.cross_entropy(logits, actions, reduction="none")
    torch.testing.assert_close(losses_of(bench), expected)


@pytest.mark.parametrize("algorithm", ACTORS)
def test_an_actor_learns_by_its_squared_distance(algorithm: str, pendulum: str) -> None:
    config = ACTORS[algorithm]().auxiliary(behavior_cloning={"demonstrations": pendulum})
    bench = ActorCriticBench(config)
    module = bench.module
    observations, _ = drawn(module.auxiliary[NAME], 8)
    output = module.actor(module.actor_encoder(observations))
    best = output[0].tanh() if algorithm == "sac" else output
    torch.testing.assert_close(losses_of(bench), (best - 0.75).square().squeeze(1))


def test_action_values_learn_by_a_margin() -> None:
    config = small_rainbow(noisy=False)
    losses = with_demonstrations({NAME: {"margin": 0.3}}, config.env_settings)
    bench = RainbowBench(config.auxiliary(**losses))
    observations, actions = drawn(bench.module.auxiliary[NAME], 8)
    values = bench.module.values(bench.module.head(bench.module.encoder(observations)))
    found = losses_of(bench)
    for row in range(8):
        given, other = values[row, actions[row]], values[row, 1 - actions[row]]
        assert found[row].item() == pytest.approx(max(0.0, float(other + 0.3 - given)), abs=1e-5)


@pytest.mark.parametrize("algorithm", ACTORS)
def test_the_actor_learns_and_the_critics_do_not_notice(algorithm: str, pendulum: str) -> None:
    benches = []
    for coeff in (0.0, 5.0):
        options = {"demonstrations": pendulum, "coeff": coeff}
        benches.append(ActorCriticBench(ACTORS[algorithm]().auxiliary(behavior_cloning=options)))
    episodes = benches[0].sample()
    for bench in benches:
        bench.add(copy.deepcopy(episodes))
        bench.learner.update_on(bench.draw(), agent_steps=0)
    without, beside = (bench.module.state_dict() for bench in benches)
    keys = [key for key in without if not torch.equal(without[key], beside[key])]
    changed = {key.removeprefix("target.target.").split(".")[0] for key in keys}
    assert changed == {"actor", "actor_encoder"}


@pytest.mark.parametrize("algorithm", ["ppo", "a3c", "rainbow", "sac", "ddpg"])
def test_the_loss_falls_beside_rl(algorithm: str, pendulum: str) -> None:
    small, make = {
        "ppo": (small_ppo, Bench),
        "a3c": (small_a3c, A3CBench),
        "rainbow": (small_rainbow, RainbowBench),
        "sac": (small_sac, ActorCriticBench),
        "ddpg": (small_ddpg, ActorCriticBench),
    }[algorithm]
    config = small("CartPole-v1" if algorithm == "rainbow" else "Pendulum-v1", lr=1e-2)
    path = random_episodes((("id", "CartPole-v1"),)) if algorithm == "rainbow" else pendulum
    bench: Any = make(config.auxiliary(behavior_cloning={"demonstrations": path, "coeff": 100.0}))
    before = losses_of(bench, 64).mean()
    for _ in range(6):
        bench.update(bench.sample())
    assert losses_of(bench, 64).mean() < before - 0.05


@pytest.mark.parametrize("algorithm", ACTORS)
def test_the_filter_keeps_steps_that_the_critic_prefers(algorithm: str, pendulum: str) -> None:
    options = {"demonstrations": pendulum, "q_filter": True}
    bench = ActorCriticBench(ACTORS[algorithm]().auxiliary(behavior_cloning=options))
    module, loss = bench.module, bench.module.auxiliary[NAME]
    observations, actions = drawn(loss, 64)
    best = module.best_actions(module.actor_latents(observations)).detach()
    latents = module.critic_latents(observations)
    kept = []
    for row in range(64):
        one = latents[row : row + 1]
        given = module.critic(one, actions[row : row + 1]).amin()
        kept.append(bool(given > module.critic(one, best[row : row + 1]).amin()))
    found = losses_of(bench, 64)
    assert (found > 0).tolist() == kept
    assert loss.metrics({})["passed_share"] == pytest.approx(np.mean(kept))
    # A critic that likes small actions prefers the policy's, which are near 0 at the start.
    module.critic = SizeOfActions(-1.0)
    assert losses_of(bench, 64).tolist() == [0.0] * 64
    module.critic = SizeOfActions(1.0)
    assert (losses_of(bench, 64) > 0).all()


def test_images_of_an_actor_that_shares_convolutions() -> None:
    config = on_pixels(small_sac("test/dot"))
    losses = with_demonstrations({NAME: {"q_filter": True}}, config.env_settings)
    bench = ActorCriticBench(config.auxiliary(**losses))
    result = bench.update(bench.sample())
    assert np.isfinite(result["default_policy"]["aux"][NAME]["cloning"].peek())


def test_rows_are_shared_by_the_learners(pendulum: str) -> None:
    options = {"demonstrations": pendulum, "rows": 6}
    bench = Bench(small_ppo("Pendulum-v1").auxiliary(behavior_cloning=options))
    assert len(losses_of(bench, 8)) == 6
    bench.update(bench.sample())


@pytest.mark.parametrize(
    "make, options, words",
    [
        (small_ppo, {"q_filter": True}, "q_filter compares action values"),
        (small_rainbow, {"q_filter": True}, "q_filter compares action values"),
        (small_ppo, {"rows": 0}, "rows must be a whole number >= 1"),
        (small_ppo, {"margin": -1.0}, "margin must be >= 0"),
    ],
)
def test_bad_options_are_refused(make: Any, options: Any, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        config = make()
        losses = with_demonstrations({NAME: options}, config.env_settings)
        Bench(config.auxiliary(**losses))


def test_recurrent_policies_are_refused(pendulum: str) -> None:
    config = small_ppo("Pendulum-v1").model(lstm={"hidden": 8})
    with pytest.raises(SpecError, match="recurrent policy needs those before them"):
        Bench(config.auxiliary(behavior_cloning={"demonstrations": pendulum}))
