"""Starts a local Ray that is large enough for a trial, or connects to an existing cluster."""

import logging
import math
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import ray
import torch

from rlssl.errors import ResourceError, SpecError
from rlssl.experiment.cluster import node_survey
from rlssl.experiment.spec.building import build_config
from rlssl.experiment.spec.loading import at_point
from rlssl.experiment.spec.schema import Spec
from rlssl.experiment.spec.search_space import points_to_check
from rlssl.ray_internals.cluster import (
    GREETING_SCRIPT,
    print_logs_with,
    running_cluster,
    separate_session,
    use_token_if_there_is_one,
)
from rlssl.system.subprocess_probe import SubprocessCheck

#: Set before Ray starts. Otherwise Ray's workers would run at low priority, and Tune would print in
#: its new style, which has no table, and add its own loggers to rlssl's.
_RAY_ENVIRONMENT = {
    "RAY_worker_niceness": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}

_START_NODES = "start more nodes: ray start --address=HOST:PORT"


def start_ray(spec: Spec, address: str | None, storage: Path) -> None:
    """Connects to a cluster, or starts a local one with room for at least one trial.

    Args:
        spec: The spec of the run.
        address: ``auto`` or ``HOST:PORT`` of a cluster; None starts a local one.
        storage: An existing folder that every node must see.

    Raises:
        SpecError: If the address is malformed.
        ResourceError: If a trial needs more than the cluster has, there is no cluster, or one of
            its nodes cannot run trials.
    """
    _set_environment()
    config = build_config(at_point(spec, points_to_check(spec)[0] if spec.search else {}, 0))
    bundles: list[dict[str, float]] = config.algo_class.default_resource_request(config).bundles
    num_cpus, num_gpus = math.ceil(_total("CPU", bundles)), _total("GPU", bundles)
    started_here = not ray.is_initialized()
    if started_here:
        if address is None and num_gpus > torch.cuda.device_count():
            raise _too_few("GPU", bundles, "this machine", [{"GPU": torch.cuda.device_count()}])
        _connect(address, num_cpus)
    require_room(bundles, [node["Resources"] for node in ray.nodes() if node["Alive"]])
    if address is not None:
        _check_nodes(address, storage, spec, may_reconnect=started_here)
        _warn_if_busy(num_cpus)


def require_room(bundles: Sequence[Mapping[str, float]], cluster: Sequence[Any]) -> None:
    """Refuses a trial that can never be placed on the cluster.

    Args:
        bundles: The resources that each process of a trial needs; each process runs on one node.
        cluster: The resources of each node.

    Raises:
        ResourceError: If the trial does not fit; names the resources that it needs and those of
            the cluster, in total and on the largest node.

    Example:
        >>> require_room([{"CPU": 1}, {"CPU": 4}], [{"CPU": 4}, {"CPU": 2}])
    """
    for key in ("CPU", "GPU"):
        if _total(key, bundles) > _total(key, cluster):
            raise _too_few(key, bundles, "the cluster", cluster)
    # The largest process first, each on the smallest node with room for it. So a process without
    # GPUs does not occupy a node with GPUs.
    free = [{key: node.get(key, 0.0) for key in ("CPU", "GPU")} for node in cluster]
    for bundle in sorted(bundles, key=_size, reverse=True):
        fitting = [node for node in free if all(node[key] >= bundle.get(key, 0) for key in node)]
        if not fitting:
            raise _too_few("GPU" if bundle.get("GPU") else "CPU", bundles, "the cluster", cluster)
        chosen = min(fitting, key=_size)
        for key in chosen:
            chosen[key] -= bundle.get(key, 0)


def _size(resources: Mapping[str, float]) -> tuple[float, float]:
    return resources.get("GPU", 0), resources.get("CPU", 0)


def _total(key: str, resources: Sequence[Mapping[str, float]]) -> float:
    return sum(part.get(key, 0) for part in resources)


def _too_few(
    key: str, bundles: Sequence[Mapping[str, float]], where: str, cluster: Sequence[Any]
) -> ResourceError:
    each = [bundle.get(key, 0) for bundle in bundles if bundle.get(key)]
    parts = f" in {len(each)} processes of up to {max(each):g}" if len(each) > 1 else ""
    nodes_with = [node[key] for node in cluster if node.get(key)]
    on_nodes = f" on {len(nodes_with)} nodes, the largest {max(nodes_with, default=0):g}"
    fix = "give a cluster that has them: --address HOST:PORT"
    return ResourceError(
        f"a trial needs {sum(each):g} {key}s{parts} (resources), but {where} has "
        f"{_total(key, cluster):g}{on_nodes if len(nodes_with) > 1 else ''}; request fewer, or "
        f"{fix if where == 'this machine' else _START_NODES}."
    )


def _warn_if_busy(num_cpus: int) -> None:
    free = ray.available_resources().get("CPU", 0)
    if free < num_cpus:
        click.echo(
            f"The cluster is busy: {free:g} CPUs are free, and a trial needs {num_cpus}. Waiting.",
            err=True,
        )


def start_local(num_cpus: int) -> None:
    """Starts Ray on this machine only, with at least ``num_cpus`` CPUs, unless Ray runs already."""
    _set_environment()
    if not ray.is_initialized():
        _connect(None, num_cpus)


def _set_environment() -> None:
    os.environ.update({key: os.environ.get(key, value) for key, value in _RAY_ENVIRONMENT.items()})


def _connect(address: str | None, num_cpus: int, py_modules: Sequence[str] = ()) -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        _connect_quietly(address, num_cpus, py_modules)
    finally:
        # Ray installs a handler that ends this process without a word.
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _connect_quietly(address: str | None, num_cpus: int, py_modules: Sequence[str]) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is not None:
        _connect_to_cluster(address, py_modules, quiet)
        return
    cores = os.cpu_count() or 1
    if num_cpus > cores:
        click.echo(
            f"A trial needs {num_cpus} CPUs, and this machine has {cores}. "
            f"Starting Ray as if it had {num_cpus}.",
            err=True,
        )
    # "local" ignores a cluster that this machine belongs to; --address selects such a cluster.
    with separate_session():
        ray.init("local", num_cpus=max(cores, num_cpus), include_dashboard=False, **quiet)


def _connect_to_cluster(address: str, py_modules: Sequence[str], quiet: dict[str, Any]) -> None:
    use_token_if_there_is_one()
    _check_listening(address)
    runtime_env: dict[str, Any] = {
        "env_vars": {"PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        **({"py_modules": list(py_modules)} if py_modules else {}),
    }
    print_logs_with(_print_first_sentence)
    try:
        ray.init(address=address, runtime_env=runtime_env, **quiet)
    except ConnectionError as error:
        raise _no_cluster(address, str(error)) from error
    except (RuntimeError, ValueError) as error:
        raise ResourceError(
            f"cannot use the Ray cluster at address '{address}': {error}"
        ) from error


def _check_listening(address: str) -> None:
    """Checks within seconds that a Ray cluster listens at the address.

    Raises:
        SpecError: If the address is malformed.
        ResourceError: If there is no cluster.
    """
    if address == "auto":
        # RAY_ADDRESS, or the address that `ray start` noted; that cluster may be dead.
        try:
            address = running_cluster()
        except (ConnectionError, ValueError) as error:
            raise _no_cluster(
                "auto", "no cluster runs on this machine, and RAY_ADDRESS is not set"
            ) from error
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or "/" in host:
        raise SpecError(f"--address must be auto or HOST:PORT; got {address!r}.")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, str(error)) from error
    ok, words = SubprocessCheck(GREETING_SCRIPT.format(address=address)).answer()
    if not ok and "AuthenticationError" in words:
        raise ResourceError(
            f"the Ray cluster at address '{address}' needs another token; copy its head node's "
            "~/.ray/auth_token to the same path here (chmod 600)."
        )
    if not ok:
        raise _no_cluster(address, f"the process that listens there is no Ray cluster: {words}")


def _no_cluster(address: str, words: str) -> ResourceError:
    return ResourceError(
        f"no Ray cluster at address '{address}': {words.rstrip('.')}; `ray status` on the head "
        "node shows whether one runs, `ray start --head --port=6379` starts one."
    )


_printed: set[str] = set()


def _print_first_sentence(data: Mapping[str, Any], ignore_prefix: bool) -> None:
    """Prints Ray's messages in short: Ray itself prints 50 lines of log, twice, if a node dies."""
    del ignore_prefix
    for message in data["lines"]:
        first = message.strip().partition("\n")[0].partition(". ")[0]
        if first not in _printed:
            _printed.add(first)
            print(f"ray: {first}", file=sys.stderr, flush=True)


def _check_nodes(address: str, storage: Path, spec: Spec, *, may_reconnect: bool) -> None:
    """Checks every node; sends plug-ins from the run's folders to nodes that lack them."""
    plugins = modules_of(spec)
    found = node_survey.survey(storage, plugins)
    if found.without_plugins() and may_reconnect and (shipped := node_survey.to_ship(plugins)):
        click.echo(f"Sending {', '.join(shipped)} to every node.", err=True)
        ray.shutdown()
        _connect(address, 0, shipped)
        found = node_survey.survey(storage, plugins)
    found.require(storage, node_survey.versions())


def modules_of(spec: Spec) -> list[str]:
    """The modules that every node must be able to import: plug-ins, and those of connectors."""
    pieces = [*spec.connectors.env_to_module, *spec.connectors.learner]
    return [*spec.plugins, *(piece.partition(":")[0] for piece in pieces)]
