"""What every test needs before numpy, torch or a renderer is imported."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

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


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
