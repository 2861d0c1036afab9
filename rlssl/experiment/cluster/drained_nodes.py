"""Notices that a node of a trial is about to be taken from the cluster, as a spot machine is."""

import ray
from ray.rllib.algorithms.algorithm import Algorithm

from rlssl.ray_internals.cluster import draining_nodes, id_of_actor, node_of_actor
from rlssl.ray_internals.env_runner import learner_manager


def drained_node(algorithm: Algorithm | None) -> str:
    """The node that is drained and without which a trial cannot go on; "" if there is none.

    These are the node of this process and those of its Learners. EnvRunners are not considered: the
    trial goes on without them.

    Args:
        algorithm: The Algorithm of the trial in this process; None while it is built.
    """
    draining = draining_nodes()
    if not draining:
        return ""
    needed = [ray.get_runtime_context().get_node_id()]
    manager = None if algorithm is None else learner_manager(algorithm.learner_group)
    if manager is not None:
        needed += [node_of_actor(id_of_actor(actor)) for actor in manager.actors().values()]
    return next((node_id for node_id in needed if node_id in draining), "")
