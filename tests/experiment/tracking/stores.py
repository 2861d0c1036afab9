"""Reads what trackers have stored: W&B's offline files, MLflow's database."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from wandb.proto import wandb_internal_pb2

#: W&B's files: a header, then blocks of records, each with a checksum, a size and a kind.
_FILE_HEADER, _BLOCK, _RECORD_HEADER = 7, 32_768, 7
_FULL, _LAST = 1, 4

Curve = list[tuple[int, float]]


def wandb_records(run: Path) -> Iterator[tuple[str, Any]]:
    """(id of a run, record) of all offline files below the folder of a run, oldest file first."""
    for path in sorted(run.glob("wandb/offline-run-*/run-*.wandb")):
        for record in _records(path.read_bytes()):
            yield path.stem.removeprefix("run-"), record


def wandb_curve(run: Path, run_id: str, metric: str) -> Curve:
    """(env steps, value) of a metric, from all parts of a W&B run."""
    curve = []
    for found, record in wandb_records(run):
        if found == run_id and record.HasField("history"):
            items = record.history.item
            row = {"/".join(it.nested_key) or it.key: json.loads(it.value_json) for it in items}
            assert row["_step"] == row["env_steps"]
            curve.append((row["env_steps"], row[metric]))
    return curve


def mlflow_curve(uri: str, run_id: str, metric: str) -> Curve:
    """(env steps, value) of a metric of an MLflow run."""
    history = MlflowClient(tracking_uri=uri).get_metric_history(run_id, metric)
    return [(entry.step, entry.value) for entry in history]


def _records(data: bytes) -> Iterator[Any]:
    position, whole = _FILE_HEADER, b""
    while position + _RECORD_HEADER <= len(data):
        room = _BLOCK - position % _BLOCK
        if room < _RECORD_HEADER:
            position += room
            continue
        _, size, kind = struct.unpack_from("<IHB", data, position)
        position += _RECORD_HEADER
        whole += data[position : position + size]
        position += size
        if kind in (_FULL, _LAST):
            yield wandb_internal_pb2.Record.FromString(whole)  # type: ignore[attr-defined]
            whole = b""
