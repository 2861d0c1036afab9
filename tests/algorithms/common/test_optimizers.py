"""EagerAdam equals torch's Adam, bit for bit, and does not import the compiler."""

import functools
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from rlssl.algorithms.common.optimizers import EagerAdam

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
