"""Typical mistakes: each gives one screen with key, value and fix, and an exit code."""

import hashlib
import json
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from click.testing import CliRunner, Result

from rlssl import trust
from rlssl.cli import main
from rlssl.experiment.spec.loading import load_spec, save_spec
from rlssl.experiment.start_weights.reading import WEIGHTS
from rlssl.experiment.trial_check import check_trial
from rlssl.run_files import MANIFEST
from tests.experiment.command_line import restored_import_path

TRAIN = ("train", "ppo", "CartPole-v1")

#: The beginning of a sweep: a search with one path.
SEARCH = (
    "algorithm: ppo\nenv: CartPole-v1\nstop: {env_steps: 1e3}\nsearch:\n"
    "  training.lr: {loguniform: [1e-4, 1e-2]}\n"
)

FILES = {
    "raises.py": "import rlssl\n\nraise RuntimeError('the license has expired')\n",
    "exits.py": "import sys\n\nsys.exit(0)\n",
    "in_the_way": "a file where a folder is wanted",
    "typo.yaml": "algorithm: ppo\nenv: CartPole-v1\nstop: {env_steps: 1e3}\ntrainning: {lr: 1}\n",
    "twice.yaml": "algorithm: ppo\nenv: CartPole-v1\nenv: Pendulum-v1\n",
    "broken.yaml": "algorithm: [ppo\n",
    "python.yaml": "algorithm: !!python/object/apply:os.system ['touch executed']\n",
    "endless.yaml": "algorithm: ppo\nenv: CartPole-v1\nseeds: [0, 1]\n",
    "overlap.yaml": (
        "algorithm: ppo\nenv: CartPole-v1\nstop: {env_steps: 1e3}\nsearch:\n"
        "  auxiliary.icm: {grid: [{}, {coeff: 2}]}\n  auxiliary.icm.coeff: {grid: [0, 1]}\n"
    ),
    "same_path.yaml": (
        "algorithm: ppo\nenv: CartPole-v1\nstop: {env_steps: 1e3}\nsearch:\n"
        "  training.lr: {grid: [1e-3]}\n  training.lr: {uniform: [0.1, 1]}\n"
    ),
    "two_spaces.yaml": (
        "algorithm: ppo\nenv: CartPole-v1\nstop: {env_steps: 1e3}\nsearch:\n"
        "  training.lr: {grid: [1e-3], uniform: [0.1, 1]}\n"
    ),
    "sampler.yaml": SEARCH + "searcher: {optuna: {num_samples: 4, sampler: tpee}}\n",
    "argument.yaml": SEARCH + "searcher: {optuna: {num_samples: 4, n_startup: 3}}\n",
    "samples.yaml": SEARCH + "searcher: {hyperopt: {seed: 3}}\n",
    "no_searcher.yaml": SEARCH + "searcher: {}\n",
    "two_searchers.yaml": (
        SEARCH + "searcher: {optuna: {num_samples: 4}, random: {num_samples: 4}}\n"
    ),
    "grid_of_optuna.yaml": (
        SEARCH + "  training.gamma: {grid: [0.9]}\nsearcher: {optuna: {num_samples: 4}}\n"
    ),
    "choice_of_cmaes.yaml": (
        SEARCH + "  training.gamma: {choice: [0.9, 0.99]}\n"
        "searcher: {optuna: {num_samples: 4, sampler: cmaes}}\n"
    ),
    "single_of_cmaes.yaml": SEARCH + "searcher: {optuna: {num_samples: 4, sampler: cmaes}}\n",
    "randn_of_optuna.yaml": (
        SEARCH + "  training.gamma: {randn: [0.9, 0.01]}\nsearcher: {optuna: {num_samples: 4}}\n"
    ),
    "inner_of_gp.yaml": (
        SEARCH + "  auxiliary: {choice: [{}, {icm: {coeff: {uniform: [0, 1]}}}]}\n"
        "searcher: {optuna: {num_samples: 4, sampler: gp}}\n"
    ),
    "inner_grid.yaml": (
        SEARCH + "  auxiliary: {choice: [{}, {icm: {coeff: {grid: [0, 1]}}}]}\n"
        "searcher: {optuna: {num_samples: 4}}\n"
    ),
    "inner_value.yaml": (
        SEARCH + "  auxiliary: {choice: [{}, {icm: {coeff: {uniform: [-1, 1]}}}]}\n"
        "searcher: {optuna: {num_samples: 4}}\n"
    ),
    "multivariate.yaml": (
        SEARCH + "searcher: {optuna: {num_samples: 4, sampler: random, multivariate: true}}\n"
    ),
    "database.yaml": SEARCH + "searcher: {optuna: {num_samples: 4, storage: studies.db}}\n",
    "variable.yaml": SEARCH + "searcher: {optuna: {num_samples: 4, storage: $NO_SUCH}}\n",
    "database_gone.yaml": (
        SEARCH + "searcher: {optuna: {num_samples: 4, storage: sqlite:////nowhere/x/a.db}}\n"
    ),
    "earlier.yaml": SEARCH + "searcher: {optuna: {num_samples: 4, warm_start: nowhere}}\n",
    "objective.yaml": (
        SEARCH + "searcher: {optuna: {num_samples: 4}}\n"
        "objective: {metric: evaluation/episode_return_mean}\n"
    ),
    "unknown_path.yaml": (
        "algorithm: ppo\nenv: CartPole-v1\nstop: {env_steps: 1e3}\nsearch:\n"
        "  training.lrr: {grid: [1e-3, 1e-4]}\n"
    ),
    "unknown_section.yaml": (
        "algorithm: ppo\nenv: CartPole-v1\nstop: {env_steps: 1e3}\nsearch:\n"
        "  trainning.lr: {grid: [1e-3, 1e-4]}\n"
    ),
}

#: Arguments, exit code, and words that must be on the screen: key, value, fix.
MISTAKES: dict[str, tuple[tuple[str, ...], int, tuple[str, ...]]] = {
    # names
    "key": ((*TRAIN, "--set", "trainning.lr=1"), 2, ("'trainning'", "did you mean 'training'?")),
    "nested key": ((*TRAIN, "--set", "training.lrr=1"), 2, ("training.lrr", "'training.lr'?")),
    "algorithm": (("train", "poo", "CartPole-v1"), 2, ("algorithm 'poo'", "did you mean 'ppo'?")),
    "loss": ((*TRAIN, "--aux", "imc"), 2, ("unknown loss 'imc'", "did you mean 'icm'?")),
    "loss option": ((*TRAIN, "--aux", "icm:cof=1"), 2, ("auxiliary.icm.cof", "icm.coeff'?")),
    "env": (("train", "ppo", "CartPol-v1"), 2, ("'CartPol-v1'", "did you mean 'CartPole-v1'")),
    "env version": (("train", "ppo", "CartPole-v7"), 2, ("'CartPole-v7'", "'CartPole-v1'")),
    "env of a family": (
        ("train", "ppo", "minatar/brekout"),
        2,
        ("'minatar/brekout'", "did you mean 'minatar/Breakout'"),
    ),
    "env module": (("train", "ppo", "nowhere:X-v0"), 2, ("nowhere:X-v0", "No module named")),
    "env option": ((*TRAIN, "--set", "env.gravty=1"), 2, ("CartPole-v1", "gravty")),
    "hindsight without goals": (
        ("train", "rainbow", "CartPole-v1", "--set", "training.relabel={}"),
        2,
        ("training.relabel", "CartPole-v1 lack observation", "Leave training.relabel out"),
    ),
    "encoder": ((*TRAIN, "--set", "model.encoder=mpl"), 2, ("encoder 'mpl'", "'mlp'")),
    "encoder of images": (
        (*TRAIN, "--set", "model.encoder=nature"),
        2,
        ("model.encoder='nature'", "CartPole-v1"),
    ),
    "preset": ((*TRAIN, "--preset", "fast"), 2, ("unknown preset 'fast'", "known:")),
    "variant": ((*TRAIN, "--variant", "clipp"), 2, ("variant 'clipp'", "did you mean 'clip'?")),
    "sweep": (("sweep", "quikstart"), 2, ("sweep 'quikstart'", "did you mean 'quickstart'?")),
    "spec file": (("sweep", "nowhere.yaml"), 2, ("'nowhere.yaml'", "list sweeps")),
    "metric": ((*TRAIN, "--stop", "env_step=5"), 2, ("'env_step'", "did you mean 'env_steps'?")),
    "option": ((*TRAIN, "--sed", "1"), 2, ("--sed", "--seed")),
    "command": (("trian", "ppo", "CartPole-v1"), 2, ("'trian'",)),
    # values
    "type": ((*TRAIN, "--set", "training.lr=fast"), 2, ("training.lr", "a number", "'fast'")),
    "type of a flag": ((*TRAIN, "--seed", "x"), 2, ("--seed", "'x'")),
    "section": ((*TRAIN, "--set", "model=3"), 2, ("model must be a mapping", "got 3")),
    "range": ((*TRAIN, "--set", "training.gamma=2"), 2, ("training.gamma", "<= 1", "got 2")),
    "stop": ((*TRAIN, "--stop", "env_steps=-5"), 2, ("stop.env_steps must be > 0", "-5")),
    "no key": ((*TRAIN, "--set", "lr"), 2, ("'lr'", "KEY=VALUE")),
    "control": (
        (*TRAIN, "--aux", "icm:isolated=true"),
        2,
        ("auxiliary.icm.isolated", "its controls: none"),
    ),
    "secret": ((*TRAIN, "--set", "env.api_key=abc"), 2, ("env.api_key", "environment variable")),
    # files
    "key of a file": (("sweep", "typo.yaml"), 2, ("'trainning'", "did you mean 'training'?")),
    "key twice": (("sweep", "twice.yaml"), 2, ("twice.yaml, line 3", "'env' is given twice")),
    "no YAML": (("sweep", "broken.yaml"), 2, ("broken.yaml, line 2", "expected ','")),
    "Python in YAML": (("sweep", "python.yaml"), 2, ("python.yaml, line 1", "constructor")),
    "no end": (("sweep", "endless.yaml"), 2, ("stop.env_steps is missing",)),
    # searches
    "unknown path": (("sweep", "unknown_path.yaml"), 2, ("training.lrr", "'training.lr'?")),
    "unknown section": (("sweep", "unknown_section.yaml"), 2, ("trainning.lr", "'training'?")),
    "overlap": (("sweep", "overlap.yaml"), 2, ("'auxiliary.icm'", "or paths below it")),
    "path twice": (("sweep", "same_path.yaml"), 2, ("line 6", "'training.lr' is given twice")),
    "two spaces": (("sweep", "two_spaces.yaml"), 2, ("search.training.lr", "grid, uniform")),
    # searchers
    "sampler": (
        ("sweep", "sampler.yaml"),
        2,
        ("searcher.optuna.sampler", "'tpe', 'cmaes', 'gp' or 'random'", "'tpee'"),
    ),
    "argument": (("sweep", "argument.yaml"), 2, ("searcher.optuna.n_startup", "n_startup_trials'")),
    "num_samples": (("sweep", "samples.yaml"), 2, ("'searcher.hyperopt.num_samples' is missing",)),
    "no searcher": (("sweep", "no_searcher.yaml"), 2, ("random, optuna, hyperopt", "got none")),
    "two searchers": (("sweep", "two_searchers.yaml"), 2, ("one of", "got random, optuna")),
    "grid of Optuna": (("sweep", "grid_of_optuna.yaml"), 2, ("training.gamma.grid", "use choice")),
    "choice of CMA-ES": (
        ("sweep", "choice_of_cmaes.yaml"),
        2,
        ("sampler: cmaes", "search.training.gamma is a choice", "use sampler: tpe"),
    ),
    "one number of CMA-ES": (("sweep", "single_of_cmaes.yaml"), 2, ("cmaes needs two searched",)),
    "no bounds": (("sweep", "randn_of_optuna.yaml"), 2, ("training.gamma.randn", "use uniform")),
    "inner space of GP": (("sweep", "inner_of_gp.yaml"), 2, ("sampler: gp", "search.auxiliary")),
    "inner grid": (("sweep", "inner_grid.yaml"), 2, ("auxiliary.icm.coeff.grid", "use choice")),
    "inner value": (("sweep", "inner_value.yaml"), 2, ("auxiliary.icm", "coeff", "-1")),
    "multivariate": (("sweep", "multivariate.yaml"), 2, ("multivariate is for sampler: tpe",)),
    "database": (("sweep", "database.yaml"), 2, ("optuna.storage", "'studies.db'", "sqlite:///")),
    "variable": (("sweep", "variable.yaml"), 2, ("'$NO_SUCH'", "variable is not set")),
    "no database": (("sweep", "database_gone.yaml"), 3, ("optuna.storage", "cannot be opened")),
    "earlier sweep": (("sweep", "earlier.yaml"), 2, ("no run 'nowhere'",)),
    "objective": (("sweep", "objective.yaml"), 2, ("objective.metric", "every_env_steps")),
    # plug-ins
    "no plug-in": ((*TRAIN, "--set", "plugins=[nowhere]"), 2, ("'nowhere'", "on the path")),
    "plug-in that raises": (
        (*TRAIN, "--set", "plugins=[raises]"),
        2,
        ("'raises'", "RuntimeError: the license has expired", "raises.py, line 3"),
    ),
    "plug-in that exits": ((*TRAIN, "--set", "plugins=[exits]"), 2, ("'exits'", "SystemExit")),
    # resources
    "storage": ((*TRAIN, "--storage", "in_the_way"), 3, ("'in_the_way'", "cannot write")),
    "storage below": (
        (*TRAIN, "--storage", "in_the_way/x"),
        3,
        ("'in_the_way/x'", "cannot write"),
    ),
    "storage URI": ((*TRAIN, "--storage", "s5://x"), 2, ("'s5://x'", "unknown scheme")),
    "GPUs": (
        (*TRAIN, "--set", "resources={learners: 3, gpus_per_learner: 1}"),
        3,
        ("needs 3 GPUs in 3 processes of up to 1 (resources)", "this machine has", "request fewer"),
    ),
    "GPUs of a Learner": (
        (*TRAIN, "--set", "resources.gpus_per_learner=3"),
        2,
        ("gpus_per_learner must be at most 1; got 3", "{learners: 3, gpus_per_learner: 1}"),
    ),
    "address": ((*TRAIN, "--address", "localhost:1"), 3, ("'localhost:1'", "no Ray cluster")),
    "form of an address": ((*TRAIN, "--address", "here"), 2, ("'here'", "auto or HOST:PORT")),
    # runs
    "run to resume": (("resume", "nowhere"), 2, ("'nowhere'", "results")),
    "run to evaluate": (("evaluate", "nowhere"), 2, ("'nowhere'", "results")),
    "run to start from": ((*TRAIN, "--from", "nowhere"), 2, ("'nowhere'", "results")),
    "no run": (("resume", "."), 2, ("not the folder of a run", "run.json")),
    "no policy": (("evaluate", "."), 2, ("not the folder of a run", "run.json")),
}


def assert_refused(
    code: int, printed: str, expected: int, words: tuple[str, ...], started: Path
) -> None:
    assert code == expected, printed
    lines = printed.splitlines()
    assert len(lines) <= 24 and sum(1 + len(line) // 80 for line in lines) <= 24
    assert "Traceback" not in printed
    for word in words:
        assert word in printed
    assert "Stopping at" not in printed, "announced although nothing starts"
    assert not list(started.glob("results/*")), "files were left behind"
    assert not ray.is_initialized()


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.fixture(autouse=True, scope="module")
def no_ray() -> None:
    """Stops a Ray of earlier tests: a command would use it instead of being refused."""
    ray.shutdown()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder with the files above, and an empty record of trusted runs."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with restored_import_path():
        yield tmp_path
    for name in ("raises", "exits"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_gives_one_screen_and_starts_nothing(mistake: str, folder: Path) -> None:
    arguments, code, words = MISTAKES[mistake]
    result = invoke(*arguments)
    assert_refused(result.exit_code, result.output, code, words, folder)
    assert not (folder / "executed").exists()


@pytest.mark.parametrize(
    ("module", "env", "extra"),
    [
        ("minigrid", "MiniGrid-Empty-5x5-v0", "minigrid"),
        ("minatar", "minatar/pong", "minatar"),
        ("vizdoom", "vizdoom/MyWayHome", "vizdoom"),
        ("gymnasium_robotics", "robotics/FetchReach-v4", "robotics"),
    ],
)
def test_missing_extra_is_named(
    module: str, env: str, extra: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] in (module, "rlssl_envs")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    result = invoke("train", "ppo", env)
    assert_refused(
        result.exit_code, result.output, 2, (module, f"pip install 'rlssl[{extra}]'"), folder
    )


@pytest.mark.parametrize(
    ("package", "searcher"),
    [("optuna", "optuna"), ("hyperopt", "hyperopt"), ("cmaes", "optuna.sampler=cmaes")],
)
def test_missing_package_of_a_searcher_is_named(
    package: str, searcher: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    (folder / "sweep.yaml").write_text(SEARCH + "  training.gamma: {uniform: [0.9, 0.99]}\n")
    name, _, sampler = searcher.partition(".")
    settings = [f"searcher.{name}.num_samples=4"]
    settings += [f"searcher.{name}.{sampler}"] if sampler else []
    options = [word for setting in settings for word in ("--set", setting)]
    result = invoke("sweep", "sweep.yaml", *options)
    words = (f"needs the package {package}", "pip install 'rlssl[search]'")
    assert_refused(result.exit_code, result.output, 2, words, folder)


# --- checkpoints ---------------------------------------------------------------------------------


@pytest.fixture
def other(folder: Path) -> Path:
    """A run with a spec that differs from `TRAIN`: one trial with one checkpoint of its weights."""
    run = folder / "other"
    trial = run / "default-seed0-1"
    document = {
        "name": "other",
        "algorithm": "ppo",
        "env": "CartPole-v1",
        "model": {"encoder": "mlp", "encoder_config": {"hidden": [16]}},
        "stop": {"env_steps": 100},
    }
    spec = load_spec(document)
    weights = trial / "checkpoint_000000" / WEIGHTS
    weights.parent.mkdir(parents=True)
    weights.write_bytes(pickle.dumps(check_trial(spec).module.get_state()))
    checksum = hashlib.sha256(weights.read_bytes()).hexdigest()
    manifest = {"env_steps": 100, "files": {str(WEIGHTS): checksum}}
    (trial / "checkpoint_000000" / MANIFEST).write_text(json.dumps(manifest))
    save_spec(spec, trial / "spec.yaml")
    save_spec(spec, run / "sweep.yaml")
    (trial / "trial.json").write_text("{}")
    description = {"is_sweep": False, "python_path": [], "registered_by_script": []}
    (run / "run.json").write_text(json.dumps(description))
    (run / "tuner.pkl").touch()  # its presence tells Tune that trials began
    trust.record(run)
    return run


def test_checkpoint_of_another_spec_is_refused_naming_both_specs_and_the_weight(
    other: Path, folder: Path
) -> None:
    result = invoke(*TRAIN, "--from", str(other), "--aux", "icm")
    assert_refused(
        result.exit_code,
        result.output,
        2,
        (
            "'ppo-CartPole-v1' (ppo on CartPole-v1, icm)",
            # Both read 4 observations; the checkpoint has 16 hidden units, this spec 64.
            "'encoder.layers.0.weight' is [16, 4] there, [64, 4] here",
            "'other' (ppo on CartPole-v1, no auxiliary loss)",
            "leave --from out",
        ),
        folder,
    )


def test_checkpoint_without_the_loss_is_refused(other: Path, folder: Path) -> None:
    same = ("--set", "model={encoder: mlp, encoder_config: {hidden: [16]}}")
    result = invoke(*TRAIN, *same, "--from", str(other), "--aux", "icm")
    words = ("weight 'auxiliary.icm.", "is missing there", "leave --from out")
    assert_refused(result.exit_code, result.output, 2, words, folder)


@pytest.mark.parametrize(
    "command", [("resume",), ("evaluate",), ("export",), (*TRAIN, "--from")], ids=lambda c: c[-1]
)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / WEIGHTS).write_bytes(b"half"),
        lambda folder: (folder / MANIFEST).unlink(),
        lambda folder: (folder / MANIFEST).write_text("[]"),
    ],
    ids=["truncated", "no manifest", "another manifest"],
)
def test_run_without_a_valid_checkpoint_is_refused(
    command: tuple[str, ...], spoil: Callable[[Path], Any], other: Path, folder: Path
) -> None:
    spoil(other / "default-seed0-1" / "checkpoint_000000")
    result = invoke(*command, str(other))
    words = ("default-seed0-1", "no valid checkpoint")
    assert_refused(result.exit_code, result.output, 2, words, folder)


def test_warm_start_from_several_trials_is_refused(other: Path, folder: Path) -> None:
    shutil.copytree(other / "default-seed0-1", other / "default-seed1-2")
    result = invoke(*TRAIN, "--from", str(other))
    words = ("has 2 trials, and", "give the folder of one")
    assert_refused(result.exit_code, result.output, 2, words, folder)


# --- the command line in a separate process ------------------------------------------------------


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize(
    "mistake",
    [
        *("key", "loss", "env version", "two spaces", "plug-in that raises", "nested key"),
        *("preset", "encoder of images", "storage", "GPUs", "run to resume"),
    ],
)
def test_mistake_is_answered_in_20_seconds(mistake: str, folder: Path) -> None:
    arguments, code, words = MISTAKES[mistake]
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "rlssl.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )
    taken = time.monotonic() - begin
    assert_refused(done.returncode, done.stdout + done.stderr, code, words, folder)
    assert taken < 20


def test_cheap_mistakes_import_no_ray() -> None:
    mistakes = ("key", "algorithm", "loss", "env version", "encoder", "metric", "section", "secret")
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom rlssl.cli import main\n"
        f"for arguments in {[MISTAKES[mistake][0] for mistake in mistakes]!r}:\n"
        "    assert CliRunner().invoke(main, arguments).exit_code == 2\n"
        "    assert 'ray' not in sys.modules, arguments\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
