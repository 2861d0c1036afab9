"""Small layers in numpy: equal to torch; unsupported layers are left to torch."""

import numpy as np
import pytest
import torch
from torch import nn

from rlssl.networks.layers.numpy_forward import MAX_PRODUCTS, numpy_forward


def layers(activation: type[nn.Module], width: int = 8) -> list[nn.Module]:
    torch.manual_seed(0)
    return [nn.Linear(3, width), activation(), nn.Linear(width, 2)]


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
def test_it_equals_torch_and_follows_the_weights(activation: type[nn.Module]) -> None:
    stack = layers(activation)
    forward = numpy_forward(stack, num_rows=5)
    assert forward is not None
    inputs = torch.randn(5, 3)
    for _ in range(2):
        expected = nn.Sequential(*stack)(inputs).detach().numpy()
        np.testing.assert_allclose(forward(inputs.numpy()), expected, rtol=1e-5, atol=1e-6)
        # In place, as load_state_dict does.
        with torch.no_grad():
            for parameter in nn.Sequential(*stack).parameters():
                parameter.mul_(-1.5)


def test_inputs_are_not_changed() -> None:
    forward = numpy_forward(layers(nn.Tanh), num_rows=5)
    assert forward is not None
    inputs = np.ones((5, 3), np.float32)
    forward(inputs)
    np.testing.assert_array_equal(inputs, 1)


def test_unsupported_layers_are_left_to_torch() -> None:
    assert numpy_forward(layers(nn.GELU), num_rows=5) is None
    assert numpy_forward([layer.double() for layer in layers(nn.Tanh)], num_rows=5) is None
    assert numpy_forward([nn.Linear(3, 2, bias=False)], num_rows=5) is None
    # 3 * 8 products per row.
    assert numpy_forward(layers(nn.Tanh), num_rows=MAX_PRODUCTS // 24) is not None
    assert numpy_forward(layers(nn.Tanh), num_rows=MAX_PRODUCTS // 24 + 1) is None
    hooked = layers(nn.Tanh)
    hooked[0].register_forward_hook(lambda *_: None)
    assert numpy_forward(hooked, num_rows=5) is None
