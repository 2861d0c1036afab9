"""Gradients are clipped as in torch, group by group, unless one is not finite."""

import math

import pytest
import torch
from torch import Tensor, nn

from rlssl.algorithms.common.devices.gradient_guard import clip_gradients

LIMITS = {"clipped": 0.5, "small": 100.0, "unlimited": None}
SHAPES = [(4, 3), (5,), ()]


def drawn() -> dict[str, list[Tensor]]:
    torch.manual_seed(0)
    return {name: [torch.randn(shape) for shape in SHAPES] for name in LIMITS} | {"empty": []}


def test_each_group_is_clipped_by_its_own_norm_as_torch_does() -> None:
    gradients, expected = drawn(), drawn()
    norms = clip_gradients(gradients, LIMITS.get)
    assert list(norms) == ["clipped", "small", "unlimited"]
    for name, limit in LIMITS.items():
        parameters = [nn.Parameter(torch.zeros_like(gradient)) for gradient in expected[name]]
        for parameter, gradient in zip(parameters, expected[name], strict=True):
            parameter.grad = gradient
        norm = nn.utils.clip_grad_norm_(parameters, math.inf if limit is None else limit)
        assert norms[name] == pytest.approx(norm.item(), rel=1e-6)
        torch.testing.assert_close(gradients[name], expected[name])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nothing_is_clipped_if_one_gradient_is_not_finite(value: float) -> None:
    gradients = drawn()
    gradients["small"][1][2] = value
    before = [gradient.clone() for gradient in gradients["clipped"]]
    norms = clip_gradients(gradients, LIMITS.get)
    assert not math.isfinite(norms["small"]) and math.isfinite(norms["clipped"])
    assert all(map(torch.equal, gradients["clipped"], before))


def test_no_gradients_have_no_norms() -> None:
    assert clip_gradients({"empty": []}, LIMITS.get) == {}
