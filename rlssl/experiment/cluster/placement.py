"""What a trial asks of a cluster, and how many trials a cluster has room for."""

from collections.abc import Mapping, Sequence
from typing import Any

from ray import tune

from rlssl.errors import ResourceError
from rlssl.experiment.spec.building import build_config
from rlssl.experiment.spec.schema import Spec
from rlssl.experiment.spec.search_space import num_trials

START_NODES = "start more nodes (ray start --address=HOST:PORT), or wait for them: --wait-for-nodes"

#: Ray's name of the resource, and the key of a spec that asks for it.
_ASKED_BY = {"CPU": "resources", "GPU": "resources", "memory": "training.replay_capacity"}


def trial_request(sweep: Spec, trial: Spec, replay_bytes: int = 0) -> tune.PlacementGroupFactory:
    """The processes of a trial with their CPUs, GPUs and memory; see `is_spread`.

    Args:
        sweep: The spec of the whole sweep.
        trial: The spec of the trial.
        replay_bytes: Bytes of its full replay buffer. Ray gives each node's memory to as many
            trials of a sweep as have room. A single trial does not ask for memory.
    """
    config = build_config(trial)
    # Otherwise validate() would build the environment, on which the request does not depend.
    config.adapt_to(None)
    request = config.algo_class.default_resource_request(config)
    if is_spread(sweep):
        return spread(request)
    if replay_bytes and num_trials(sweep) > 1:
        own, *others = request.bundles
        bundles = [{**own, "memory": replay_bytes}, *others]
        request = tune.PlacementGroupFactory(bundles, strategy=request.strategy)
    return request


def is_spread(spec: Spec) -> bool:
    """Whether the processes of a trial are spread over all nodes, or packed on few nodes.

    The EnvRunners of a single trial are spread: every node has work, and a lost node costs only
    some of the EnvRunners. Each trial of a sweep is packed on as few nodes as possible: other
    trials keep the other nodes busy, and samples need not cross the network. A trial with remote
    Learners is packed too, because Learners exchange gradients.
    """
    return num_trials(spec) == 1 and not spec.resources.learners


def spread(request: tune.PlacementGroupFactory) -> tune.PlacementGroupFactory:
    """Returns the same request with the EnvRunners spread evenly over the nodes.

    Ray places the largest bundles first. If the trial's own bundle were as large as an EnvRunner's,
    Ray would count it as an EnvRunner, and some nodes would get two EnvRunners more than others.
    So each EnvRunner's bundle asks for one byte of memory more.
    """
    own, *runners = request.bundles
    larger = [{**bundle, "memory": bundle.get("memory", 0) + 1} for bundle in runners]
    return tune.PlacementGroupFactory([own, *larger], strategy="SPREAD")


def require_room(bundles: Sequence[Mapping[str, float]], cluster: Sequence[Any]) -> None:
    """Refuses a trial that can never be placed on the cluster.

    Args:
        bundles: The resources that each process of a trial needs; each process runs on one node.
        cluster: The resources of each node.

    Raises:
        ResourceError: If the trial does not fit; names the resources that it needs and those of
            the cluster, in total and on the largest node.

    Example:
        >>> require_room([{"CPU": 1}, {"CPU": 4}], [{"CPU": 4}, {"CPU": 2}])
    """
    if (lack := lack_of_room(bundles, cluster)) is not None:
        raise lack


def lack_of_room(
    bundles: Sequence[Mapping[str, float]], cluster: Sequence[Any]
) -> ResourceError | None:
    """The error that `require_room` raises; None if the trial can be placed.

    Args:
        bundles: The resources that each process of a trial needs.
        cluster: The resources of each node.
    """
    for key in _ASKED_BY:
        if total(key, bundles) > total(key, cluster):
            return too_few(key, bundles, "the cluster", cluster)
    unplaced = _place(bundles, _free(cluster))
    if unplaced is not None:
        return too_few(_scarce(unplaced, cluster), bundles, "the cluster", cluster)
    return None


def trials_at_a_time(
    bundles: Sequence[Mapping[str, float]], cluster: Sequence[Any], most: int
) -> int:
    """Number of equal trials that run on a cluster at the same time.

    Args:
        bundles: The resources that each process of a trial needs.
        cluster: The resources of each node.
        most: Number of trials in all.

    Example:
        >>> trials_at_a_time([{"CPU": 1}, {"CPU": 2}], [{"CPU": 4}, {"CPU": 2}], 9)
        2
    """
    free = _free(cluster)
    for count in range(most):
        if _place(bundles, free) is not None:
            return count
    return most


def _free(cluster: Sequence[Any]) -> list[dict[str, float]]:
    return [{key: node.get(key, 0.0) for key in _ASKED_BY} for node in cluster]


def _place(
    bundles: Sequence[Mapping[str, float]], free: list[dict[str, float]]
) -> Mapping[str, float] | None:
    """Takes the resources of a trial from the nodes; returns a process that has no room, if any.

    The largest process goes first, each to the smallest node with room for it. So a process without
    GPUs does not occupy a node with GPUs.
    """
    for bundle in sorted(bundles, key=_size, reverse=True):
        fitting = [node for node in free if all(node[key] >= bundle.get(key, 0) for key in node)]
        if not fitting:
            return bundle
        chosen = min(fitting, key=_size)
        for key in chosen:
            chosen[key] -= bundle.get(key, 0)
    return None


def _scarce(bundle: Mapping[str, float], cluster: Sequence[Any]) -> str:
    """The resource to name, if a process finds no node with room for it."""
    if bundle.get("GPU"):
        return "GPU"
    largest = max((node.get("memory", 0) for node in cluster), default=0)
    return "memory" if bundle.get("memory", 0) > largest else "CPU"


def _size(resources: Mapping[str, float]) -> tuple[float, ...]:
    return tuple(resources.get(key, 0) for key in ("GPU", "CPU", "memory"))


def total(key: str, resources: Sequence[Mapping[str, float]]) -> float:
    """The sum of one kind of resource."""
    return sum(part.get(key, 0) for part in resources)


def too_few(
    key: str, bundles: Sequence[Mapping[str, float]], where: str, cluster: Sequence[Any]
) -> ResourceError:
    """The error that a trial needs more of one kind of resource than there is.

    Args:
        key: The kind.
        bundles: The resources that each process of a trial needs.
        where: Words for the cluster.
        cluster: The resources of each node.
    """
    each = [bundle.get(key, 0) for bundle in bundles if bundle.get(key)]
    parts = f" in {len(each)} processes of up to {_amount(key, max(each))}" if each[1:] else ""
    nodes_with = [node[key] for node in cluster if node.get(key)]
    largest = _amount(key, max(nodes_with, default=0))
    on_nodes = f" on {len(nodes_with)} nodes, the largest {largest}" if nodes_with[1:] else ""
    fix = "give a cluster that has them: --address HOST:PORT"
    words = {"CPU": " CPUs", "GPU": " GPUs", "memory": " of memory"}[key]
    return ResourceError(
        f"a trial needs {_amount(key, sum(each))}{words}{parts} ({_ASKED_BY[key]}), but {where} "
        f"has {_amount(key, total(key, cluster))}{on_nodes}; request fewer, or "
        f"{fix if where == 'this machine' else START_NODES}."
    )


def _amount(key: str, value: float) -> str:
    return f"{value / 2**30:.2f} GiB" if key == "memory" else f"{value:g}"
