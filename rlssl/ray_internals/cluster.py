"""The private names of ray 2.60 that code for clusters uses.

If ray renames one, a test fails and shows the name.
"""

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import ray
from ray._private import services
from ray._private import worker as ray_worker
from ray._private.authentication import authentication_token_setup
from ray._private.state import actors

#: Function of ``ray._private.worker`` that prints what the processes of a cluster log.
PRINT_LOGS = "print_to_stdstream"

#: Attribute of an actor's handle that holds its id, and key of its number of restarts.
ACTOR_ID, NUM_RESTARTS = "_actor_id", "NumRestarts"

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

    Without it, a cluster that needs the token answers with errors only. A user's own
    ``RAY_AUTH_MODE`` stays as it is.
    """
    # Ray warns that authentication is on.
    logging.getLogger(authentication_token_setup.__name__).setLevel(logging.ERROR)
    authentication_token_setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def running_cluster() -> str:
    """HOST:PORT of the cluster that runs on this machine; "" if none runs."""
    return services.canonicalize_bootstrap_address("auto") or ""


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
    return _restarts_of(getattr(actor, ACTOR_ID).hex())


def num_own_restarts() -> int:
    """How often Ray has restarted the actor that runs in this process; 0 if none does."""
    actor_id = ray.get_runtime_context().get_actor_id() if ray.is_initialized() else None
    return 0 if actor_id is None else _restarts_of(actor_id)


def _restarts_of(actor_id: str) -> int:
    return int(actors(actor_id).get(NUM_RESTARTS, 0))
