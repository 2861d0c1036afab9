"""Ray: a local one that is large enough, or a cluster that is there."""

import logging
import math
import os
import socket

import click
import ray
import torch

from rlssl.errors import ResourceError, SpecError
from rlssl.experiment.spec import Spec, at_point, build_config, points_to_check

#: Set before Ray starts: its workers would otherwise run at low priority, and Tune prints in two
#: styles, of which the older one shows a table.
_RAY_ENVIRONMENT = {
    "RAY_worker_niceness": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


def start_ray(spec: Spec, address: str | None) -> None:
    """Connects to a cluster, or starts a local one that holds at least one trial.

    Raises:
        ResourceError: If a trial asks more than the cluster has, or there is no cluster.
    """
    _set_environment()
    config = build_config(at_point(spec, points_to_check(spec)[0] if spec.search else {}, 0))
    request = config.algo_class.default_resource_request(config).required_resources
    num_cpus, num_gpus = math.ceil(request.get("CPU", 1)), request.get("GPU", 0)
    if not ray.is_initialized():
        if address is None and num_gpus > torch.cuda.device_count():
            raise _too_few("GPU", num_gpus, "this machine", torch.cuda.device_count())
        _connect(address, num_cpus)
    available = ray.cluster_resources()
    for key, asked in (("CPU", num_cpus), ("GPU", num_gpus)):
        if asked > available.get(key, 0):
            raise _too_few(key, asked, "the cluster", available.get(key, 0))


def _too_few(key: str, asked: float, where: str, available: float) -> ResourceError:
    return ResourceError(
        f"a trial asks {asked:g} {key}s (resources), and {where} has {available:g}; ask fewer, or "
        "give a cluster that has them: --address HOST:PORT."
    )


def start_local(num_cpus: int) -> None:
    """Starts a Ray of this machine alone, with at least ``num_cpus`` CPUs, unless one runs."""
    _set_environment()
    if not ray.is_initialized():
        _connect(None, num_cpus)


def _set_environment() -> None:
    os.environ.update({key: os.environ.get(key, value) for key, value in _RAY_ENVIRONMENT.items()})


def _connect(address: str | None, num_cpus: int) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "include_dashboard": False}
    python_path = {"env_vars": {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}}
    if address is not None:
        _check_listening(address)
        quiet.pop("include_dashboard")
        try:
            ray.init(address=address, runtime_env=python_path, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ResourceError(f"no Ray cluster at address '{address}': {error}") from error
        return
    cores = os.cpu_count() or 1
    if num_cpus > cores:
        click.echo(
            f"{num_cpus} CPUs are asked: starting Ray as if this machine had them.", err=True
        )
    ray.init(num_cpus=max(cores, num_cpus), **quiet)


def _check_listening(address: str) -> None:
    """Ray itself would wait a minute for nobody."""
    if address == "auto":
        return
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        raise SpecError(f"--address must be auto or HOST:PORT; got {address!r}.")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise ResourceError(f"no Ray cluster at address '{address}': {error}.") from error
