"""NT-Xent, Barlow Twins and VICReg: values, gradients, Learners, controls, few rows, options."""

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import nn

from rlssl.augmentations import random_shift
from rlssl.auxiliary.contrastive.barlow_twins import BarlowTwins
from rlssl.auxiliary.contrastive.nt_xent import NTXent
from rlssl.auxiliary.contrastive.vicreg import VICReg
from rlssl.errors import SpecError
from rlssl.losses import barlow_twins, nt_xent, vicreg
from rlssl.networks.augmentation import AUGMENTED_OBS
from tests.auxiliary.contrastive.views import N, by_two_learners, gradients_of, make, observations
from tests.auxiliary.latents import SPACES, VECTOR, Scaled

LOSSES: dict[str, Any] = {"nt_xent": NTXent, "barlow_twins": BarlowTwins, "vicreg": VICReg}
FRAMES = gym.spaces.Box(0, 255, (4, 20, 20), np.uint8)

every_loss = pytest.mark.parametrize("loss_class", LOSSES.values(), ids=LOSSES)
both_inputs = pytest.mark.parametrize("space", [VECTOR, FRAMES], ids=["vector", "frames"])


@every_loss
@both_inputs
def test_loss_is_the_pure_loss_of_two_embedded_views(loss_class: Any, space: gym.Space) -> None:
    loss, batch = make(loss_class, space), observations(space)
    generator = loss.update_rng.generator()
    views = [loss.views(batch[Columns.OBS], generator) for _ in range(2)]
    first, second = (loss.projection(loss.encoder(view)) for view in views)
    expected = {
        NTXent: lambda: {"nt_xent": nt_xent(first, second)},
        BarlowTwins: lambda: {"barlow_twins": barlow_twins(first, second)},
        VICReg: lambda: vicreg(first, second),
    }[loss_class]()
    found = loss.losses(batch)
    assert tuple(found) == loss.terms == tuple(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["vector", "grid", "frames", "hwc"])
@every_loss
def test_any_box_works(loss_class: Any, name: str) -> None:
    space = SPACES[name]
    for value in make(loss_class, space).losses(observations(space)).values():
        assert value.shape == (N,) and value.isfinite().all()


@every_loss
def test_observations_that_are_no_box_are_refused(loss_class: Any) -> None:
    with pytest.raises(SpecError, match="random views need images or vectors; got Discrete"):
        make(loss_class, gym.spaces.Discrete(3), encoder=Scaled())


def test_nt_xent_with_the_views_of_unit_vectors_by_hand() -> None:
    # Noise of 1e-12 leaves N = 3 unit vectors; the projection is replaced by the identity:
    # log(1 + 4 e^(-1 / 0.5)) for each row.
    loss = make(NTXent, VECTOR, Scaled(), noise=1e-12)
    loss.projection = nn.Identity()
    batch = {Columns.OBS: torch.eye(3)}
    found = loss.losses(batch)["nt_xent"]
    torch.testing.assert_close(found, torch.full((3,), math.log(1 + 4 * math.exp(-2))))
    metrics = {key: value.item() for key, value in loss.metrics(batch).items()}
    assert metrics == pytest.approx(
        {
            "accuracy": 1.0,
            "effective_rank": 3.0,
            "feature_std": math.sqrt(2) / 3,
            "skipped_updates": 0.0,
        }
    )


@every_loss
@both_inputs
def test_gradient_reaches_encoder_and_projection(loss_class: Any, space: gym.Space) -> None:
    loss = make(loss_class, space)
    assert all(value.any() for value in gradients_of(loss, observations(space)).values())


@every_loss
def test_first_views_are_the_observations_of_the_rl_loss(loss_class: Any) -> None:
    batch = observations(FRAMES)
    generator = torch.Generator().manual_seed(5)
    batch[AUGMENTED_OBS] = random_shift(batch[Columns.OBS], 1, generator)
    loss = make(loss_class, FRAMES)
    seen: list[Any] = []
    loss.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    loss.losses(batch)
    assert len(seen) == 2 and seen[0] is batch[AUGMENTED_OBS]
    assert torch.equal(seen[1], random_shift(batch[Columns.OBS], 1, loss.update_rng.generator()))


@every_loss
@both_inputs
@pytest.mark.parametrize("options", [{}, {"shuffled_positives": True}], ids=["pairs", "shuffled"])
def test_two_learners_get_the_losses_and_the_gradient_of_one(
    loss_class: Any, space: gym.Space, options: dict[str, Any]
) -> None:
    def new() -> Any:
        return make(loss_class, space, **options)

    batch = observations(space)
    whole = new().losses(batch)
    parts = by_two_learners(new, batch, lambda loss, part: loss.losses(part))
    for name, value in whole.items():
        found = torch.cat([part[name].detach() for part in parts])
        torch.testing.assert_close(found, value.detach(), rtol=1e-5, atol=1e-5)
    # The Learner divides by the mean number of rows, and averages over the Learners: in all, by N.
    expected = gradients_of(new(), batch, share=N)
    halves = by_two_learners(new, batch, lambda loss, part: gradients_of(loss, part, share=N))
    for name, gradient in expected.items():
        atol = 1e-5 * max(1.0, float(gradient.abs().max()))
        torch.testing.assert_close(halves[0][name] + halves[1][name], gradient, rtol=0, atol=atol)
    # Each Learner needs the other one's half of the gradient.
    assert any(not torch.allclose(halves[0][key], expected[key], atol=1e-5) for key in expected)


@every_loss
@pytest.mark.parametrize("num", [0, 1])
@both_inputs
def test_too_few_rows_give_zero_connected_to_the_graph_and_are_counted(
    loss_class: Any, num: int, space: gym.Space
) -> None:
    loss = make(loss_class, space)
    batch = observations(space, n=N)
    few = {key: value[:num] for key, value in batch.items()}
    found = loss.losses(few)
    assert tuple(found) == loss.terms
    assert all(value.shape == (num,) and not value.any() for value in found.values())
    assert all(not value.any() for value in gradients_of(loss, few).values())
    loss.after_update()
    assert {key: int(value) for key, value in loss.metrics(few).items()} == {"skipped_updates": 1}
    loss.losses(batch)
    loss.after_update()
    assert loss.metrics(batch)["skipped_updates"] == 1
    assert loss.state_dict()["num_skipped"] == 1


@every_loss
def test_augmentation_only_trains_the_projection_alone(loss_class: Any) -> None:
    loss, batch = make(loss_class, FRAMES, augmentation_only=True), observations(FRAMES)
    assert loss.trains == "own"
    with pytest.raises(SpecError, match=r"augmentation_only=True needs an augmentation .* set mod"):
        loss.losses(batch)
    batch[AUGMENTED_OBS] = batch[Columns.OBS]
    for name, gradient in gradients_of(loss, batch).items():
        assert bool(gradient.any()) != name.startswith("encoder"), name


@every_loss
def test_shuffled_positives_change_the_loss(loss_class: Any) -> None:
    batch = observations()
    names = {NTXent: "nt_xent", BarlowTwins: "barlow_twins", VICReg: "invariance"}
    control, true = (
        make(loss_class, noise=1e-6, shuffled_positives=shuffled).losses(batch)[names[loss_class]]
        for shuffled in (True, False)
    )
    assert control.mean() > 1.05 * true.mean() + 1e-3
    # A permutation changes neither the variances nor the covariances of the second views.
    if loss_class is VICReg:
        terms = [make(VICReg, shuffled_positives=value).losses(batch) for value in (True, False)]
        for name in ("variance", "covariance"):
            torch.testing.assert_close(terms[0][name], terms[1][name])


@every_loss
@both_inputs
def test_restored_loss_continues_the_draws_of_the_saved_one(
    loss_class: Any, space: gym.Space
) -> None:
    batch, saved = observations(space), make(loss_class, space, noise=0.5)
    name = saved.terms[0]
    first = saved.losses(batch)[name]
    assert torch.equal(saved.losses(batch)[name], first)
    for _ in range(3):
        saved.losses(batch)
        saved.after_update()
    assert not torch.equal(saved.losses(batch)[name], first)
    restored = make(loss_class, space, encoder=saved.encoder, noise=0.5)
    restored.load_state_dict(saved.state_dict())
    assert torch.equal(restored.losses(batch)[name], saved.losses(batch)[name])


@pytest.mark.parametrize(
    "loss_class, options, message",
    [
        (NTXent, {"temperature": 0.0}, "temperature must be > 0; got 0.0"),
        (NTXent, {"hidden": 0}, "hidden must be a whole number >= 1; got 0"),
        (NTXent, {"projection_dim": 2.5}, "projection_dim must be a whole number >= 1; got 2.5"),
        (NTXent, {"noise": 0.0}, "noise must be > 0; got 0.0"),
        (BarlowTwins, {"off_diagonal": -1.0}, "off_diagonal must be >= 0; got -1.0"),
        (BarlowTwins, {"isolated": True, "augmentation_only": True}, "Set one of the two"),
        (VICReg, {"covariance": -1.0}, "covariance must be >= 0; got -1.0"),
        (VICReg, {"invariance": 0.0, "variance": 0.0}, "invariance and variance are both 0"),
    ],
)
def test_bad_options_name_the_value(loss_class: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loss_class.Config(**options)


@every_loss
def test_embeddings_of_a_few_updates_do_not_collapse(loss_class: Any) -> None:
    # 50 updates on 64 vectors: the loss falls, and the embeddings keep more than one direction.
    space = gym.spaces.Box(-1, 1, (6,), np.float32)
    loss = make(loss_class, space, hidden=32, projection_dim=4)
    batch = observations(space, n=64)
    learned = [p for p in (*loss.encoder.parameters(), *loss.parameters()) if p.requires_grad]
    adam = torch.optim.Adam(learned, lr=3e-3)
    record = []
    for _ in range(50):
        total = sum(value.mean() for value in loss.losses(batch).values())
        record.append((total.item(), float(loss.metrics(batch)["effective_rank"])))
        adam.zero_grad()
        total.backward()
        adam.step()
        loss.after_update()
    assert record[-1][0] < 0.9 * record[0][0]
    assert record[-1][1] > 2.0
