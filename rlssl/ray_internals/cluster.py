"""The private names of ray 2.60 that connecting to a cluster relies on, in one place.

A test looks for them and fails, naming the name, when ray renames one.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ray._private import services
from ray._private import worker as ray_worker

#: Function of ``ray._private.worker`` that prints what the processes of a cluster log.
PRINT_LOGS = "print_to_stdstream"


def running_cluster() -> str:
    """HOST:PORT of the cluster that runs on this machine; "" where none does."""
    return services.canonicalize_bootstrap_address("auto") or ""


def print_logs_with(function: Callable[[Mapping[str, Any], bool], None]) -> None:
    """Has ``function`` print what the processes of a cluster log, in place of Ray's own."""
    setattr(ray_worker, PRINT_LOGS, function)
