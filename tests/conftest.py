"""What every test needs before numpy, torch or a renderer is imported."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# One thread a process: several learners and env runners share two cores, and sums come out equal.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MUJOCO_GL", "egl")  # no display
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
# Runs that tests start are noted there, not in the user's home.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="rlssl-tests-")

# The same examples every time, so that a failure is about the change; no deadline, because a busy
# machine is no bug.
settings.register_profile("rlssl", derandomize=True, deadline=None)
settings.load_profile("rlssl")

#: Options of Chromium: no GPU, and no request of its own.
_CHROMIUM_OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"] + [
    f"--disable-{name}" for name in ("background-networking", "component-update", "sync")
]

#: The folder of the package `tests`.
_ROOT = str(Path(__file__).parents[1])


@pytest.fixture(autouse=True)
def same_folder() -> Iterator[None]:
    """Fails a test that leaves its process in another folder, which later tests would inherit."""
    before = Path.cwd()
    yield
    after = Path.cwd()
    os.chdir(before)
    assert after == before


@pytest.fixture(scope="module")
def own_ray() -> Iterator[None]:
    """A Ray of this machine alone for a file's tests, with CPUs for all that they start."""
    import ray

    # A test of another file may have left a Ray that RLlib started for it.
    ray.shutdown()
    with pytest.MonkeyPatch.context() as patch:
        # Configs carry the environments that tests have registered, so each of Ray's processes
        # imports `tests`. Ray itself tells them only the folder in which this process is now.
        patch.setenv("PYTHONPATH", _ROOT, prepend=os.pathsep)
        ray.init("local", num_cpus=5, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Headless Chromium; tests are skipped where it is not installed."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="no playwright: rlssl[dev]")
    with api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=_CHROMIUM_OPTIONS)
        yield launched
        launched.close()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
