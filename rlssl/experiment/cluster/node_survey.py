"""Checks every node of a cluster before a run: storage, plug-ins and versions.

Otherwise a defect of a node would show only when a trial is placed there.
"""

import functools
import hashlib
import os
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import rlssl
from rlssl.errors import PluginError, ResourceError
from rlssl.experiment.provenance import provenance
from rlssl.plugins import load_plugins
from rlssl.system.stores.objects import require_rights
from rlssl.system.stores.places import parse_place, place_of_folder

#: Seconds in which all nodes must answer. Before they answer, they start Python and import the
#: plug-ins.
ANSWER_TIMEOUT_S = 120.0
#: Seconds in which a new file must appear on every node of a shared file system.
SHARED_FILE_TIMEOUT_S = 10.0

#: Versions that must be equal on every node. If others differ, a note is printed.
SAME_EVERYWHERE = ("python", "ray", "torch", "gymnasium", "numpy", "rlssl", "rlssl's source")


@dataclass(frozen=True)
class Report:
    """The result of the checks on one node."""

    # Package -> version, without the part after '+' that names a build for CPU or GPU.
    versions: Mapping[str, str]
    # Why the node cannot use the run's folder; "" if it can.
    storage: str = ""
    # Why the node cannot import a plug-in; "" if it can import all.
    plugins: str = ""
    # Why torch cannot use the GPUs that Ray counts there; "" if it can, or there are none.
    gpus: str = ""


@dataclass(frozen=True)
class Survey:
    """The results of the checks on all nodes."""

    # Node -> its report.
    reports: Mapping[str, Report] = field(default_factory=dict)
    # Node -> why it has no report.
    silent: Mapping[str, str] = field(default_factory=dict)

    def without_plugins(self) -> dict[str, str]:
        """Node -> why it cannot import a plug-in, for the nodes that cannot."""
        reports = self.reports.items()
        return {node: report.plugins for node, report in reports if report.plugins}

    def require(self, storage: Path, own: Mapping[str, str], *, needs_gpus: bool = False) -> None:
        """Refuses a cluster with nodes on which trials would fail.

        Args:
            storage: The folder of the results.
            own: The versions on this machine.
            needs_gpus: Whether a trial needs a GPU. If not, unusable GPUs are only noted.

        Raises:
            ResourceError: If a node cannot run trials; names the nodes, the defect and the fix.
        """
        blind = {node: report.storage for node, report in self.reports.items() if report.storage}
        if blind:
            raise ResourceError(
                f"storage '{storage}' must be a folder that every node sees, as on NFS, or an "
                f"object store; {_listed(blind)}; give such a folder: --storage."
            )
        if missing := self.without_plugins():
            raise ResourceError(
                f"{_listed(missing)}; install it on that node (pip install), or keep it in a "
                "folder that every node sees."
            )
        differing = {
            node: differences(own, report.versions, SAME_EVERYWHERE)
            for node, report in self.reports.items()
        }
        if any(differing.values()):
            raise ResourceError(
                f"{_listed(differing)}; install the same version there: "
                "pip install -c constraints.txt."
            )
        unusable = {node: report.gpus for node, report in self.reports.items() if report.gpus}
        if unusable and needs_gpus:
            raise ResourceError(
                f"{_listed(unusable)}; install a torch for its GPUs there "
                "(https://pytorch.org/get-started/locally), or start its Ray with --num-gpus=0."
            )
        for node, words in unusable.items():
            click.echo(f"note: {node}: {words}.", err=True)
        for node, report in self.reports.items():
            if words := differences(own, report.versions):
                click.echo(f"note: {node}: {words}.", err=True)
        for node, words in self.silent.items():
            click.echo(f"note: {node} was not checked: {words}", err=True)


def survey(storage: Path, plugins: Sequence[str]) -> Survey:
    """Checks every node with a CPU, all at the same time, within ``ANSWER_TIMEOUT_S``.

    Args:
        storage: An existing folder; a file is created there and deleted afterwards.
        plugins: Modules that every node must be able to import.
    """
    place = place_of_folder(storage)
    marker = storage / f".seen-by-every-node-{uuid.uuid4().hex}"
    remote_report = ray.remote(num_cpus=0, max_retries=0)(report)
    marker.touch()
    uri = "" if place is None else place.uri
    try:
        tasks = {}
        for node in ray.nodes():
            if node["Alive"] and node["Resources"].get("CPU", 0) > 0:
                there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                on_node = remote_report.options(scheduling_strategy=there)
                gpus = node["Resources"].get("GPU", 0)
                task = on_node.remote(str(marker), list(plugins), uri=uri, num_gpus=gpus)
                tasks[task] = f"node {node['NodeManagerAddress']} ({node['NodeID'][:8]})"
        ray.wait(list(tasks), num_returns=len(tasks), timeout=ANSWER_TIMEOUT_S)
        answers = {node: _answer(task) for task, node in tasks.items()}
    finally:
        marker.unlink(missing_ok=True)
    return Survey(
        reports={node: answer for node, answer in answers.items() if isinstance(answer, Report)},
        silent={node: answer for node, answer in answers.items() if isinstance(answer, str)},
    )


def _answer(task: "ray.ObjectRef[Report]") -> Report | str:
    """The report of a node, or why it has none."""
    try:
        answer: Report = ray.get(task, timeout=0)
    except ray.exceptions.GetTimeoutError:
        return f"no answer within {ANSWER_TIMEOUT_S:g} s."
    except ray.exceptions.RayTaskError as error:
        # The node could not even import this module: rlssl is missing there, or differs.
        return Report({}, plugins=f"rlssl fails there: {_last_line(error)}")
    except ray.exceptions.RayError as error:
        return _last_line(error)
    return answer


def report(
    marker: str,
    plugins: Sequence[str],
    *,
    uri: str = "",
    timeout_s: float = SHARED_FILE_TIMEOUT_S,
    num_gpus: float = 0,
) -> Report:
    """Checks the node on which it runs.

    Args:
        marker: A file that was just created in the storage.
        plugins: Modules to import.
        uri: The object store of which the storage is the local copy; "": it is a folder.
        timeout_s: Seconds in which the file must appear on this node.
        num_gpus: Number of GPUs that Ray counts on this node.
    """
    return Report(
        versions(),
        storage=_store_problem(uri, Path(marker))
        if uri
        else _storage_problem(Path(marker), timeout_s),
        plugins=_plugins_problem(plugins),
        gpus=_gpus_problem(num_gpus),
    )


def _storage_problem(marker: Path, timeout_s: float) -> str:
    deadline = time.monotonic() + timeout_s
    while not marker.is_file():
        if time.monotonic() > deadline:
            return "does not see it"
        time.sleep(0.1)
    try:
        with tempfile.TemporaryFile(dir=marker.parent):
            return ""
    except OSError as error:
        return f"cannot write there: {error.strerror}"


def _store_problem(uri: str, marker: Path) -> str:
    place = parse_place(uri)
    assert place is not None
    try:
        require_rights(place)
    except ResourceError as error:
        return f"cannot use it: {error}"
    try:
        marker.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=marker.parent):
            return ""
    except OSError as error:
        return f"cannot write its local copy to {marker.parent}, set RLSSL_CACHE: {error.strerror}"


def _plugins_problem(plugins: Sequence[str]) -> str:
    try:
        load_plugins(plugins)
    except PluginError as error:
        return str(error)
    return ""


def _gpus_problem(num_gpus: float) -> str:
    # Ray hides the GPUs from a task that asks for none, so torch cannot be asked for devices here.
    if not num_gpus or torch.version.cuda is not None or torch.version.hip is not None:
        return ""
    return f"Ray counts {num_gpus:g} GPUs there, and its torch {torch.__version__} is for CPUs only"


@functools.cache
def versions() -> dict[str, str]:
    """Versions on this machine; "missing" for a package that is not installed."""
    known = provenance()
    packages = {
        name: "missing" if version is None else version.partition("+")[0]
        for name, version in known["versions"].items()
    }
    return {**packages, "python": known["python"], "rlssl's source": _source_checksum()}


def _source_checksum() -> str:
    """Eight characters of a checksum over rlssl's source files, which differ between commits."""
    root = Path(rlssl.__file__).parent
    checksum = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        checksum.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return checksum.hexdigest()[:8]


def differences(
    own: Mapping[str, str], other: Mapping[str, str], names: Sequence[str] | None = None
) -> str:
    """Describes the versions that differ; "" if none does.

    Args:
        own: Versions on this machine.
        other: Versions on the other machine; empty if unknown.
        names: The packages to compare; None compares all.

    Example:
        >>> differences({"torch": "2.13.0", "rlssl": "1.0"}, {"torch": "2.13.0", "rlssl": "1.1"})
        'rlssl 1.1 is not 1.0'
    """
    differing = [name for name in names or own if other and own[name] != other.get(name)]
    return ", ".join(f"{name} {other.get(name)} is not {own[name]}" for name in differing)


def _listed(words: Mapping[str, str]) -> str:
    """The first three nodes with their text, and the number of further nodes."""
    listed = [f"{node}: {text.rstrip('.')}" for node, text in words.items() if text]
    more = f"; and {len(listed) - 3} more nodes" if len(listed) > 3 else ""
    return "; ".join(listed[:3]) + more


def _last_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1]


def to_ship(plugins: Sequence[str]) -> list[str]:
    """The files and folders of plug-ins that lie in the run's folders instead of being installed.

    The run's folders are those that the command line adds to PYTHONPATH: the current folder and
    the spec's.
    """
    folders = [Path(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    found = []
    for top in dict.fromkeys(name.partition(".")[0] for name in plugins):
        places = ((folder / top, folder / f"{top}.py") for folder in folders)
        found += [str(place) for pair in places for place in pair if place.exists()][:1]
    return found
