"""What `rlssl inspect` resolves presets, variants and the named sweeps to."""

import importlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from click.testing import CliRunner

#: Algorithm -> an environment that its presets suit, presets, variants; None: none is named.
_PRESETS: dict[str, tuple[str, list[str | None], list[str | None]]] = {
    "ppo": ("CartPole-v1", [None], [None, "clip", "adaptive_kl", "both"]),
    "a3c": ("atari/Pong", [None, "a3c_atari", "icm"], [None, "a3c", "a2c"]),
    "rainbow": (
        "atari/Pong",
        [None, "rainbow", "dqn", "data_efficient", "curl_atari100k"],
        [None, "kaixhin", "dopamine", "code"],
    ),
    "sac": ("dmc-pixels/cartpole-swingup", [None, "curl", "sac_ae"], [None, "code", "paper"]),
    "ddpg": (
        "dmc-pixels/cartpole-swingup",
        [None, "td3", "drq_v2", "lillicrap"],
        [None, "easy", "medium", "hard"],
    ),
}


def spec_records(only: str) -> dict[str, dict[str, Any]]:
    """Name -> exit code and lines of `rlssl inspect`; combinations that are refused, too."""
    records = {}
    with tempfile.TemporaryDirectory(prefix="golden-") as scratch:
        for name, document in _documents().items():
            path = Path(scratch) / f"{name}.yaml"
            path.write_text(json.dumps(document))
            if only in name:
                records[name] = inspected(str(path))
    for row in json.loads(_invoke("list", "sweeps", "--json")[1]):
        if only in f"spec-sweep-{row['name']}":
            records[f"spec-sweep-{row['name']}"] = inspected(row["name"])
    return records


def inspected(source: str) -> dict[str, Any]:
    """The record of a spec, without comments and messages: their words may change."""
    code, output = _invoke("inspect", source)
    lines = output.replace(source, "SOURCE").splitlines()
    lines = [line for line in lines if line and not line.startswith(("#", "error:"))]
    return {"exit code": code, "outputs": lines}


def _documents() -> dict[str, dict[str, Any]]:
    documents = {}
    for algorithm, (env, presets, variants) in _PRESETS.items():
        for preset in presets:
            for variant in variants:
                given = {"preset": preset, "variant": variant}
                named = {key: value for key, value in given.items() if value is not None}
                name = "-".join(["spec", algorithm, *named.values()])
                document = {"name": "spec", "algorithm": algorithm, "env": env, **named}
                documents[name] = {**document, "stop": {"env_steps": 10_000}}
    return documents


def _invoke(*arguments: str) -> tuple[int, str]:
    module, function = os.environ["GOLDEN_CLI"].split(":")
    result = CliRunner().invoke(getattr(importlib.import_module(module), function), arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return -1, repr(result.exception)
    return result.exit_code, result.output
