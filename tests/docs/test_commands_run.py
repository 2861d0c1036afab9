"""Every `rlssl` command in a block of a page runs, with fewer env steps than the page says.

Pages run in a folder with the files that the README shows, and with small runs of the names that
pages use. Commands of one page run in the order of the page.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlssl.registry import COUNTING_UPDATES
from tests.test_docs import PRESENT_PAGES, fenced

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: A command with one of these words needs a cluster, a bucket or a GPU.
NEEDS_A_CLUSTER = ("--address", "--run", "s3://", "/nfs/", "gpus_per_learner")
#: Commands that have tests of their own, and take minutes.
TESTED_ELSEWHERE = {("matrix",): "tests/experiment/commands/test_matrix.py"}
#: The example has a test of its own, in tests/examples.
PAGES = [page for page in PRESENT_PAGES if not page.startswith("examples/")]
#: Pages of several runs, whose commands CI runs in other tests.
NOT_IN_CI = {
    *("docs/coming_from_other_libraries.md", "docs/dagger.md", "docs/imitation.md"),
    "docs/iql.md",
    *("docs/sparse_reward.md", "docs/start_from_a_run.md"),
}
#: Words of pages that stand for a file of the reader.
FILES = {"FILE": "my.yaml", "SPEC": "my.yaml"}
#: Runs that pages name.
RUNS = ("RUN", "RUN2", "OTHER", "ppo-CartPole-v1")
SWEEPS = ("cartpole-lr", "quickstart", "my-sweep")

SMALL_SWEEP = """
algorithm: ppo
env: {id: CartPole-v1}
training: {train_batch_size_per_learner: 256, num_epochs: 1}
search: {training.lr: {grid: [0.001, 0.003]}}
seeds: [0, 1, 2]
stop: {env_steps: 512}
"""


def rlssl(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "rlssl.cli", *words]
    return _run(folder, *command)


def _run(folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    own = {"MINARI_DATASETS_PATH": str(folder / "minari")}
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=300, env={**os.environ, **own}
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files and the runs that pages name."""
    path = tmp_path_factory.mktemp("commands")
    (path / "my.yaml").write_text(SMALL_SWEEP)
    (path / "curiosity.yaml").write_text(fenced("README.md", "yaml")[0])
    plugin = [block for block in fenced("README.md", "python") if "rlssl.register_" in block]
    (path / "my_lab.py").write_text("\n".join(plugin))
    done = rlssl(path, "sweep", "my.yaml", "--set", f"name={SWEEPS[0]}")
    assert done.returncode == 0, done.stderr
    for name in SWEEPS[1:]:
        shutil.copytree(path / "results" / SWEEPS[0], path / "results" / name)
    done = rlssl(
        path, *["train", "ppo", "CartPole-v1", "--stop", "env_steps=1000", "--name", "RUN"]
    )
    assert done.returncode == 0, done.stderr
    for name in RUNS[1:]:
        shutil.copytree(path / "results" / "RUN", path / "results" / name)
    done = _run(path, sys.executable, "-c", "\n".join(fenced("docs/data.md", "python")[:2]))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("10 ")
    return path


def commands_of(page: str) -> Iterator[list[str]]:
    """The commands of a page's blocks that run here, without ``rlssl`` and comments."""
    blocks = (block.replace("\\\n", " ") for block in fenced(page, "bash"))
    for line in (line for block in blocks for line in block.splitlines()):
        command = re.sub(r"\s+#.*", "", line).strip()
        if command.startswith("rlssl ") and not any(word in line for word in NEEDS_A_CLUSTER):
            words = shlex.split(command)[1:]
            if not any(tuple(words[: len(known)]) == known for known in TESTED_ELSEWHERE):
                yield [FILES.get(word, word) for word in words]


def shortened(words: list[str]) -> list[str]:
    """The command with few env steps, updates, seeds or episodes."""
    if words[0] in ("train", "pretrain"):
        counts_updates = {"pretrain", "data.offline=true", *COUNTING_UPDATES} & set(words)
        return [*words, "--stop", "updates=20" if counts_updates else "env_steps=64"]
    if words[0] == "collect":
        return [
            *words,
            *(["--env-steps", "600"] if "--env-steps" in words else ["--episodes", "20"]),
        ]
    if words[0] == "sweep" and "--dry-run" not in words:
        return [*words, "--set", "stop.env_steps=64", "--set", "seeds=[0]"]
    return [*words, "--episodes", "2"] if words[0] in ("evaluate", "record") else words


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[] if page in NOT_IN_CI else [pytest.mark.ci])
        for page in PAGES
        if any(commands_of(page))
    ],
)
def test_commands_of_pages_run(page: str, folder: Path) -> None:
    for words in commands_of(page):
        done = rlssl(folder, *shortened(words))
        assert done.returncode == 0, f"rlssl {' '.join(words)}\n{done.stdout}{done.stderr}"


@pytest.mark.ci
def test_commands_that_are_tested_elsewhere_are_commands_of_pages() -> None:
    lines = [
        line for page in PAGES for block in fenced(page, "bash") for line in block.splitlines()
    ]
    for words, path in TESTED_ELSEWHERE.items():
        assert any(line.startswith(" ".join(["rlssl", *words])) for line in lines), words
        assert (Path(__file__).parents[2] / path).is_file()
