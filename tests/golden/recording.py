"""Trains the cases in this process and writes what came out; `golden_record.py` starts it.

Only rlssl's and RLlib's public interfaces are used, so that it runs on any checkout.
"""

import copy
import hashlib
import json
import random
import re
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
import tree

import rlssl
from tests.golden.cases import Case, all_cases
from tests.golden.environments import TRACE
from tests.golden.specs import spec_records

#: Metrics that depend on the clock, the machine or the process: found in "/the/path/of/a/metric/".
#: Parts are spelled out, so that `updates` or `num_env_steps_sampled_lifetime` are not among them.
DROPPED = re.compile(
    "/timers/|_timer/|/time_|/timestamp/|/date/|duration_sec|throughput|_per_second|^/perf/"
    "|/pid/|/hostname/|/node_ip/|/trial_id/|/experiment_id/|since_restore|^/config/"
    "|^/env_runners/sample/"
)


def main() -> None:
    """Arguments: the imports to expect, the file to write, and a part of the cases' names."""
    expected, out, only = sys.argv[1:4]
    cases = [case for case in all_cases() if only in case.name]
    start(expected)
    records: dict[str, Any] = {}
    for case in cases:
        began = time.monotonic()
        records[case.name] = record_or_error(case)
        seconds = time.monotonic() - began
        print(f"{seconds:6.1f} s  {case.name}  {records[case.name].get('error', '')}", flush=True)
    records |= spec_records(only)
    check_imports(json.loads(expected))
    Path(out).write_text(json.dumps({"cases": records}, indent=1))


def start(expected: str) -> None:
    """Checks whose code runs here, and starts Ray for this process and few workers."""
    check_imports(json.loads(expected))
    torch.set_num_threads(1)
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    ray.get(ray.remote(check_imports).remote(json.loads(expected)))


def check_imports(expected: Mapping[str, str]) -> None:
    """Fails if a package was imported from another place than the checkout.

    Args:
        expected: Package -> the folder that its files must be in.

    Raises:
        ImportError: Naming the package and the file.
    """
    import rlssl_envs  # noqa: F401

    for name, module in list(sys.modules.items()):
        folder, file = expected.get(name.split(".")[0]), getattr(module, "__file__", None)
        if folder and file and not Path(file).resolve().is_relative_to(folder):
            raise ImportError(f"{name} was imported from {file}, and not from {folder}.")


def record_or_error(case: Case) -> dict[str, Any]:
    """The record of a case; or the error, which is compared, too."""
    try:
        return record(case)
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {str(error)[:300]}"}


def record(case: Case) -> dict[str, Any]:
    """Trains a case from its start."""
    algorithm = build(case)
    try:
        before = learner_hashes(algorithm)
        actions = policy_hashes(algorithm, case)
        rows = train(algorithm, case.iterations)
        after = learner_hashes(algorithm)
        changed = Counter(after["module"]) - Counter(before["module"])
        if not changed or rows[-1]["metrics"].get("updates") == "0":
            raise RuntimeError("no update changed a weight")
        return {
            "iterations": rows,
            "tensors before": before["module"],
            **{f"tensors of {part}": hashes for part, hashes in after.items()},
            "outputs before": actions,
            "outputs": policy_hashes(algorithm, case),
        }
    finally:
        algorithm.stop()


def build(case: Case) -> Any:
    """The Algorithm of a case; every case starts from the same generators."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    algorithm = case.config().build_algo()
    TRACE.reset()
    return algorithm


def train(algorithm: Any, iterations: int) -> list[dict[str, Any]]:
    """Metrics, and the hash of all actions and observations so far, after every iteration."""
    rows = []
    for _ in range(iterations):
        result = algorithm.train()
        trace = f"{TRACE.steps} steps {TRACE.digest()}"
        rows.append({"metrics": metrics(result), "environments": trace})
    return rows


def metrics(result: Mapping[str, Any]) -> dict[str, str]:
    """Everything in a result that does not depend on the clock, by path, to the last bit."""
    flat: dict[str, str] = {}
    for path, value in tree.flatten_with_path(dict(result)):
        name = "/".join(map(str, path))
        if not DROPPED.search(f"/{name}/"):
            flat[name] = exact(value)
    return flat


def exact(value: Any) -> str:
    """A value as text that differs wherever a bit does."""
    if isinstance(value, torch.Tensor | np.ndarray | np.generic) and np.ndim(value) == 0:
        value = value.item()
    if isinstance(value, torch.Tensor | np.ndarray):
        return tensor_hash(value)
    return value.hex() if isinstance(value, float) else repr(value)


def learner_hashes(algorithm: Any) -> dict[str, list[str]]:
    """Hashes of the tensors and numbers of the Learner's module, its optimizers, and the rest.

    Without their names, and sorted, so that modules and their attributes may be renamed.
    """
    state = algorithm.learner_group.get_state()["learner"]
    rest = {key: value for key, value in state.items() if "metrics" not in key}
    module, optimizer = rest.pop("rl_module"), rest.pop("optimizer")
    return {"module": leaves(module), "optimizer": leaves(optimizer), "rest": leaves(rest)}


def policy_hashes(algorithm: Any, case: Case) -> list[str]:
    """Hashes of what the acting module makes of fixed observations."""
    if case.is_remote:
        return []
    module = algorithm.get_module()
    batch = fixed_observations(module.observation_space, 16)
    tensors = tree.map_structure(torch.as_tensor, batch)
    inputs: dict[str, Any] = {"obs": tensors}
    if module.is_stateful():
        initial = tree.map_structure(torch.as_tensor, module.get_initial_state())
        state = tree.map_structure(lambda leaf: leaf.expand(16, *leaf.shape).clone(), initial)
        inputs = {"obs": tree.map_structure(lambda leaf: leaf[:, None], tensors), "state_in": state}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return leaves(dict(module.forward_inference(inputs)))


def fixed_observations(space: Any, count: int) -> Any:
    """Observations [count, ...] that depend on the space alone."""
    space = copy.deepcopy(space)
    space.seed(5)
    samples = [space.sample() for _ in range(count)]
    return tree.map_structure(lambda *leaves: np.stack(leaves), *samples)


def leaves(nested: Any) -> list[str]:
    """Sorted hashes of everything in a nested structure, without the keys."""
    return sorted(map(_leaf, _walk(nested)))


def _walk(nested: Any) -> Iterator[Any]:
    if isinstance(nested, Mapping):
        nested = list(nested.values())
    if isinstance(nested, Sequence) and not isinstance(nested, str | bytes):
        for value in nested:
            yield from _walk(value)
    else:
        yield nested


def _leaf(value: Any) -> str:
    if isinstance(value, torch.Tensor | np.ndarray):
        return tensor_hash(value)
    return exact(value)


def tensor_hash(value: torch.Tensor | np.ndarray) -> str:
    """Type, shape and a hash of the bytes; the same for torch and numpy."""
    if isinstance(value, torch.Tensor):
        data = value.detach().cpu().contiguous()
        raw = data.reshape(-1).view(torch.uint8).numpy().tobytes()
        kind = str(value.dtype).removeprefix("torch.")
    else:
        raw, kind = np.ascontiguousarray(value).tobytes(), str(value.dtype)
    shape = "x".join(map(str, value.shape))
    return f"{kind}[{shape}] {hashlib.sha256(raw).hexdigest()[:16]}"


if __name__ == "__main__":
    print(f"rlssl of {Path(rlssl.__file__).resolve().parent}", flush=True)
    main()
