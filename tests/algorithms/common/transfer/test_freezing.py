"""``model.freeze``: an encoder that does not change in training, in every algorithm."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rlssl
from rlssl.algorithms.common.transfer.parts import encoder_parts
from rlssl.errors import SpecError
from rlssl.experiment.spec import load_spec
from rlssl.experiment.trial_check import check_trial
from rlssl.registry import ALGORITHMS as REGISTERED
from rlssl.registry import ENCODERS
from tests.algorithms.a3c.a3c_bench import A3CBench, small_a3c
from tests.algorithms.bench import Bench, small_ppo
from tests.algorithms.common.transfer.modules import module_of
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import (
    ActorCriticBench,
    small_ddpg,
    small_sac,
)
from tests.algorithms.rainbow.rainbow_bench import RainbowBench, small_rainbow

ALGORITHMS: dict[str, Any] = {
    "a3c": (small_a3c, A3CBench),
    "ddpg": (small_ddpg, ActorCriticBench),
    "ppo": (small_ppo, Bench),
    "rainbow": (small_rainbow, RainbowBench),
    "sac": (small_sac, ActorCriticBench),
}


class Noisy(nn.Module):
    """Batch norm and dropout, which behave otherwise in training."""

    def __init__(self, observation_space: gym.Space) -> None:
        super().__init__()
        assert observation_space.shape is not None
        self.output_dim = 8
        self.layers = nn.Sequential(nn.Linear(observation_space.shape[0], 8), nn.BatchNorm1d(8))
        self.drop = nn.Dropout(0.5)

    def forward(self, obs: Tensor) -> Tensor:
        return self.drop(self.layers(obs.float()))


@pytest.fixture(autouse=True)
def noisy_encoder() -> Iterator[None]:
    with ENCODERS.undone_afterwards():
        rlssl.register_encoder("test_noisy", Noisy)
        yield


def bench_of(algorithm: str, *, freeze: bool, losses: Any = None, **model: Any) -> Any:
    small, bench = ALGORITHMS[algorithm]
    config = small("Pendulum-v1" if algorithm in ("sac", "ddpg") else "CartPole-v1")
    return bench(config.model(freeze=freeze, **model).auxiliary(**(losses or {})))


def states_of_encoders(module: Any) -> dict[str, Tensor]:
    return {
        f"{attribute}.{name}": value.clone()
        for attribute, part in encoder_parts(module).items()
        for name, value in part.state_dict().items()
    }


def latents(module: Any, observations: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.stack([part(observations) for part in encoder_parts(module).values()])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("encoder", ["mlp", "test_noisy"])
def test_frozen_encoder_is_bit_equal_after_training(algorithm: str, encoder: str) -> None:
    config = {"hidden": [16]} if encoder == "mlp" else {}
    bench = bench_of(
        algorithm,
        freeze=True,
        losses={"icm": {"intrinsic_coeff": 0.01}},
        encoder=encoder,
        encoder_config=config,
    )
    before, all_before = states_of_encoders(bench.module), bench.module.state_dict()
    all_before = {name: value.clone() for name, value in all_before.items()}
    observations = torch.randn(5, *bench.module.observation_space.shape)
    seen = latents(bench.module.train(), observations)
    for _ in range(3):
        bench.update(bench.sample())
    after = states_of_encoders(bench.module)
    assert all(value.equal(after[name]) for name, value in before.items())
    assert latents(bench.module.train(), observations).equal(seen)
    moved = [
        name
        for name, value in bench.module.state_dict().items()
        if not value.equal(all_before[name])
    ]
    assert any(name.startswith("auxiliary.icm") for name in moved)
    assert any(name.split(".")[0] in ("pi", "head", "actor") for name in moved)
    # Target networks of the encoder are copies still.
    target = getattr(getattr(bench.module, "target", None), "target", {})
    for name, value in target["encoder"].state_dict().items() if "encoder" in target else []:
        assert value.equal(bench.module.encoder.state_dict()[name])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_encoder_that_is_not_frozen_moves(algorithm: str) -> None:
    bench = bench_of(algorithm, freeze=False)
    before = states_of_encoders(bench.module)
    for _ in range(3):
        bench.update(bench.sample())
    after = states_of_encoders(bench.module)
    assert {name.split(".")[0] for name, it in before.items() if not it.equal(after[name])} == {
        *encoder_parts(bench.module)
    }


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name != "a3c"])
def test_frozen_parameters_have_no_optimizer(algorithm: str) -> None:
    bench = bench_of(algorithm, freeze=True)
    held = {
        id(parameter)
        for _, optimizer in bench.learner.get_optimizers_for_module("default_policy")
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    frozen = [it for part in encoder_parts(bench.module).values() for it in part.parameters()]
    assert frozen and held and not held & set(map(id, frozen))
    assert not any(parameter.requires_grad for parameter in frozen)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_statistics_of_observations_are_frozen_too(algorithm: str) -> None:
    bench = bench_of(algorithm, freeze=True, normalize_observations=True)
    normalizer = bench.module.normalizer
    size = len(normalizer.mean)
    known = {"count": 9, "mean": np.ones(size), "variance": np.full(size, 4.0)}
    normalizer.set_statistics(known)
    bench.update(bench.sample())
    found = normalizer.statistics()
    assert found["count"] == 9 and (found["mean"] == 1.0).all() and (found["variance"] == 4).all()


@pytest.mark.parametrize("algorithm", REGISTERED)
def test_loss_that_trains_the_encoder_is_refused(algorithm: str) -> None:
    with pytest.raises(SpecError, match=r"auxiliary.deepmdp trains the encoder, and model.freeze"):
        module_of(algorithm, losses={"deepmdp": {}}, freeze=True)


def test_loss_with_networks_of_its_own_works() -> None:
    module = module_of("ppo", losses={"deepmdp": {"features": "own"}}, freeze=True)
    assert any(it.requires_grad for it in module.auxiliary["deepmdp"].parameters())
    assert not any(it.requires_grad for it in module.encoder.parameters())


def test_random_frozen_encoder_without_statistics_is_refused() -> None:
    document = {"algorithm": "ppo", "env": "CartPole-v1"}
    with pytest.raises(SpecError, match=r"model.freeze without model.from"):
        load_spec({**document, "model": {"freeze": True, "normalize_observations": True}})
    check_trial(load_spec({**document, "model": {"freeze": True}}))
