"""Private names of ray: this fails, naming the name, when ray renames one."""

import inspect

from ray._private import services
from ray._private import worker as ray_worker

from rlssl.ray_internals import cluster


def test_ray_still_prints_logs_by_the_function_of_this_name() -> None:
    # Looked up at every batch of lines, so that another one takes its place.
    assert callable(getattr(ray_worker, cluster.PRINT_LOGS))
    assert f"{cluster.PRINT_LOGS}," in inspect.getsource(ray_worker)


def test_ray_still_finds_the_cluster_of_this_machine() -> None:
    parameters = inspect.signature(services.canonicalize_bootstrap_address).parameters
    assert list(parameters)[:1] == ["addr"]
