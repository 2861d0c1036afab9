"""The `tracking` section of a spec: names of trackers, and their options."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rlssl.errors import SpecError, suggest
from rlssl.system.annotations.types import check_arguments, field_types


@dataclasses.dataclass(frozen=True)
class WandbOptions:
    """Options of Weights & Biases. The key comes from WANDB_API_KEY or ``wandb login`` only."""

    project: str = "rlssl"
    #: User or team; None: the default of the account.
    entity: str | None = None
    #: None: the environment variable WANDB_MODE, else online.
    mode: Literal["online", "offline"] | None = None


@dataclasses.dataclass(frozen=True)
class MlflowOptions:
    """Options of MLflow."""

    #: Address of the store; None: MLFLOW_TRACKING_URI, else ``mlflow.db`` in the storage folder.
    uri: str | None = None
    #: None: the name of the run.
    experiment: str | None = None


#: TensorBoard's files are in the folders of the trials, and it has no options.
TENSORBOARD = "tensorboard"
#: The trackers that get results from a process of their own.
OPTIONS: Mapping[str, type] = {"wandb": WandbOptions, "mlflow": MlflowOptions}
TRACKERS = (TENSORBOARD, *OPTIONS)


def trackers_of(tracking: Sequence[str | Mapping[str, Any]]) -> dict[str, Any]:
    """Name of each tracker -> its options; None for TensorBoard.

    Args:
        tracking: Names, or mappings of a name to options.

    Raises:
        SpecError: If a name, an option or its value is wrong; names key, value and fix.

    Example:
        >>> trackers_of(["tensorboard", {"wandb": {"mode": "offline"}}])["wandb"].project
        'rlssl'
    """
    found: dict[str, Any] = {}
    for entry in tracking:
        if isinstance(entry, Mapping) and len(entry) != 1:
            raise SpecError(f"tracking: one tracker for each entry of the list; got {entry!r}.")
        name, options = next(iter(entry.items())) if isinstance(entry, Mapping) else (entry, None)
        if name not in TRACKERS:
            raise SpecError(f"unknown tracking {name!r}{suggest(str(name), TRACKERS)}")
        if name in found:
            raise SpecError(f"tracking: {name!r} is there twice; leave one out.")
        found[name] = _options(name, {} if options is None else options)
    return found


def _options(name: str, given: Any) -> Any:
    where = f"tracking.{name}"
    if not isinstance(given, Mapping):
        raise SpecError(f"{where} must be a mapping; got {given!r}.")
    if name == TENSORBOARD:
        check_arguments(where, given, {})
        return None
    options = OPTIONS[name]
    check_arguments(where, given, field_types(options))
    return options(**given)
