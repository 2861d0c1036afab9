"""Bisimulation losses: values by hand, slow loops, symmetry, variants, gradients, errors."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from rlssl.losses import bisimulation_loss, gaussian_nll, gaussian_w2

GAMMA = 0.9


def smooth_l1(x: float) -> float:
    return 0.5 * x * x if abs(x) < 1 else abs(x) - 0.5


def pairs(rows: int = 7, dim: int = 4, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    columns = {
        name: 2 * torch.randn(rows, dim, generator=generator)
        for name in ("latent_i", "latent_j", "mean_i", "mean_j")
    }
    columns |= {name: torch.rand(rows, dim, generator=generator) for name in ("std_i", "std_j")}
    columns |= {name: torch.randn(rows, generator=generator) for name in ("reward_i", "reward_j")}
    return columns


def loss_of(columns: dict[str, Any], variant: str) -> Tensor:
    return bisimulation_loss(**columns, gamma=GAMMA, variant=variant)


def swapped(columns: dict[str, Any]) -> dict[str, Any]:
    other = {"i": "j", "j": "i"}
    return {name: columns[name[:-1] + other[name[-1]]] for name in columns}


def reference(columns: dict[str, Any], variant: str) -> list[float]:
    """The docstring's formulas, one number at a time."""
    losses = []
    for n in range(len(columns["reward_i"])):
        row: dict[str, Any] = {k: None if v is None else v[n].tolist() for k, v in columns.items()}
        dims = range(len(row["latent_i"]))

        def gap(name: str, d: int, row: dict[str, Any] = row) -> float:
            return row[f"{name}_i"][d] - row[f"{name}_j"][d]

        reward = row["reward_i"] - row["reward_j"]
        if variant == "paper":
            squares = [gap("mean", d) ** 2 + gap("std", d) ** 2 for d in dims]
            distance = sum(abs(gap("latent", d)) for d in dims)
            losses.append((distance - abs(reward) - GAMMA * math.sqrt(sum(squares))) ** 2)
            continue
        errors = []
        for d in dims:
            future = (
                smooth_l1(gap("mean", d))
                if row["std_i"] is None
                else math.sqrt(gap("mean", d) ** 2 + gap("std", d) ** 2)
            )
            target = smooth_l1(reward) + GAMMA * future
            errors.append((smooth_l1(gap("latent", d)) - target) ** 2)
        losses.append(sum(errors) / len(errors))
    return losses


def test_w2_by_hand() -> None:
    # Means differ by (3, 0), stds by (0, 4): sqrt(9 + 16) = 5.
    distance = gaussian_w2(
        torch.tensor([[3.0, 1.0]]),
        torch.tensor([[1.0, 5.0]]),
        torch.tensor([[0.0, 1.0]]),
        torch.tensor([[1.0, 1.0]]),
    )
    assert distance.tolist() == [5.0]


def test_w2_is_symmetric_and_0_for_equals_and_a_metric() -> None:
    a, b, c = (pairs(seed=seed) for seed in (0, 1, 2))
    mean = {name: x["mean_i"] for name, x in zip("abc", (a, b, c), strict=True)}
    std = {name: x["std_i"] for name, x in zip("abc", (a, b, c), strict=True)}

    def w2(p: str, q: str) -> Tensor:
        return gaussian_w2(mean[p], std[p], mean[q], std[q])

    assert torch.equal(w2("a", "b"), w2("b", "a"))
    assert w2("a", "a").tolist() == [0.0] * 7
    assert (w2("a", "c") <= w2("a", "b") + w2("b", "c") + 1e-5).all()


def test_w2_without_stds_is_the_distance_of_the_means() -> None:
    x = pairs()
    zeros = torch.zeros(7, 4)
    points = gaussian_w2(x["mean_i"], None, x["mean_j"], None)
    torch.testing.assert_close(points, gaussian_w2(x["mean_i"], zeros, x["mean_j"], zeros))
    torch.testing.assert_close(points, (x["mean_i"] - x["mean_j"]).norm(dim=1))


def test_w2_has_a_finite_gradient_where_gaussians_are_equal() -> None:
    mean = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    std = torch.ones(2, 2, requires_grad=True)
    gaussian_w2(mean, std, torch.zeros(2, 2), torch.ones(2, 2)).sum().backward()
    assert mean.grad is not None and std.grad is not None
    # Row 0: 0 by definition. Row 1: the unit vector (3, 4) / 5.
    torch.testing.assert_close(mean.grad, torch.tensor([[0.0, 0.0], [0.6, 0.8]]))
    assert std.grad.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_nll_by_hand() -> None:
    # Errors 2 and 1, stds 2 and 1: (0.5 * 1 + log 2 + 0.5 * 1 + log 1) / 2 = 0.8465736.
    # Without stds: (0.5 * 4 + 0.5 * 1) / 2 = 1.25.
    mean, target = torch.tensor([[2.0, 1.0]]), torch.zeros(1, 2)
    nll = gaussian_nll(mean, torch.tensor([[2.0, 1.0]]), target)
    torch.testing.assert_close(nll, torch.tensor([0.8465736]))
    assert gaussian_nll(mean, None, target).tolist() == [1.25]


def test_nll_equals_torchs_log_prob_without_the_constant_also_for_ensembles() -> None:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(5, 6, 3, generator=generator)
    std = 0.1 + torch.rand(5, 6, 3, generator=generator)
    target = torch.randn(6, 3, generator=generator)
    density = -torch.distributions.Normal(mean, std).log_prob(target).mean(dim=-1)
    expected = density - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(gaussian_nll(mean, std, target), expected)
    torch.testing.assert_close(gaussian_nll(mean[2], std[2], target), expected[2])


def test_both_variants_by_hand() -> None:
    # |z| = 2 + 0.5, |r| = 1, W2 = 5: (2.5 - 1 - 0.9 * 5)^2 = 9.
    columns = {
        "latent_i": torch.tensor([[2.0, 0.0]]),
        "latent_j": torch.tensor([[0.0, 0.5]]),
        "reward_i": torch.tensor([1.0]),
        "reward_j": torch.tensor([2.0]),
        "mean_i": torch.tensor([[3.0, 0.0]]),
        "mean_j": torch.zeros(1, 2),
        "std_i": torch.tensor([[1.0, 5.0]]),
        "std_j": torch.ones(1, 2),
    }
    torch.testing.assert_close(loss_of(columns, "paper"), torch.tensor([9.0]))
    # Code: latents s = (1.5, 0.125), rewards s = 0.5, futures (3, 4):
    # ((1.5 - 0.5 - 2.7)^2 + (0.125 - 0.5 - 3.6)^2) / 2 = (2.89 + 15.800625) / 2.
    torch.testing.assert_close(loss_of(columns, "code"), torch.tensor([9.3453125]))
    # Without stds, type '': futures s = (2.5, 0):
    # ((1 - 2.25)^2 + (0.125 - 0.5)^2) / 2 = (1.5625 + 0.140625) / 2.
    columns |= {"std_i": None, "std_j": None}  # type: ignore[dict-item]
    torch.testing.assert_close(loss_of(columns, "code"), torch.tensor([0.8515625]))


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_loss_equals_the_slow_reference(variant: str) -> None:
    columns = pairs()
    expected = torch.tensor(reference(columns, variant))
    torch.testing.assert_close(loss_of(columns, variant), expected, rtol=1e-5, atol=1e-5)


def test_code_without_stds_equals_the_slow_reference() -> None:
    columns = {**pairs(), "std_i": None, "std_j": None}
    expected = torch.tensor(reference(columns, "code"))
    torch.testing.assert_close(loss_of(columns, "code"), expected, rtol=1e-5, atol=1e-5)


def test_zero_stds_and_no_stds_differ_in_code_and_are_equal_in_paper() -> None:
    zeros = torch.zeros(7, 4)
    with_zeros = {**pairs(), "std_i": zeros, "std_j": zeros}
    without = {**with_zeros, "std_i": None, "std_j": None}
    assert not loss_of(with_zeros, "code").allclose(loss_of(without, "code"), rtol=0.01)
    torch.testing.assert_close(loss_of(with_zeros, "paper"), loss_of(without, "paper"))


def test_variants_agree_on_one_feature_where_smooth_l1_is_half_a_square() -> None:
    # One feature: differences x in code and x^2 / 2 in paper give the same loss.
    x = torch.tensor([[0.4], [0.8]])
    zeros, no_reward = torch.zeros(2, 1), torch.zeros(2)
    code = bisimulation_loss(
        x, zeros, no_reward, no_reward, 0.5 * x, None, zeros, None, gamma=GAMMA, variant="code"
    )
    paper = bisimulation_loss(
        x**2 / 2,
        zeros,
        no_reward,
        no_reward,
        (0.5 * x) ** 2 / 2,
        None,
        zeros,
        None,
        gamma=GAMMA,
        variant="paper",
    )
    torch.testing.assert_close(code, paper)


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_symmetry_permutation_and_pairs_of_the_same_state(variant: str) -> None:
    columns = pairs()
    loss = loss_of(columns, variant)
    torch.testing.assert_close(loss_of(swapped(columns), variant), loss)
    order = torch.tensor([3, 1, 6, 0, 2, 5, 4])
    permuted = loss_of({name: column[order] for name, column in columns.items()}, variant)
    torch.testing.assert_close(permuted, loss[order])
    same = {name: columns[f"{name[:-1]}i"] for name in columns}
    assert loss_of(same, variant).tolist() == [0.0] * 7


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_gradient_flows_into_both_latents_and_nothing_else(variant: str) -> None:
    columns = {name: column.requires_grad_() for name, column in pairs().items()}
    loss_of(columns, variant).mean().backward()
    for name, column in columns.items():
        if name.startswith("latent"):
            assert column.grad is not None and column.grad.abs().sum() > 0
        else:
            assert column.grad is None, name


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_equal_latents_have_a_finite_gradient(variant: str) -> None:
    columns = pairs()
    columns["latent_i"] = torch.zeros(7, 4, requires_grad=True)
    columns["latent_j"] = torch.zeros(7, 4)
    loss_of(columns, variant).sum().backward()
    assert columns["latent_i"].grad is not None
    assert columns["latent_i"].grad.isfinite().all()


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_loss_of_an_ensemble_is_the_mean_over_its_members(variant: str) -> None:
    columns = pairs()
    members = [pairs(seed=seed) for seed in (1, 2, 3)]
    names = ("mean_i", "mean_j", "std_i", "std_j")
    together = {**columns, **{name: torch.stack([m[name] for m in members]) for name in names}}
    each = [loss_of({**columns, **{name: m[name] for name in names}}, variant) for m in members]
    torch.testing.assert_close(loss_of(together, variant), torch.stack(each).mean(dim=0))


@pytest.mark.parametrize(
    "change, match",
    [
        ({"gamma": 1.1}, r"gamma must be in \[0, 1\]; got 1.1"),
        ({"variant": "papr"}, "variant must be 'paper' or 'code'; got 'papr'"),
        ({"std_i": None}, "one of each"),
        ({"reward_i": torch.zeros(7, 1)}, r"'reward_i': \(7, 1\)"),
        ({"reward_i": torch.zeros(6), "reward_j": torch.zeros(6)}, r"\(6,\)"),
        ({"latent_j": torch.zeros(7, 3)}, r"\(7, 3\)"),
        ({"mean_j": torch.zeros(7, 3)}, r"same shape; got"),
        ({"mean_i": torch.zeros(7, 3), "mean_j": torch.zeros(7, 3)}, r"\(7, 3\)"),
    ],
)
def test_bad_arguments_are_named(change: dict[str, Any], match: str) -> None:
    arguments = {**pairs(), "gamma": GAMMA, "variant": "paper", **change}
    with pytest.raises(ValueError, match=match):
        bisimulation_loss(**arguments)


def test_nll_refuses_wrong_shapes() -> None:
    with pytest.raises(ValueError, match=r"got \(3, 2\) and \(3, 1\)"):
        gaussian_nll(torch.zeros(3, 2), None, torch.zeros(3, 1))
    with pytest.raises(ValueError, match=r"got \(3, 1\) and \(3, 2\)"):
        gaussian_nll(torch.zeros(3, 2), torch.ones(3, 1), torch.zeros(3, 2))
