"""`rlssl doctor`: checks this machine; each line is ok or names a fix."""

import importlib.metadata
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal

import click
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlssl.errors import ExitCode, PluginError, ResourceError
from rlssl.plugins import ENTRY_POINT_GROUP, load_plugins
from rlssl.system.json_output import write_json
from rlssl.system.stores.places import local_folder, parse_place
from rlssl.system.subprocess_probe import NO_ANSWER, SubprocessCheck

_GIB = 2**30
#: (required, recommended): below the first nothing runs, below the second a long run may fail.
_DISK_GIB = (1.0, 10.0)
_MEMORY_GIB = (2.0, 8.0)

_RENDER = """
import mujoco
sphere = "<geom type='sphere' size='1' rgba='1 0 0 1'/><light pos='0 0 3'/>"
model = mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{sphere}</worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = mujoco.Renderer(model, 32, 32)
renderer.update_scene(data)
assert renderer.render().std() > 0, "the image is black"
print("MuJoCo renders an image")
"""
_ROMS = """
import ale_py
from ale_py import roms
games = roms.get_all_rom_ids()
assert games, "there are no ROMs"
ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
ale_py.ALEInterface().loadROM(roms.get_rom_path("pong"))
print(f"{len(games)} games; Pong loads")
"""
_RAY = """
import logging, ray
ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False,
         logging_level=logging.ERROR)
assert ray.get(ray.put(b"x" * 1_000_000)) == b"x" * 1_000_000
print(f"starts; object store of {ray.cluster_resources()['object_store_memory'] / 2**30:.1f} GiB")
"""
_GPU = """
import torch
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
for index in range(len(names)):
    torch.ones(1, device=f"cuda:{index}").sum().item()
print(", ".join(names))
"""


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        subject: What was checked.
        state: "broken": it is required and does not work. "note": it may cause trouble.
        words: The result of the check.
        fix: What to do; "" if nothing is to be done.
    """

    subject: str
    state: Literal["ok", "note", "broken"]
    words: str
    fix: str = ""


def examine(storage: str) -> Iterator[Finding]:
    """Makes all checks, the slow ones at the same time.

    Args:
        storage: The folder for results.
    """
    cluster = SubprocessCheck(_RAY)  # started first, because it is the slowest
    egl, osmesa = (
        SubprocessCheck(_RENDER, MUJOCO_GL="egl"),
        SubprocessCheck(_RENDER, MUJOCO_GL="osmesa"),
    )
    roms, gpu = SubprocessCheck(_ROMS), SubprocessCheck(_GPU)
    yield python_version()
    yield from versions()
    yield plugins()
    yield from rendering(egl.answer(), osmesa.answer())
    yield required("Atari ROMs", roms.answer(), "pip install --force-reinstall ale-py")
    yield gpus(gpu.answer(), has_driver=Path("/proc/driver/nvidia/version").is_file())
    yield disk(storage)
    yield memory(total_memory())
    yield required(
        "Ray", cluster.answer(), "read /tmp/ray/session_latest/logs; free memory and disk space"
    )
    yield shared_memory(Path("/dev/shm"), total_memory())
    yield token_authentication()


def required(
    subject: str, answer: tuple[bool, str], fix: str, *, load: float | None = None
) -> Finding:
    """The result of a subprocess check of something that is required.

    Args:
        subject: What was checked.
        answer: The answer of the `SubprocessCheck`.
        fix: What to do if it does not work.
        load: The machine's load average; None asks the system.
    """
    ok, words = answer
    if ok:
        return Finding(subject, "ok", words)
    load, cores = os.getloadavg()[0] if load is None else load, os.cpu_count() or 1
    if words.startswith(NO_ANSWER) and load > 2 * cores:
        words = f"{words}, at a load of {load:.1f} on {cores} cores"
        return Finding(subject, "note", words, "try again when the machine is less busy")
    return Finding(subject, "broken", words, fix)


def gpus(answer: tuple[bool, str], *, has_driver: bool) -> Finding:
    """The GPUs that PyTorch sees. None is required, but an unused GPU is worth a note."""
    ok, words = answer
    if ok and words:
        return Finding("GPU", "ok", words)
    if ok and not has_driver:
        return Finding("GPU", "ok", "none; training runs on the CPU")
    fix = "install a PyTorch that fits your driver: https://pytorch.org/get-started/locally"
    return Finding("GPU", "note", words or "PyTorch sees none, although there is a driver", fix)


def python_version() -> Finding:
    """Compares the interpreter with the versions that the installed rlssl supports."""
    version = platform.python_version()
    try:
        supported = importlib.metadata.metadata("rlssl")["Requires-Python"]
    except importlib.metadata.PackageNotFoundError:
        supported = ""
    if not SpecifierSet(supported or "").contains(version, prereleases=True):
        words = f"{version}; rlssl needs {supported}"
        return Finding("Python", "broken", words, "create the environment with another Python")
    return Finding("Python", "ok", version)


def versions() -> Iterator[Finding]:
    """Compares every dependency with the range that rlssl needs; extras only if installed."""
    try:
        requirements = [Requirement(text) for text in importlib.metadata.requires("rlssl") or ()]
    except importlib.metadata.PackageNotFoundError:
        yield Finding("rlssl", "broken", "not installed", "pip install -e . in its folder")
        return
    for requirement in requirements:
        finding = installed(requirement)
        if finding is not None:
            yield finding


def installed(requirement: Requirement) -> Finding | None:
    """Checks one dependency; None for those of development and of collective extras."""
    extra = _extra(requirement)
    if extra in ("dev", "bench", "all"):
        return None
    wanted = f"{requirement.name}{requirement.specifier}"
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        if extra:
            fix = f"if you need it: pip install 'rlssl[{extra}]'"
            return Finding(requirement.name, "note", "not installed", fix)
        return Finding(requirement.name, "broken", "not installed", f"pip install '{wanted}'")
    if not requirement.specifier.contains(version, prereleases=True):
        words = f"{version}; rlssl needs {requirement.specifier}"
        return Finding(requirement.name, "broken", words, f"pip install '{wanted}'")
    return Finding(requirement.name, "ok", version)


def _extra(requirement: Requirement) -> str:
    """The extra that the dependency belongs to; "" for the core."""
    _, _, quoted = str(requirement.marker or "").partition("extra == ")
    return quoted.strip("\"'")


def plugins() -> Finding:
    """Imports the installed plug-ins; a defective one stops every command."""
    names = sorted(point.module for point in entry_points(group=ENTRY_POINT_GROUP))
    try:
        load_plugins()
    except PluginError as error:
        return Finding("plug-ins", "broken", str(error), "repair or uninstall this package")
    return Finding("plug-ins", "ok", ", ".join(names) or "none")


def rendering(egl: tuple[bool, str], osmesa: tuple[bool, str]) -> Iterator[Finding]:
    """Checks the two renderers; without a display, pixels of dm_control need one of them."""
    packages = {"EGL": "libegl1 libgl1-mesa-dri", "OSMesa": "libosmesa6"}
    works = egl[0] or osmesa[0]
    for name, (ok, words) in (("EGL", egl), ("OSMesa", osmesa)):
        fix = "" if ok else f"apt-get install {packages[name]}"
        if not ok and works:
            fix = "not needed: the other one works"
        if name == "OSMesa" and ok and not egl[0]:
            fix = "select it: export MUJOCO_GL=osmesa"
        state: Literal["ok", "note", "broken"] = "ok" if ok else "note" if works else "broken"
        yield Finding(f"rendering by {name}", state, words, fix)


def disk(storage: str) -> Finding:
    """Checks the free space of the results' folder, and that it is writable."""
    place = parse_place(storage)
    if place is not None:
        # pyarrow takes a moment to import.
        from rlssl.system.stores.objects import require_rights

        try:
            require_rights(place)
        except ResourceError as error:
            return Finding("storage", "broken", str(error), "give another storage: --storage")
    folder = local_folder(storage).resolve()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        words = f"{folder}: {error.strerror}"
        return Finding("storage", "broken", words, "give another folder: --storage")
    free = shutil.disk_usage(existing).free / _GIB
    words = f"{free:.1f} GiB free at {folder}"
    return _enough("storage", free, _DISK_GIB, words, "delete old runs, or give --storage")


def memory(total: float) -> Finding:
    """Checks the memory that this process may use, in bytes."""
    words, fix = f"{total / _GIB:.1f} GiB", "use fewer env_runners or smaller replay buffers"
    return _enough("memory", total / _GIB, _MEMORY_GIB, words, fix)


def _enough(subject: str, gib: float, limits: tuple[float, float], words: str, fix: str) -> Finding:
    least, recommended = limits
    if gib < least:
        return Finding(subject, "broken", f"{words}; at least {least:g} GiB are needed", fix)
    if gib < recommended:
        return Finding(subject, "note", f"{words}; {recommended:g} GiB are recommended", fix)
    return Finding(subject, "ok", words)


def total_memory() -> float:
    """Memory of the machine in bytes, or the container's limit if it is lower."""
    total = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, float(Path(path).read_text()))
        except (OSError, ValueError):  # there is no such file, or it says "max": no limit
            continue
    return total


def shared_memory(folder: Path, total: float) -> Finding:
    """Checks the space for Ray's object store: if it is too small, Ray uses the slower disk."""
    subject = "shared memory"
    if not folder.is_dir():
        return Finding(subject, "ok", f"no {folder} on this system; Ray does not need it")
    free = shutil.disk_usage(folder).free
    wanted = min(0.3 * total, 8 * _GIB)
    words = f"{free / _GIB:.1f} GiB free in {folder}"
    if free < wanted:
        fix = f"docker run --shm-size={wanted / _GIB:.0f}g, or remount {folder} with more space"
        return Finding(subject, "note", f"{words}: Ray will store objects on disk", fix)
    return Finding(subject, "ok", words)


def token_authentication() -> Finding:
    """Checks Ray's token authentication, which rlssl does not change.

    Without it, everyone who reaches Ray's ports may run code on this machine.
    """
    subject, mode = "Ray token", os.environ.get("RAY_AUTH_MODE")
    if mode is not None and mode.lower() != "token":
        words = f"authentication is off: RAY_AUTH_MODE={mode}"
        return Finding(subject, "broken", words, "unset RAY_AUTH_MODE")
    if os.environ.get("RAY_AUTH_TOKEN"):
        return Finding(subject, "ok", "from RAY_AUTH_TOKEN")
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if not path.is_file():
        return Finding(subject, "ok", f"none yet; Ray writes {path} when it starts")
    if path.stat().st_mode & 0o077:
        words = f"other users of this machine can read {path}"
        return Finding(subject, "note", words, f"chmod 600 {path}")
    return Finding(subject, "ok", str(path))


def doctor(storage: str, *, as_json: bool = False) -> int:
    """Examines this machine and prints the report.

    Args:
        storage: The folder for results.
        as_json: Whether to print JSON.

    Returns:
        The exit code; see `report`.
    """
    return report(list(examine(storage)), as_json=as_json)


def report(findings: list[Finding], *, as_json: bool = False) -> int:
    """Prints findings; returns the exit code: 3 if something required is broken."""
    if as_json:
        write_json([vars(finding) for finding in findings])
    else:
        _print(findings)
    broken = any(finding.state == "broken" for finding in findings)
    return ExitCode.NO_RESOURCES if broken else ExitCode.OK


def _print(findings: list[Finding]) -> None:
    styles = {"ok": "green", "note": "yellow", "broken": "bold red"}
    table = Table(box=None, show_header=False, pad_edge=False)
    for _ in range(3):
        table.add_column(no_wrap=True, overflow="ignore")
    for finding in findings:
        line = f"{finding.words}  ->  {finding.fix}" if finding.fix else finding.words
        state = Text(finding.state, style=styles[finding.state])
        table.add_row(Text(finding.subject), state, Text(line))
    # As wide as the longest line, so that a path or command to copy is never wrapped.
    console = Console(width=Console(width=10_000).measure(table).maximum)
    with console.capture() as printed:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in printed.get().splitlines()))
