"""How many gradients a second A3C's driver can apply: dummy workers that compute nothing.

`python -m benchmarks.a3c_ceiling` prints a table. Each worker is a Ray actor that answers at once
with a numpy buffer of zeros. So the table measures the driver and the transport: taking a reply,
clipping, the optimizer's step, and sending new parameters. `WorkerPool`, `FlatModule` and
`RMSProp` are those of A3C. Driver and workers share this machine's cores, which they would not do
on a cluster: figures of two cores are a lower bound.
"""

import argparse
import os
import time
import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np

SIZES, NUM_WORKERS, SECONDS = (100_000, 1_000_000, 10_000_000), 32, 10.0


class DummyWorker:
    """Answers every request with the same gradient, after a wait."""

    def __init__(self, size: int, wait_s: float = 0.0) -> None:
        self._gradient, self._wait_s = np.zeros(size, np.float32), wait_s
        self._incarnation, self._sequence = uuid.uuid4().hex, 0

    def hello(self) -> str:
        """See `rlssl.algorithms.a3c.pool`."""
        return self._incarnation

    def gradient(self, parameters: np.ndarray, *, version: int) -> Any:
        """A reply without any work."""
        from rlssl.algorithms.a3c.pool import Reply

        del parameters
        time.sleep(self._wait_s)
        self._sequence += 1
        return Reply(self._incarnation, self._sequence, version, self._gradient, 1)


@dataclass(frozen=True)
class Ceiling:
    """The figures of one size."""

    parameters: int
    workers: int
    gradients_per_s: float
    # Mean number of updates between pull and apply.
    staleness: float
    # Work of the driver on one gradient, without waiting; milliseconds.
    driver_ms: float


def measure(size: int, workers: int, seconds: float, wait_s: float = 0.0) -> Ceiling:
    """Applies the gradients that arrive for ``seconds``; Ray must be running."""
    import ray
    import torch
    from torch import nn

    from rlssl.algorithms.a3c.flat import FlatModule
    from rlssl.algorithms.a3c.pool import WorkerPool
    from rlssl.algorithms.a3c.staleness import StalenessLog
    from rlssl.algorithms.common.optimizers import RMSProp

    flat = FlatModule({"all": [nn.Parameter(torch.zeros(size))]}, [])
    (parameter,) = flat.groups.values()
    optimizer, staleness = RMSProp([parameter]), StalenessLog(limit=None)
    dummy = ray.remote(num_cpus=0, max_restarts=1)(DummyWorker)
    actors = {index: dummy.remote(size, wait_s) for index in range(1, workers + 1)}
    pool = WorkerPool(actors, timeout_s=600.0, silence_s=600.0)
    while len(pool.alive()) < workers:
        pool.wait()
    version, busy_s, begin = 0, 0.0, time.perf_counter()
    for index in pool.idle():
        pool.ask(index, flat.values.numpy(), version=version)
    while time.perf_counter() - begin < seconds:
        for index, reply in pool.wait():
            began = time.perf_counter()
            staleness.admits(pulled=reply.version, now=version)
            flat.take(reply.gradient)
            norm = torch.linalg.vector_norm(flat.gradient)
            assert bool(torch.isfinite(norm))
            flat.gradient.mul_((0.5 / (norm + 1e-6)).clamp(max=1.0))
            optimizer.step()
            version += 1
            pool.ask(index, flat.values.numpy(), version=version)
            busy_s += time.perf_counter() - began
    spent = time.perf_counter() - begin
    for actor in actors.values():
        ray.kill(actor)
    mean = staleness.drain()["mean"]
    return Ceiling(size, workers, version / spent, mean, 1000 * busy_s / max(1, version))


def main() -> None:
    """Measures every size in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=NUM_WORKERS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    print("| parameters | workers | applied gradients/s | staleness | driver ms a gradient |")
    print("| --- | --- | --- | --- | --- |")
    for size in given.sizes:
        one = measure(size, given.workers, given.seconds)
        print(
            f"| {one.parameters:,} | {one.workers} | {one.gradients_per_s:.0f} | "
            f"{one.staleness:.1f} | {one.driver_ms:.2f} |",
            flush=True,
        )
    ray.shutdown()


if __name__ == "__main__":
    main()
