"""Deterministic kernels are chosen for a process."""

import os
from collections.abc import Iterator

import pytest
import torch

from rlssl.algorithms.common.devices.kernels import use_deterministic_kernels
from tests.algorithms.off_policy.actor_critic.actor_critic_bench import ActorCriticBench, small_sac


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(before)


def test_a_setting_of_the_user_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    use_deterministic_kernels()
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_on_the_cpu_the_option_changes_no_bit() -> None:
    states = []
    for deterministic in (False, True):
        torch.manual_seed(0)
        config = small_sac().auxiliary(curl={}).experiment(deterministic=deterministic)
        bench = ActorCriticBench(config)
        bench.add(bench.sample())
        bench.update_once()
        states.append(bench.states())
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
