"""Running statistics of vectors, and normalization by them."""

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from rlssl.errors import SpecError
from rlssl.networks.encoders import MLP
from rlssl.networks.layers.vector_normalizer import (
    Moments,
    NormalizerOptions,
    VectorNormalizer,
    merge,
    moments_of,
)
from rlssl.networks.rl_encoder import NormalizedEncoder, normalized_as
from rlssl.networks.target_networks import TargetNetwork

PLANE = spaces.Box(-np.inf, np.inf, (2,), np.float32)


def filled(space: gym.Space = PLANE, rows: int = 64, frame_stack: int = 1) -> VectorNormalizer:
    normalizer = VectorNormalizer(space, frame_stack)
    drawn = np.random.default_rng(0).normal([100.0, -2.0], [5.0, 0.1], (rows, 2))
    normalizer.update(moments_of(torch.as_tensor(drawn)))
    return normalizer


def test_statistics_and_values_by_hand() -> None:
    normalizer = VectorNormalizer(PLANE)
    normalizer.update(normalizer.moments(torch.tensor([[1.0, 10.0], [3.0, 10.0]])))
    normalizer.update(normalizer.moments(torch.tensor([[8.0, 40.0]])))
    # Means: (1 + 3 + 8) / 3 = 4 and (10 + 10 + 40) / 3 = 20.
    # Variances: (9 + 1 + 16) / 3 = 26 / 3 and (100 + 100 + 400) / 3 = 200.
    assert int(normalizer.count) == 3
    assert normalizer.mean.tolist() == pytest.approx([4.0, 20.0], abs=1e-12)
    assert normalizer.variance.tolist() == pytest.approx([26 / 3, 200.0], abs=1e-12)
    # (10 - 4) / sqrt(26 / 3) = 2.0381; (1000 - 20) / sqrt(200) = 69.3, clipped at 10.
    assert normalizer(torch.tensor([[10.0, 1000.0]])).tolist()[0] == pytest.approx([2.03810, 10.0])
    assert normalizer(torch.tensor([[4.0, -1000.0]])).tolist() == [[0.0, -10.0]]


@pytest.mark.parametrize("sizes", [[1] * 40, [40], [0, 17, 1, 22], [2, 38]])
def test_merged_parts_equal_numpy_over_all_rows(sizes: list[int]) -> None:
    rows = np.random.default_rng(1).normal([1e6, 0.0, -3.0], [1.0, 1e-3, 50.0], (40, 3))
    rows = rows.astype(np.float32)
    parts = np.split(rows, np.cumsum(sizes)[:-1])
    total = Moments(0, torch.zeros(3).double(), torch.zeros(3).double())
    for part in parts:
        total = merge(total, moments_of(torch.as_tensor(part)))
    assert total.num_rows == 40
    np.testing.assert_allclose(total.mean, rows.mean(0, np.float64), rtol=1e-13)
    np.testing.assert_allclose(total.variance, rows.astype(np.float64).var(0), rtol=1e-9)


def test_two_runners_agree_with_one_that_has_the_rows_of_both() -> None:
    rows = torch.as_tensor(np.random.default_rng(2).normal(1e4, 3.0, (5, 64, 2)))
    one, two = VectorNormalizer(PLANE), VectorNormalizer(PLANE)
    for sampled in rows:
        one.update(one.moments(sampled))
        for half in sampled.split(32):
            two.update(two.moments(half))
    torch.testing.assert_close(two.mean, one.mean, rtol=0, atol=1e-6)
    torch.testing.assert_close(two.variance, one.variance, rtol=0, atol=1e-6)


def test_identity_until_there_are_two_rows() -> None:
    normalizer = VectorNormalizer(PLANE)
    seen = torch.tensor([[1e5, -0.25]])
    assert torch.equal(normalizer(seen), seen)
    normalizer.update(normalizer.moments(torch.tensor([[7.0, 7.0]])))
    assert torch.equal(normalizer(seen), seen)
    np.testing.assert_array_equal(normalizer.numpy_function()(seen.numpy()), seen)
    normalizer.update(normalizer.moments(torch.tensor([[9.0, 7.0]])))
    # Mean 8 and variance 1 with two rows; the second feature never changed.
    assert normalizer(torch.tensor([[9.5, 7.0]])).tolist()[0] == pytest.approx([1.5, 0.0])


def test_rows_that_are_not_finite_do_not_count() -> None:
    rows = torch.tensor([[1.0, 2.0], [float("inf"), 0.0], [3.0, float("nan")], [5.0, 4.0]])
    assert moments_of(rows).num_rows == 2
    assert moments_of(rows).mean.tolist() == [3.0, 3.0]
    assert moments_of(rows[1:3]).num_rows == 0


def test_forward_changes_no_statistics() -> None:
    normalizer = filled()
    before = copy.deepcopy(normalizer.state_dict())
    normalizer.train()(torch.randn(8, 2))
    assert all(torch.equal(value, before[key]) for key, value in normalizer.state_dict().items())


def test_numpy_function_is_the_same_bit_for_bit() -> None:
    normalizer = filled()
    rows = np.random.default_rng(3).normal(50, 60, (257, 2)).astype(np.float32)
    np.testing.assert_array_equal(
        normalizer.numpy_function()(rows), normalizer(torch.from_numpy(rows)).numpy()
    )


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.uint8])
def test_any_dtype_gives_the_float32_values(dtype: type) -> None:
    rows: np.ndarray = np.arange(8).reshape(4, 2).astype(dtype)
    normalizer = filled()
    expected = normalizer(torch.as_tensor(rows.astype(np.float32)))
    assert torch.equal(normalizer(torch.as_tensor(rows)), expected)
    assert expected.dtype is torch.float32


def test_frames_of_a_stack_share_the_statistics_of_one_frame() -> None:
    stacked = VectorNormalizer(spaces.Box(-9, 9, (6,)), frame_stack=3)
    # Each row has three frames of two features; only the last frame is new.
    rows = torch.tensor([[7.0, 7.0, 7.0, 7.0, 0.0, 10.0], [7.0, 7.0, 0.0, 10.0, 4.0, 30.0]])
    stacked.update(stacked.moments(rows))
    assert stacked.mean.tolist() == [2.0, 20.0]  # (0 + 4) / 2 and (10 + 30) / 2
    # Deviations 2 and 10: (7 - 2) / 2, (7 - 20) / 10, (0 - 2) / 2, (10 - 20) / 10, ...
    expected = [2.5, -1.3, -1.0, -1.0, 1.0, 1.0]
    assert stacked(rows[1:]).tolist()[0] == pytest.approx(expected)


MIXED = spaces.Dict(
    {
        "camera": spaces.Box(0, 255, (3, 8, 8), np.uint8),
        "gear": spaces.Discrete(5),
        "grid": spaces.Box(0, 9, (4, 4), np.uint8),
        "parts": spaces.Tuple((spaces.MultiBinary(3), spaces.Box(-1, 1, (2, 2)))),
        "power": spaces.Box(-1, 1, ()),
        "speed": spaces.Box(-1, 1, (3,), np.float64),
    }
)


def test_only_the_vectors_of_a_dict_change() -> None:
    MIXED.seed(0)
    samples = [MIXED.sample() for _ in range(10)]
    batch = gym.vector.utils.concatenate(
        MIXED, samples, gym.vector.utils.create_empty_array(MIXED, 10)
    )
    batch = torch.utils._pytree.tree_map(torch.as_tensor, batch)
    normalizer = VectorNormalizer(MIXED)
    assert normalizer.mean.shape == (4 + 1 + 3,)
    normalizer.update(normalizer.moments(batch))
    found = normalizer(batch)
    for key in ("camera", "gear", "grid"):
        assert found[key] is batch[key]
    assert found["parts"][0] is batch["parts"][0]
    for changed in (found["parts"][1], found["power"], found["speed"]):
        torch.testing.assert_close(changed.mean(0), torch.zeros_like(changed[0]), rtol=0, atol=1e-5)
        std = changed.std(0, correction=0)
        torch.testing.assert_close(std, torch.ones_like(std), rtol=0, atol=1e-3)
    assert found["parts"][1].shape == (10, 2, 2) and found["power"].shape == (10,)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 255, (84, 84, 3), np.uint8),
        spaces.Discrete(4),
        spaces.Dict({"image": spaces.Box(0, 1, (3, 8, 8)), "flag": spaces.MultiBinary(2)}),
    ],
)
def test_a_space_without_vectors_is_refused_by_the_options_name(space: gym.Space) -> None:
    with pytest.raises(SpecError, match=r"model\.normalize_observations needs vectors"):
        VectorNormalizer(space)


def test_loading_a_state_restores_the_function() -> None:
    normalizer, other = filled(), VectorNormalizer(PLANE)
    other.load_state_dict(normalizer.state_dict())
    rows = torch.randn(8, 2) * 50 + 50
    assert torch.equal(other(rows), normalizer(rows))
    assert set(normalizer.state_dict()) == {"count", "mean", "variance"}
    third = VectorNormalizer(PLANE)
    third.set_statistics(normalizer.statistics())
    assert torch.equal(third(rows), normalizer(rows))


def test_copies_of_an_encoder_share_its_normalizer() -> None:
    normalizer = filled()
    encoder = NormalizedEncoder(MLP(PLANE), normalizer)
    target = TargetNetwork(encoder, tau=0.5, every_updates=None)
    assert target.target.normalizer is normalizer
    # Neither a parameter of the encoder nor a second copy in the state.
    assert not [name for name, _ in encoder.named_buffers()]
    assert not [name for name in target.state_dict() if "mean" in name]
    module = torch.nn.ModuleDict({"normalizer": normalizer, "encoder": encoder})
    whole = copy.deepcopy(module)
    assert whole["encoder"].normalizer is whole["normalizer"] is not normalizer


def test_a_losss_own_encoder_is_normalized_as_the_rl_encoder() -> None:
    plain, own = MLP(PLANE), MLP(PLANE)
    assert normalized_as(own, plain) is own
    like = NormalizedEncoder(plain, filled())
    wrapped = normalized_as(own, torch.nn.Sequential(like))  # type: ignore[arg-type]
    rows = torch.randn(4, 2) * 50
    assert torch.equal(wrapped(rows), own(like.normalizer(rows)))


GOAL_SPACE = spaces.Dict(
    {
        "achieved_goal": spaces.Box(-9, 9, (1,)),
        "desired_goal": spaces.Box(-9, 9, (1,)),
        "observation": spaces.Box(-9, 9, (2,)),
    }
)


def goal_rows(achieved: list[float], desired: list[float]) -> dict[str, torch.Tensor]:
    columns = {"achieved_goal": achieved, "desired_goal": desired}
    rows = {key: torch.tensor(values)[:, None] for key, values in columns.items()}
    return {**rows, "observation": torch.arange(2.0 * len(achieved)).view(-1, 2)}


def test_both_kinds_of_goals_share_the_statistics_of_all_goals() -> None:
    normalizer = VectorNormalizer(GOAL_SPACE)
    normalizer.update(normalizer.moments(goal_rows([0.0, 2.0], [4.0, 6.0])))
    normalizer.update(normalizer.moments(goal_rows([8.0], [4.0])))
    goals = torch.tensor([[0.0], [2.0], [4.0], [6.0], [8.0], [4.0]])
    alone = VectorNormalizer(spaces.Box(-9, 9, (1,)))
    alone.update(alone.moments(goals))
    found = normalizer(goal_rows([1.0, 9.0], [9.0, 1.0]))
    for key, values in (("achieved_goal", [[1.0], [9.0]]), ("desired_goal", [[9.0], [1.0]])):
        torch.testing.assert_close(found[key], alone(torch.tensor(values)))
    # The parts of the observation have statistics of their own: 0, 2, 0 and 1, 3, 1.
    assert normalizer.mean[2:].tolist() == pytest.approx([2 / 3, 5 / 3])
    assert normalizer.statistics()["count"] == 3


def test_goals_of_unequal_sizes_and_other_dicts_share_nothing() -> None:
    space = spaces.Dict({**GOAL_SPACE.spaces, "desired_goal": spaces.Box(-9, 9, (2,))})
    normalizer = VectorNormalizer(space)
    rows = {**goal_rows([0.0, 2.0], [0.0, 0.0]), "desired_goal": torch.full((2, 2), 7.0)}
    normalizer.update(normalizer.moments(rows))
    assert normalizer.mean.tolist() == [1.0, 7.0, 7.0, 1.0, 2.0]


def test_small_deviations_and_large_values_are_bounded() -> None:
    options = NormalizerOptions(min_std=0.5, clip=3.0)
    normalizer = VectorNormalizer(spaces.Box(-9, 9, (2,)), options=options)
    # Standard deviations 0 and 2; the first counts as 0.5.
    normalizer.update(normalizer.moments(torch.tensor([[1.0, 0.0], [1.0, 4.0]])))
    found = normalizer(torch.tensor([[2.0, 4.0], [9.0, -9.0]]))
    torch.testing.assert_close(found, torch.tensor([[2.0, 1.0], [3.0, -3.0]]))
    same = normalizer.numpy_function()(np.array([[2.0, 4.0]]))
    np.testing.assert_array_equal(same, found[:1].numpy())
