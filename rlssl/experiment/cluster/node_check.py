"""Checks the node of each trial when the trial begins.

The survey before a run cannot see nodes that join later.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import ray
import torch

from rlssl.errors import NodeError
from rlssl.experiment.cluster import node_survey
from rlssl.experiment.cluster.connect import modules_of
from rlssl.experiment.spec.loading import load_spec
from rlssl.ray_internals.cluster import (
    note_of_job,
    read_note,
    started_by_this_process,
    write_note,
)
from rlssl.run_files import RUN_FILE, SWEEP_SPEC_FILE
from rlssl.system.stores.places import place_of_folder

_NOTE = "expected-of-nodes"


def expect_of_nodes(folder: Path) -> None:
    """Leaves a note on the head node of a cluster: what `check_node` expects of a trial's node.

    Args:
        folder: The folder of the run, with its spec.
    """
    if started_by_this_process():
        return
    plugins, place = modules_of(load_spec(folder / SWEEP_SPEC_FILE)), place_of_folder(folder)
    expected = {
        "marker": str(folder / RUN_FILE),
        "plugins": plugins,
        "uri": "" if place is None else place.uri,
        "versions": node_survey.versions(),
    }
    write_note(note_of_job(_NOTE), json.dumps(expected))


def check_node(timeout_s: float = node_survey.SHARED_FILE_TIMEOUT_S) -> None:
    """Checks the node of this process; does nothing in a run on this machine only.

    Args:
        timeout_s: Seconds in which the run's folder must appear on this node.

    Raises:
        NodeError: If the trial cannot run there; names the node. Tune tries the trial again.
    """
    note = read_note(note_of_job(_NOTE)) if ray.is_initialized() else None
    if note is None:
        return
    expected = json.loads(note)
    found = node_survey.report(
        expected["marker"], expected["plugins"], uri=expected["uri"], timeout_s=timeout_s
    )
    folder = str(Path(expected["marker"]).parent)
    if words := problem(found, expected["versions"], folder) or _gpu_problem():
        node_id = ray.get_runtime_context().get_node_id()
        name = f"node {ray.util.get_node_ip_address()} ({node_id[:8]})"
        raise NodeError(f"{name} cannot run this trial: {words}.", node_id)


def problem(found: node_survey.Report, versions: Mapping[str, str], folder: str) -> str:
    """Says why a trial cannot run on a node; "" if it can.

    Args:
        found: The report of the node.
        versions: The versions in the driver's process.
        folder: The folder of the run.
    """
    if found.storage:
        return f"storage: it {found.storage.removeprefix('it ')}: {folder}"
    if found.plugins:
        return found.plugins.rstrip(".")
    return node_survey.differences(versions, found.versions, node_survey.SAME_EVERYWHERE)


def _gpu_problem() -> str:
    """Says whether torch cannot use the GPU that Ray gave to this process; "" if it can."""
    if ray.get_gpu_ids() and not torch.cuda.is_available():
        return "Ray gave the trial a GPU, and torch finds no CUDA there"
    return ""
