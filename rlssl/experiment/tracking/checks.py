"""Checks before a run that its trackers can work: package, key, server."""

import importlib.util
import netrc
import os
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from rlssl.errors import MissingExtraError, ResourceError, SpecError
from rlssl.experiment.spec.schema import Spec
from rlssl.experiment.spec.trackers import OPTIONS, MlflowOptions, WandbOptions, trackers_of
from rlssl.system.stores.places import local_folder, parse_place

#: Seconds that a server may take to answer.
ANSWER_S = 10.0

_WANDB_SERVER = "https://api.wandb.ai"


def check_trackers(spec: Spec) -> None:
    """Checks that the trackers of a spec can work on this machine.

    Raises:
        MissingExtraError: If a package is not installed; names the extra.
        SpecError: If W&B has no key. The message says how to set one.
        ResourceError: If MLflow's server does not answer.
    """
    for name, options in trackers_of(spec.tracking).items():
        if name in OPTIONS and importlib.util.find_spec(name) is None:
            raise MissingExtraError(
                f"tracking: {name!r} is not installed; pip install 'rlssl[{name}]'."
            )
        if isinstance(options, WandbOptions):
            _require_key(options)
        if isinstance(options, MlflowOptions):
            _require_answer(mlflow_uri(options, spec.storage))


def wandb_mode(options: WandbOptions) -> str:
    """The mode of W&B: from the options, or from the environment."""
    return options.mode or os.environ.get("WANDB_MODE") or "online"


def mlflow_uri(options: MlflowOptions, storage: str) -> str:
    """The address of MLflow's store.

    Raises:
        SpecError: If there is none, and the storage is an object store, which holds no database.

    Example:
        >>> mlflow_uri(MlflowOptions(uri="http://127.0.0.1:5000"), "./results")
        'http://127.0.0.1:5000'
    """
    if given := options.uri or os.environ.get("MLFLOW_TRACKING_URI"):
        return given
    if parse_place(storage) is not None:
        raise SpecError(
            f"tracking: 'mlflow' cannot have its database at storage '{storage}'; give "
            "{mlflow: {uri: http://HOST:PORT}}."
        )
    return f"sqlite:///{local_folder(storage).resolve() / 'mlflow.db'}"


def _require_key(options: WandbOptions) -> None:
    if wandb_mode(options) != "online" or os.environ.get("WANDB_API_KEY"):
        return
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or _WANDB_SERVER).hostname
    try:
        logins = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        logins = None
    if logins is None or logins.authenticators(host or "") is None:
        raise SpecError(
            f"tracking: 'wandb' has no key for {host}; run `wandb login`, set WANDB_API_KEY, or "
            "write {wandb: {mode: offline}}."
        )


def _require_answer(uri: str) -> None:
    if not uri.startswith(("http://", "https://")):
        return
    try:
        urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=ANSWER_S).close()
    except urllib.error.HTTPError:
        return  # a server that asks for a login, or has no such page
    except OSError as error:
        raise ResourceError(
            f"tracking.mlflow.uri: no answer from {uri} ({error}); start the server, or leave "
            "uri out."
        ) from error
