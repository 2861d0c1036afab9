"""The wheel works without the checkout: it has every file, and its commands run from elsewhere."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Folder of the repository -> the package as which it is installed.
PACKAGES = {"rlssl": "rlssl", "envs": "rlssl_envs", "tune_configs": "rlssl_tune_configs"}

pytestmark = [pytest.mark.slow, pytest.mark.ci, pytest.mark.timeout(300)]


def not_of_the_wheel(folder: str, names: list[str]) -> set[str]:
    """What is no source: hidden files, builds, caches, and the runs of whoever works here."""
    left_out = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__")(folder, names)
    return left_out | ({"results"} if Path(folder) == ROOT else set())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    source, wheels = folder / "source", folder / "wheels"
    shutil.copytree(ROOT, source, ignore=not_of_the_wheel)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "-w", wheels, source], check=True, capture_output=True)
    shutil.rmtree(source)
    (built,) = wheels.iterdir()
    return built


class Elsewhere:
    """A virtual environment with the wheel, and an empty folder in which its commands run.

    To save a download of gigabytes, the environment finds rlssl's dependencies in the site-packages
    of this interpreter, by a line in a .pth file. Python does not read the .pth files in a folder
    that is on the path in this way. So this interpreter's editable install of rlssl, which is such
    a file, has no effect; `test_the_environment_imports_the_wheel` checks it.
    """

    def __init__(self, wheel: Path, folder: Path) -> None:
        self.venv, self.folder = folder / "venv", folder / "work"
        self.folder.mkdir()
        self.environment = {**os.environ, "PATH": f"{self.venv / 'bin'}:{os.environ['PATH']}"}
        for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
            self.environment.pop(name, None)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", self.venv], check=True)
        self.python = self.venv / "bin" / "python"
        pip = (sys.executable, "-m", "pip", "--python", self.python)
        self.run(*pip, "install", "--no-deps", wheel)
        (self.site,) = self.venv.glob("lib/python*/site-packages")
        (self.site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end, in the empty folder; it must succeed."""
        program = shutil.which(command[0], path=self.environment["PATH"])
        assert program is not None, command
        done = subprocess.run(
            [program, *command[1:]],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Elsewhere:
    return Elsewhere(wheel, tmp_path_factory.mktemp("elsewhere"))


def test_the_wheel_has_every_file_of_its_packages(wheel: Path) -> None:
    installed = set(zipfile.ZipFile(wheel).namelist())
    for folder, package in PACKAGES.items():
        files = [file for file in (ROOT / folder).rglob("*") if file.is_file()]
        names = [file.relative_to(ROOT / folder) for file in files]
        wanted = {
            f"{package}/{name.as_posix()}" for name in names if "__pycache__" not in name.parts
        }
        assert len(wanted) > 10
        assert sorted(wanted - installed) == []


def test_the_environment_imports_the_wheel(elsewhere: Elsewhere) -> None:
    code = "import rlssl, rlssl_envs, rlssl_tune_configs as configs\n"
    code += "for module in (rlssl, rlssl_envs, configs): print(module.__file__)\n"
    code += "import sys; print('\\n'.join(sys.path))"
    lines = elsewhere.run(elsewhere.python, "-c", code).stdout.splitlines()
    modules, path = lines[:3], lines[3:]
    assert all(Path(module).is_relative_to(elsewhere.site) for module in modules)
    assert str(ROOT) not in path


def test_the_quickstart_runs_from_another_folder(elsewhere: Elsewhere) -> None:
    short = ["seeds=[0]", "stop.env_steps=1000", "env_runners.num_envs=8"]
    options = [word for text in short for word in ("--set", text)]
    done = elsewhere.run("rlssl", "sweep", "quickstart", *options)
    assert "noveld" in done.stdout
    run = elsewhere.folder / "results" / "quickstart"
    trials = [json.loads(path.read_text()) for path in run.glob("*/trial.json")]
    assert len(trials) == 2
    assert (run / "table.csv").is_file()


def test_names_are_listed_from_another_folder(elsewhere: Elsewhere) -> None:
    rows = json.loads(elsewhere.run("rlssl", "list", "--json").stdout)
    names = {row["name"] for row in rows}
    assert {"quickstart", "noveld", "MiniGrid-Empty-5x5-v0", "sac"} <= names


def test_the_doctor_examines_from_another_folder(elsewhere: Elsewhere) -> None:
    findings = json.loads(elsewhere.run("rlssl", "doctor", "--json").stdout)
    assert {finding["subject"] for finding in findings} >= {"Python", "Atari ROMs", "storage"}
