"""The allocator's settings are applied where possible, and never replace a user's settings."""

import subprocess
import sys
from functools import partial

import pytest
import torch

from tests.algorithms.bench import Bench, small_ppo

# Page faults of 5 updates on 64 stacks of Atari frames, after 5 warm-up updates.
FAULTS = """
import resource, torch
from rlssl.system.allocator import keep_memory
print(keep_memory())
torch.set_num_threads(1)
layers = torch.nn.Sequential(torch.nn.Conv2d(4, 32, 8, 4), torch.nn.Conv2d(32, 64, 4, 2))
frames = torch.zeros(64, 4, 84, 84)
for step in range(10):
    if step == 5:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    layers(frames).sum().backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(**environment: str) -> tuple[str, int]:
    result = subprocess.run(
        [sys.executable, "-c", FAULTS],
        env={"PATH": "/usr/bin", "OMP_NUM_THREADS": "1", **environment},
        check=True,
        capture_output=True,
        text=True,
    )
    holds, faults = result.stdout.split()
    return holds, int(faults)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's mallopt")
def test_freed_memory_is_kept_unless_the_user_has_other_settings() -> None:
    holds, faults = run()
    assert holds == "True"
    for own in ({"RLSSL_KEEP_MEMORY": "0"}, {"MALLOC_TOP_PAD_": "131072"}):
        holds, without = run(**own)
        assert holds == "False"
        assert faults < 0.1 * without


def test_runners_and_learners_apply_the_settings_when_they_are_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[str] = []
    for module in ("rollouts.base_env_runner", "algorithms.common.learner"):
        monkeypatch.setattr(f"rlssl.{module}.keep_memory", partial(calls.append, module))
    Bench(small_ppo())
    assert calls == ["rollouts.base_env_runner", "algorithms.common.learner"]


@pytest.mark.parametrize("switch", ["", "0"])
def test_learners_do_not_fill_new_tensors(switch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    monkeypatch.setenv("RLSSL_KEEP_MEMORY", switch)
    Bench(small_ppo())
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    assert filled is (switch == "0")
