"""ST-DIM: values by hand, a slow reference, masks, places, several Learners, refusals, learning."""

import math
import threading
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.auxiliary.contrastive.st_dim import STDIM
from rlssl.auxiliary.windows import VALID
from rlssl.batches import EPISODE, STEP
from rlssl.errors import SpecError
from rlssl.losses import info_nce_at_places
from rlssl.networks import build_encoder
from tests.algorithms.bench import Bench, small_ppo
from tests.auxiliary.latents import VECTOR, Half, Meeting, take, windows_of

N = 6
TERMS = ("global_local", "local_local")


def space_of(side: int, channels: int = 3) -> gym.spaces.Box:
    return gym.spaces.Box(0, 255, (channels, side, side), np.uint8)


def make(side: int = 7, encoder: str | None = None, **options: Any) -> Any:
    torch.manual_seed(0)
    return STDIM(
        STDIM.Config(**options),
        encoder=build_encoder(space_of(side), encoder),
        observation_space=space_of(side),
        action_space=gym.spaces.Discrete(2),
    )


def sample(side: int = 7, length: int = 2, num: int = N) -> dict[str, Any]:
    """Windows of random images, each of another episode."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (num, length, 3, side, side), generator=generator)
    return windows_of(images.to(torch.uint8))


def slow_terms(loss: Any, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """[N, H, W] each: place by place and row by row, from separate passes of the encoder."""
    before, after = batch[Columns.OBS][:, 0], batch[Columns.OBS][:, -1]
    convolutions = loss.encoder.layers[:2]  # the first convolution of small_cnn, and its ReLU
    f_before, f_after = (convolutions(images / 255.0) for images in (before, after))
    anchors = loss.from_global(loss.encoder(after))
    num, _, height, width = f_before.shape
    both = torch.zeros(2, num, height, width)
    for y in range(height):
        for x in range(width):
            keys = f_before[:, :, y, x]
            for row in range(num):
                queries = anchors[row], loss.from_local(f_after[row, :, y, x])
                for term, query in enumerate(queries):
                    scores = torch.stack([query @ key for key in keys])
                    both[term, row, y, x] = F.cross_entropy(scores, torch.tensor(row))
    return both[0], both[1]


def test_values_are_those_of_a_slow_reference() -> None:
    loss, batch = make(), sample()
    found = loss.losses(batch)
    with torch.no_grad():
        for name, expected in zip(TERMS, slow_terms(loss, batch), strict=True):
            torch.testing.assert_close(found[name], expected.mean(dim=(1, 2)), rtol=1e-4, atol=1e-5)
            assert found[name].std() > 1e-3


@pytest.mark.parametrize("encoder, side", [("small_cnn", 7), ("nature", 40), ("impala", 12)])
def test_constant_images_give_the_log_of_the_rows(encoder: str, side: int) -> None:
    loss, batch = make(side, encoder), sample(side)
    batch[Columns.OBS] = torch.full_like(batch[Columns.OBS], 9)
    for value in loss.losses(batch).values():
        torch.testing.assert_close(value, torch.full((N,), math.log(N)))


def test_a_map_of_one_place_is_a_plain_pair_loss() -> None:
    # The second convolution of small_cnn gives 1 x 1 for 5 x 5 pixels.
    loss, batch = make(5, layer=2), sample(5)
    assert loss.maps.shape == (32, 1, 1)
    before, after = (
        loss.encoder.layers[:5](batch[Columns.OBS][:, place] / 255.0) for place in (0, 1)
    )
    found, rows = loss.losses(batch), torch.arange(N)
    pairs = {
        "local_local": loss.from_local(after) @ before.T,
        "global_local": loss.from_global(loss.encoder(batch[Columns.OBS][:, 1])) @ before.T,
    }
    for name, logits in pairs.items():
        expected = F.cross_entropy(logits, rows, reduction="none")
        torch.testing.assert_close(found[name], expected)


def test_the_default_convolution_is_the_last_but_one() -> None:
    assert make(84, "nature").maps.shape == (64, 9, 9)
    assert make(84, "nature", layer=3).maps.shape == (64, 7, 7)
    assert make(84, "curl").maps.shape == (32, 37, 37)
    assert make(42, "icm").maps.shape == (32, 6, 6)
    assert make(84, "impala").maps.shape == (32, 21, 21)


def test_drawn_places_are_the_same_for_all_rows_and_change_with_updates() -> None:
    loss, batch = make(places=4), sample()
    _, local = slow_terms(loss, batch)
    flat = local.flatten(1).detach()  # [N, 25]
    draws = []
    for _ in range(2):
        found = loss.losses(batch)["local_local"].detach()
        again = loss.losses(batch)["local_local"].detach()
        assert torch.equal(found, again)  # the same until the update is over
        draws.append(found)
        loss.after_update()
    assert not torch.equal(*draws)
    generator = make(places=4).update_rng.generator(torch.device("cpu"))
    chosen = torch.randperm(25, generator=generator)[:4]
    torch.testing.assert_close(draws[0], flat[:, chosen].mean(dim=1), rtol=1e-4, atol=1e-5)


def test_rows_over_an_end_have_weight_zero_and_their_maps_stay_negatives() -> None:
    loss, batch = make(delta=3), sample(length=4)
    whole = loss.losses(batch)["global_local"]
    batch[VALID][2, 2:] = False
    found = loss.losses(batch)["global_local"]
    expected = whole * (6 / 5)  # the mean over 6 rows is the mean over the 5 valid ones
    expected[2] = 0.0
    torch.testing.assert_close(found, expected)


def test_the_positive_and_the_later_frame_are_no_negatives() -> None:
    # Row 1 is the step after row 0: its map is that of row 0's later frame. Rows 4 and 5 are the
    # same row, drawn twice.
    loss, batch = make(), sample()
    obs = batch[Columns.OBS]
    obs[1, 0], obs[5] = obs[0, 1], obs[4]
    batch[EPISODE] = torch.tensor([0, 0, 2, 3, 4, 4])[:, None].expand(N, 2)
    batch[STEP] = torch.tensor([[0, 1], [1, 2], [0, 1], [0, 1], [0, 1], [0, 1]])
    loss.losses(batch)
    left_out = {(row, column) for row, column in (~loss._compared.allowed).nonzero().tolist()}
    assert left_out == {(row, row) for row in range(N)} | {(0, 1), (4, 5), (5, 4)}
    loss = make(same_episode=False)
    loss.losses(batch)
    left_out = {(row, column) for row, column in (~loss._compared.allowed).nonzero().tolist()}
    assert left_out == {(row, row) for row in range(N)} | {(0, 1), (1, 0), (4, 5), (5, 4)}


def test_rows_without_a_negative_have_weight_zero_and_are_counted() -> None:
    loss, batch = make(same_episode=False), sample()
    batch[EPISODE] = torch.zeros(N, 2, dtype=torch.int64)
    batch[STEP] = 5 * torch.arange(N)[:, None] + torch.arange(2)
    for name, value in loss.losses(batch).items():
        assert value.tolist() == [0.0] * N and value.requires_grad, name
    assert {key: float(value) for key, value in loss.metrics(batch).items()} == {
        "rows_without_negatives": 1.0
    }
    one = make().losses(sample(num=1))
    assert [value.tolist() for value in one.values()] == [[0.0], [0.0]]


def test_the_gradient_reaches_both_frames() -> None:
    batch = sample()
    for place in (0, 1):
        for name in TERMS:
            loss = make()
            obs = (batch[Columns.OBS] / 255.0).requires_grad_(True)
            loss.losses({**batch, Columns.OBS: obs})[name].sum().backward()
            assert obs.grad is not None and obs.grad[:, place].abs().sum() > 0


@pytest.mark.parametrize(
    "options", [{}, {"shuffled_positives": True}, {"same_episode": False, "places": 3}]
)
def test_two_learners_with_halves_have_the_losses_and_gradients_of_one(
    options: dict[str, Any],
) -> None:
    batch = sample()
    batch[VALID][4, 1] = False
    batch[EPISODE] = torch.tensor([0, 1, 2, 0, 4, 1])[:, None].expand(N, 2)
    whole = make(**options)
    expected = {name: value.mean() for name, value in whole.losses(batch).items()}
    sum(expected.values(), torch.zeros(())).backward()
    meeting, halves = Meeting(), [make(**options) for _ in range(2)]
    means: dict[int, dict[str, Tensor]] = {}

    def learn(rank: int) -> None:
        halves[rank].peers = Half(rank, N, meeting)
        found = halves[rank].losses(take(batch, slice(3 * rank, 3 * rank + 3)))
        means[rank] = {name: value.mean() for name, value in found.items()}

    threads = [threading.Thread(target=learn, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for rank in range(2):
        sum(means[rank].values(), torch.zeros(())).backward()
    for name, value in expected.items():
        torch.testing.assert_close((means[0][name] + means[1][name]) / 2, value)
    for part in ("encoder", "from_global", "from_local"):
        named = getattr(whole, part).named_parameters()
        for key, parameter in named:
            of = [dict(getattr(half, part).named_parameters())[key].grad for half in halves]
            torch.testing.assert_close((of[0] + of[1]) / 2, parameter.grad, msg=f"{part} {key}")


def dots(num: int = 32, side: int = 7) -> dict[str, Any]:
    """A bright dot at a random place, which moves right by a pixel."""
    generator = torch.Generator().manual_seed(1)
    row = torch.randint(side, (num,), generator=generator)
    column = torch.randint(side - 1, (num,), generator=generator)
    images = torch.zeros(num, 2, 3, side, side, dtype=torch.uint8)
    for place in (0, 1):
        images[torch.arange(num), place, :, row, column + place] = 255
    return windows_of(images)


@pytest.mark.parametrize("shuffled", [False, True])
def test_the_frame_before_is_found_unless_positives_are_shuffled(shuffled: bool) -> None:
    loss, batch = make(shuffled_positives=shuffled), dots()
    parameters = [*loss.parameters(), *loss.encoder.parameters()]
    adam = torch.optim.Adam(parameters, lr=3e-3)
    for _ in range(80):
        adam.zero_grad()
        found = loss.losses(batch)
        sum(value.mean() for value in found.values()).backward()
        adam.step()
        loss.after_update()
    loss.losses(batch)
    metrics = {key: float(value) for key, value in loss.metrics(batch).items()}
    assert metrics["chance"] == pytest.approx(1 / 32) and metrics["rows_without_negatives"] == 0.0
    # Two thirds of the places see no dot in most frames: there, maps are equal.
    start = make()
    start.losses(batch)
    better = metrics["global_accuracy"] > 2 * float(start.metrics(batch)["global_accuracy"])
    assert better == (not shuffled)


def test_inputs_without_feature_maps_are_refused_in_words() -> None:
    with pytest.raises(SpecError, match=r"auxiliary\.st_dim compares feature maps") as error:
        STDIM(
            STDIM.Config(),
            encoder=build_encoder(VECTOR),
            observation_space=VECTOR,
            action_space=gym.spaces.Discrete(2),
        )
    assert "encoder MLP has none: it needs images" in str(error.value)
    with pytest.raises(SpecError, match="layer must be at most 2, the convolutions of the encoder"):
        make(layer=3)
    # Frames too small for the convolutions of their encoder.
    with pytest.raises(SpecError, match="'data_efficient' needs images of 25 pixels"):
        make(24, "data_efficient")
    with pytest.raises(SpecError, match="window has 66 frames, but a fragment has"):
        Bench(
            small_ppo("minatar/Breakout").model(encoder_config={}).auxiliary(st_dim={"delta": 65})
        )


@pytest.mark.parametrize("place", range(4))
def test_another_vector_at_a_place_changes_only_the_losses_of_this_place(place: int) -> None:
    generator = torch.Generator().manual_seed(place)
    query, key = torch.randn(2, N, 4, 5, generator=generator).unbind()
    before = info_nce_at_places(query, key, torch.arange(N))
    key[2, place] += 1.0
    changed = info_nce_at_places(query, key, torch.arange(N)) != before
    assert changed.any(dim=0).tolist() == [other == place for other in range(4)]
    with pytest.raises(ValueError, match=r"key \[M, P, C\]"):
        info_nce_at_places(query[:, :3], key, torch.arange(N))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"delta": 0}, "delta must be a whole number >= 1; got 0"),
        ({"layer": 0}, "layer must be a whole number >= 1; got 0"),
        ({"places": True}, "places must be a whole number >= 1; got True"),
        ({"same_episode": 1}, "same_episode must be true or false; got 1"),
    ],
)
def test_bad_options_name_key_and_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        STDIM.Config(**options)
    assert message in str(error.value)
