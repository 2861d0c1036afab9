"""Pretext tasks: values at the start, labels, masks, single frames, learning, refusals."""

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.auxiliary.predictive.arrow_of_time import ArrowOfTime
from rlssl.auxiliary.predictive.frame_order import FrameOrder
from rlssl.auxiliary.predictive.rotation import Rotation, rotated
from rlssl.auxiliary.windows import VALID
from rlssl.errors import SpecError
from rlssl.networks import build_encoder
from tests.auxiliary.latents import VECTOR, Scaled, windows_of

CELLS, N = 8, 64
LINE = gym.spaces.Box(0, 1, (CELLS,), np.float32)
IMAGE = gym.spaces.Box(0, 255, (2, 6, 6), np.uint8)
OVER_TIME = pytest.mark.parametrize("loss_class", [ArrowOfTime, FrameOrder])


def make(
    loss_class: Any, space: gym.Space = LINE, encoder: Any = None, stack: int = 1, **options: Any
) -> Any:
    torch.manual_seed(0)
    return loss_class(
        loss_class.Config(**{"hidden": 32, **options}),
        encoder=Scaled(CELLS) if encoder is None else encoder,
        observation_space=space,
        action_space=gym.spaces.Discrete(2),
        frame_stack=stack,
    )


def windows(cells: Tensor) -> dict[str, Any]:
    """Windows of a dot on a ring, from its cells [N, W]."""
    return windows_of(torch.eye(CELLS)[cells % CELLS])


def right(loss: Any, num: int = N, seed: int = 0) -> dict[str, Any]:
    """The dot moves right by a cell in each step."""
    start = torch.randint(CELLS, (num, 1), generator=torch.Generator().manual_seed(seed))
    return windows(start + torch.arange(loss.window.length))


def walks(loss: Any, num: int = N, seed: int = 0) -> dict[str, Any]:
    """The dot moves left or right by chance: each path is as likely as its reverse."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randint(CELLS, (num, 1), generator=generator)
    steps = 2 * torch.randint(2, (num, loss.window.length), generator=generator) - 1
    return windows(start + steps.cumsum(dim=1) + CELLS)


def images(num: int = N) -> dict[str, Tensor]:
    """Images with a bright upper left corner, and noise."""
    noise = torch.randint(0, 60, (num, 2, 6, 6), generator=torch.Generator().manual_seed(0))
    noise[:, :, :2, :2] = 250
    return {Columns.OBS: noise.to(torch.uint8)}


def learned(loss: Any, make_batch: Any, steps: int = 100) -> dict[str, float]:
    """Metrics of new rows after updates on others."""
    parameters = [*loss.parameters(), *loss.encoder.parameters()]
    adam = torch.optim.Adam(parameters, lr=1e-2)
    for step in range(steps):
        adam.zero_grad()
        sum(value.mean() for value in loss.losses(make_batch(seed=step)).values()).backward()
        adam.step()
        loss.after_update()
    test = make_batch(seed=steps + 1, num=1024)
    loss.losses(test)
    return {key: float(value) for key, value in loss.metrics(test).items()}


@OVER_TIME
def test_losses_over_time_start_at_log_2(loss_class: Any) -> None:
    loss = make(loss_class)
    (values,) = loss.losses(right(loss)).values()
    torch.testing.assert_close(values, torch.full((N,), math.log(2)), atol=0.02, rtol=0)
    nn.init.zeros_(loss.classifier[-1].weight)
    (values,) = loss.losses(right(loss)).values()
    torch.testing.assert_close(values, torch.full((N,), math.log(2)))


def test_rotation_starts_at_log_4() -> None:
    loss = make(Rotation, IMAGE, build_encoder(IMAGE))
    found = loss.losses(images())["rotation"]
    torch.testing.assert_close(found, torch.full((N,), math.log(4)), atol=0.05, rtol=0)


@pytest.mark.parametrize("sides", [(2, 3), (1, 2)], ids=["CHW", "HWC"])
def test_the_opposite_rotation_restores_an_image(sides: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    shape = [8, 5, 5, 5]
    pictures = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    turns = torch.arange(8) % 4
    turned = rotated(pictures, turns, sides)
    assert torch.equal(rotated(turned, (4 - turns) % 4, sides), pictures)
    for row in range(8):
        axes = sides[0] - 1, sides[1] - 1
        expected = np.rot90(pictures[row].numpy(), int(turns[row]), axes)
        np.testing.assert_array_equal(turned[row], expected)


@pytest.mark.parametrize("loss_class, classes", [(ArrowOfTime, 2), (FrameOrder, 2), (Rotation, 4)])
def test_labels_are_balanced_and_change_with_updates(loss_class: Any, classes: int) -> None:
    space, encoder = (IMAGE, build_encoder(IMAGE)) if loss_class is Rotation else (LINE, None)
    loss = make(loss_class, space, encoder)
    batch = images(8_000) if loss_class is Rotation else right(loss, 8_000)
    labels = []
    for _ in range(2):
        loss.losses(batch)
        labels.append(loss._compared[1])
        loss.after_update()
    for drawn in labels:
        # 8,000 draws: a standard deviation of at most 45.
        assert (torch.bincount(drawn, minlength=classes) - 8_000 / classes).abs().max() < 5 * 45
    assert not torch.equal(*labels)


@OVER_TIME
def test_the_direction_of_a_moving_dot_is_learned(loss_class: Any) -> None:
    loss = make(loss_class)
    found = learned(loss, lambda **given: right(loss, **given))
    assert found["accuracy"] > 0.99 and found["chance"] == 0.5 and found["counted_share"] == 1.0


def test_a_reversible_walk_has_no_arrow() -> None:
    loss = make(ArrowOfTime)
    found = learned(loss, lambda **given: walks(loss, **given))
    # 1,024 rows by chance: a standard deviation of 0.016.
    assert found["accuracy"] == pytest.approx(0.5, abs=0.08)


def test_independent_frames_have_no_order() -> None:
    loss = make(FrameOrder)

    def batch(seed: int, num: int = N) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(seed)
        return windows(torch.randint(CELLS, (num, 5), generator=generator))

    found = learned(loss, batch)
    # Frame c equals neither a nor e with probability (7 / 8)^2 = 0.766.
    assert found["counted_share"] == pytest.approx(0.766, abs=0.05)
    assert found["accuracy"] == pytest.approx(0.5, abs=0.08)


def test_the_corner_of_an_image_tells_its_rotation_unless_all_sides_are_equal() -> None:
    for equal_sides in (False, True):
        encoder = build_encoder(IMAGE)
        loss = make(Rotation, IMAGE, encoder)

        def batch(seed: int, num: int = N, equal_sides: bool = equal_sides) -> dict[str, Tensor]:
            found = images(num)
            if equal_sides:
                found[Columns.OBS][:] = 100
            return found

        metrics = learned(loss, batch, steps=40)
        assert metrics["chance"] == 0.25
        assert (metrics["accuracy"] > 0.95) == (not equal_sides)
        if equal_sides:
            assert metrics["accuracy"] == pytest.approx(0.25, abs=0.07)


@OVER_TIME
def test_shuffled_labels_are_not_learned(loss_class: Any) -> None:
    loss = make(loss_class, shuffled_positives=True)
    found = learned(loss, lambda **given: right(loss, **given), steps=40)
    assert found["accuracy"] == pytest.approx(0.5, abs=0.08)


@OVER_TIME
def test_rows_over_an_end_and_still_rows_have_weight_zero(loss_class: Any) -> None:
    loss = make(loss_class)
    batch = right(loss, 6)
    whole = next(iter(loss.losses(batch).values()))
    batch[VALID][1, -1] = False
    batch[Columns.OBS][2] = batch[Columns.OBS][2, :1]
    (found,) = loss.losses(batch).values()
    expected = whole * 6 / 4
    expected[[1, 2]] = 0.0
    torch.testing.assert_close(found, expected)
    assert float(loss.metrics(batch)["counted_share"]) == pytest.approx(4 / 6)
    batch[VALID][:, -1] = False
    (found,) = loss.losses(batch).values()
    assert found.tolist() == [0.0] * 6 and found.requires_grad
    assert {key: float(value) for key, value in loss.metrics(batch).items()} == {
        "counted_share": 0.0
    }


def test_the_middle_frame_comes_from_between_or_from_outside() -> None:
    # Cells are 0, 1, 2, 3, 4: the row stands at 1, the last frame is 3.
    loss = make(FrameOrder)
    batch = windows(torch.arange(5).expand(4_000, 5))
    seen: list[Tensor] = []
    loss.classifier.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    loss.losses(batch)
    first, middle, last = seen[0].unflatten(1, (3, CELLS)).argmax(-1).unbind(dim=1)
    assert set(first.tolist()) == {1} and set(last.tolist()) == {3}
    label = loss._compared[1].bool()
    assert set(middle[label].tolist()) == {2} and set(middle[~label].tolist()) == {0, 4}
    # About 2,000 rows: a standard deviation of 22.
    assert abs(int((middle == 0).sum()) - int((middle == 4).sum())) < 5 * 45


@pytest.mark.parametrize("layout", ["CHW", "HWC"])
def test_stacks_are_filled_with_their_last_frame(layout: str) -> None:
    shape = (4, 6, 6) if layout == "CHW" else (6, 6, 4)
    space = gym.spaces.Box(0, 255, shape, np.uint8)
    loss = make(ArrowOfTime, space, build_encoder(space), stack=2)
    generator = torch.Generator().manual_seed(0)
    obs = torch.randint(256, (3, 2, *shape), generator=generator, dtype=torch.uint8)
    seen: list[Tensor] = []
    loss.encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    loss.losses(windows_of(obs))
    (stacks,) = seen
    axis = 1 if layout == "CHW" else 3
    older, newest = stacks.chunk(2, dim=axis)
    assert torch.equal(older, newest)
    assert torch.equal(newest, obs.flatten(0, 1).chunk(2, dim=axis)[1])


def test_equal_last_frames_are_still_even_if_the_stacks_differ() -> None:
    space = gym.spaces.Box(-1, 1, (2 * CELLS,), np.float32)
    loss = make(ArrowOfTime, space, Scaled(2 * CELLS), stack=2)
    obs = torch.randn(2, 2, 2 * CELLS)
    obs[0, 1, CELLS:] = obs[0, 0, CELLS:]
    loss.losses(windows_of(obs))
    assert loss._compared[2].tolist() == [False, True]


@pytest.mark.parametrize("shape", [(3,), (2, 6, 8), (8, 6, 3)])
def test_other_than_square_images_are_refused(shape: tuple[int, ...]) -> None:
    space = gym.spaces.Box(0, 1, shape, np.float32)
    encoder = build_encoder(VECTOR) if len(shape) == 1 else build_encoder(space)
    with pytest.raises(SpecError, match=r"auxiliary\.rotation needs square images; got Box"):
        make(Rotation, space, encoder)


@pytest.mark.parametrize(
    "loss_class, options, message",
    [
        (ArrowOfTime, {"delta": 0}, "delta must be a whole number >= 1; got 0"),
        (FrameOrder, {"delta": 1.5}, "delta must be a whole number >= 1; got 1.5"),
        (Rotation, {"hidden": 0}, "hidden must be a whole number >= 1; got 0"),
    ],
)
def test_bad_options_name_key_and_value(
    loss_class: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError) as error:
        loss_class.Config(**options)
    assert message in str(error.value)
