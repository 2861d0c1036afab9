"""What a trial changes in its process is put back for the next trial."""

import random
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from rlssl.system.process_state import ProcessState
from rlssl.system.random_state import undisturbed_generators


@pytest.fixture
def state() -> Iterator[ProcessState]:
    found = ProcessState()
    with undisturbed_generators():
        yield found
        found.restore()


def test_settings_are_those_of_the_beginning(state: ProcessState) -> None:
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    # A test of another file may have turned it on: RLlib does if there is a seed.
    is_deterministic = torch.are_deterministic_algorithms_enabled()
    np.seterr(all="raise")
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(threads + 1)
    torch.use_deterministic_algorithms(not is_deterministic)
    torch.set_float32_matmul_precision("medium")
    torch.set_grad_enabled(False)
    torch.autograd.set_detect_anomaly(True)
    torch.backends.cudnn.benchmark = True
    state.restore()
    assert np.geterr()["divide"] == "warn"
    assert torch.get_default_dtype() is torch.float32
    assert torch.get_num_threads() == threads
    assert torch.are_deterministic_algorithms_enabled() == is_deterministic
    assert torch.get_float32_matmul_precision() == precision
    assert torch.is_grad_enabled() and not torch.is_anomaly_enabled()
    assert not torch.backends.cudnn.benchmark


def test_torch_draws_the_same_again_and_the_others_draw_anew(state: ProcessState) -> None:
    def drawn() -> tuple[list[float], float, float]:
        state.restore()
        return torch.rand(3).tolist(), random.random(), float(np.random.random())

    first, second = drawn(), drawn()
    assert first[0] == second[0]
    assert first[1] != second[1] and first[2] != second[2]
