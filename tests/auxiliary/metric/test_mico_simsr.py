"""MICo and SimSR: losses against loops, gradients, target networks, rewards, tabular metrics."""

import copy
import threading
from typing import Any

import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.auxiliary.metric.mico import MICo
from rlssl.auxiliary.metric.simsr import SimSR
from rlssl.losses import cosine_distance, mico_distance, mico_operator
from rlssl.networks.action_encoding import encode_action
from tests.auxiliary.latents import (
    ACTIONS,
    KINDS,
    SPACES,
    VECTOR,
    Half,
    Meeting,
    N,
    Scaled,
    make,
    take,
    transitions,
)

LOSSES: dict[str, Any] = {"mico": MICo, "simsr": SimSR}


def built(name: str, *args: Any, **options: Any) -> Any:
    return (make_mico if name == "mico" else make_simsr)(*args, **options)


def make_simsr(*args: Any, **options: Any) -> Any:
    return make(SimSR, *args, **options)


def make_mico(
    space: Any = VECTOR,
    action_space: Any = ACTIONS["discrete"],
    encoder: Any = None,
    **options: Any,
) -> Any:
    """MICo, which has no hidden layer, whose size `make` sets."""
    simsr = make_simsr(space, action_space, encoder)
    return MICo(
        MICo.Config(**options),
        encoder=simsr.encoder,
        observation_space=space,
        action_space=action_space,
    )


def moved(loss: Any) -> Any:
    """The loss, with a target encoder that differs from the encoder."""
    with torch.no_grad():
        for parameter in loss.own_key_encoder.parameters():
            parameter.mul_(0.7)
    return loss


def huber(error: float) -> float:
    return 0.5 * error**2 if abs(error) <= 1 else abs(error) - 0.5


def test_mico_equals_a_loop_over_pairs() -> None:
    loss, batch = moved(make_mico(gamma=0.9, beta=0.3, reward_scale=2.0)), transitions()
    found = loss.losses(batch)["mico"]
    with torch.no_grad():
        latent, partner = loss.encoder(batch[Columns.OBS]), loss.target_latents(batch[Columns.OBS])
        after = loss.target_latents(batch[Columns.NEXT_OBS])
    reward = 2.0 * batch[Columns.REWARDS]
    for i in range(N):
        errors = []
        for j in range(N):  # i included
            distance = mico_distance(latent[[i]], partner[[j]], beta=0.3)
            following = mico_distance(after[[i]], after[[j]], beta=0.3)
            target = abs(float(reward[i] - reward[j])) + 0.9 * float(following)
            errors.append(huber(float(distance) - target))
        assert float(found[i]) == pytest.approx(sum(errors) / N, rel=1e-4)


@pytest.mark.parametrize("kind", ["smooth_l1", "deterministic"])
def test_simsr_equals_a_loop_over_pairs(kind: str) -> None:
    loss, batch = moved(make_simsr(gamma=0.9, transition=kind)), transitions()
    found = loss.losses(batch)
    with torch.no_grad():
        latent = torch.nn.functional.normalize(loss.encoder(batch[Columns.OBS]))
        slow = torch.nn.functional.normalize(loss.target_latents(batch[Columns.OBS]))
        action = encode_action(batch[Columns.ACTIONS], ACTIONS["discrete"])
        drawn = torch.nn.functional.normalize(loss.transition(slow, action)[0])
        predicted = loss.transition(latent, action)[0]
        after = torch.nn.functional.normalize(loss.encoder(batch[Columns.NEXT_OBS]))
    reward = batch[Columns.REWARDS]
    for i in range(N):
        errors = []
        for j in range(N):
            distance = 1.0 - float(latent[i] @ latent[j])
            target = abs(float(reward[i] - reward[j])) + 0.9 * (1.0 - float(drawn[i] @ drawn[j]))
            errors.append(huber(distance - target))
        assert float(found["simsr"][i]) == pytest.approx(sum(errors) / N, rel=1e-3, abs=1e-5)
    expected = 0.5 * (predicted - after).square().mean(-1)
    torch.testing.assert_close(found["transition"], expected)


def test_equal_states_cost_nothing_in_simsr() -> None:
    # Equal observations, actions and rewards: distances 0 and targets 0.
    loss = make_simsr(transition="deterministic")
    batch = take(transitions(), torch.zeros(N, dtype=torch.long))
    found = loss.losses(batch)["simsr"]
    torch.testing.assert_close(found, torch.zeros(N), atol=1e-10, rtol=0)


def test_simsr_has_the_gradient_of_both_latents_of_each_pair() -> None:
    loss, batch = make_simsr(encoder=Scaled(), transition="deterministic"), transitions()
    obs = torch.randn(N, 3, generator=torch.Generator().manual_seed(1), requires_grad=True)
    total = loss.losses({**batch, Columns.OBS: obs})["simsr"].mean()
    (found,) = torch.autograd.grad(total, obs)
    # The same loss with a graph through both sides.
    targets = loss._compared[1]
    distance = cosine_distance(obs, obs)
    both = torch.nn.functional.huber_loss(distance, targets)
    torch.testing.assert_close(total, both)
    (expected,) = torch.autograd.grad(both, obs)
    torch.testing.assert_close(found, expected)


def test_gradient_of_mico_reaches_the_online_latent_only() -> None:
    loss, batch = make_mico(encoder=Scaled()), transitions()
    for column in (Columns.OBS, Columns.NEXT_OBS):
        batch[column] = torch.rand(N, 3, requires_grad=True)
    total = loss.losses(batch)["mico"].sum()
    gradients = torch.autograd.grad(
        total, [batch[Columns.OBS], batch[Columns.NEXT_OBS]], allow_unused=True
    )
    assert gradients[0].any() and gradients[1] is None


def test_terminal_transitions_are_not_treated_differently() -> None:
    batch = transitions()
    flipped = {**batch, Columns.TERMINATEDS: ~batch[Columns.TERMINATEDS]}
    for name in LOSSES:
        assert Columns.TERMINATEDS not in LOSSES[name].reads
        found, again = (built(name).losses(columns) for columns in (batch, flipped))
        assert all(value.equal(again[key]) for key, value in found.items())


@pytest.mark.parametrize("name", LOSSES)
def test_target_encoder_is_the_algorithms_or_follows_the_encoder(name: str) -> None:
    loss = built(name, ema_tau=0.25)
    online, target = _first_weights(loss)
    before = target.detach().clone()
    with torch.no_grad():
        online.add_(1.0)
    loss.after_update()
    torch.testing.assert_close(target, before + 0.25)
    given = copy.deepcopy(loss.encoder)
    torch.manual_seed(0)
    shared = LOSSES[name](
        loss.config,
        encoder=loss.encoder,
        observation_space=VECTOR,
        action_space=ACTIONS["discrete"],
        key_encoder=given,
    )
    assert shared.own_key_encoder is None
    obs = transitions()[Columns.OBS]
    assert shared.target_latents(obs).equal(given(obs))
    assert not any("own_key" in key for key in shared.state_dict())


def _first_weights(loss: Any) -> tuple[Tensor, Tensor]:
    return next(loss.encoder.parameters()), next(loss.own_key_encoder.parameters())


@pytest.mark.parametrize("name", LOSSES)
def test_normalized_rewards_do_not_depend_on_their_unit(name: str) -> None:
    batch = transitions()
    larger = {**batch, Columns.REWARDS: 50.0 * batch[Columns.REWARDS]}
    losses = [built(name, normalize_rewards=True) for _ in range(2)]
    for _ in range(2):  # the second update uses the running std
        found = [loss.losses(rows) for loss, rows in zip(losses, (batch, larger), strict=True)]
        for key, value in found[0].items():
            torch.testing.assert_close(value, found[1][key], rtol=1e-4, atol=1e-5)
        for loss in losses:
            loss.after_update()


@pytest.mark.parametrize("name", LOSSES)
def test_shuffled_rows_get_the_future_of_other_rows(name: str) -> None:
    loss, batch = built(name, shuffled_positives=True), transitions()
    outcomes = loss.outcomes(batch, loss.update_rng.generator())
    order = torch.randperm(N, generator=loss.update_rng.generator())
    assert outcomes.next_obs.equal(batch[Columns.NEXT_OBS][order])
    assert outcomes.reward.equal(batch[Columns.REWARDS][order])


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("observations", SPACES)
def test_encoder_learns_from_vectors_and_images(name: str, observations: str) -> None:
    space = SPACES[observations]
    loss = built(name, space)
    found = loss.losses(transitions(space))
    encoder = [p for p in loss.encoder.parameters() if p.requires_grad]
    for value in found.values():
        assert value.shape == (N,) and value.isfinite().all()
    gradients = torch.autograd.grad(
        sum(value.sum() for value in found.values()), encoder, allow_unused=True
    )
    assert any(gradient is not None and gradient.any() for gradient in gradients)
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("name", LOSSES)
def test_latents_of_zero_have_finite_gradients(name: str) -> None:
    loss, batch = built(name, encoder=Scaled()), transitions()
    obs = torch.zeros(N, 3, requires_grad=True)
    total = sum(value.sum() for value in loss.losses({**batch, Columns.OBS: obs}).values())
    (gradient,) = torch.autograd.grad(torch.as_tensor(total), obs)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_no_rows_give_no_losses_no_metrics_and_no_error(name: str) -> None:
    loss = built(name, normalize_rewards=True)
    empty = take(transitions(), slice(0))
    assert all(value.shape == (0,) for value in loss.losses(empty).values())
    loss.after_update()
    assert loss.metrics(empty) == {}


def test_unreachable_targets_are_counted() -> None:
    # Latents of 0: MICo's distances are at most 0.1 * pi = 0.314, SimSR's 2. Rewards 0 and 5 are
    # 5 apart: 2 of 4 pairs. Rewards 0 and 0.05: none.
    for name in LOSSES:
        for reward, share in ((0.05, 0.0), (5.0, 0.5)):
            options = {} if name == "mico" else {"transition": "deterministic"}
            loss = built(name, encoder=Scaled(), gamma=0.0, **options)
            batch = take(transitions(), slice(2))
            batch[Columns.NEXT_OBS] = torch.zeros(2, 3)
            batch[Columns.REWARDS] = torch.tensor([0.0, reward])
            loss.losses(batch)
            assert float(loss.metrics(batch)["unreachable"]) == share


@pytest.mark.parametrize("name", LOSSES)
def test_training_finds_the_metric_of_a_tabular_mdp(name: str) -> None:
    # A ring of 4 states with rewards 0, c, 0, c: states 0 and 2 are bisimilar, and so are 1 and 3.
    gamma, steps = 0.5, 800
    scale = 0.1 if name == "mico" else 1.0
    states = torch.arange(4)
    batch = {
        Columns.OBS: torch.eye(4),
        Columns.NEXT_OBS: torch.eye(4)[(states + 1) % 4],
        Columns.ACTIONS: torch.zeros(4, dtype=torch.long),
        Columns.REWARDS: (states % 2).float(),
    }
    distances = torch.zeros(4, 4)
    for _ in range(60):
        transition = torch.eye(4)[(states + 1) % 4]
        rewards = scale * batch[Columns.REWARDS]
        distances = mico_operator(distances, rewards, transition, gamma=gamma)
    encoder = torch.nn.Linear(4, 8, bias=False)
    encoder.output_dim = 8  # type: ignore[assignment]
    options = {} if name == "mico" else {"transition": "deterministic"}
    loss = built(name, encoder=encoder, gamma=gamma, reward_scale=scale, ema_tau=1.0, **options)
    adam = torch.optim.Adam([*encoder.parameters(), *loss.parameters()], lr=1e-2)
    for step in range(steps):
        # Angles of the short latents need small steps at the end.
        adam.param_groups[0]["lr"] = 1e-2 * (1 - step / steps)
        adam.zero_grad()
        torch.as_tensor(sum(v.mean() for v in loss.losses(batch).values())).backward()
        adam.step()
        loss.after_update()
    with torch.no_grad():
        latent = encoder(torch.eye(4))
        measure = mico_distance if name == "mico" else cosine_distance
        found = measure(latent, latent)
    torch.testing.assert_close(found, distances, atol=0.1 * float(distances.max()), rtol=0)


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_two_learners_have_the_gradient_of_one(kind: str | None) -> None:
    name, options = ("mico", {}) if kind is None else ("simsr", {"transition": kind})
    batch = transitions()
    alone = moved(built(name, normalize_rewards=True, **options))
    halves = [copy.deepcopy(alone) for _ in range(2)]
    for half in halves:
        half.__dict__["encoder"] = copy.deepcopy(alone.encoder)
    expected = _gradient(alone, batch)
    meeting, found = Meeting(), [None, None]

    def learn(rank: int) -> None:
        halves[rank].peers = Half(rank, N, meeting)
        rows = slice(rank * N // 2, (rank + 1) * N // 2)
        found[rank] = _gradient(halves[rank], take(batch, rows))  # type: ignore[call-overload]

    threads = [threading.Thread(target=learn, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, first, second in zip(expected, *found, strict=True):  # type: ignore[misc]
        torch.testing.assert_close((first + second) / 2, one, rtol=1e-4, atol=1e-6)


def _gradient(loss: Any, batch: dict[str, Any]) -> list[Tensor]:
    total = sum(value.mean() for value in loss.losses(batch).values())
    parameters = [*loss.encoder.parameters(), *(p for p in loss.parameters() if p.requires_grad)]
    found = torch.autograd.grad(torch.as_tensor(total), parameters, allow_unused=True)
    return [
        torch.zeros_like(parameter) if gradient is None else gradient
        for parameter, gradient in zip(parameters, found, strict=True)
    ]


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("mico", {"gamma": 1.5}, "gamma must be in [0, 1]; got 1.5"),
        ("mico", {"ema_tau": 0.0}, "ema_tau must be in (0, 1]; got 0.0"),
        ("mico", {"beta": -1.0}, "beta must be finite and >= 0; got -1.0"),
        ("simsr", {"reward_scale": 0.0}, "reward_scale must be finite and > 0; got 0.0"),
        ("simsr", {"normalize_rewards": 1}, "normalize_rewards must be true or false; got 1"),
        ("simsr", {"transition": "gaussian"}, "transition must be one of ['smooth_l1', "),
        ("simsr", {"hidden": 0}, "hidden must be a whole number >= 1; got 0"),
    ],
)
def test_bad_options_name_the_value(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        LOSSES[name].Config(**options)
    assert message in str(error.value)
