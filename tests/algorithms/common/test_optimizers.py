"""EagerAdam equals torch's Adam, bit for bit; moments fit their parameters after a restore."""

import copy
import functools
import subprocess
import sys
from typing import Any

import pytest
import torch
import tree
from torch import nn

from rlssl.algorithms.common.optimizers import EagerAdam, RMSProp, as_laid_out

WITHOUT_COMPILER = """
import sys, torch
from rlssl.algorithms.common.optimizers import EagerAdam
weight = torch.nn.Parameter(torch.ones(3))
optimizer = EagerAdam([weight])
for _ in range(2):
    weight.sum().backward()
    optimizer.step()
    optimizer.zero_grad()
optimizer.load_state_dict(optimizer.state_dict())
print("torch._dynamo" in sys.modules)
"""


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize("lagging_step", [1, 2, 3, 4, None])
def test_it_steps_as_torchs_adam(weight_decay: float, lagging_step: int | None) -> None:
    weights = []
    options: dict[str, Any] = {"lr": 0.1, "eps": 1e-5, "weight_decay": weight_decay}
    for cls in (functools.partial(torch.optim.Adam, fused=True), EagerAdam):
        torch.manual_seed(0)
        layer = nn.Linear(4, 2)
        optimizer = cls(layer.parameters(), **options)
        for step in range(6):
            if step == 3:
                resumed = cls(layer.parameters())
                resumed.load_state_dict(optimizer.state_dict())
                optimizer = resumed
            optimizer.zero_grad()
            layer(torch.randn(8, 4)).square().mean().backward()
            if step == lagging_step:
                # A parameter without a gradient does not change.
                layer.bias.grad = None
            optimizer.step()
        weights.append(torch.cat([layer.weight.detach().flatten(), layer.bias.detach()]))
    assert torch.equal(weights[0], weights[1])


def test_it_loads_no_compiler() -> None:
    # If torch changes its wrappers, this test fails, and EagerAdam may no longer be needed.
    command = [sys.executable, "-c", WITHOUT_COMPILER]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "False"


#: Options of torch's fused Adam; learning rates may also be tensors.
OPTIONS: list[dict[str, Any]] = [
    {},
    {"weight_decay": 0.1},
    {"maximize": True},
    {"maximize": True, "weight_decay": 0.1},
    {"amsgrad": True},
    {"decoupled_weight_decay": True, "weight_decay": 0.1},
    {"decoupled_weight_decay": True, "weight_decay": 0.1, "amsgrad": True, "maximize": True},
    {"betas": (0.5, 0.8), "eps": 1e-3},
    {"lr": torch.tensor(0.05)},
]


def groups_of(layers: nn.Sequential, second: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"params": layers[0].parameters()}, {"params": layers[1].parameters(), **second}]


@pytest.mark.parametrize("second", [{}, {"maximize": True, "weight_decay": 0.2, "lr": 0.01}])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_option_is_torchs(options: dict[str, Any], second: dict[str, Any]) -> None:
    found = []
    for cls in (functools.partial(torch.optim.Adam, fused=True), EagerAdam):
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
        optimizer = cls(groups_of(layers, second), **{"lr": 0.1, **options})
        for step in range(8):
            if step == 4:
                resumed = cls(groups_of(layers, second), **{"lr": 0.1, **options})
                resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
                optimizer = resumed
            optimizer.zero_grad()
            layers(torch.randn(8, 4)).square().mean().backward()
            optimizer.step()
        found.append(optimizer.state_dict())
        found.append(layers.state_dict())
    for expected, actual in (found[::2], found[1::2]):
        flat, other = (dict(tree.flatten_with_path(part)) for part in (expected, actual))
        assert flat.keys() == other.keys()
        for path, value in flat.items():
            same = torch.equal(value, other[path]) if torch.is_tensor(value) else value
            assert same if torch.is_tensor(value) else value == other[path], path


@pytest.mark.parametrize("late", ["group", "gradient"])
def test_each_parameter_counts_its_own_steps(late: str) -> None:
    # 8 steps; the second group, or the first gradient of the second layer, comes after 7 of them.
    # At that step torch's code counts once for each parameter: two parameters that share a count
    # would get 9.
    layers = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    optimizer = EagerAdam([{"params": layers[0].parameters()}])
    if late == "gradient":
        optimizer.add_param_group({"params": layers[1].parameters()})
    for step in range(8):
        if late == "group" and step == 7:
            optimizer.add_param_group({"params": layers[1].parameters()})
        optimizer.zero_grad()
        used = layers if step == 7 else layers[0]
        used(torch.ones(2, 4)).square().mean().backward()
        optimizer.step()
    counts = [int(optimizer.state[p]["step"]) for p in layers.parameters()]
    assert counts == [8, 8, 1, 1]
    saved = optimizer.state_dict()["state"]
    assert [int(saved[index]["step"]) for index in range(4)] == [8, 8, 1, 1]


def test_a_saved_count_belongs_to_one_parameter() -> None:
    # torch's Adam adds 1 to the count of each parameter. It must be able to go on from our state.
    layer = nn.Linear(4, 3)
    ours = EagerAdam(layer.parameters())
    for _ in range(3):
        layer(torch.ones(2, 4)).sum().backward()
        ours.step()
    other = torch.optim.Adam(layer.parameters(), fused=True)
    other.load_state_dict(ours.state_dict())
    other.step()
    assert [int(other.state[p]["step"]) for p in layer.parameters()] == [4, 4]
    assert [int(ours.state[p]["step"]) for p in layer.parameters()] == [3, 3]


@pytest.mark.parametrize(
    "options", [{"foreach": True}, {"capturable": True}, {"differentiable": True}]
)
def test_other_implementations_are_refused(options: dict[str, Any]) -> None:
    layer = nn.Linear(2, 1)
    with pytest.raises((ValueError, RuntimeError), match="fused"):
        EagerAdam(layer.parameters(), **options)
    optimizer = EagerAdam([layer.weight])
    with pytest.raises(ValueError, match="EagerAdam is fused"):
        optimizer.add_param_group({"params": [layer.bias], **options})


def convolution() -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def without_strides(state: dict[str, Any]) -> dict[str, Any]:
    """A state as it comes out of a pickle of numpy 2.0 to 2.2: without memory formats."""
    return tree.map_structure(
        lambda value: (
            value.clone(memory_format=torch.contiguous_format) if torch.is_tensor(value) else value
        ),
        copy.deepcopy(state),
    )


@pytest.mark.parametrize(
    "make",
    [
        EagerAdam,
        functools.partial(EagerAdam, amsgrad=True),
        functools.partial(RMSProp, lr=0.01, alpha=0.9, epsilon=0.1),
    ],
    ids=["adam", "amsgrad", "rmsprop"],
)
def test_moments_are_laid_out_as_their_parameters_on_load(make: Any) -> None:
    found = []
    for resumes in (False, True):
        layer = convolution()
        optimizer = make(layer.parameters())
        for step in range(8):
            if resumes and step == 4:
                saved = without_strides(optimizer.state_dict())
                optimizer = make(layer.parameters())
                optimizer.load_state_dict(saved)
                for moment in optimizer.state[layer.weight].values():
                    if moment.ndim == 4:
                        assert moment.stride() == layer.weight.stride()
            optimizer.zero_grad()
            layer(torch.randn(2, 3, 8, 8)).square().mean().backward()
            for parameter in layer.parameters():
                parameter.grad = as_laid_out(parameter, parameter.grad)
            optimizer.step()
        found.append(layer.weight.detach().clone())
    assert torch.equal(found[0], found[1])


def test_a_parameter_with_gaps_in_memory_is_refused_on_load() -> None:
    # Every second column of a matrix: zeros_like has other strides.
    weight = nn.Parameter(torch.zeros(4, 6)[:, ::2])
    optimizer = EagerAdam([weight])
    saved = {
        "state": {0: {key: torch.zeros(4, 3) for key in ("exp_avg", "exp_avg_sq")}},
        "param_groups": optimizer.state_dict()["param_groups"],
    }
    saved["state"][0]["step"] = torch.ones(())
    with pytest.raises(ValueError, match="gaps or overlaps in memory"):
        optimizer.load_state_dict(saved)
