"""MoCo: values by hand, the queue and its masks, the key network, Learners, resuming, options."""

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.auxiliary.contrastive.moco import MoCo
from rlssl.batches import EPISODE
from rlssl.losses import queue_info_nce
from rlssl.networks import build_encoder
from tests.auxiliary.contrastive.views import N, by_two_learners, gradients_of, make, observations
from tests.auxiliary.latents import VECTOR, Scaled

FRAMES = gym.spaces.Box(0, 255, (4, 20, 20), np.uint8)
both_inputs = pytest.mark.parametrize("space", [VECTOR, FRAMES], ids=["vector", "frames"])


def plain(**options: Any) -> Any:
    """A loss whose embeddings are the observations."""
    moco = make(MoCo, VECTOR, Scaled(), noise=1e-12, projection_dim=3, temperature=1.0, **options)
    moco.head = nn.Identity()
    moco.key_head.target = nn.Identity()
    moco.key_head.__dict__.pop("_pairs", None)
    return moco


def rows(*numbers: list[float]) -> dict[str, Tensor]:
    return {Columns.OBS: torch.tensor(numbers)}


def test_first_update_has_the_batch_as_negatives_and_the_next_one_the_queue() -> None:
    moco, unit = plain(), torch.eye(3).tolist()
    # The positive at cosine 1, two others at 0: log(e + 2) - 1.
    found = moco.losses(rows(*unit))["info_nce"]
    torch.testing.assert_close(found, torch.full((3,), math.log(math.e + 2) - 1))
    assert moco.metrics({})["accuracy"] == 1
    moco.after_update()
    # The negatives of (-1, 0, 0) are -1, 0, 0: log(e + e^-1 + 2) - 1.
    found = moco.losses(rows([-1.0, 0.0, 0.0]))["info_nce"]
    torch.testing.assert_close(found, torch.tensor([math.log(math.e + math.exp(-1) + 2) - 1]))


def test_key_is_never_a_negative_of_itself() -> None:
    moco = plain()
    batch = rows([1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    # In the batch: row 0 and row 1 are equal, so both have only row 2 as a negative.
    expected = math.log(math.e + 1) - 1
    first = moco.losses(batch)["info_nce"]
    torch.testing.assert_close(first, torch.tensor([expected, expected, math.log(math.e + 2) - 1]))
    moco.after_update()
    # The same batch again, as in PPO's next epoch: the queue has its keys.
    torch.testing.assert_close(moco.losses(batch)["info_nce"], first)
    unmasked = plain(mask_equal=False)
    unmasked.losses(batch)
    unmasked.after_update()
    # Row 0 has keys at cosines 1, 1 and 0 as negatives.
    found = unmasked.losses(batch)["info_nce"][0].item()
    assert found == pytest.approx(math.log(3 * math.e + 1) - 1)


@pytest.mark.parametrize("mask_equal", [True, False])
def test_keys_of_the_same_episode_are_no_negatives_if_asked(mask_equal: bool) -> None:
    moco = plain(mask_equal=mask_equal, mask_episode=True)
    batch = {
        **rows([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]),
        EPISODE: torch.tensor([2**62, 2**62, 5]),
    }
    # Row 0 and row 1 are of one episode; row 0 and row 2 are equal. Row 1 has row 2 as a negative,
    # at cosine 0; without mask_equal, rows 0 and 2 have each other, at cosine 1.
    equal = 0.0 if mask_equal else math.log(2)
    zero = math.log(math.e + 1) - 1
    # Row 2 has row 1 at cosine 0; without mask_equal also row 0.
    last = zero if mask_equal else math.log(2 * math.e + 1) - 1
    expected = torch.tensor([equal, zero, last])
    torch.testing.assert_close(moco.losses(batch)["info_nce"], expected)
    moco.after_update()
    # The same batch again, now against the queue.
    torch.testing.assert_close(moco.losses(batch)["info_nce"], expected)
    assert moco.metrics({})["rows_without_negatives"] == pytest.approx(mask_equal / 3)
    without = plain(mask_equal=False, mask_episode=False)
    without.losses(batch)
    assert without._new[1] is None


def test_keys_enter_the_queue_after_the_update_only() -> None:
    moco, batch = make(MoCo), observations()
    moco.losses(batch)
    moco.losses(batch)
    assert moco.queue.is_empty
    moco.after_update()
    assert int(moco.queue.count) == N
    moco.after_update()  # an update without this loss
    assert int(moco.queue.count) == N


def test_loss_equals_the_pure_loss_of_queries_keys_and_queue() -> None:
    moco, batch = make(MoCo, FRAMES), observations(FRAMES)
    moco.losses(batch)
    moco.after_update()
    with torch.no_grad():
        for parameter in moco.own_key_encoder.parameters():
            parameter.add_(0.1)  # so that queries and keys cannot be mixed up
    generator = moco.update_rng.generator()
    query = moco.head(moco.encoder(moco.views(batch[Columns.OBS], generator)))
    key = moco.key_head(moco.own_key_encoder(moco.views(batch[Columns.OBS], generator)))
    # The observations are the rows that are in the queue: no negative of themselves.
    allowed = ~torch.eye(N, dtype=torch.bool)
    expected = queue_info_nce(query, key, moco.queue.keys[:N], allowed=allowed)
    torch.testing.assert_close(moco.losses(batch)["info_nce"], expected)


@pytest.mark.parametrize("num", [0, 1])
def test_rows_without_a_negative_give_zero_and_are_counted(num: int) -> None:
    moco = make(MoCo, temperature=10.0)
    batch = {key: value[:num] for key, value in observations().items()}
    loss = moco.losses(batch)["info_nce"]
    assert loss.shape == (num,) and not loss.any()
    assert all(not gradient.any() for gradient in gradients_of(moco, batch).values())
    moco.losses(batch)
    if num:
        assert moco.metrics(batch)["rows_without_negatives"] == 1
    moco.after_update()
    loss = moco.losses(observations())["info_nce"]
    assert moco.metrics({})["rows_without_negatives"] == (1 / N if num else 0)
    assert (loss > 0).sum() == (N - 1 if num else N)


def test_key_network_follows_by_its_own_tau_beside_a_target_network() -> None:
    torch.manual_seed(0)
    encoder, theirs = build_encoder(FRAMES), build_encoder(FRAMES)
    moco: Any = MoCo(
        MoCo.Config(ema_tau=0.25),
        encoder=encoder,
        observation_space=FRAMES,
        action_space=gym.spaces.Discrete(2),
        key_encoder=theirs,
    )
    before = [p.clone() for p in (*encoder.parameters(), *moco.head.parameters())]
    with torch.no_grad():
        for parameter in (*encoder.parameters(), *moco.head.parameters()):
            parameter.add_(0.4)
    moco.after_update()
    keys = (*moco.own_key_encoder.parameters(), *moco.key_head.parameters())
    for old, new in zip(before, keys, strict=True):
        torch.testing.assert_close(new, old + 0.1)  # 0.25 * 0.4


@both_inputs
def test_gradient_reaches_the_encoder_and_no_key(space: gym.Space) -> None:
    moco, batch = make(MoCo, space), observations(space)
    for _ in range(2):
        gradients = gradients_of(moco, batch)
        assert {name.split(".")[0] for name in gradients} == {"encoder", "head"}
        assert all(gradient.any() for gradient in gradients.values())
        moco.after_update()


@both_inputs
@pytest.mark.parametrize("options", [{}, {"shuffled_positives": True, "mask_equal": False}])
def test_two_learners_hold_identical_queues_and_get_the_losses_of_one(
    space: gym.Space, options: dict[str, Any]
) -> None:
    def three_updates(moco: Any, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        losses = []
        for _ in range(3):
            losses.append(moco.losses(batch)["info_nce"].detach())
            moco.after_update()
        return torch.stack(losses), moco.queue.state_dict()

    def new() -> Any:
        return make(MoCo, space, queue_size=12, **options)

    batch = observations(space)
    losses, queue = three_updates(new(), batch)
    (first, its), (second, others) = by_two_learners(new, batch, three_updates)
    torch.testing.assert_close(torch.cat([first, second], dim=1), losses, rtol=0, atol=1e-5)
    for key, value in queue.items():
        assert torch.equal(its[key], others[key]), key
        torch.testing.assert_close(its[key], value, rtol=0, atol=1e-5)


@both_inputs
def test_restored_loss_continues_as_the_saved_one(space: gym.Space) -> None:
    batch, saved = observations(space), make(MoCo, space, queue_size=12, ema_tau=0.1)
    saved.losses(batch)
    saved.after_update()
    restored = make(MoCo, space, encoder=saved.encoder, queue_size=12, ema_tau=0.1)
    restored.load_state_dict(saved.state_dict())
    for _ in range(2):
        pair = [moco.losses(batch)["info_nce"] for moco in (saved, restored)]
        assert torch.equal(*pair)
        for moco in (saved, restored):
            moco.after_update()
    assert torch.equal(saved.queue.keys, restored.queue.keys)


def test_batch_larger_than_the_queue_is_refused() -> None:
    moco = make(MoCo, queue_size=N - 1)
    moco.losses(observations())
    with pytest.raises(ValueError, match=f"batch of {N} keys does not fit into a queue of {N - 1}"):
        moco.after_update()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"temperature": -1.0}, "temperature must be > 0; got -1.0"),
        ({"queue_size": 0}, "queue_size must be a whole number >= 1; got 0"),
        ({"ema_tau": 0.0}, r"ema_tau must be in \(0, 1\]; got 0.0"),
        ({"mask_equal": 1}, "mask_equal must be true or false; got 1"),
    ],
)
def test_bad_options_name_the_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MoCo.Config(**options)
