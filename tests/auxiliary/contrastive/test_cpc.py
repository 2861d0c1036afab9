"""CPC: values by hand, masks, actions, mutual information, recurrent PPO, several Learners."""

import itertools
import math
import threading
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.auxiliary.contrastive.cpc import CPC
from rlssl.auxiliary.windows import VALID
from rlssl.batches import EPISODE, STEP
from rlssl.losses import bilinear_info_nce
from tests.algorithms.bench import Bench, small_ppo
from tests.auxiliary.latents import VECTOR, Half, Meeting, Scaled, take, windows_of

N, DIM = 6, 3


def make(encoder: Any = None, actions_of: gym.Space | None = None, **options: Any) -> Any:
    torch.manual_seed(0)
    return CPC(
        CPC.Config(**{"context": 2, "steps": 3, "hidden": 8, **options}),
        encoder=Scaled(DIM) if encoder is None else encoder,
        observation_space=VECTOR,
        action_space=gym.spaces.Discrete(2) if actions_of is None else actions_of,
    )


def sample(length: int = 6, num: int = N, seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    obs = torch.randn(num, length, DIM, generator=generator)
    actions = torch.randint(2, (num, length), generator=generator)
    return windows_of(obs, **{Columns.ACTIONS: actions})


@pytest.mark.parametrize("actions", [False, True])
def test_equal_latents_give_the_log_of_the_batch_size(actions: bool) -> None:
    batch = sample()
    batch[Columns.OBS] = torch.ones(N, 6, DIM)
    found = make(actions=actions).losses(batch)["info_nce"]
    torch.testing.assert_close(found, torch.full((N,), math.log(N)))


def test_two_frames_are_one_step_bilinear_info_nce() -> None:
    cpc = make(context=0, steps=1)
    batch = sample(2)
    context = cpc.context.cell(batch[Columns.OBS][:, 0], torch.zeros(N, 8))
    # bilinear_info_nce has a square W: the context is padded to the latents' side with zeros.
    padded = torch.zeros(N, 8)
    padded[:, :DIM] = batch[Columns.OBS][:, 1]
    weight = torch.zeros(8, 8)
    weight[:, :DIM] = cpc.predict[0].weight.T
    expected = bilinear_info_nce(context, padded, weight)
    torch.testing.assert_close(cpc.losses(batch)["info_nce"], expected)


@pytest.mark.parametrize("actions", [False, True])
def test_permuting_the_sequences_leaves_the_loss_of_each_row(actions: bool) -> None:
    cpc, batch = make(actions=actions), sample()
    batch[VALID][2, 4:] = False
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    found = cpc.losses(take(batch, order))["info_nce"]
    torch.testing.assert_close(found, cpc.losses(batch)["info_nce"][order])


def test_every_step_has_its_own_weight() -> None:
    cpc = make()
    assert len({id(predict.weight) for predict in cpc.predict}) == 3
    batch = sample()
    batch[VALID][:, 5] = False
    cpc.losses(batch)["info_nce"].mean().backward()
    moved = [bool(predict.weight.grad.any()) for predict in cpc.predict]
    # No row has a third target.
    assert moved == [True, True, False]


def test_frames_after_an_end_are_neither_positives_nor_negatives() -> None:
    cpc, batch = make(), sample()
    batch[VALID][2, 4:] = False
    spoiled = {**batch, Columns.OBS: batch[Columns.OBS].clone()}
    spoiled[Columns.OBS][2, 4:] = 1e3
    found = cpc.losses(spoiled)["info_nce"]
    torch.testing.assert_close(found, cpc.losses(batch)["info_nce"])
    # At k = 2 and 3, 5 rows have 5 candidates each; at k = 1, 6 have 6: with equal latents, the
    # mean over the 16 valid entries is (6 log 6 + 10 log 5) / 16.
    batch[Columns.OBS] = torch.ones(N, 6, DIM)
    mean = cpc.losses(batch)["info_nce"].mean().item()
    assert mean == pytest.approx((6 * math.log(6) + 10 * math.log(5)) / 16, rel=1e-5)


def test_the_context_starts_at_the_first_frame_of_the_episode() -> None:
    cpc, batch = make(), sample()
    batch[VALID][:, :2] = False
    spoiled = {**batch, Columns.OBS: batch[Columns.OBS].clone()}
    spoiled[Columns.OBS][:, :2] = 1e3
    found = cpc.losses(spoiled)["info_nce"]
    torch.testing.assert_close(found, cpc.losses(batch)["info_nce"])
    # With no earlier frame, it is the GRU's first step.
    first = cpc.context.cell(batch[Columns.OBS][:, 2], torch.zeros(N, 8))
    state = cpc.context(batch[Columns.OBS][:, :3], batch[VALID][:, :3])
    torch.testing.assert_close(state, first)


def test_the_frame_of_the_positive_is_no_negative() -> None:
    # Rows 0 and 1 are the same row of the replay, drawn twice: with equal latents, they have
    # N - 1 candidates.
    batch = sample()
    batch[Columns.OBS] = torch.ones(N, 6, DIM)
    for key in (EPISODE, STEP):
        batch[key] = batch[key].clone()
        batch[key][1] = batch[key][0]
    found = make().losses(batch)["info_nce"]
    expected = [math.log(N - 1)] * 2 + [math.log(N)] * (N - 2)
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def test_the_gradient_reaches_past_and_later_frames_and_not_those_between() -> None:
    cpc, batch = make(context=1, steps=2), sample(4)
    obs = batch[Columns.OBS].requires_grad_()
    cpc.losses(batch)["info_nce"].mean().backward()
    assert obs.grad is not None and obs.grad.flatten(2).any(2).all()


def test_actions_lead_to_the_next_frame() -> None:
    # Predictions for k read the actions at places 0 to k - 1 of the row, no earlier or later one.
    cpc, batch = make(context=1, actions=True), sample(5)
    seen = cpc._predictions(torch.zeros(N, 8), batch)
    for place in range(5):
        changed = {**batch, Columns.ACTIONS: batch[Columns.ACTIONS].clone()}
        changed[Columns.ACTIONS][:, place] ^= 1
        moved = (cpc._predictions(torch.zeros(N, 8), changed) != seen).flatten(2).any(2).any(0)
        first = {0: 3, 1: 0, 2: 1, 3: 2, 4: 3}[place]
        assert moved.tolist() == [k >= first for k in range(3)]


def counter(steps: int, starts: int = 3) -> dict[str, Any]:
    """All sequences of actions 0 and 1 from some starts; s becomes 2 s + a, one-hot."""
    sequences = [*itertools.product(range(starts), *[range(2)] * steps)]
    states, actions = [], []
    for start, *taken in sequences:
        path = [100 * (start + 1)]
        for action in taken:
            path.append(2 * path[-1] + action)
        states.append(path)
        actions.append([*taken, 0])
    numbers, index = torch.tensor(states).unique(return_inverse=True)
    batch = windows_of(torch.eye(len(numbers))[index], **{Columns.ACTIONS: torch.tensor(actions)})
    # Sequences with the same start and the same first actions are the same frames.
    batch[EPISODE], batch[STEP] = index, torch.zeros_like(index)
    return batch


@pytest.mark.parametrize("steps", [1, 2])
def test_only_with_actions_the_loss_falls_below_the_entropy_of_the_actions(steps: int) -> None:
    batch = counter(steps)
    dim = batch[Columns.OBS].shape[-1]
    found = {}
    for actions in (False, True):
        cpc = make(Scaled(dim), context=0, steps=steps, hidden=32, actions=actions)
        adam = torch.optim.Adam(cpc.parameters(), lr=2e-2)
        for _ in range(250):
            adam.zero_grad()
            loss = cpc.losses(batch)["info_nce"].mean()
            loss.backward()
            adam.step()
        found[actions] = loss.item()
    assert found[True] < 0.02
    # From one start lead 2 actions to 2 frames: log 2 nats. With 2 steps, each of these frames is
    # there twice at k = 1, once for each second action: a row meets its positive and two copies of
    # the other frame (copies of the positive are no negatives): log 3. At k = 2, 4 frames: log 4.
    floor = {1: math.log(2), 2: (math.log(3) + math.log(4)) / 2}[steps]
    entropy_of_actions = math.log(2) * (steps + 1) / 2
    assert entropy_of_actions - 1e-4 <= floor - 1e-4 <= found[False] < floor + 0.03


def test_the_bound_is_near_the_mutual_information_of_gaussians() -> None:
    # x, y in two dimensions with correlation r: I = -log(1 - r^2) = 1.5 nats with
    # r^2 = 1 - exp(-1.5). M = 128: log(M) / 2 = 2.4.
    truth, size = 1.5, 128
    correlation = math.sqrt(1 - math.exp(-truth))
    torch.manual_seed(0)
    encoder: Any = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 32))
    encoder.output_dim = 32
    cpc = make(encoder, context=0, steps=1, hidden=64)
    generator = torch.Generator().manual_seed(1)

    def bound() -> Tensor:
        first, noise = torch.randn(2, size, 2, generator=generator)
        second = correlation * first + math.sqrt(1 - correlation**2) * noise
        batch = windows_of(torch.stack([first, second], dim=1))
        loss: Tensor = cpc.losses(batch)["info_nce"]
        return math.log(size) - loss.mean()

    adam = torch.optim.Adam([*cpc.parameters(), *encoder.parameters()], lr=2e-3)
    for _ in range(1200):
        adam.zero_grad()
        (-bound()).backward()
        adam.step()
    with torch.no_grad():
        fresh = torch.stack([bound() for _ in range(100)]).mean().item()
    assert fresh == pytest.approx(truth, rel=0.1)


@pytest.mark.parametrize("options", [{}, {"actions": True}], ids=["cpc", "actions"])
def test_a_recurrent_policy_keeps_its_lstm_to_itself(options: dict[str, Any]) -> None:
    config = small_ppo().model(encoder_config={"hidden": [16]}, lstm={"hidden": 8})
    bench = Bench(config.auxiliary(cpc={"hidden": 8, **options}))
    batch = bench.batch(bench.sample())
    loss = bench.learner.compute_auxiliary_loss(batch)
    module = bench.module
    inside = [*module.encoder.parameters(), *module.auxiliary["cpc"].parameters()]
    others = [p for p in module.parameters() if p.requires_grad and all(p is not q for q in inside)]
    assert any("cells" in name for name, _ in module.named_parameters() if "auxiliary" not in name)
    gradients = torch.autograd.grad(loss, others, allow_unused=True, retain_graph=True)
    assert all(gradient is None or not gradient.any() for gradient in gradients)
    assert all(g.any() for g in torch.autograd.grad(loss, [*module.encoder.parameters()]))
    result = bench.update(bench.sample())
    assert np.isfinite(result["default_policy"]["aux"]["cpc"]["info_nce"].peek())


@pytest.mark.parametrize("options", [{}, {"actions": True}, {"shuffled_positives": True}])
def test_two_learners_have_the_losses_and_gradients_of_one(options: dict[str, Any]) -> None:
    batch = sample()
    batch[VALID][4, 4:] = False
    one = make(**options)
    loss = one.losses(batch)["info_nce"]
    expected = torch.autograd.grad(loss.mean(), [*one.parameters()], allow_unused=True)
    meeting = Meeting()
    found: dict[int, Any] = {}

    def learn(rank: int) -> None:
        cpc = copies[rank]
        cpc.peers = Half(rank, N, meeting)
        part = cpc.losses(take(batch, slice(3 * rank, 3 * rank + 3)))["info_nce"]
        parameters = [*cpc.parameters(), cpc.encoder.scale]
        found[rank] = part.detach(), torch.autograd.grad(part.mean(), parameters)

    copies = [make(**options) for _ in range(2)]
    threads = [threading.Thread(target=learn, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    torch.testing.assert_close(torch.cat([found[0][0], found[1][0]]), loss)
    scale = torch.autograd.grad(one.losses(batch)["info_nce"].mean(), one.encoder.scale)
    for both, whole in zip(
        zip(found[0][1], found[1][1], strict=True), [*expected, *scale], strict=True
    ):
        torch.testing.assert_close((both[0] + both[1]) / 2, whole, rtol=1e-4, atol=1e-6)


def test_metrics_bound_the_information_and_count_valid_rows() -> None:
    cpc, batch = make(), sample()
    cpc.losses(batch)
    with torch.no_grad():
        loss = cpc.losses(batch)["info_nce"].mean().item()
    found = cpc.metrics(batch)
    assert found["information"].item() == pytest.approx(math.log(N) - loss, abs=1e-5)
    # Equal latents: nothing is known, and no positive is the best.
    batch[Columns.OBS] = torch.ones(N, 6, DIM)
    cpc.losses(batch)
    found = cpc.metrics(batch)
    assert found["accuracy"].item() == 0.0
    assert found["information"].item() == pytest.approx(0.0, abs=1e-6)
    batch[VALID][:, 3:] = False
    assert cpc.losses(batch)["info_nce"].tolist() == [0.0] * N
    assert cpc.metrics(batch) == {}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"context": -1}, "context must be a whole number >= 0; got -1"),
        ({"steps": 0}, "steps must be a whole number >= 1; got 0"),
        ({"hidden": 1.5}, "hidden must be a whole number >= 1; got 1.5"),
        ({"actions": "yes"}, "actions must be true or false; got 'yes'"),
        ({"isolated": 1}, "isolated must be true or false; got 1"),
    ],
)
def test_bad_options_name_key_and_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        CPC.Config(**options)
    assert message in str(error.value)
