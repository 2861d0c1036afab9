"""A plug-in that gives an intrinsic reward and no loss is a whole method."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.auxiliary import AuxiliaryLoss
from rlssl.errors import SpecError
from rlssl.registry import AUXILIARY_LOSSES, register_auxiliary_loss
from tests.algorithms.a3c.a3c_bench import A3CBench, small_a3c
from tests.algorithms.bench import Bench, small_ppo
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import (
    ActorCriticBench,
    small_sac,
)
from tests.algorithms.rainbow.rainbow_bench import RainbowBench, small_rainbow

BONUS = 0.25

BENCHES = {
    "ppo": lambda **losses: Bench(small_ppo().auxiliary(**losses)),
    "a3c": lambda **losses: A3CBench(small_a3c().auxiliary(**losses)),
    "sac": lambda **losses: ActorCriticBench(small_sac().auxiliary(**losses)),
    "sac-separate": lambda **losses: ActorCriticBench(
        small_sac(auxiliary_step="separate").auxiliary(**losses)
    ),
    "rainbow": lambda **losses: RainbowBench(small_rainbow().auxiliary(**losses)),
}


class WithoutLosses(AuxiliaryLoss):
    """A bonus of 0.25 a step; the class does not implement ``losses``."""

    reads = frozenset({Columns.NEXT_OBS})
    trains = "none"

    def intrinsic_reward(self, batch: Any) -> Tensor:
        return torch.full((len(batch[Columns.NEXT_OBS]),), BONUS)

    def metrics(self, batch: Any) -> dict[str, Tensor]:
        return {"rows": torch.tensor(float(len(batch[Columns.NEXT_OBS])))}


class WithNoNamedLoss(WithoutLosses):
    def losses(self, batch: Any) -> dict[str, Tensor]:
        return {}


class Nothing(AuxiliaryLoss):
    trains = "none"


class Untrained(WithoutLosses):
    trains = "encoder"


class WithHead(WithoutLosses):
    def __init__(self, config: Any, **given: Any) -> None:
        super().__init__(config, **given)
        self.head = nn.Linear(2, 1)


@pytest.fixture(autouse=True)
def plugins() -> Iterator[None]:
    with AUXILIARY_LOSSES.undone_afterwards():
        for loss in (WithoutLosses, WithNoNamedLoss, Nothing, Untrained, WithHead):
            register_auxiliary_loss(f"test_{loss.__name__}", loss)
        yield


@pytest.mark.parametrize("loss", ["test_WithoutLosses", "test_WithNoNamedLoss"])
@pytest.mark.parametrize("algorithm", BENCHES)
def test_bonus_without_a_loss_trains_and_reports(algorithm: str, loss: str) -> None:
    bench = BENCHES[algorithm](**{loss: {"intrinsic_coeff": 0.5}})
    for _ in range(2):
        result = bench.update(bench.sample())
    aux = result["default_policy"]["aux"][loss]
    assert aux["intrinsic_reward"].peek() == BONUS
    assert aux["rows"].peek() > 0


@pytest.mark.parametrize("algorithm", ["ppo", "sac", "rainbow"])
def test_weighted_bonus_reaches_the_rewards(algorithm: str) -> None:
    bench = BENCHES[algorithm](test_WithoutLosses={"intrinsic_coeff": 0.5})
    episodes = bench.sample()
    if isinstance(bench, RainbowBench):
        for bonus in bench.learner.intrinsic_rewards(episodes):
            # 0.5 * 0.25; the sum with Pendulum's rewards of about -10 is rounded.
            assert torch.allclose(torch.as_tensor(bonus), torch.tensor(0.125), atol=1e-5)
        return
    # CartPole pays 1 a step.
    assert (bench.batch(episodes)["total_rewards"] == 1.125).all()


@pytest.mark.parametrize(
    "loss, message",
    [
        ("test_Nothing", "has neither `losses` nor `intrinsic_reward`; implement one of them."),
        ("test_Untrained", "declares trains='encoder', but has no `losses`; set trains to 'none'"),
        ("test_WithHead", "declares trains='none', but has parameters to train."),
    ],
)
def test_class_that_cannot_work_is_refused_before_training(loss: str, message: str) -> None:
    with pytest.raises(SpecError) as error:
        BENCHES["ppo"](**{loss: {}})
    assert message in str(error.value)
