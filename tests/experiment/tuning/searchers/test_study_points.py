"""Studies of Optuna and HyperOpt: no point twice, none lost, the same after a kill at any step."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hyperopt
import numpy as np
import optuna
import pytest
from ray.tune.search import Searcher

from rlssl.analysis.points import point_key
from rlssl.errors import SpecError
from rlssl.experiment.spec.loading import load_spec
from rlssl.experiment.spec.schema import Spec
from rlssl.experiment.spec.search_checks import objective_of
from rlssl.experiment.tuning.search import begin_study, check_study, new_study
from rlssl.experiment.tuning.searchers import PointSearcher, journal, study_points, trial_key
from rlssl.experiment.tuning.searchers.journal import Journal
from rlssl.experiment.tuning.searchers.optuna_study import OptunaPoints, open_copy
from rlssl.run_files import POINTS_FILE

NUMBERS: dict[str, Any] = {
    "training.lr": {"loguniform": [1e-5, 1e-1]},
    "training.entropy_coeff": {"uniform": [0.0, 0.1]},
    "training.num_epochs": {"randint": [1, 9]},
}
#: A loss, and its own options.
CONDITIONAL: dict[str, Any] = {
    "training.lr": {"loguniform": [1e-5, 1e-1]},
    "auxiliary": {
        "choice": [
            {},
            {"curl": {"coeff": {"loguniform": [0.01, 1.0]}}},
            {"icm": {"coeff": {"uniform": [0.5, 2.0]}, "intrinsic_coeff": {"choice": [0.1, 1]}}},
        ]
    },
}


def sweep(searcher: dict[str, Any], search: dict[str, Any] = NUMBERS, **others: Any) -> Spec:
    return load_spec(
        {
            "algorithm": "ppo",
            "env": "CartPole-v1",
            "stop": {"env_steps": 1000},
            "seeds": [3, 4],
            "search": search,
            "searcher": searcher,
            **others,
        }
    )


def worth(point: Any, seed: int) -> float:
    """The score of a trial: best at lr = 0.001, and with ICM; seeds differ."""
    bonus = {"icm": 1.0, "curl": 0.5}
    losses = sum(bonus[name] for name in point.get("auxiliary", {}))
    return float(-((math.log10(point["training.lr"]) + 3) ** 2) + losses + 0.01 * seed)


class Sweep:
    """Runs trials one after the other; `kill` loses all but the files and the ended trials."""

    def __init__(self, spec: Spec, folder: Path, score: Callable[..., Any] = worth) -> None:
        self.spec, self.folder, self.score = spec, folder, score
        self.ended: dict[str, float | None] = {}
        self.suggested: list[Any] = []
        self.kill()

    def kill(self) -> None:
        self.searcher = PointSearcher(
            new_study(self.spec, self.folder),
            self.spec.seeds,
            objective=objective_of(self.spec),
            ended=self.ended,
            max_points=1,
        )
        self.running: list[tuple[str, Any]] = []

    def step(self) -> bool:
        """Begins a trial, or ends the running one; whether there was anything to do."""
        if self.running:
            trial, config = self.running.pop()
            seed = config.pop("seed")
            score = self.score(config, seed)
            result = None if score is None else {"episode_return_mean": score}
            self.ended[trial_key(config, seed)] = score  # in result.json before Tune is told
            self.searcher.on_trial_complete(trial, result, error=score is None)
            return True
        trial = str(len(self.suggested))
        config = self.searcher.suggest(trial)
        if config in (None, Searcher.FINISHED):
            return False
        self.suggested.append(dict(config))
        self.running.append((trial, config))
        return True

    def points(self) -> list[Any]:
        return Journal.read(self.folder, 0).points


def run(spec: Spec, folder: Path, kill_after: int | None = None, **others: Any) -> Sweep:
    folder.mkdir(exist_ok=True)
    made, number = Sweep(spec, folder, **others), 0
    while made.step():
        number += 1
        if number == kill_after:
            made.kill()
    return made


SAMPLERS: dict[str, dict[str, Any]] = {
    "tpe": {"optuna": {"num_samples": 14, "seed": 5, "n_startup_trials": 4}},
    "univariate": {"optuna": {"num_samples": 14, "seed": 5, "multivariate": False}},
    "cmaes": {"optuna": {"num_samples": 14, "seed": 5, "sampler": "cmaes", "n_startup_trials": 3}},
    "random": {"optuna": {"num_samples": 14, "seed": 5, "sampler": "random"}},
    "hyperopt": {"hyperopt": {"num_samples": 14, "seed": 5, "n_startup_trials": 4}},
}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_kill_at_any_step_changes_no_suggestion(sampler: str, tmp_path: Path) -> None:
    spec = sweep(SAMPLERS[sampler])
    whole = run(spec, tmp_path / "whole")
    keys = [point_key(point) for point in whole.points()]
    assert len(set(keys)) == 14
    assert len(whole.suggested) == 28  # each point with both seeds
    for kill_after in (1, 2, 4, 29, 55):  # of 56 steps
        killed = run(spec, tmp_path / f"killed-{kill_after}", kill_after)
        assert killed.points() == whole.points()
        # The trial that ran at the kill runs again; no other.
        assert len(killed.suggested) <= 29
        assert killed.ended == whole.ended


@pytest.mark.parametrize("sampler", ["tpe", "univariate", "random", "hyperopt"])
def test_conditional_spaces_are_drawn_and_survive_a_kill(sampler: str, tmp_path: Path) -> None:
    spec = sweep(SAMPLERS[sampler], CONDITIONAL)
    whole = run(spec, tmp_path / "whole")
    losses = [set(point["auxiliary"]) for point in whole.points()]
    assert {"curl"} in losses or {"icm"} in losses
    for point in whole.points():
        for name, options in point["auxiliary"].items():
            assert set(options) == ({"coeff"} if name == "curl" else {"coeff", "intrinsic_coeff"})
    killed = run(spec, tmp_path / "killed", kill_after=27)
    assert killed.points() == whole.points()


def test_suggestions_are_those_of_a_plain_study(tmp_path: Path) -> None:
    spec = sweep(SAMPLERS["tpe"])
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=5, n_startup_trials=4)
    )
    plain = []
    for _ in range(14):
        trial = study.ask()
        point = {
            "training.lr": trial.suggest_float("training.lr", 1e-5, 1e-1, log=True),
            "training.entropy_coeff": trial.suggest_float("training.entropy_coeff", 0.0, 0.1),
            "training.num_epochs": trial.suggest_int("training.num_epochs", 1, 8),
        }
        study.tell(trial, np.mean([worth(point, seed) for seed in (3, 4)]).item())
        plain.append(point)
    assert run(spec, tmp_path / "run").points() == plain


def write_finished(run: Path, points: list[dict[str, Any]], seeds: list[int]) -> None:
    """A run whose trials have finished with the scores of `worth`."""
    run.mkdir()
    (run / "run.json").write_text("{}")
    (run / "sweep.yaml").write_text(f"seeds: {seeds}\n")
    for index, point in enumerate(points):
        for seed in seeds:
            trial = run / f"{index}-{seed}"
            trial.mkdir()
            (trial / "spec.yaml").write_text("{}")
            (trial / "episodes.csv").write_text("env_steps,return,length,success\n")
            (trial / "trial.json").write_text(json.dumps({"point": point, "seed": seed}))
            result = {"env_steps": 1000, "episode_return_mean": worth(point, seed), "done": True}
            (trial / "result.json").write_text(json.dumps(result) + "\n")


@pytest.mark.parametrize("searcher", ["optuna", "hyperopt"])
def test_values_between_the_steps_of_a_space_are_no_warm_start(
    searcher: str, tmp_path: Path
) -> None:
    write_finished(tmp_path / "earlier", [{"training.lr": 0.25, "training.lambda_": 1.0}], [3])
    search = {
        "training.lr": {"quniform": [0, 1, 0.1]},
        "training.lambda_": {"uniform": [0.5, 1.0]},
    }
    options = {"num_samples": 3, "warm_start": str(tmp_path / "earlier")}
    with pytest.raises(SpecError, match=r"training.lr = 0.25, which search.training.lr cannot"):
        check_study(sweep({searcher: options}, search))


def test_a_warm_start_is_that_of_a_plain_study(tmp_path: Path) -> None:
    search = {
        "training.lr": {"loguniform": [1e-5, 1e-1]},
        "training.lambda_": {"uniform": [0.5, 1.0]},
    }
    earlier = [{"training.lr": 10.0**-k, "training.lambda_": 0.5 + k / 9} for k in (2, 3, 4)]
    write_finished(tmp_path / "earlier", earlier, seeds=[3, 4, 5])

    sampler = optuna.samplers.GPSampler(seed=5, n_startup_trials=3)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    space: dict[str, Any] = {
        "training.lr": optuna.distributions.FloatDistribution(1e-5, 1e-1, log=True),
        "training.lambda_": optuna.distributions.FloatDistribution(0.5, 1.0),
    }
    for point in earlier:
        score = float(np.mean([worth(point, seed) for seed in (3, 4, 5)]))
        study.add_trial(optuna.create_trial(params=point, distributions=space, value=score))
    plain = []
    for _ in range(3):
        trial = study.ask(space)
        study.tell(trial, float(np.mean([worth(trial.params, seed) for seed in (3, 4)])))
        plain.append(trial.params)
    options = {"sampler": "gp", "n_startup_trials": 3, "warm_start": str(tmp_path / "earlier")}
    spec = sweep({"optuna": {"num_samples": 3, "seed": 5, **options}}, search)
    (tmp_path / "run").mkdir()
    begin_study(spec, tmp_path / "run", check_study(spec))
    assert run(spec, tmp_path / "run", kill_after=4).points() == plain


def test_hyperopts_suggestions_are_those_of_its_own_loop(tmp_path: Path) -> None:
    spec = sweep(SAMPLERS["hyperopt"])
    trials, hp = hyperopt.Trials(), hyperopt.hp
    space = {
        "training.lr": hp.loguniform("training.lr", math.log(1e-5), math.log(1e-1)),
        "training.entropy_coeff": hp.uniform("training.entropy_coeff", 0.0, 0.1),
        "training.num_epochs": hp.randint("training.num_epochs", 1, 9),
    }
    domain = hyperopt.base.Domain(
        lambda point: -float(np.mean([worth(point, seed) for seed in (3, 4)])), space
    )
    generator = np.random.RandomState(5)
    for _ in range(14):
        seed = generator.randint(2**31 - 1)
        made = hyperopt.tpe.suggest(
            trials.new_trial_ids(1), domain, trials, seed, n_startup_jobs=4, verbose=False
        )
        trials.insert_trial_docs(made)
        trials.refresh()
        document = trials.trials[-1]
        point = {key: values[0] for key, values in document["misc"]["vals"].items()}
        document["result"] = domain.evaluate(point, None)
        document["state"] = hyperopt.JOB_STATE_DONE
        trials.refresh()
    plain = [{key: one["misc"]["vals"][key][0] for key in NUMBERS} for one in trials.trials]
    found = run(spec, tmp_path / "run").points()
    assert [list(point.values()) for point in found] == [list(point.values()) for point in plain]


@pytest.mark.parametrize("sampler", ["tpe", "hyperopt"])
def test_small_space_is_searched_without_repeats_and_ends(
    sampler: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search = {"training.lr": {"choice": [0.1, 0.01]}, "training.num_epochs": {"randint": [1, 4]}}
    spec = sweep(SAMPLERS[sampler], search)
    made = run(spec, tmp_path / "run")
    assert len({point_key(point) for point in made.points()}) == 6 == len(made.points())
    assert "The search ends after 6 points" in capsys.readouterr().out


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_failed_points_are_told_as_failed_and_may_be_told_again(
    sampler: str, tmp_path: Path
) -> None:
    spec = sweep(SAMPLERS[sampler])
    fails = {"now": True}

    def score(point: Any, seed: int) -> float | None:
        return None if fails["now"] and seed == 4 else worth(point, seed)

    folder = tmp_path / "run"
    folder.mkdir()
    made = Sweep(spec, folder, score)
    for _ in range(8):
        assert made.step()
    assert [(one.index, one.score) for one in Journal.read(folder, 0).told] == [
        (0, None),
        (1, None),
    ]
    # Resumed: the failed seeds run again, and now they end.
    fails["now"] = False
    made.ended = {key: score for key, score in made.ended.items() if score is not None}
    made.kill()
    while made.step():
        pass
    told = Journal.read(folder, 0).told
    assert [one.index for one in told if one.score is not None] == list(range(14))
    before = made.points()
    made.kill()
    assert not made.step() and made.points() == before


def test_journal_that_cannot_be_written_keeps_the_point_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = run(sweep(SAMPLERS["tpe"]), tmp_path / "whole")
    (tmp_path / "full").mkdir()
    made = Sweep(sweep(SAMPLERS["tpe"]), tmp_path / "full")
    for _ in range(12):
        made.step()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal, "replace_text", full)
    monkeypatch.setattr(study_points, "_RETRY_S", 0.0)
    assert made.step() is False and made.step() is False
    assert "cannot write the points" in caplog.text
    monkeypatch.undo()
    while made.step():
        pass
    assert made.points() == whole.points()


def test_other_suggestions_of_an_installed_library_are_not_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = sweep(SAMPLERS["tpe"])
    made = run(spec, tmp_path / "run")
    path = tmp_path / "run" / POINTS_FILE
    document = json.loads(path.read_text())
    document["points"][2]["values"]["training.lr"] = 0.05  # as another version would draw
    document["points"] = document["points"][:9]
    document["told"] = [one for one in document["told"] if one["after"] <= 9 and one["index"] < 9]
    path.write_text(json.dumps(document))
    made.ended = {}
    made.kill()
    while made.step():
        pass
    assert made.points()[2]["training.lr"] == 0.05 and len(made.points()) == 14
    assert "The run's points are kept." in capsys.readouterr().err


def test_study_can_be_looked_at_in_a_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/studies.db"
    searcher = {"optuna": {**SAMPLERS["tpe"]["optuna"], "storage": url, "num_samples": 3}}
    spec = sweep(searcher, CONDITIONAL)
    whole = run(
        sweep({"optuna": {**searcher["optuna"], "storage": None}}, CONDITIONAL), tmp_path / "a"
    )
    made = run(spec, tmp_path / "run", kill_after=9)
    assert made.points() == whole.points()
    study = optuna.load_study(study_name="run", storage=url)
    assert len(study.trials) == 3 and study.direction == optuna.study.StudyDirection.MAXIMIZE
    scores = [one.score for one in Journal.read(tmp_path / "run", 0).told if one.score is not None]
    assert [trial.value for trial in study.trials] == scores
    best = made.points()[scores.index(max(scores))]
    assert study.best_trial.params["training.lr"] == best["training.lr"]
    # A new run in the same folder begins a new study.
    assert open_copy(url, tmp_path / "run", "max", is_new=True).trials == []
    # Another run of the same name does not write into it.
    other = tmp_path / "elsewhere" / "run"
    other.mkdir(parents=True)
    with pytest.raises(SpecError, match="has a study 'run' already, of"):
        open_copy(url, other, "max")


def test_database_that_is_gone_does_not_stop_the_search(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    url = f"sqlite:///{folder}/studies.db"
    searcher = {"optuna": {**SAMPLERS["random"]["optuna"], "storage": url, "num_samples": 4}}
    (tmp_path / "run").mkdir()
    made = Sweep(sweep(searcher), tmp_path / "run")
    made.step()
    (folder / "studies.db").unlink()
    folder.rmdir()
    while made.step():
        pass
    assert len(made.points()) == 4
    assert caplog.text.count("cannot write the study to searcher.optuna.storage") == 1


def test_source_is_pickled_with_tune(tmp_path: Path) -> None:
    from ray import cloudpickle

    source = new_study(sweep(SAMPLERS["tpe"]), tmp_path)
    first = source.next_point()
    copy = cloudpickle.loads(cloudpickle.dumps(source))
    assert isinstance(copy, OptunaPoints)
    assert copy.next_point() == first
