"""Each line of the doctor is ok, or names a fix."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

import pytest
from packaging.requirements import Requirement

from rlssl.experiment.commands import doctor
from rlssl.experiment.commands.doctor import Finding
from rlssl.system.subprocess_probe import SubprocessCheck

GIB = 2**30


def fields(finding: Finding | None) -> tuple[str, str, str]:
    assert finding is not None
    return finding.state, finding.words, finding.fix


@pytest.mark.parametrize(
    ("requirement", "state", "fix"),
    [
        ("gymnasium==1.2.2", "ok", ""),
        ("gymnasium<1.0", "broken", "pip install 'gymnasium<1.0'"),
        ("no-such-package>=2", "broken", "pip install 'no-such-package>=2'"),
        ('no-such-package>=2; extra == "video"', "note", "pip install 'rlssl[video]'"),
    ],
)
def test_version_is_compared_with_the_required_range(
    requirement: str, state: str, fix: str
) -> None:
    finding = doctor.installed(Requirement(requirement))
    assert finding is not None
    assert finding.state == state
    assert finding.fix.endswith(fix)


def test_development_tools_are_not_checked() -> None:
    assert doctor.installed(Requirement('no-such-package; extra == "dev"')) is None


@pytest.mark.parametrize(
    ("egl", "osmesa", "states"),
    [
        (True, True, ["ok", "ok"]),
        (True, False, ["ok", "note"]),
        (False, True, ["note", "ok"]),
        (False, False, ["broken", "broken"]),
    ],
)
def test_one_working_renderer_is_enough(egl: bool, osmesa: bool, states: list[str]) -> None:
    findings = list(doctor.rendering((egl, "words"), (osmesa, "words")))
    assert [finding.state for finding in findings] == states
    if not egl and osmesa:
        assert findings[1].fix == "select it: export MUJOCO_GL=osmesa"
    if not egl and not osmesa:
        assert findings[0].fix == "apt-get install libegl1 libgl1-mesa-dri"


def test_storage_that_is_not_writable_is_broken(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    state, words, fix = fields(doctor.disk(str(tmp_path / "file" / "results")))
    assert (state, fix) == ("broken", "give another folder: --storage")
    assert str(tmp_path / "file" / "results") in words
    assert doctor.disk(str(tmp_path / "new" / "results")).state == "ok"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.mark.parametrize(("gib", "state"), [(1, "broken"), (4, "note"), (16, "ok")])
def test_memory_has_a_required_and_a_recommended_size(gib: int, state: str) -> None:
    assert doctor.memory(gib * GIB).state == state


def test_shared_memory_is_compared_with_the_size_that_ray_takes(tmp_path: Path) -> None:
    # Ray takes 30 % of the memory, at most 8 GiB: here 0.3 bytes, which every folder has free.
    assert doctor.shared_memory(tmp_path, total=1.0).state == "ok"
    assert doctor.shared_memory(tmp_path / "absent", total=GIB).state == "ok"
    finding = doctor.shared_memory(Path("/proc"), total=64 * GIB)  # 0 bytes free
    assert finding.state == "note"
    assert finding.fix.startswith("docker run --shm-size=8g")


@pytest.mark.parametrize(
    ("mode", "mask", "state", "words"),
    [
        (None, 0o600, "ok", "auth_token"),
        ("token", 0o600, "ok", "auth_token"),
        (None, 0o644, "note", "other users of this machine can read"),
        (None, None, "ok", "none yet"),
        ("disabled", 0o600, "broken", "authentication is off: RAY_AUTH_MODE=disabled"),
    ],
)
def test_token_authentication_is_reported(
    mode: str | None,
    mask: int | None,
    state: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    if mode is not None:
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "auth_token"))
    if mask is not None:
        (tmp_path / "auth_token").touch()
        (tmp_path / "auth_token").chmod(mask)
    finding = doctor.token_authentication()
    assert finding.state == state
    assert words in finding.words
    assert os.environ.get("RAY_AUTH_MODE") == mode


@pytest.mark.parametrize(
    ("answer", "has_driver", "state"),
    [
        ((True, "NVIDIA H100"), True, "ok"),
        ((True, ""), False, "ok"),
        ((True, ""), True, "note"),
        ((False, "RuntimeError: no kernel image"), True, "note"),
    ],
)
def test_unused_gpu_is_worth_a_note(answer: tuple[bool, str], has_driver: bool, state: str) -> None:
    assert doctor.gpus(answer, has_driver=has_driver).state == state


def test_subprocess_check_may_crash_or_hang() -> None:
    assert SubprocessCheck("print('fine')").answer() == (True, "fine")
    assert SubprocessCheck("raise ValueError('the driver is too old')").answer() == (
        False,
        "ValueError: the driver is too old",
    )
    assert SubprocessCheck("import os; os.abort()").answer() == (False, "ended with code -6")
    assert SubprocessCheck("import os; print(os.environ['A'])", A="b").answer() == (True, "b")
    begin = time.monotonic()
    hanging = SubprocessCheck("import time; time.sleep(60)", timeout_s=0.5)
    assert hanging.answer() == (False, "no answer within 0.5 s")
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    ("load", "words", "state"),
    [
        (0.5, "no answer within 15 s", "broken"),
        (1e3, "no answer within 15 s", "note"),
        (1e3, "OSError: no space left", "broken"),
    ],
)
def test_late_answer_on_a_busy_machine_is_only_a_note(load: float, words: str, state: str) -> None:
    assert doctor.required("Ray", (False, words), "read the logs", load=load).state == state


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("note", 0), ("broken", 3)])
def test_broken_requirement_decides_the_exit_code(
    state: Literal["ok", "note", "broken"], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    finding = Finding("storage", state, "/" + "long" * 60, "give another folder: --storage")
    assert doctor.report([finding]) == code
    # One line, however long: a path or command to copy is never wrapped.
    line = f"storage  {state}  {finding.words}  ->  {finding.fix}\n"
    assert capsys.readouterr().out == line
    assert doctor.report([finding], as_json=True) == code
    assert json.loads(capsys.readouterr().out) == [vars(finding)]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_this_machine_is_examined_in_20_seconds(tmp_path: Path) -> None:
    def examined() -> tuple[float, subprocess.CompletedProcess[str]]:
        begin = time.monotonic()
        command = [sys.executable, "-m", "rlssl.cli", "doctor"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        return time.monotonic() - begin, done

    # The better of two tries, because the machine may be busy.
    seconds, done = examined()
    if done.returncode or seconds >= 20:
        seconds, done = examined()
    assert seconds < 20
    assert done.returncode == 0, done.stdout + done.stderr
    subjects = ["Python", "ray", "mujoco", "rendering by EGL", "Atari ROMs", "storage", "memory"]
    for subject in [*subjects, "Ray", "shared memory", "Ray token"]:
        assert any(line.startswith(f"{subject} ") for line in done.stdout.splitlines()), subject
    assert not list(tmp_path.iterdir())
