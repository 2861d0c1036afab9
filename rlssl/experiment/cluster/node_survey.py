"""Looks at every node of a cluster before a run: storage, plug-ins and versions.

What one node lacks would else be found out when a trial happens to land there.
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
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import rlssl
from rlssl.errors import PluginError, ResourceError
from rlssl.experiment.provenance import provenance
from rlssl.plugins import load_plugins

#: Seconds that all nodes together are given to answer: the first thing that they do is to start
#: Python and to import the plug-ins.
ANSWER_TIMEOUT_S = 120.0
#: Seconds until a new file must be seen through a shared file system.
SHARED_FILE_TIMEOUT_S = 10.0

#: Must be the same on every node. Others may differ at the user's risk, and are told.
SAME_EVERYWHERE = ("python", "ray", "torch", "gymnasium", "numpy", "rlssl", "rlssl's source")


@dataclass(frozen=True)
class Report:
    """What a node has to say about itself."""

    # Package -> version, without what stands behind '+', as of builds for CPU and GPU.
    versions: Mapping[str, str]
    # Why the run's folder cannot be used there; "": it can.
    storage: str = ""
    # Why a plug-in cannot be imported there; "": all can.
    plugins: str = ""


@dataclass(frozen=True)
class Survey:
    """What all nodes have to say: address -> report."""

    reports: Mapping[str, Report] = field(default_factory=dict)
    # Address -> why there is none.
    silent: Mapping[str, str] = field(default_factory=dict)

    def without_plugins(self) -> dict[str, str]:
        """Address -> why a plug-in cannot be imported there."""
        reports = self.reports.items()
        return {node: report.plugins for node, report in reports if report.plugins}

    def require(self, storage: Path, own: Mapping[str, str]) -> None:
        """Refuses a cluster on whose nodes trials would fail.

        Args:
            storage: Where results go.
            own: The versions here.

        Raises:
            ResourceError: Naming the nodes, what is wrong there, and the fix.
        """
        blind = {node: report.storage for node, report in self.reports.items() if report.storage}
        if blind:
            raise ResourceError(
                f"storage '{storage}' must be one folder that every node sees, as on NFS; "
                f"{_listed(blind)}; give such a folder: --storage."
            )
        if missing := self.without_plugins():
            raise ResourceError(
                f"{_listed(missing)}; install it there (pip install), or keep it in a folder that "
                "every node sees."
            )
        differing = {
            node: differences(own, report.versions, SAME_EVERYWHERE)
            for node, report in self.reports.items()
        }
        if any(differing.values()):
            raise ResourceError(
                f"{_listed(differing)}; install the same there: pip install -c constraints.txt."
            )
        for node, report in self.reports.items():
            if words := differences(own, report.versions):
                click.echo(f"note: {node}: {words}.", err=True)
        for node, words in self.silent.items():
            click.echo(f"note: {node} was not checked: {words}", err=True)


def survey(storage: Path, plugins: Sequence[str]) -> Survey:
    """Asks every node with a CPU; takes what the slowest takes, at most ``ANSWER_TIMEOUT_S``.

    Args:
        storage: An existing folder, where a file is made for the while.
        plugins: Modules that every node must be able to import.
    """
    sign = storage / f".seen-by-every-node-{uuid.uuid4().hex}"
    ask = ray.remote(num_cpus=0, max_retries=0)(report)
    sign.touch()
    try:
        asked = {}
        for node in ray.nodes():
            if node["Alive"] and node["Resources"].get("CPU", 0) > 0:
                there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                task = ask.options(scheduling_strategy=there).remote(str(sign), list(plugins))
                asked[task] = f"node {node['NodeManagerAddress']} ({node['NodeID'][:8]})"
        ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_TIMEOUT_S)
        answers = {node: _answer(task) for task, node in asked.items()}
    finally:
        sign.unlink(missing_ok=True)
    return Survey(
        reports={node: said for node, said in answers.items() if isinstance(said, Report)},
        silent={node: said for node, said in answers.items() if isinstance(said, str)},
    )


def _answer(task: "ray.ObjectRef[Report]") -> Report | str:
    try:
        said: Report = ray.get(task, timeout=0)
    except ray.exceptions.GetTimeoutError:
        return f"no answer within {ANSWER_TIMEOUT_S:g} s."
    except ray.exceptions.RayTaskError as error:
        # Not even this module: rlssl itself is not there, or another one.
        return Report({}, plugins=f"rlssl fails there: {_last_line(error)}")
    except ray.exceptions.RayError as error:
        return _last_line(error)
    return said


def report(sign: str, plugins: Sequence[str]) -> Report:
    """What the node where it runs has to say.

    Args:
        sign: A file that was just made in the storage.
        plugins: Modules to import.
    """
    return Report(
        versions(), storage=_storage_problem(Path(sign)), plugins=_plugins_problem(plugins)
    )


def _storage_problem(sign: Path) -> str:
    deadline = time.monotonic() + SHARED_FILE_TIMEOUT_S
    while not sign.is_file():
        if time.monotonic() > deadline:
            return "does not see it"
        time.sleep(0.1)
    try:
        with tempfile.TemporaryFile(dir=sign.parent):
            return ""
    except OSError as error:
        return f"cannot write there: {error.strerror}"


def _plugins_problem(plugins: Sequence[str]) -> str:
    try:
        load_plugins(plugins)
    except PluginError as error:
        return str(error)
    return ""


@functools.cache
def versions() -> dict[str, str]:
    """Of what runs here; "missing" for what is not installed."""
    known = provenance()
    packages = {
        name: "missing" if version is None else version.partition("+")[0]
        for name, version in known["versions"].items()
    }
    return {**packages, "python": known["python"], "rlssl's source": _source_checksum()}


def _source_checksum() -> str:
    """Eight characters that differ where a file of rlssl differs, as of another commit."""
    root = Path(rlssl.__file__).parent
    checksum = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        checksum.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return checksum.hexdigest()[:8]


def differences(
    own: Mapping[str, str], other: Mapping[str, str], names: Sequence[str] | None = None
) -> str:
    """Says in words what differs there from here; "" where nothing does.

    Args:
        own: Versions here.
        other: Versions there; empty: not known.
        names: What to compare; None: all.
    """
    differing = [name for name in names or own if other and own[name] != other.get(name)]
    return ", ".join(f"{name} {other.get(name)} is not {own[name]}" for name in differing)


def _listed(words: Mapping[str, str]) -> str:
    """The nodes that something is said of; the first three in full."""
    said = [f"{node}: {text.rstrip('.')}" for node, text in words.items() if text]
    more = f"; and {len(said) - 3} more nodes" if len(said) > 3 else ""
    return "; ".join(said[:3]) + more


def _last_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1]


def to_ship(plugins: Sequence[str]) -> list[str]:
    """The files and folders of plug-ins that are not installed, but lie beside the run.

    Those are what the import path of the command line holds: the current folder and the spec's.
    """
    folders = [Path(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    found = []
    for top in dict.fromkeys(name.partition(".")[0] for name in plugins):
        places = ((folder / top, folder / f"{top}.py") for folder in folders)
        found += [str(place) for pair in places for place in pair if place.exists()][:1]
    return found
