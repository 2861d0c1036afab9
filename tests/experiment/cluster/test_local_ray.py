"""Without an address, a run starts its own Ray."""

import pytest
import ray

from rlssl.experiment.cluster.connect import start_local


@pytest.mark.slow
@pytest.mark.ci
def test_existing_cluster_of_this_machine_is_not_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    # As after `ray start`: ray.init would join that cluster, and refuse num_cpus.
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    start_local(num_cpus=1)
    try:
        assert ray.is_initialized()
    finally:
        ray.shutdown()
