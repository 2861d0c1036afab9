"""`rlssl train`: runs one trial, on the same code path as a sweep."""

from rlssl.clocks import ENV_STEPS, UPDATES, WORDS
from rlssl.errors import ExitCode, SpecError
from rlssl.experiment.commands.summary import finish_training
from rlssl.experiment.spec.schema import Spec
from rlssl.experiment.tuning.launch import launch

#: Clock -> where training stops if the spec does not say it.
DEFAULT_ENDS = {ENV_STEPS: 1_000_000, UPDATES: 100_000}


def train(
    spec: Spec,
    *,
    address: str | None = None,
    wait_for_nodes: bool = False,
    trusted: bool = False,
) -> int:
    """Trains one policy; returns the exit code.

    Args:
        spec: A spec without a search.
        address: Address of an existing cluster; None starts a local one.
        wait_for_nodes: Whether trials that do not fit on the cluster now wait for nodes.
        trusted: Allows to unpickle weights of a run of foreign origin; see `rlssl.trust`.

    Raises:
        SpecError: If the spec cannot run; nothing was started.
        ResourceError: If the cluster or the storage cannot be used.
    """
    if spec.search or len(spec.seeds) > 1:
        raise SpecError("train runs one trial; use `rlssl sweep` for a search or several seeds.")
    announcement = ""
    if spec.end is None:
        end = DEFAULT_ENDS[spec.clock]
        words = f"{end:,} {WORDS[spec.clock]} (--stop {spec.clock}=N)"
        announcement = f"Stopping at {words}."
        spec = spec.model_copy(update={"stop": {**spec.stop, spec.clock: end}})
    code, folder = launch(
        spec,
        address=address,
        is_sweep=False,
        wait_for_nodes=wait_for_nodes,
        trusted=trusted,
        announcement=announcement,
    )
    if code == ExitCode.INTERRUPTED:
        return code
    unreadable = finish_training(folder)
    return code or unreadable
