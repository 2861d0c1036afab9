"""ATC: CURL with delta 0, ends of episodes, the key network, the decoupled encoder, Learners."""

import copy
import math
import threading
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.algorithms.common.auxiliary_learner import trainable
from rlssl.auxiliary.contrastive.atc import ATC
from rlssl.auxiliary.contrastive.curl import CURL
from rlssl.auxiliary.windows import VALID
from rlssl.batches import EPISODE, STEP
from rlssl.networks import build_encoder
from tests.algorithms.bench import Bench, small_ppo
from tests.auxiliary import latents
from tests.auxiliary.latents import VECTOR, Half, Meeting, Scaled, take, windows_of

N = 8
FRAMES = gym.spaces.Box(0, 255, (4, 20, 20), np.uint8)


def make(
    space: gym.Space = VECTOR, encoder: Any = None, loss_class: Any = ATC, **options: Any
) -> Any:
    torch.manual_seed(0)
    return loss_class(
        loss_class.Config(**options),
        encoder=build_encoder(space) if encoder is None else encoder,
        observation_space=space,
        action_space=gym.spaces.Discrete(2),
    )


def plain(delta: int = 1, **options: Any) -> Any:
    """ATC whose logits are inner products of observations: no network, no visible noise."""
    atc = make(encoder=Scaled(), delta=delta, latent_dim=3, hidden=0, noise=1e-12, **options)
    for layer in (atc.compressor, atc.key_compressor.target, atc.predict):
        nn.init.eye_(layer.weight)
    for layer in (atc.compressor, atc.key_compressor.target):
        nn.init.zeros_(layer.bias)
    return atc


def sample(space: gym.Space, length: int, num: int = N) -> dict[str, Any]:
    obs: Tensor = latents.sample(space, num * length)
    return windows_of(obs.unflatten(0, (num, length)))


@pytest.mark.parametrize("space", [VECTOR, FRAMES], ids=["vector", "frames"])
def test_without_delta_and_residual_it_is_curl_with_an_own_key_network(space: gym.Space) -> None:
    encoder = build_encoder(space)
    curl = make(space, encoder, CURL, normalize=False)
    dim = int(encoder.output_dim)
    atc = make(space, encoder, delta=0, hidden=0, latent_dim=dim)
    nn.init.eye_(atc.compressor.weight), nn.init.zeros_(atc.compressor.bias)
    atc.key_compressor.update(atc.compressor, 1.0)
    with torch.no_grad():
        # CURL's logits are q W k, ATC's are (W c) k. Other keys than queries, the same in both.
        atc.predict.weight.copy_(curl.weight.T)
        for network in (curl.own_key_encoder, atc.key_encoder_copy):
            for parameter in network.parameters():
                parameter.add_(0.05)
    batch = sample(space, 1)
    expected = curl.losses({Columns.OBS: batch[Columns.OBS][:, 0]})["info_nce"]
    assert expected.std() > 0.01
    torch.testing.assert_close(atc.losses(batch)["info_nce"], expected, rtol=1e-6, atol=1e-6)


def test_the_key_is_the_frame_at_delta_by_hand() -> None:
    # Windows of rows 0, 1, 2 hold the unit vectors e0, e1, e2, then e1, e2, e0. The query e_i meets
    # the keys e1, e2, e0: its positive has the logit 0, one other has 1: log(e + 2).
    unit = torch.eye(3)
    batch = windows_of(torch.stack([unit, unit[[1, 2, 0]]], dim=1))
    found = plain().losses(batch)["info_nce"]
    torch.testing.assert_close(found, torch.full((3,), math.log(math.e + 2)))
    # With later frames equal to the queries, the positive has the logit 1: log(e + 2) - 1.
    batch = windows_of(torch.stack([unit[[1, 2, 0]], unit], dim=1).flip(1))
    batch[Columns.OBS][:, 1] = batch[Columns.OBS][:, 0]
    found = plain().losses(batch)["info_nce"]
    torch.testing.assert_close(found, torch.full((3,), math.log(math.e + 2) - 1))


def test_rows_over_an_end_have_no_loss_and_their_keys_stay_negatives() -> None:
    # Row 2 ends: its key e2 is a negative of rows 0 and 1, whose losses are those of 3 keys. They
    # are scaled by 3 / 2, so that the mean over 3 rows is the mean over the 2 valid ones.
    unit = torch.eye(3)
    valid = torch.tensor([[True, True], [True, True], [True, False]])
    batch = windows_of(torch.stack([unit, unit], dim=1), valid)
    found = plain().losses(batch)["info_nce"]
    three_keys = math.log(math.e + 2) - 1
    assert found.tolist() == pytest.approx([1.5 * three_keys, 1.5 * three_keys, 0.0], abs=1e-6)


def test_a_key_of_the_frame_of_the_positive_is_no_negative() -> None:
    # Row 1 is the last row of row 0's episode: its key repeats the final observation, which is row
    # 0's positive. Row 0 meets its positive and the key of row 2: log(e + 1) - 1.
    unit = torch.eye(3)
    final = unit[0]
    batch = windows_of(torch.stack([unit, torch.stack([final, final, unit[2]])], dim=1))
    batch[VALID][1, 1] = False
    batch[EPISODE] = torch.tensor([[5, 5], [5, 5], [6, 6]])
    batch[STEP] = torch.tensor([[7, 9], [8, 9], [0, 2]])
    found = plain().losses(batch)["info_nce"]
    two_keys, three_keys = math.log(math.e + 1) - 1, math.log(math.e + 2) - 1
    assert found.tolist() == pytest.approx([1.5 * two_keys, 0.0, 1.5 * three_keys], abs=1e-6)


def test_views_of_query_and_key_are_independent_draws() -> None:
    atc = make(FRAMES, delta=0, pad=4)
    seen: list[Tensor] = []
    for network in (atc.encoder, atc.key_encoder_copy):
        network.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    batch = sample(FRAMES, 1, num=64)
    atc.losses(batch)
    raw = batch[Columns.OBS][:, 0]
    equal = [(view == raw).flatten(1).all(1).float().mean() for view in seen]
    # A shift by 0 pixels has probability 1 / 81.
    assert max(equal) < 0.2
    assert (seen[0] == seen[1]).flatten(1).all(1).float().mean() < 0.2


def test_the_probability_of_an_augmented_view() -> None:
    atc = make(FRAMES, delta=0, view_probability=0.25)
    seen: list[Tensor] = []
    atc.encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    batch = sample(FRAMES, 1, num=800)
    atc.losses(batch)
    changed = (seen[0] != batch[Columns.OBS][:, 0]).flatten(1).any(1).float().mean()
    # 1 / 9 of the shifts by up to 1 pixel change nothing: 0.25 * 8 / 9 = 0.222, std 0.015.
    assert changed.item() == pytest.approx(0.222, abs=0.05)


def test_key_networks_follow_the_closed_form() -> None:
    # 5 updates towards fixed weights w from w0: w + (1 - tau)^5 (w0 - w).
    atc = make(ema_tau=0.1)
    start = copy.deepcopy([atc.key_encoder_copy.state_dict(), atc.key_compressor.state_dict()])
    with torch.no_grad():
        for parameter in [*atc.encoder.parameters(), *atc.compressor.parameters()]:
            parameter.add_(1.0)
    for _ in range(5):
        atc.after_update()
    share = 1 - 0.9**5
    for before, network in zip(start, (atc.key_encoder_copy, atc.key_compressor), strict=True):
        for key, value in network.state_dict().items():
            torch.testing.assert_close(value, before[key] + share)


def test_the_gradient_reaches_no_key_network() -> None:
    atc = make(FRAMES)
    atc.losses(sample(FRAMES, 2))["info_nce"].mean().backward()
    assert all(parameter.grad is not None for parameter in atc.encoder.parameters())
    for network in (atc.key_encoder_copy, atc.key_compressor):
        assert all(parameter.grad is None for parameter in network.parameters())


def test_the_rl_gradient_of_a_decoupled_encoder_is_exactly_zero() -> None:
    for isolated in (True, False):
        bench = Bench(small_ppo().auxiliary(atc={"isolated": isolated, "coeff": 0.0}))
        learner, batch = bench.learner, bench.batch(bench.sample())
        module = bench.module
        loss = learner.compute_loss(batch, module.forward_train(batch))
        encoder = trainable(module.encoder)
        gradients = torch.autograd.grad(loss, encoder, allow_unused=True, retain_graph=True)
        size = sum(float(g.abs().sum()) for g in gradients if g is not None)
        assert (size == 0.0) == isolated
        others = [p for p in trainable(module) if all(p is not q for q in encoder)]
        rest = torch.autograd.grad(loss, others, allow_unused=True)
        assert any(g is not None and g.any() for g in rest)


@pytest.mark.parametrize("space", [VECTOR, FRAMES], ids=["vector", "frames"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_two_learners_with_halves_have_the_losses_of_one(space: gym.Space, shuffled: bool) -> None:
    options = {"shuffled_positives": shuffled, "view_probability": 0.5}
    batch = sample(space, 2)
    batch[VALID][5, 1] = False
    whole = make(space, **options).losses(batch)["info_nce"]
    meeting = Meeting()
    parts: dict[int, Tensor] = {}

    def learn(rank: int) -> None:
        atc = losses[rank]
        atc.peers = Half(rank, N, meeting)
        parts[rank] = atc.losses(take(batch, slice(4 * rank, 4 * rank + 4)))["info_nce"]

    losses = [make(space, **options) for _ in range(2)]
    threads = [threading.Thread(target=learn, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Each half counts its own rows here (`Half.mean_counts`): 4 / 4 and 4 / 3, not 8 / 7, is the
    # factor for the row that is not valid.
    factor = torch.tensor([8 / 7] * 4 + [(8 / 7) / (4 / 3)] * 4)
    torch.testing.assert_close(torch.cat([parts[0], parts[1]]) * factor, whole)


def test_fewer_than_two_keys_give_no_loss() -> None:
    found = make().losses(sample(VECTOR, 2, num=1))["info_nce"]
    assert found.tolist() == [0.0] and found.requires_grad


def test_metrics_are_of_valid_rows() -> None:
    # Row 2's positive is the opposite of its query: rows 0 and 1 are right, row 2 is wrong.
    atc = plain()
    unit = torch.eye(3)
    later = unit * torch.tensor([1.0, 1.0, -1.0])
    batch = windows_of(torch.stack([unit, later], dim=1))
    atc.losses(batch)
    assert atc.metrics(batch)["accuracy"].item() == pytest.approx(2 / 3)
    batch[VALID][2, 1] = False
    atc.losses(batch)
    assert atc.metrics(batch)["accuracy"].item() == 1.0
    batch[VALID][:, 1] = False
    assert atc.losses(batch)["info_nce"].tolist() == [0.0] * 3
    assert atc.metrics(batch) == {}


def test_published_options_of_atari() -> None:
    assert ATC.defaults_for("atari/Pong") == {
        "delta": 3,
        "latent_dim": 256,
        "view_probability": 0.1,
    }
    assert ATC.defaults_for("dmc/walker_walk") == {}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"delta": -1}, "delta must be a whole number >= 0; got -1"),
        ({"latent_dim": 0}, "latent_dim must be a whole number >= 1; got 0"),
        ({"hidden": True}, "hidden must be a whole number >= 0; got True"),
        ({"ema_tau": 0.0}, "ema_tau must be in (0, 1]; got 0.0"),
        ({"noise": 0}, "noise must be > 0; got 0"),
        ({"view_probability": 1.5}, "view_probability must be in [0, 1]; got 1.5"),
        ({"isolated": 1}, "isolated must be true or false; got 1"),
    ],
)
def test_bad_options_name_key_and_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        ATC.Config(**options)
    assert message in str(error.value)
