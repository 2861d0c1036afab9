"""DBC: losses by hand and against loops, variants, gradients, several Learners."""

import copy
import threading
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.auxiliary.base import MEAN_ACTION
from rlssl.auxiliary.metric.bisimulation import Bisimulation
from rlssl.losses import bisimulation_loss, gaussian_nll
from rlssl.losses.bisimulation import metric_distances
from rlssl.networks.action_encoding import encode_action
from tests.auxiliary.latents import (
    ACTIONS,
    KINDS,
    SPACES,
    Half,
    Meeting,
    N,
    Scaled,
    dbc,
    make,
    take,
    transitions,
)


class Paired(Bisimulation):
    """DBC with partners that the test chooses."""

    partners: Tensor

    def draw_partners(self, batch: Mapping[str, Any], generator: torch.Generator) -> Tensor:
        return self.partners


def partners_of(loss: Any) -> Tensor:
    """[N], the partners that ``loss`` draws in the current update."""
    return torch.randperm(N, generator=loss.update_rng.generator())


class Fixed(nn.Module):
    """A model that gives the same numbers for every row."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values))

    def forward(self, latent: Tensor, action: Tensor | None = None) -> Any:
        if action is None:
            return self.values.expand(len(latent), -1).squeeze(-1)
        return self.values.expand(len(latent), -1), None


def by_hand(variant: str) -> Any:
    loss = make(Paired, encoder=Scaled(), variant=variant, transition="deterministic")
    loss.partners = torch.tensor([1, 0])
    model: Any = Fixed(1.0, 0.0, 0.0)
    model.sample = lambda mean, std, **_: mean
    model.comparable_std = lambda mean, std: torch.zeros_like(mean)
    loss.transition, loss.reward = model, Fixed(0.5)
    return loss


HAND = {
    Columns.OBS: torch.tensor([[0.0, 0.0, 0.0], [3.0, 0.5, 0.0]]),
    Columns.NEXT_OBS: torch.tensor([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]]),
    Columns.ACTIONS: torch.tensor([0, 3]),
    Columns.REWARDS: torch.tensor([0.0, 2.0]),
    MEAN_ACTION: torch.eye(4)[:2],
}


@pytest.mark.parametrize("variant", ["code", "paper"])
def test_losses_by_hand(variant: str) -> None:
    # transition: 0.5 * mean of (0 + 4 + 4) = 4/3 and of (1 + 0 + 0) = 1/6.
    # reward: (0.5 - 0)^2 = 0.25 and (0.5 - 2)^2 = 2.25.
    # bisimulation: the distance of the futures is 0, the weight is 0.5; s is smooth L1.
    # code: distances of the features s(3) = 2.5, s(0.5) = 0.125 and 0; of the rewards s(2) = 1.5:
    # 0.5 * mean of (1^2 + 1.375^2 + 1.5^2) = 0.5 * 1.7135417.
    # paper: distance of the latents 3.5, of the predicted rewards 0: 0.5 * 3.5^2 = 6.125.
    loss = by_hand(variant)
    found = loss.losses(HAND)
    torch.testing.assert_close(found["transition"], torch.tensor([4 / 3, 1 / 6]))
    torch.testing.assert_close(found["reward"], torch.tensor([0.25, 2.25]))
    expected = {"code": 0.5 * 5.140625 / 3, "paper": 6.125}[variant]
    torch.testing.assert_close(found["bisimulation"], torch.full((2,), expected))
    metrics = {key: value.item() for key, value in loss.metrics(HAND).items()}
    latent, reward = {"code": (2.625 / 3, 1.5), "paper": (3.5, 0.0)}[variant]
    assert metrics == pytest.approx(
        {"latent_distance": latent, "reward_distance": reward, "future_distance": 0.0}
    )


class FirstFeature(nn.Module):
    """A reward model: a learned factor, 1, times the first feature of the latent."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, latent: Tensor) -> Tensor:
        return self.factor * latent[..., 0]


def test_the_metric_of_paper_takes_the_reward_model_at_the_current_latents() -> None:
    # Equation 4: ( |z_i - z_j|_1 - |R(z_i) - R(z_j)| - gamma * W2(P_i, P_j) )^2.
    # Latents (0, 0, 0) and (3, 0.5, 0); R is the first feature: |z_i - z_j|_1 = 3.5 and
    # |R(z_i) - R(z_j)| = 3. The model predicts equal futures, so W2 = 0.
    # 0.5 * (3.5 - 3)^2 = 0.125. At the predicted next latents R would give 1 and 1:
    # 0.5 * (3.5 - 0)^2 = 6.125.
    loss = by_hand("paper")
    loss.reward = FirstFeature()
    found = loss.losses(HAND)
    torch.testing.assert_close(found["bisimulation"], torch.full((2,), 0.125))
    # R learns where it is used: (0 - 0)^2 = 0 and (3 - 2)^2 = 1 for the rewards 0 and 2.
    torch.testing.assert_close(found["reward"], torch.tensor([0.0, 1.0]))


@pytest.mark.parametrize("self_prediction", [True, False])
def test_the_reward_loss_of_paper_trains_the_encoder_if_self_prediction_says_so(
    self_prediction: bool,
) -> None:
    loss = dbc(encoder=Scaled(), variant="paper", self_prediction=self_prediction)
    loss.losses(transitions())["reward"].sum().backward()
    assert all(parameter.grad is not None for parameter in loss.reward.parameters())
    assert (loss.encoder.scale.grad is not None) == self_prediction


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", ["code", "paper"])
def test_losses_equal_a_loop_over_rows(variant: str, kind: str) -> None:
    loss = dbc(variant=variant, transition=kind, gamma=0.9)
    batch = transitions()
    found = loss.losses(batch)
    generator = loss.update_rng.generator()
    partners = torch.randperm(N, generator=generator)
    for i in range(N):
        j = int(partners[i])
        pair = take(batch, [i, j])
        latent = loss.encoder(pair[Columns.OBS])
        action = encode_action(pair[Columns.ACTIONS], ACTIONS["discrete"])
        mean, std = loss.transition(latent, action)
        target = loss.encoder(pair[Columns.NEXT_OBS])
        nll = gaussian_nll(mean, std, target).reshape(-1, 2).mean(0)
        torch.testing.assert_close(found["transition"][i], nll[0])
        reward = pair[Columns.REWARDS]
        if variant == "paper":
            mean, std = loss.transition(latent, pair[MEAN_ACTION])
            reward = loss.reward(latent)
        if kind == "deterministic":
            std = torch.zeros_like(mean)
        halves = [[None if x is None else x[..., [k], :] for x in (mean, std)] for k in (0, 1)]
        expected = bisimulation_loss(
            *(latent[[0]], latent[[1]], reward[[0]], reward[[1]], *halves[0], *halves[1]),
            gamma=0.9,
            variant=variant,
        )
        torch.testing.assert_close(found["bisimulation"][i], 0.5 * expected[0])


def test_reward_is_predicted_from_the_drawn_next_latent() -> None:
    loss, batch = dbc(transition="probabilistic"), transitions()
    found = loss.losses(batch)["reward"]
    generator = loss.update_rng.generator()
    torch.randperm(N, generator=generator)  # the partners
    action = encode_action(batch[Columns.ACTIONS], ACTIONS["discrete"])
    mean, std = loss.transition(loss.encoder(batch[Columns.OBS]), action)
    drawn = mean + std * torch.randn(mean.shape, generator=generator)
    expected = (loss.reward(drawn) - batch[Columns.REWARDS]).square()
    torch.testing.assert_close(found, expected)


def test_smooth_l1_and_deterministic_differ_only_in_the_bisimulation_loss_of_code() -> None:
    batch = transitions()
    found = {
        (variant, kind): dbc(variant=variant, transition=kind).losses(batch)
        for variant in ("code", "paper")
        for kind in KINDS
    }
    key = "bisimulation"
    # smooth_l1 and deterministic have the same network and seed. Only the variant `code` compares
    # their predictions differently; `paper` uses W2 for both.
    for name in ("transition", "reward"):
        assert torch.equal(found["code", "smooth_l1"][name], found["code", "deterministic"][name])
    assert torch.equal(found["paper", "smooth_l1"][key], found["paper", "deterministic"][key])
    assert not torch.allclose(found["code", "smooth_l1"][key], found["code", "deterministic"][key])
    losses = [found[case][key] for case in found if case != ("paper", "smooth_l1")]
    for i, one in enumerate(losses):
        assert not any(torch.allclose(one, other) for other in losses[i + 1 :])


@pytest.mark.parametrize("variant", ["code", "paper"])
def test_permuting_the_batch_permutes_the_losses(variant: str) -> None:
    loss, batch = make(Paired, variant=variant), transitions()
    partners = loss.partners = partners_of(loss)
    expected = loss.losses(batch)
    torch.testing.assert_close(expected, dbc(variant=variant).losses(batch))
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    # Row k is now row order[k]; it keeps its partner.
    loss.partners = order.argsort()[partners[order]]
    for key, value in loss.losses(take(batch, order)).items():
        torch.testing.assert_close(value, expected[key][order])


@pytest.mark.parametrize("variant", ["code", "paper"])
def test_gradient_flows_into_both_latents_and_not_into_the_targets(variant: str) -> None:
    loss, batch = dbc(encoder=Scaled(), variant=variant), transitions()
    batch[Columns.OBS].requires_grad_()
    batch[Columns.NEXT_OBS] = torch.rand(N, 3, requires_grad=True)
    found = loss.losses(batch)
    metric = found["bisimulation"]
    models = [*loss.transition.parameters(), *loss.reward.parameters()]
    gradients = torch.autograd.grad(metric.sum(), models, allow_unused=True, retain_graph=True)
    assert all(gradient is None for gradient in gradients)
    partners = partners_of(loss)
    first = int((partners != torch.arange(N)).nonzero()[0])  # a row can be its own partner
    (one,) = torch.autograd.grad(metric[first], batch[Columns.OBS], retain_graph=True)
    assert {int(row) for row in one.abs().sum(1).nonzero()} == {first, int(partners[first])}
    total = sum(value.sum() for value in found.values())
    gradients = torch.autograd.grad(total, batch[Columns.NEXT_OBS], allow_unused=True)
    assert gradients == (None,)


@pytest.mark.parametrize("observations", SPACES)
@pytest.mark.parametrize("actions", ACTIONS)
@pytest.mark.parametrize("variant", ["code", "paper"])
def test_any_image_vector_and_action_space_works(
    observations: str, actions: str, variant: str
) -> None:
    space, action_space = SPACES[observations], ACTIONS[actions]
    loss = dbc(space, action_space, variant=variant, transition="ensemble")
    found = loss.losses(transitions(space, action_space))
    assert all(value.shape == (N,) and value.isfinite().all() for value in found.values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", ["code", "paper"])
def test_two_learners_on_half_each_agree_with_one_on_the_whole(variant: str, kind: str) -> None:
    batch, meeting = transitions(n=8), Meeting()
    one = dbc(variant=variant, transition=kind, normalize_rewards=True)
    replicas = [copy.deepcopy(one) for _ in range(2)]
    values: list[Any] = [None, None]

    def learn(rank: int) -> None:
        loss = replicas[rank]
        # Each Learner has its own copy of the encoder. No module registers the encoder.
        loss.__dict__["encoder"] = copy.deepcopy(one.encoder)
        loss.peers = Half(rank, 8, meeting)
        found = loss.losses(take(batch, slice(4 * rank, 4 * rank + 4)))
        sum(value.mean() for value in found.values()).backward()
        values[rank] = found

    threads = [threading.Thread(target=learn, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    found = one.losses(batch)
    sum(value.mean() for value in found.values()).backward()
    for key, value in found.items():
        halves = torch.cat([part[key] for part in values])
        torch.testing.assert_close(halves, value, atol=1e-5, rtol=1e-5)
    for network in ("encoder", "transition", "reward"):
        whole = getattr(one, network).parameters()
        parts = [getattr(replica, network).parameters() for replica in replicas]
        for expected, first, second in zip(whole, *parts, strict=True):
            mean = (first.grad + second.grad) / 2
            torch.testing.assert_close(mean, expected.grad, atol=1e-5, rtol=1e-5)


def test_metric_distances_give_the_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    columns: dict[str, Any] = {
        f"{name}_{side}": torch.randn(5, 3, generator=generator)
        for side in "ij"
        for name in ("latent", "mean")
    }
    columns |= {f"reward_{side}": torch.randn(5, generator=generator) for side in "ij"}
    columns |= {"std_i": None, "std_j": None}
    for variant in ("code", "paper"):
        found = metric_distances(**columns, variant=variant)
        reward = found["reward"] if variant == "paper" else found["reward"][:, None]
        expected = (found["latent"] - reward - 0.9 * found["future"]).square()
        expected = expected if variant == "paper" else expected.mean(-1)
        loss = bisimulation_loss(**columns, gamma=0.9, variant=variant)
        torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"variant": "eq4"}, "variant must be one of ['code', 'paper']; got 'eq4'"),
        ({"transition": ""}, "transition must be one of ['smooth_l1', "),
        ({"gamma": 1.1}, "gamma must be in [0, 1]; got 1.1"),
        ({"weight": -1.0}, "weight must be >= 0; got -1.0"),
        ({"latent_norm": "l2"}, "latent_norm must be one of [None, 'layer', 'max']; got 'l2'"),
        ({"max_norm": 0.0}, "max_norm must be > 0; got 0.0"),
        ({"features": "random"}, "features must be one of ['shared', 'own']; got 'random'"),
        ({"hidden": 0}, "hidden must be a whole number >= 1; got 0"),
        ({"mask_terminals": 1}, "mask_terminals must be true or false; got 1"),
        ({"isolated": True, "features": "own"}, "isolated=True trains the RL encoder"),
    ],
)
def test_bad_options_name_the_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        Bisimulation.Config(**options)
    assert message in str(error.value)
