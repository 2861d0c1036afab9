"""Without an address a run has a Ray of its own."""

import pytest
import ray

from rlssl.experiment.cluster.connect import start_local


@pytest.mark.slow
@pytest.mark.ci
def test_cluster_nearby_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    # As where somebody has called `ray start`: ray.init would join it, and refuse num_cpus.
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    start_local(num_cpus=1)
    try:
        assert ray.is_initialized()
    finally:
        ray.shutdown()
