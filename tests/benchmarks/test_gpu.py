"""The script for GPUs, where there is none."""

import pytest
import torch

from benchmarks.gpu import __main__ as script
from benchmarks.gpu.measurements import WORKLOADS, Workload


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main([]) == script.NO_GPU
    assert capsys.readouterr().err.startswith(f"No GPU: torch {torch.__version__} finds no CUDA")


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_every_workload_is_a_valid_spec(workload: Workload) -> None:
    from rlssl.experiment.spec.loading import load_spec

    assert load_spec(workload.document).algorithm == workload.document["algorithm"]
