"""A run gets further points and seeds, and trains further than it did."""

import json
from pathlib import Path
from typing import Any

import pytest

from rlssl.errors import SpecError
from rlssl.experiment.commands.extend import check_same, merged_points, merged_spec
from rlssl.experiment.spec.loading import load_spec
from rlssl.experiment.spec.schema import Spec
from rlssl.experiment.tuning.searchers import write_points
from tests.experiment.command_line import results, rlssl
from tests.experiment.spec.specs import BASE
from tests.experiment.worth import write_sweep


def sweep(values: list[float], **others: Any) -> Spec:
    search = {"training.lr": {"grid": values}}
    return load_spec({**BASE, "search": search, "stop": {"env_steps": 1000}, **others})


def test_points_and_seeds_of_both_are_kept_in_order(tmp_path: Path) -> None:
    known, spec = sweep([0.1, 0.2], seeds=[3]), sweep([0.2, 0.3], seeds=[3, 4])
    check_same(known, spec, "run")
    write_points(tmp_path, [{"training.lr": 0.1}, {"training.lr": 0.2}], search_seed=0)
    assert [point["training.lr"] for point in merged_points(spec, tmp_path)] == [0.1, 0.2, 0.3]
    merged = merged_spec(known, spec)
    assert merged.seeds == [3, 4] and merged.search == spec.search


STUDY = {"optuna": {"num_samples": 4}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": {"training.gamma": {"grid": [0.9]}}}, "it searched training.lr; the file sear"),
        ({"training": {"gamma": 0.9}}, r"training is \{\} there and \{'gamma': 0.9\} in the file"),
        ({"stop": {"env_steps": 2000}}, "To train further: rlssl resume RUN --stop env_steps=N."),
        ({"env": {"id": "Acrobot-v1"}}, "env is {'id': 'CartPole-v1'} there"),
        (
            {"search": {"training.lr": {"uniform": [0, 1]}}, "searcher": STUDY},
            "a study goes on only with its own searcher",
        ),
        ({"objective": {"metric": "area"}}, "the objective is episode_return_mean there and area"),
    ],
)
def test_other_trials_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=f"--extend run: .*{message}"):
        check_same(sweep([0.1]), sweep([0.1], **changes), "run")


def test_seeds_names_and_storage_may_differ_and_the_rest_is_taken_over() -> None:
    others = {"name": "other", "storage": "/tmp/x", "checkpoint": {"keep": 1}, "seeds": [8]}
    known, spec = sweep([0.1]), sweep([0.1], max_failures=7, resources={"cpus": 2}, **others)
    check_same(known, spec, "run")
    merged = merged_spec(known, spec)
    assert (merged.name, merged.storage) == (known.name, known.storage)
    assert (merged.checkpoint.keep, merged.max_failures, merged.resources.cpus) == (1, 7, 2)


@pytest.mark.parametrize("change", [{"sampler": "random"}, {"seed": 1}, {"warm_start": "other"}])
def test_study_goes_on_only_with_the_options_that_determine_its_points(
    change: dict[str, Any],
) -> None:
    def study(**options: Any) -> Spec:
        space = {"training.lr": {"uniform": [0, 1]}}
        options = {"num_samples": 4, **options}
        return sweep([], search=space, searcher={"optuna": options})

    check_same(study(), study(num_samples=9, max_concurrent=2, storage="sqlite:///a.db"), "run")
    with pytest.raises(SpecError, match=r"a study goes on only .*'num_samples': 4"):
        check_same(study(), study(**change), "run")


def test_confirmation_sees_no_seed_of_the_run_nor_of_the_file() -> None:
    confirm = {"top": 1, "seeds": [0, 100]}
    with pytest.raises(SpecError, match=r"confirm.seeds .* it has \[0\] too"):
        merged_spec(sweep([0.1], seeds=[0]), sweep([0.1], seeds=[5], confirm=confirm))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_run_gets_points_and_seeds_and_trains_further(tmp_path: Path) -> None:
    end = {"env_steps": 128}
    write_sweep(tmp_path, "worth", search={"env.worth": {"grid": [1.0]}}, seeds=[3], stop=end)
    wider = {"env.worth": {"grid": [1.0, 5.0]}}
    write_sweep(tmp_path, "wider", search=wider, seeds=[3, 4], stop=end)
    run = tmp_path / "results" / "worth"

    def trials() -> dict[tuple[float, int], Path]:
        found = {}
        for marker in run.glob("*/trial.json"):
            trial = json.loads(marker.read_text())
            key = (trial["point"]["env.worth"], trial["seed"])
            assert key not in found
            found[key] = marker.parent
        return found

    rlssl("sweep", "worth.yaml", cwd=tmp_path)
    first = trials()
    rows = results(first[1.0, 3])
    printed, _ = rlssl("sweep", "wider.yaml", "--extend", "worth", cwd=tmp_path)
    assert "worth: 3 more trials" in printed
    extended = trials()
    assert extended.keys() == {(1.0, 3), (1.0, 4), (5.0, 3), (5.0, 4)}
    assert results(extended[1.0, 3]) == rows  # it did not run again
    assert (
        "has every point and seed"
        in rlssl("sweep", "wider.yaml", "--extend", "worth", cwd=tmp_path)[0]
    )

    rlssl("resume", "worth", "--stop", "env_steps=256", cwd=tmp_path)
    assert trials() == extended
    for folder in extended.values():
        made = results(folder)
        assert made[-1]["done"] and made[-1]["env_steps"] >= 256
        assert made[-1]["env_steps_at_start"] == 128
    assert "has finished" in rlssl("resume", "worth", cwd=tmp_path)[0]
    _, errors = rlssl("resume", "worth", "--stop", "env_steps=200", cwd=tmp_path, code=2)
    assert "train to 256 env steps already" in errors
