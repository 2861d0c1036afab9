"""`rlssl sweep`: runs every point of a search with every seed; ends with a table and a plot."""

from rlssl.errors import ExitCode
from rlssl.experiment.commands.confirm import confirm_if_asked
from rlssl.experiment.commands.summary import finish_sweep
from rlssl.experiment.spec.schema import Spec
from rlssl.experiment.spec.search_space import num_trials
from rlssl.experiment.tuning.launch import launch


def sweep(
    spec: Spec,
    *,
    address: str | None = None,
    wait_for_nodes: bool = False,
    trusted: bool = False,
) -> int:
    """Runs the sweep; returns the exit code: 1 if a trial failed.

    Args:
        spec: From ``load_spec``.
        address: Address of an existing cluster; None starts a local one.
        wait_for_nodes: Whether trials that do not fit on the cluster now wait for nodes.
        trusted: Allows to unpickle weights of a run of foreign origin; see `rlssl.trust`.

    Raises:
        SpecError: If the spec cannot run; nothing was started.
        ResourceError: If the cluster or the storage cannot be used.
    """
    size = f"{spec.name}: {num_trials(spec)} trials of {spec.end_words}"
    code, folder = launch(
        spec,
        address=address,
        is_sweep=True,
        wait_for_nodes=wait_for_nodes,
        trusted=trusted,
        announcement=size,
    )
    if code != ExitCode.INTERRUPTED:
        unreadable = finish_sweep(folder)
        unconfirmed = confirm_if_asked(folder, spec, address=address, wait_for_nodes=wait_for_nodes)
        return code or unreadable or unconfirmed
    return code
