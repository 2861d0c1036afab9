"""The example package, installed as a user would."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "rlssl_plugin_example"


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.timeout(600)
def test_installed_example_trains_with_two_runners(tmp_path: Path) -> None:
    source = shutil.copytree(EXAMPLE, tmp_path / "source")
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    install += ["--no-build-isolation", "--target", str(site), str(source)]
    subprocess.run(install, check=True)
    # The command does not name the plug-in: rlssl finds it through its entry point.
    command = [sys.executable, "-m", "rlssl.cli", "train", "ppo", "example/Corridor"]
    command += ["--aux", "reward_prediction:coeff=0.5", "--env-runners", "2"]
    command += ["--stop", "env_steps=3000"]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (trial,) = (tmp_path / "results" / "ppo-example-Corridor").glob("*/trial.json")
    result = (trial.parent / "result.json").read_text().splitlines()[-1]
    assert '"reward_prediction": {' in result and '"squared_error"' in result
