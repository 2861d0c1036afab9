"""SPR: known values, masks at the ends of episodes, targets, both variants, refusals."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

import rlssl
from rlssl.auxiliary.predictive.spr import SPR
from rlssl.auxiliary.windows import VALID, Window
from rlssl.errors import SpecError
from rlssl.networks.latent_rollout import ConvTransition, min_max_normalized
from rlssl.networks.pixel_encoders import NatureCNN, map_shape
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import ActorCriticBench, small_sac
from tests.algorithms.rainbow.rainbow_bench import RainbowBench, small_rainbow

SPACE = gym.spaces.Box(-9.0, 9.0, (3,), np.float32)
ACTIONS: gym.spaces.Discrete = gym.spaces.Discrete(2)
N, STEPS = 6, 4


class Doubled(nn.Module):
    output_dim = 3

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, obs: Tensor) -> Tensor:
        return self.scale * obs


def make(**options: Any) -> Any:
    torch.manual_seed(0)
    config = SPR.Config(**{"steps": STEPS, "hidden": 8, **options})
    return SPR(config, encoder=Doubled(), observation_space=SPACE, action_space=ACTIONS)


def batch(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([4, 4, 1, 2, 3, 4])  # valid places after the row
    return {
        Columns.OBS: torch.randn(N, STEPS + 1, 3, generator=generator),
        Columns.ACTIONS: torch.randint(2, (N, STEPS + 1), generator=generator),
        VALID: torch.arange(STEPS + 1) <= lengths[:, None],
    }


def slow_losses(loss: Any, rows: dict[str, Tensor]) -> list[float]:
    """Row by row and step by step."""
    found = []
    for row in range(N):
        latent, total = loss.encoder(rows[Columns.OBS][row, :1]), 0.0
        for k in range(STEPS):
            action = torch.nn.functional.one_hot(rows[Columns.ACTIONS][row, k : k + 1], 2).float()
            latent = loss.transition(latent, action)
            if not rows[VALID][row, k + 1]:
                continue
            predicted = loss.predictor(loss.projection(latent))[0]
            after = loss.target_encoder(rows[Columns.OBS][row, k + 1 : k + 2])
            target = loss.target_projection(after)[0]
            total += 2 - 2 * float(torch.nn.functional.cosine_similarity(predicted, target, dim=0))
        found.append(total)
    return found


def test_losses_are_those_of_a_slow_reference() -> None:
    loss, rows = make(), batch()
    assert loss.window == Window(after=STEPS)
    expected = slow_losses(loss, rows)
    assert loss.losses(rows)["prediction"].tolist() == pytest.approx(expected, rel=1e-4)


def test_steps_after_the_end_do_not_count() -> None:
    loss, rows = make(), batch()
    spoiled = {key: value.clone() for key, value in rows.items()}
    spoiled[Columns.OBS][~rows[VALID]] = 77.0
    first = loss.losses(rows)["prediction"]
    assert torch.equal(first, loss.losses(spoiled)["prediction"])


def test_no_gradient_reaches_the_targets_and_they_follow() -> None:
    loss, rows = make(ema_tau=0.25), batch()
    loss.losses(rows)["prediction"].mean().backward()
    targets = [*loss.target_encoder.parameters(), *loss.target_projection.parameters()]
    assert all(parameter.grad is None for parameter in targets)
    assert loss.encoder.scale.grad is not None
    with torch.no_grad():
        loss.encoder.scale.fill_(6.0)
    loss.after_update()
    assert loss.target_encoder.target.scale.item() == 0.75 * 2.0 + 0.25 * 6.0


def test_shuffled_targets_are_of_other_rows() -> None:
    plain, shuffled = make(), make(shuffled_positives=True)
    shuffled.load_state_dict(plain.state_dict())
    one, other = (loss.losses(batch())["prediction"] for loss in (plain, shuffled))
    assert not torch.allclose(one, other)


def test_deterministic_dynamics_are_learned() -> None:
    loss = make(hidden=64)
    optimizer = torch.optim.Adam(loss.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(1)
    values = []
    for _ in range(600):
        actions = torch.randint(2, (64, STEPS + 1), generator=generator)
        states = [torch.randn(64, 3, generator=generator)]
        for k in range(STEPS):  # one action rotates the axes, the other turns the state around
            rolled = states[-1].roll(1, dims=1)
            states.append(torch.where(actions[:, k, None] == 1, rolled, -states[-1]))
        rows = {
            Columns.OBS: torch.stack(states, dim=1),
            Columns.ACTIONS: actions,
            VALID: torch.ones(64, STEPS + 1, dtype=torch.bool),
        }
        value = loss.losses(rows)["prediction"].mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(float(value))
    assert values[-1] < 0.2 * values[0]
    assert float(loss.metrics(rows)["cosine_of_last_step"]) > 0.9


def test_maps_are_normalized_and_rolled_forward() -> None:
    maps = torch.randn(3, 4, 5, 5)
    normalized = min_max_normalized(maps)
    assert normalized.flatten(1).amin(1).tolist() == [0.0] * 3
    assert normalized.flatten(1).amax(1).tolist() == pytest.approx([1.0] * 3)
    constant = min_max_normalized(torch.full((1, 4, 5, 5), 3.0, requires_grad=True))
    assert constant.isfinite().all()
    after = ConvTransition(4, 2)(normalized, torch.eye(2)[[0, 1, 1]])
    assert after.shape == maps.shape


class Frames(gym.Env[np.ndarray, int]):
    """A bright column that an action moves; 36 x 36 pixels."""

    observation_space = gym.spaces.Box(0, 255, (36, 36, 1), np.uint8)
    action_space: gym.spaces.Discrete = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.place, self.steps = int(self.np_random.integers(36)), 0
        return self._frame(), {}

    def step(self, action: int) -> Any:
        self.place, self.steps = (self.place + 2 * int(action) - 1) % 36, self.steps + 1
        return self._frame(), float(action), self.steps >= 12, False, {}

    def _frame(self) -> np.ndarray:
        frame = np.zeros((36, 36, 1), np.uint8)
        frame[:, self.place] = 255
        return frame


rlssl.register_env("test/Frames", lambda config: Frames())

CODE = {"variant": "code", "steps": 3}


@pytest.mark.parametrize("augmentation", [None, {"shift": {}, "intensity": {}}])
def test_the_published_variant_on_rainbow(augmentation: Any) -> None:
    config = small_rainbow("test/Frames").auxiliary(spr=CODE)
    config.model(encoder="data_efficient", encoder_config={}, augmentation=augmentation)
    bench = RainbowBench(config)
    loss = bench.module.auxiliary["spr"]
    assert map_shape(bench.module.encoder) == loss.maps
    bench.update(bench.sample())
    # With augmentation the targets are the online weights (tau 1), else they lag behind.
    online = next(iter(bench.module.encoder.parameters()))
    target = next(iter(loss.target_encoder.parameters()))
    assert torch.equal(online, target) == (augmentation is not None)
    batch = bench.batch(bench.sample())
    mean = bench.learner.compute_auxiliary_loss(batch)
    head = bench.module.head
    moved = [head.state[0].weight_mean, head.actions[0].weight_mean, online]
    moved += [next(iter(loss.transition.parameters()))]
    for gradient in torch.autograd.grad(mean, moved):
        assert gradient.abs().sum() > 0


def test_the_latents_of_nature_may_be_its_maps() -> None:
    space = gym.spaces.Box(0, 255, (4, 84, 84), np.uint8)
    encoder = NatureCNN(space, hidden=None)
    assert encoder.output_dim == 64 * 7 * 7 and map_shape(encoder) == (64, 7, 7)


def test_the_published_variant_needs_rainbow_and_maps() -> None:
    with pytest.raises(SpecError, match="needs rainbow with dueling streams"):
        ActorCriticBench(small_sac().auxiliary(spr=CODE))
    with pytest.raises(SpecError, match="needs rainbow with dueling streams"):
        RainbowBench(small_rainbow().auxiliary(spr=CODE))
    config = small_rainbow("test/Frames").auxiliary(spr=CODE)
    config.model(encoder="data_efficient", encoder_config={}).learners(num_learners=2)
    with pytest.raises(SpecError, match=r"auxiliary\.spr needs all rows of a batch"):
        RainbowBench(config)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"variant": "x"}, "variant must be one of"),
        ({"steps": 0}, "steps must be a whole number >= 1; got 0"),
        ({"distance": "l1"}, "distance must be one of"),
        ({"ema_tau": 0.0}, r"ema_tau must be in \(0, 1\]; got 0.0"),
        ({"intensity": -1.0}, "intensity must be >= 0; got -1.0"),
        ({"pad": -1}, "pad must be a whole number >= 0"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SPR.Config(**options)
