"""Proves that a refactoring changes no bit of any result: trains small cases on two checkouts.

    python tests/golden/golden_record.py record CHECKOUT --out FILE.json [--only PART]
    python tests/golden/golden_record.py compare OLD NEW [--only PART]
    python tests/golden/golden_record.py checkpoints OLD NEW [--work DIR] [--only PART]

OLD and NEW of `compare` are checkouts, or files that `record` wrote.

- `record` trains every algorithm with every loss, and variants of their code. It writes metrics,
  hashes of weights and optimizers, hashes of what environments received and returned, and what
  `rlssl inspect` makes of presets, variants and the named sweeps.
- `compare` lists the differences of two records, and ends with exit code 1 if there are any.
- `checkpoints` trains and saves in OLD, and continues in OLD and in NEW: through RLlib's
  checkpoints, `rlssl resume`, `rlssl evaluate`, `rlssl export` and `rlssl.load_policy`. What OLD
  trained and saved in DIR before is used again; delete DIR to train again.

A record is valid on one machine with one set of packages: other processors round differently. Every
checkout runs in a process of its own with this interpreter, whose environment must have rlssl
installed (for its entry points); the checkout's packages come first on the import path.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

#: Old path of a metric, or some of its consecutive parts -> the new one: {"aux/icm": "icm"}.
#: A refactoring that renames metrics lists them here.
RENAMED_METRICS: dict[str, str] = {"faults/env_stalls": "faults/env_timeouts"}

#: The repository of this script, whose `tests` run on every checkout.
_REPOSITORY = Path(__file__).resolve().parents[2]

#: Differences that are printed for each case.
_SHOWN = 8

Record = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    parsed = _parser().parse_args(arguments)
    if parsed.command == "record":
        recorded = record(parsed.checkout, parsed.only)
        parsed.out.parent.mkdir(parents=True, exist_ok=True)
        parsed.out.write_text(json.dumps(recorded, indent=1))
        failed = [name for name, case in recorded["cases"].items() if "error" in case]
        print(f"{len(recorded['cases'])} cases; failed: {failed or 'none'}")
        return 1 if failed else 0
    if parsed.command == "compare":
        old, new = (load_or_record(path, parsed.only) for path in (parsed.old, parsed.new))
    else:
        old, new = checkpoints(parsed.old, parsed.new, parsed.work, parsed.only)
    return report(old, new)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("record", help="train the cases and write what came out")
    command.add_argument("checkout", type=Path)
    command.add_argument("--out", type=Path, required=True, metavar="FILE")
    for name in ("compare", "checkpoints"):
        other = commands.add_parser(name, help="compare two checkouts")
        other.add_argument("old", type=Path)
        other.add_argument("new", type=Path)
        other.add_argument("--only", default="", metavar="PART", help="of the names of cases")
    command.add_argument("--only", default="", metavar="PART", help="of the names of cases")
    other.add_argument("--work", type=Path, metavar="DIR", help="keeps what OLD trained")
    return parser


def record(checkout: Path, only: str = "") -> Record:
    """Trains the cases whose names contain ``only`` on a checkout."""
    with tempfile.TemporaryDirectory(prefix="golden-") as scratch:
        out = Path(scratch) / "record.json"
        run_on(checkout, "tests.golden.recording", str(out), only)
        recorded: Record = json.loads(out.read_text())
    return recorded


def load_or_record(path: Path, only: str) -> Record:
    """A record that was written before, or that of a checkout."""
    if path.is_dir():
        return record(path, only)
    recorded: Record = json.loads(path.read_text())
    return {"cases": {name: case for name, case in recorded["cases"].items() if only in name}}


def checkpoints(old: Path, new: Path, work: Path | None, only: str) -> tuple[Record, Record]:
    """What follows checkpoints of ``old``, continued by ``old`` and by ``new``."""
    with tempfile.TemporaryDirectory(prefix="golden-") as scratch:
        folder = (work or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        module = "tests.golden.checkpoints"
        run_on(old, module, "make", str(folder), only)
        run_on(old, module, "continue", str(folder), only, "old")
        run_on(new, module, "continue", str(folder), only, "new")
        files = [folder / f"{name}.json" for name in ("old", "new")]
        first, second = (json.loads(file.read_text())["cases"] for file in files)
    # The old record may hold more, of a call before with another ``only``.
    return {"cases": {name: first[name] for name in second}}, {"cases": second}


def run_on(checkout: Path, module: str, *arguments: str) -> None:
    """Runs a module of this repository's tests in a process that imports a checkout's packages.

    Args:
        checkout: Folder with a pyproject.toml, whose `package-dir` says where the packages are.
        module: With a ``main()`` whose first argument says where packages must come from.
        *arguments: Its other arguments.
    """
    checkout = checkout.resolve()
    settings = tomllib.loads((checkout / "pyproject.toml").read_text())
    packages = {
        name: str(checkout / folder)
        for name, folder in settings["tool"]["setuptools"]["package-dir"].items()
    }
    with tempfile.TemporaryDirectory(prefix="golden-path-") as scratch:
        links = {**packages, "tests": str(_REPOSITORY / "tests")}
        for name, target in links.items():
            (Path(scratch) / name).symlink_to(target)
        environment = {
            **os.environ,
            **{"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"},
            **{"MUJOCO_GL": "egl", "SDL_VIDEODRIVER": "dummy", "PYTHONPATH": scratch},
            # Runs that are started here are not noted in the user's home.
            "XDG_STATE_HOME": str(Path(scratch) / "state"),
            "GOLDEN_CLI": settings["project"]["scripts"]["rlssl"],
        }
        command = [sys.executable, "-P", "-m", module, json.dumps(packages), *arguments]
        subprocess.run(command, cwd=scratch, env=environment, check=True)


def report(old: Record, new: Record) -> int:
    """Prints the differences; returns the exit code."""
    count = 0
    for name, found in compare(old, new):
        count += 1
        print(f"{name}:")
        for line in found[:_SHOWN]:
            print(f"  {line}")
        if len(found) > _SHOWN:
            print(f"  and {len(found) - _SHOWN} more")
    print(f"{count} of {len(old['cases'])} cases differ")
    return 1 if count or not old["cases"] else 0


def compare(
    old: Record, new: Record, renamed: Mapping[str, str] | None = None
) -> Iterator[tuple[str, list[str]]]:
    """The cases that differ, and how.

    Args:
        old: From `record`.
        new: From `record`.
        renamed: As `RENAMED_METRICS`, which None stands for.
    """
    renamed = RENAMED_METRICS if renamed is None else renamed
    before, after = old["cases"], new["cases"]
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after:
            yield name, [f"only in the {'old' if name in before else 'new'} record"]
        elif found := list(_differences(before[name], after[name], renamed)):
            yield name, found


def _differences(old: Record, new: Record, renamed: Mapping[str, str]) -> Iterator[str]:
    for key in sorted(old.keys() | new.keys()):
        if key == "iterations" and key in old and key in new:
            yield from _rows(old[key], new[key], renamed)
        elif key.startswith(("tensors", "outputs")) and key in old and key in new:
            yield from _multisets(key, old[key], new[key])
        elif old.get(key) != new.get(key):
            yield f"{key}: {old.get(key)} -> {new.get(key)}"


def _rows(old: list[Record], new: list[Record], renamed: Mapping[str, str]) -> Iterator[str]:
    if len(old) != len(new):
        yield f"iterations: {len(old)} -> {len(new)}"
    for number, (one, other) in enumerate(zip(old, new, strict=False), start=1):
        before = {rename(path, renamed): value for path, value in one["metrics"].items()}
        after = other["metrics"]
        for path in sorted(before.keys() | after.keys()):
            if before.get(path) != after.get(path):
                values = [_readable(side.get(path)) for side in (before, after)]
                yield f"iteration {number}, {path}: {values[0]} -> {values[1]}"
        if one.get("environments") != other.get("environments"):
            trace = f"{one.get('environments')} -> {other.get('environments')}"
            yield f"iteration {number}, actions and observations: {trace}"


def _multisets(key: str, old: list[str], new: list[str]) -> Iterator[str]:
    gone, come = (Counter(old) - Counter(new)), (Counter(new) - Counter(old))
    if gone or come:
        yield (
            f"{key}: {gone.total()} of {len(old)} are gone, {come.total()} of {len(new)} are new: "
            f"{sorted(gone)[:2]} -> {sorted(come)[:2]}"
        )


def rename(path: str, renamed: Mapping[str, str]) -> str:
    """The new path of an old metric: whole parts between slashes are replaced."""
    whole = f"/{path}/"
    for old, new in renamed.items():
        whole = whole.replace(f"/{old}/", f"/{new}/")
    return whole.strip("/")


def _readable(value: str | None) -> str:
    if value is None:
        return "missing"
    try:
        return f"{float.fromhex(value)!r}" if "0x" in value else value
    except ValueError:
        return value


if __name__ == "__main__":
    sys.exit(main())
