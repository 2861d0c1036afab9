"""Without an address, a run starts its own Ray."""

import pytest
import ray

from rlssl.errors import ResourceError
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


def test_ray_that_cannot_start_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not ray.is_initialized()
    # As a shared-memory file system that is too small; Ray refuses it before it starts anything.
    monkeypatch.setenv("RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES", "1")
    with pytest.raises(ResourceError, match="Ray cannot start on this machine: .*session_latest"):
        start_local(num_cpus=1)
    assert not ray.is_initialized()
