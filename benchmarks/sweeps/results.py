"""The cost of a result: trials that do nothing but report, with this process as the driver."""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune import Callback

from rlssl.experiment.spec.loading import load_spec
from rlssl.experiment.tuning import launch
from rlssl.experiment.tuning.trainable import TRAINABLE_NAME, SpecTrainable
from rlssl.experiment.tuning.trial_config import trial_spec
from rlssl.ray_internals.tuning import without_checkpoint

#: Keys and sizes of a result of PPO: the sections, and how many metrics each has.
_SECTIONS = {"env_runners": 20, "learners": 30, "timers": 10, "perf": 2, "aux": 4}
_LOG_FILES = ("result.json", "progress.csv", "events.*", "episodes.csv")
_STEPS = 100


def measure_results(num_trials: int, num_results: int) -> None:
    """Runs trials that only report, with this process as the driver, and prints what it cost."""

    launch.register = _register_reporter
    memory = _Memory()
    with tempfile.TemporaryDirectory(prefix="b-") as folder:
        os.environ.update(RAY_TMPDIR=folder, XDG_STATE_HOME=folder)
        document = {
            "name": "sweep",
            "algorithm": "ppo",
            "env": {"id": "CartPole-v1"},
            "seeds": list(range(num_trials)),
            "stop": {"env_steps": num_results * _STEPS},
            "storage": f"{folder}/results",
            "report_every_s": 0,
            "reuse_processes": True,
        }
        spec = load_spec(document)
        output = launch.output
        launch.output = lambda *given, **named: _with(output(*given, **named), memory)
        written, processor = _written(), time.process_time()
        start = time.perf_counter()
        code, run = launch.launch(spec, address=None, is_sweep=True)
        wall, processor = time.perf_counter() - start, time.process_time() - processor
        written = _written() - written
        assert code == 0
        lines = sum(len(it.read_bytes().splitlines()) for it in run.glob("*/result.json"))
        assert lines == num_trials * num_results, lines
        size = sum(it.stat().st_size for name in _LOG_FILES for it in run.glob(f"*/{name}"))
    print(f"{lines:,} results in {wall:.0f} s: {1e3 * processor / lines:.2f} ms of driver each")
    print(f"log files {size / 1e6:.1f} MB, written {written / 1e6:.1f} MB: {written / size:.2f}")
    print(f"driver's memory: {memory}")


def measure_plain_tune(num_trials: int, num_results: int) -> None:
    """Prints what Tune alone takes for such results: without loggers, storage or callbacks."""
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    with tempfile.TemporaryDirectory(prefix="b-") as folder:
        ray.init("local", num_cpus=2, include_dashboard=False, _temp_dir=folder)
        tuner = tune.Tuner(
            tune.with_resources(_PlainReporter, {"CPU": 1}),
            param_space={"num_results": num_results},
            tune_config=tune.TuneConfig(num_samples=num_trials),
            run_config=tune.RunConfig(storage_path=f"{folder}/results", verbose=0),
        )
        processor = time.process_time()
        grid = tuner.fit()
        processor = time.process_time() - processor
    assert not grid.errors
    lines = num_trials * num_results
    print(f"Tune alone, {lines:,} results: {1e3 * processor / lines:.2f} ms of driver each")


class _PlainReporter(tune.Trainable):
    """Reports what a trial of rlssl would, and does nothing else."""

    def setup(self, config: dict[str, Any]) -> None:
        self._num_results, self._count = config["num_results"], 0

    def step(self) -> dict[str, Any]:
        self._count += 1
        return {**_result(self._count * _STEPS), "done": self._count == self._num_results}

    def save(self, checkpoint_dir: str | None = None) -> Any:
        return without_checkpoint({})


def _result(env_steps: int) -> dict[str, Any]:
    score = env_steps / 7
    sections = {
        section: {f"a_metric_with_a_name_{index}": score + index for index in range(count)}
        for section, count in _SECTIONS.items()
    }
    return {
        **sections,
        "env_steps": env_steps,
        "agent_steps": env_steps,
        "episode_return_mean": score,
        "success_rate": 0.5,
        "env_steps_at_start": 0,
        "faults": {"env_crashes": 0, "env_timeouts": 0},
        "episodes": [[env_steps, score, 50, 0.0], [env_steps, score, 50, 1.0]],
    }


def _written() -> int:
    """Bytes that this process has written to files."""
    (line,) = (it for it in Path("/proc/self/io").read_text().splitlines() if "wchar" in it)
    return int(line.split()[1])


def _with(arguments: dict[str, Any], callback: Any) -> dict[str, Any]:
    return {**arguments, "callbacks": [*arguments["callbacks"], callback]}


class _Memory(Callback):
    """Notes the driver's memory at the ends of trials."""

    def __init__(self) -> None:
        self._at: dict[int, float] = {}
        self._count = 0

    def on_trial_complete(self, **_: Any) -> None:
        """Tune's hook."""
        self._count += 1
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self._at[self._count] = pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def __str__(self) -> str:
        first = self._at.get(50, min(self._at.values()))
        return f"{first:.0f} MB at trial 50, {self._at[self._count]:.0f} MB at trial {self._count}"


def _register_reporter() -> str:

    class Reporter(SpecTrainable):
        """A trial that does nothing but report."""

        def setup(self, config: dict[str, Any]) -> None:
            self.spec, self.env_steps = trial_spec(config), 0
            self._sections = frozenset(["evaluation", "faults"])

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

        def step(self) -> dict[str, Any]:
            self.env_steps += _STEPS
            return _result(self.env_steps)

        def save(self, checkpoint_dir: str | None = None) -> Any:

            return without_checkpoint({"env_steps": self.env_steps})

        def cleanup(self) -> None:
            pass

    tune.register_trainable(TRAINABLE_NAME, Reporter)
    return TRAINABLE_NAME
