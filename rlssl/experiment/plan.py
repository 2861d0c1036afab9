"""What a sweep would run and need, before it starts."""

import dataclasses
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch

from rlssl.clocks import WORDS
from rlssl.experiment.cluster.connect import bundles_of, connect_to, local_memory
from rlssl.experiment.cluster.placement import require_room, total, trials_at_a_time
from rlssl.experiment.measurement import Measurement
from rlssl.experiment.spec.listing import MOST_LISTED
from rlssl.experiment.spec.schema import Spec
from rlssl.experiment.spec.search_space import adapts, draw_points, num_points, num_trials
from rlssl.experiment.trial_check import CheckedTrial, largest_replay
from rlssl.system.stores.places import is_uri, local_folder

#: A checkpoint has each weight, two moments of Adam, and the policy for `load_policy`.
_BYTES_PER_WEIGHT = 4 * 4

_GIB = 2**30


@dataclass(frozen=True)
class Plan:
    """What a sweep would run and need; ``dataclasses.asdict`` gives plain data."""

    name: str
    env_steps: int
    # What `env_steps` counts; see `rlssl.clocks`.
    clock: str
    seeds: list[int]
    # The most that there can be, if the searcher chooses each by the scores of those before.
    num_points: int
    # The first points; none if the searcher chooses them.
    points: list[dict[str, Any]]
    # Resources of each process of a trial: CPU, GPU, and bytes of memory.
    processes: list[dict[str, float]]
    # Resources of each node.
    nodes: list[dict[str, float]]
    is_local: bool
    trials_at_a_time: int
    # Bytes of memory of the replay buffer of a trial.
    replay_bytes: int
    # Bytes of a checkpoint with a full replay buffer, and of all that are kept.
    checkpoint_bytes: int
    disk_bytes: int
    free_bytes: int
    storage: str
    # A trial of some seconds; None: not measured.
    measured: Measurement | None = None

    @property
    def num_trials(self) -> int:
        """Number of trials: points x seeds."""
        return self.num_points * len(self.seeds)

    @property
    def seconds(self) -> float | None:
        """Estimated time of the whole sweep without the starts of processes; None: unknown."""
        if self.measured is None:
            return None
        rounds = -(-self.num_trials // self.trials_at_a_time)
        return rounds * self.env_steps / self.measured.env_steps_per_s


def plan(
    spec: Spec,
    checked: list[CheckedTrial],
    *,
    address: str | None = None,
    measured: Measurement | None = None,
) -> Plan:
    """Plans a sweep on this machine, or on a cluster.

    Args:
        spec: The spec of a run or a sweep.
        checked: From `check_sweep`.
        address: Address of an existing cluster; None: this machine.
        measured: A measured trial of the spec.

    Raises:
        ResourceError: If a trial needs more than there is, or the cluster cannot be used.
    """
    replay_bytes = largest_replay(checked)
    processes = bundles_of(spec, replay_bytes)
    nodes = this_machine(processes) if address is None else _nodes_of(address)
    require_room(processes, nodes)
    trials = num_points(spec) * len(spec.seeds)
    weights = max(trial.num_weights for trial in checked) * _BYTES_PER_WEIGHT
    size = weights if measured is None else measured.checkpoint_bytes
    size += replay_bytes if spec.checkpoint.replay_buffer else 0
    folder = _existing(local_folder(spec.storage).absolute())
    return Plan(
        name=spec.name,
        env_steps=int(spec.stop[spec.clock]),
        clock=spec.clock,
        seeds=list(spec.seeds),
        num_points=num_points(spec),
        points=[] if adapts(spec) else draw_points(spec)[:MOST_LISTED],
        processes=processes,
        nodes=nodes,
        is_local=address is None,
        trials_at_a_time=trials_at_a_time(processes, nodes, trials),
        replay_bytes=replay_bytes,
        checkpoint_bytes=size,
        disk_bytes=size * spec.checkpoint.keep * trials,
        free_bytes=shutil.disk_usage(folder).free,
        storage=str(folder) if is_uri(spec.storage) else spec.storage,
        measured=measured,
    )


def this_machine(processes: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """The resources that a local Ray has for trials; it counts the CPUs of one trial at least."""
    cpus = max(os.cpu_count() or 1, math.ceil(total("CPU", processes)))
    return [{"CPU": cpus, "GPU": torch.cuda.device_count(), "memory": local_memory()}]


def _nodes_of(address: str) -> list[dict[str, float]]:
    connect_to(address)
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [{key: node.get(key, 0.0) for key in ("CPU", "GPU", "memory")} for node in nodes]


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def as_json(planned: Plan) -> dict[str, Any]:
    """The plan as plain data, with the number of trials and the estimated seconds."""
    derived = {"num_trials": planned.num_trials, "seconds": planned.seconds}
    return {**dataclasses.asdict(planned), **derived}


def lines(planned: Plan) -> Iterator[str]:
    """What the trials of a sweep need, in words, a line for each fact."""
    yield f"a trial: {_processes(planned.processes)}"
    yield (
        f"{'this machine' if planned.is_local else 'the cluster'}: {_cluster(planned.nodes)}; "
        f"{planned.trials_at_a_time:,} {'trial' if planned.trials_at_a_time == 1 else 'trials'} at "
        "a time"
    )
    cores = os.cpu_count() or 1
    if planned.is_local and planned.nodes[0]["CPU"] > cores:
        yield f"its cores: {cores}, which the processes of a trial share"
    used = planned.trials_at_a_time * total("GPU", planned.processes)
    if idle := idle_gpus(total("GPU", planned.nodes), used):
        yield idle
    if planned.replay_bytes:
        many = planned.replay_bytes * planned.trials_at_a_time
        yield (
            f"replay memory: {_size(planned.replay_bytes)} a trial, {_size(many)} for all trials "
            "that run at a time"
        )
    yield _disk(planned)
    yield _time(planned)


def idle_gpus(present: float, used: float) -> str:
    """Words about GPUs that no trial uses; "" if there are none.

    Args:
        present: Number of GPUs.
        used: Number of GPUs that all trials that run at a time ask for.

    Example:
        >>> idle_gpus(2, 0)
        'idle GPUs: 2 of 2; resources.gpus_per_learner=1 uses a GPU, 0.25 a quarter of it'
        >>> idle_gpus(2, 2.5)
        ''
    """
    idle = int(present - used)
    if idle < 1:
        return ""
    return (
        f"idle GPUs: {idle} of {present:g}; resources.gpus_per_learner=1 uses a GPU, 0.25 a "
        "quarter of it"
    )


def idle_gpus_here(spec: Spec) -> str:
    """As `idle_gpus`, for the trials of a spec on this machine."""
    present = torch.cuda.device_count()
    return idle_gpus(present, num_trials(spec) * total("GPU", bundles_of(spec))) if present else ""


def _processes(bundles: list[dict[str, float]]) -> str:
    words = [
        " + ".join(
            f"{_size(value)} of memory" if key == "memory" else f"{value:g} {key}"
            for key, value in bundle.items()
            if value and (key != "memory" or value > 1)
        )
        for bundle in bundles
    ]
    count = "1 process" if len(words) == 1 else f"{len(words)} processes"
    each = dict.fromkeys(words)
    return f"{count}: " + ", ".join(
        word if words.count(word) == 1 else f"{words.count(word)} x ({word})" for word in each
    )


def _cluster(nodes: list[dict[str, float]]) -> str:
    cpus, gpus, memory = (sum(node[key] for node in nodes) for key in ("CPU", "GPU", "memory"))
    on = f" on {len(nodes)} nodes" if len(nodes) > 1 else ""
    return f"{cpus:g} CPUs, {gpus:g} GPUs, {_size(memory)} of memory for trials{on}"


def _disk(planned: Plan) -> str:
    of_all = "about" if planned.measured is None else "measured,"
    words = (
        f"disk: {of_all} {_size(planned.checkpoint_bytes)} a checkpoint, "
        f"{_size(planned.disk_bytes)} for those that are kept; {_size(planned.free_bytes)} are "
        f"free in {planned.storage}"
    )
    if planned.disk_bytes <= planned.free_bytes:
        return words
    return f"{words}. TOO LITTLE: lower checkpoint.keep, or set checkpoint.replay_buffer: false"


def _time(planned: Plan) -> str:
    if planned.measured is None or planned.seconds is None:
        return "time: not measured; --measure trains one trial for 20 seconds"
    minutes = planned.seconds / 60
    words = f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"
    return (
        f"time: {planned.measured.env_steps_per_s:,.0f} {WORDS[planned.clock]}/s in a trial of its "
        f"own; about {words} in all, at most, without the starts of processes"
    )


def _size(num_bytes: float) -> str:
    if num_bytes < _GIB / 10:
        return f"{num_bytes / 2**20:.1f} MiB"
    return f"{num_bytes / _GIB:.2f} GiB"
