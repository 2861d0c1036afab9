"""The private names of ray 2.60 that code for clusters uses.

If ray renames one, a test fails and shows the name.
"""

import contextlib
import functools
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
from ray._private import services, utils
from ray._private import worker as ray_worker
from ray._private.authentication import authentication_token_setup
from ray._private.runtime_env import packaging
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
from ray._private.state import actors, state
from ray._raylet import ActorID, GcsClient  # type: ignore[attr-defined]
from ray.experimental import internal_kv

#: Function of ``ray._private.worker`` that prints what the processes of a cluster log.
PRINT_LOGS = "print_to_stdstream"

#: Function of ``ray._private.utils`` with which Ray handles SIGTERM.
SET_HANDLER = "set_sigterm_handler"

#: Variable of ``ray._private.worker``: the node that this process started or is connected to.
OWN_NODE = "_global_node"

#: Attribute of an actor's handle that holds its id.
ACTOR_ID = "_actor_id"

#: Keys of Ray's table of actors.
CLASS_NAME, NUM_RESTARTS, STATE = "ActorClassName", "NumRestarts", "State"
ADDRESS, NODE_ID = "Address", "NodeID"

#: Method of ``ray._private.state.state`` that names the nodes that leave the cluster.
DRAINING_NODES = "get_draining_nodes"

#: States of an actor whose process is not there yet.
STARTING = ("DEPENDENCIES_UNREADY", "PENDING_CREATION", "RESTARTING")

#: Functions for the short texts that processes of a cluster leave for each other on its head node.
KV_FUNCTIONS = (
    "_internal_kv_put",
    "_internal_kv_get",
    "_internal_kv_list",
    "_internal_kv_del",
)

#: Function that makes the head node's texts and packages known to a process before `ray.init`.
USE_HEAD_NODE = "_initialize_internal_kv"

#: Folder of a node's session in which each job's working directory is, named by its content.
WORKING_DIRS = "working_dir_files"

#: What `send_folder` leaves out, besides what .gitignore names.
NOT_SENT = (".git", "__pycache__")

#: Variable that lets `ray.init` replace parts of a job's runtime environment.
REPLACES_ENVIRONMENT_OF_JOB = "RAY_OVERRIDE_JOB_RUNTIME_ENV"

#: Label of every node, which holds the node's id.
NODE_LABEL = "ray.io/node-id"

#: Where these texts are.
_NAMESPACE = "rlssl"

#: Class of ``ray._private.services`` that starts Ray's own processes.
PROCESS_CLASS = "ConsolePopen"

#: Script that connects to the cluster at an address, as `ray.init` does, and fails in seconds if
#: another program listens there; `ray.init` would try for minutes. Format it with ``address``.
GREETING_SCRIPT = """
from ray._private.authentication import authentication_token_setup as authentication
from ray._raylet import GcsClient
authentication.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
authentication.ensure_token_if_auth_enabled(create_token_if_missing=False)
GcsClient(address={address!r})
"""


def use_token_if_there_is_one() -> None:
    """Turns Ray's token authentication on if a token lies in its place, as `ray.init` locally does.

    Without it, a cluster that needs the token answers with errors only. A mode that the user has
    set in the environment stays as it is.
    """
    # Ray warns that authentication is on.
    logging.getLogger(authentication_token_setup.__name__).setLevel(logging.ERROR)
    authentication_token_setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def joined_with_job(runtime_env: Mapping[str, Any]) -> dict[str, Any]:
    """The runtime environment to give to `ray.init`, also in a job of `ray job submit`.

    Such a job has its own runtime environment. Ray keeps the keys and variables that only the job
    sets, and refuses those that both set, unless `ray.init` may replace the job's. So this
    function lets it, and adds the job's modules, which would be lost.
    """
    config = os.environ.get(RAY_JOB_CONFIG_JSON_ENV_VAR)
    of_job = (json.loads(config).get("runtime_env") or {}) if config else {}
    if not of_job:
        return dict(runtime_env)
    os.environ[REPLACES_ENVIRONMENT_OF_JOB] = "1"
    modules = [*of_job.get("py_modules", []), *runtime_env.get("py_modules", [])]
    return {**runtime_env, **({"py_modules": list(dict.fromkeys(modules))} if modules else {})}


def send_folder(address: str, folder: str) -> str:
    """Sends the content of a folder to the head node of a cluster; returns the package's URI.

    The URI contains a checksum of the content. A package that is there already is not sent again.
    As one of ``py_modules``, the package is on the import path of every process.

    Args:
        address: HOST:PORT of the cluster.
        folder: A folder with modules, and maybe with files that they read.

    Raises:
        ValueError: If the folder is larger than Ray allows.
    """
    getattr(internal_kv, USE_HEAD_NODE)(GcsClient(address=address))
    options: dict[str, Any] = {"include_gitignore": True, "excludes": list(NOT_SENT)}
    uri: str = packaging.get_uri_for_directory(folder, **options)
    with tempfile.TemporaryDirectory() as scratch:
        packaging.upload_package_if_needed(uri, scratch, folder, **options)
    return uri


def in_this_job(folder: str) -> str:
    """A folder of a job's working directory, which each later job has at another place.

    Args:
        folder: An absolute path that an earlier job has saved.

    Returns:
        The folder at the same place of the current folder, if ``folder`` was in the working
        directory of a job and is gone; else ``folder``.
    """
    below = folder.partition(f"/{WORKING_DIRS}/")[2].partition("/")[2]
    return str(Path.cwd() / below) if below and not Path(folder).exists() else folder


def running_cluster() -> str:
    """HOST:PORT of the cluster that runs on this machine; "" if none runs."""
    return services.canonicalize_bootstrap_address("auto") or ""


def started_by_this_process() -> bool:
    """Whether this process started the cluster that it uses, on this machine only."""
    node = getattr(ray_worker, OWN_NODE)
    return node is not None and node.is_head()


def actors_of_this_job(class_name: str) -> list[str]:
    """The states of the actors of a class that this job has created and Ray has not yet ended."""
    table = actors(job_id=ray_worker.global_worker.current_job_id).values()
    found = [entry for entry in table if entry[CLASS_NAME] == class_name]
    return [entry[STATE] for entry in found if entry[STATE] != "DEAD"]


def print_logs_with(function: Callable[[Mapping[str, Any], bool], None]) -> None:
    """Lets ``function`` print what the processes of a cluster log; it replaces Ray's own."""
    setattr(ray_worker, PRINT_LOGS, function)


@contextlib.contextmanager
def separate_session() -> Iterator[None]:
    """Inside this context, Ray starts its processes in sessions of their own.

    So a signal to the process group of the command line, as a terminal or a batch system sends it,
    does not reach them, and they can still save checkpoints. They end with this process all the
    same.
    """
    original = getattr(services, PROCESS_CLASS)
    setattr(services, PROCESS_CLASS, functools.partial(original, start_new_session=True))
    try:
        yield
    finally:
        setattr(services, PROCESS_CLASS, original)


def num_restarts(actor: Any) -> int:
    """How often Ray has restarted an actor, from the actor's handle."""
    return _restarts_of(id_of_actor(actor))


def num_own_restarts() -> int:
    """How often Ray has restarted the actor that runs in this process; 0 if none does."""
    actor_id = ray.get_runtime_context().get_actor_id() if ray.is_initialized() else None
    return 0 if actor_id is None else _restarts_of(actor_id)


def id_of_actor(actor: Any) -> str:
    """The hexadecimal id of an actor, from its handle."""
    return str(getattr(actor, ACTOR_ID).hex())


def actor_state(actor_id: str) -> str:
    """What Ray knows of an actor, from its hexadecimal id: ALIVE, RESTARTING, DEAD and others."""
    return str(actors(actor_id).get(STATE, "DEAD"))


def node_of_actor(actor_id: str) -> str:
    """The id of the node of an actor, from the actor's hexadecimal id; "" without one."""
    return str(actors(actor_id).get(ADDRESS, {}).get(NODE_ID, ""))


def draining_nodes() -> set[str]:
    """The ids of the nodes that are about to be taken from the cluster; Ray starts nothing there.

    A node is drained by ``ray drain-node``, by the autoscaler, or by the operator of the cluster.
    """
    return set(getattr(state, DRAINING_NODES)())


def kill_actor(actor_id: str) -> None:
    """Kills an actor that this process has created, for good; also one that is being built."""
    ray_worker.global_worker.core_worker.kill_actor(ActorID.from_hex(actor_id), True)


def write_note(name: str, text: str) -> None:
    """Leaves a short text on the head node, for other processes of the cluster."""
    internal_kv._internal_kv_put(name, text, overwrite=True, namespace=_NAMESPACE)


def note_of_job(name: str) -> str:
    """The name of a note that only the processes of this job use."""
    return f"{ray.get_runtime_context().get_job_id()}/{name}"


def read_note(name: str) -> str | None:
    """Reads what `write_note` left; None if there is no such text."""
    found = internal_kv._internal_kv_get(name, namespace=_NAMESPACE)
    return None if found is None else bytes(found).decode()


def names_of_notes(prefix: str) -> list[str]:
    """The names of all notes that begin so."""
    found = internal_kv._internal_kv_list(prefix, namespace=_NAMESPACE)
    return [bytes(name).decode() for name in found]


def forget_note(name: str) -> None:
    """Removes what `write_note` left."""
    internal_kv._internal_kv_del(name, namespace=_NAMESPACE)


def _restarts_of(actor_id: str) -> int:
    return int(actors(actor_id).get(NUM_RESTARTS, 0))


@contextlib.contextmanager
def own_sigterm_handler() -> Iterator[None]:
    """Inside this context, Ray keeps this process's handler of SIGTERM.

    `ray.init` would install one that ends the process without a word, also while it starts.
    """
    original = getattr(utils, SET_HANDLER)
    setattr(utils, SET_HANDLER, lambda handler: None)
    try:
        yield
    finally:
        setattr(utils, SET_HANDLER, original)
