"""Starts a local Ray that is large enough for a trial, or connects to an existing cluster."""

import logging
import math
import os
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import ray
import torch

from rlssl.errors import ResourceError, SpecError
from rlssl.experiment.cluster import node_survey
from rlssl.experiment.cluster.placement import lack_of_room, too_few, total, trial_request
from rlssl.experiment.spec.loading import at_point
from rlssl.experiment.spec.schema import Spec
from rlssl.experiment.spec.search_space import points_to_check
from rlssl.ray_internals.cluster import (
    GREETING_SCRIPT,
    joined_with_job,
    own_sigterm_handler,
    print_logs_with,
    running_cluster,
    send_folder,
    separate_session,
    use_token_if_there_is_one,
)
from rlssl.replay.memory_budget import node_bytes
from rlssl.system.subprocess_probe import SubprocessCheck

#: Set before Ray starts. Otherwise Ray's workers would run at low priority, and Tune would print in
#: its new style, which has no table, add its own loggers to rlssl's, and save its whole state every
#: 10 s.
_RAY_ENVIRONMENT = {
    "RAY_worker_niceness": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "30",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}

#: How Ray is started or used: what matters is printed by rlssl.
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}

#: Ray's object store, the driver and the system need the rest.
_SHARE_FOR_TRIALS = 0.7


def start_ray(
    spec: Spec,
    address: str | None,
    storage: Path,
    *,
    replay_bytes: int = 0,
    wait_for_nodes: bool = False,
) -> None:
    """Connects to a cluster, or starts a local one with room for at least one trial.

    Args:
        spec: The spec of the run.
        address: ``auto`` or ``HOST:PORT`` of a cluster; None starts a local one.
        storage: An existing folder that every node must see.
        replay_bytes: Bytes of the replay buffer of a trial.
        wait_for_nodes: Whether a trial that needs more than the cluster has now waits for nodes.

    Raises:
        SpecError: If the address is malformed.
        ResourceError: If a trial needs more than the cluster has, there is no cluster, or one of
            its nodes cannot run trials.
    """
    _set_environment()
    bundles = bundles_of(spec, replay_bytes)
    num_cpus, num_gpus = math.ceil(total("CPU", bundles)), total("GPU", bundles)
    started_here = not ray.is_initialized()
    if started_here:
        if address is None and num_gpus > torch.cuda.device_count():
            raise too_few("GPU", bundles, "this machine", [{"GPU": torch.cuda.device_count()}])
        memory = int(total("memory", bundles))
        _connect(address, num_cpus, memory=memory, folders=spec.plugins_path)
    lack = lack_of_room(bundles, [node["Resources"] for node in ray.nodes() if node["Alive"]])
    if lack is not None and not wait_for_nodes:
        raise lack
    if address is not None:
        _check_nodes(address, storage, spec, may_reconnect=started_here)
        _say_what_to_wait_for(num_cpus, lack)


def _say_what_to_wait_for(num_cpus: int, lack: ResourceError | None) -> None:
    if lack is not None:
        asked, _, _ = str(lack).partition("; ")
        click.echo(f"Waiting for nodes: {asked}.", err=True)
        return
    free = ray.available_resources().get("CPU", 0)
    if free < num_cpus:
        click.echo(
            f"The cluster is busy: {free:g} CPUs are free, and a trial needs {num_cpus}. Waiting.",
            err=True,
        )


def bundles_of(spec: Spec, replay_bytes: int = 0) -> list[dict[str, float]]:
    """The resources that each process of the first trial needs."""
    trial = at_point(spec, points_to_check(spec)[0] if spec.search else {}, 0)
    bundles: list[dict[str, float]] = trial_request(spec, trial, replay_bytes).bundles
    return bundles


def start_local(num_cpus: int) -> None:
    """Starts Ray on this machine only, with at least ``num_cpus`` CPUs, unless Ray runs already."""
    _set_environment()
    if not ray.is_initialized():
        _connect(None, num_cpus)


def connect_to(address: str) -> None:
    """Connects to a cluster, unless this process is connected already.

    Raises:
        SpecError: If the address is malformed.
        ResourceError: If there is no cluster.
    """
    _set_environment()
    if not ray.is_initialized():
        _connect(address, 0)


def _set_environment() -> None:
    os.environ.update({key: os.environ.get(key, value) for key, value in _RAY_ENVIRONMENT.items()})


def _connect(
    address: str | None,
    num_cpus: int,
    py_modules: Sequence[str] = (),
    *,
    memory: int = 0,
    folders: Sequence[str] = (),
) -> None:
    with own_sigterm_handler():
        if address is None:
            _start_on_this_machine(num_cpus, memory)
        else:
            _connect_to_cluster(address, py_modules, folders)


def _start_on_this_machine(num_cpus: int, memory: int) -> None:
    cores = os.cpu_count() or 1
    if num_cpus > cores:
        click.echo(
            f"A trial needs {num_cpus} CPUs, and this machine has {cores}. "
            f"Starting Ray as if it had {num_cpus}.",
            err=True,
        )
    # "local" ignores a cluster that this machine belongs to; --address selects such a cluster.
    try:
        with separate_session():
            ray.init(
                "local",
                num_cpus=max(cores, num_cpus),
                _memory=max(local_memory(), memory),
                include_dashboard=False,
                **_QUIET,
            )
    except Exception as error:  # Ray raises this class itself
        ray.shutdown()  # ends the processes that did start
        folder = os.environ.get("RAY_TMPDIR", tempfile.gettempdir())
        raise ResourceError(
            f"Ray cannot start on this machine: {str(error).rstrip('.')}. Its logs are in "
            f"{folder}/ray/session_latest/logs. On a busy machine it may help to start again."
        ) from error


def local_memory() -> int:
    """Bytes of memory that a local Ray gives to the trials of a sweep."""
    return int(_SHARE_FOR_TRIALS * node_bytes())


def _connect_to_cluster(address: str, py_modules: Sequence[str], folders: Sequence[str]) -> None:
    use_token_if_there_is_one()
    host_and_port = _check_listening(address)
    print_logs_with(_print_first_sentence)
    try:
        packages = [send_folder(host_and_port, one) for one in folders if Path(one).is_dir()]
        modules = [*packages, *py_modules]
        runtime_env = joined_with_job(
            {
                "env_vars": {"PYTHONPATH": os.environ.get("PYTHONPATH", "")},
                **({"py_modules": modules} if modules else {}),
            }
        )
        ray.init(address=address, runtime_env=runtime_env, **_QUIET)
    except ConnectionError as error:
        raise _no_cluster(address, str(error)) from error
    except (RuntimeError, ValueError) as error:
        raise ResourceError(
            f"cannot use the Ray cluster at address '{address}': {error}"
        ) from error


def _check_listening(address: str) -> str:
    """Checks within seconds that a Ray cluster listens at the address; returns its HOST:PORT.

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
    return address


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
    # Nodes that join later may not see the plug-ins.
    may_lack = found.without_plugins() or not found.reports
    unsent = [one for one in node_survey.to_ship(plugins) if not _is_sent(one, spec)]
    if may_lack and may_reconnect and unsent:
        click.echo(f"Sending {', '.join(unsent)} to every node.", err=True)
        ray.shutdown()
        _connect(address, 0, unsent, folders=spec.plugins_path)
        found = node_survey.survey(storage, plugins)
    needs_gpus = bool(total("GPU", bundles_of(spec)))
    found.require(storage, node_survey.versions(), needs_gpus=needs_gpus)


def _is_sent(module: str, spec: Spec) -> bool:
    """Whether a file or folder of a plug-in is in a folder that every node gets anyway."""
    return str(Path(module).parent) in spec.plugins_path


def modules_of(spec: Spec) -> list[str]:
    """The modules that every node must be able to import: plug-ins, and those of connectors."""
    pieces = [*spec.connectors.env_to_module, *spec.connectors.learner]
    return [*spec.plugins, *(piece.partition(":")[0] for piece in pieces)]
