"""Without an address, a run starts its own Ray."""

from collections.abc import Iterator

import pytest
import ray

from rlssl.errors import ResourceError
from rlssl.experiment.cluster.connect import start_local


@pytest.fixture(autouse=True)
def no_ray() -> Iterator[None]:
    """A test of another file may have left a Ray that RLlib started for it."""
    ray.shutdown()
    yield
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.ci
def test_existing_cluster_of_this_machine_is_not_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    # As after `ray start`: ray.init would join that cluster, and refuse num_cpus.
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    start_local(num_cpus=1)
    assert ray.is_initialized()


def test_ray_that_cannot_start_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    # As on a machine that is too busy to start Ray's server in time.
    monkeypatch.setenv("RAY_gcs_server_port_wait_time_s", "0")
    with pytest.raises(ResourceError, match=r"Ray cannot start on this machine: .*session_latest"):
        start_local(num_cpus=1)
    assert not ray.is_initialized()
