"""The best points of a search run again, with seeds that the search did not see."""

import json
from pathlib import Path
from typing import Any

import pytest

from rlssl.analysis.confirmation import Chosen, write_choice
from rlssl.experiment.commands.confirm import confirms
from rlssl.experiment.spec.loading import load_spec, save_spec
from rlssl.experiment.spec.schema import Spec
from rlssl.experiment.spec.search_space import draw_points, num_trials
from tests.experiment.command_line import rlssl
from tests.experiment.spec.specs import BASE, refused
from tests.experiment.worth import write_sweep

SEARCH: dict[str, Any] = {
    "search": {"training.lr": {"uniform": [0, 1]}, "auxiliary": {"choice": [{}, {"icm": {}}]}},
    "stop": {"env_steps": 1000},
    "seeds": [0, 1],
}
LISTED = [
    {"training.lr": 0.5, "auxiliary": {}},
    {"auxiliary": {"icm": {}}, "training.lr": 0.25},
]


def test_listed_points_are_the_points_of_the_sweep() -> None:
    spec = load_spec({**BASE, **SEARCH, "searcher": {"points": LISTED}})
    assert draw_points(spec) == LISTED and num_trials(spec) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"searcher": {"points": [{"training.lr": 0.5}]}},
            "searcher.points[0] must give values to training.lr, auxiliary; got training.lr.",
        ),
        (
            {"searcher": {"points": [{"training.lr": 2.0, "auxiliary": {}}]}},
            "searcher.points[0]: training.lr = 2.0 is not in search.training.lr.",
        ),
        ({"searcher": {"points": [LISTED[0], LISTED[0]]}}, "searcher.points[1] is listed twice"),
        ({"searcher": {"points": []}}, "searcher.points must not be empty; got []."),
        (
            {"searcher": {"points": LISTED}, "confirm": {"seeds": [1, 2]}},
            "confirm.seeds must be seeds that the search does not see; it has [1] too. Use "
            "[100, 101].",
        ),
        (
            {"searcher": {"points": LISTED}, "confirm": {"seeds": [7, 7]}},
            "confirm.seeds must differ; got [7, 7].",
        ),
        ({"confirm": {"top": 3}}, "the key 'confirm.seeds' is missing from the spec."),
        ({"search": {}, "confirm": {"seeds": [7]}}, "confirm needs a search, of which the best"),
    ],
)
def test_what_cannot_be_confirmed_is_refused(changes: dict[str, Any], message: str) -> None:
    assert refused({**SEARCH, **changes}).startswith(message)


def test_confirmation_is_done_again_for_other_points_seeds_and_ends(tmp_path: Path) -> None:
    def spec(seeds: list[int], env_steps: int) -> Spec:
        changes = {"stop": {"env_steps": env_steps}, "confirm": {"top": 1, "seeds": seeds}}
        return load_spec({**BASE, **SEARCH, **changes, "searcher": {"points": LISTED}})

    def point(values: dict[str, Any]) -> Chosen:
        return Chosen(values, "", [1.0])

    again = tmp_path / "again"
    again.mkdir()
    write_choice(again, tmp_path / "run", [point(one) for one in LISTED])
    assert not confirms(again, tmp_path / "run", [point(LISTED[0])], spec([100], 1000))
    save_spec(spec([100], 1000).model_copy(update={"seeds": [100, 101]}), again / "sweep.yaml")

    def is_done(run: str, values: dict[str, Any], seeds: list[int], env_steps: int) -> bool:
        return confirms(again, tmp_path / run, [point(values)], spec(seeds, env_steps))

    assert is_done("run", LISTED[1], [100], 1000)
    assert not is_done("other", LISTED[1], [100], 1000)
    assert not is_done("run", {"training.lr": 0.1, "auxiliary": {}}, [100], 1000)
    assert not is_done("run", LISTED[1], [100, 102], 1000)
    assert not is_done("run", LISTED[1], [100], 2000)
    (again / "confirm.json").write_text("{")
    assert not is_done("run", LISTED[1], [100], 1000)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_search_is_confirmed_and_confirmed_again(tmp_path: Path) -> None:
    write_sweep(
        tmp_path,
        "worth",
        search={"env.worth": {"grid": [1.0, 5.0]}},
        seeds=[3],
        confirm={"top": 1, "seeds": [100]},
        stop={"env_steps": 128},
    )
    printed, _ = rlssl("sweep", "worth.yaml", cwd=tmp_path)
    assert "the best points of worth, with new seeds" in printed
    made = tmp_path / "results" / "worth-confirm"
    (trial,) = [json.loads(path.read_text()) for path in made.glob("*/trial.json")]
    assert (trial["point"], trial["seed"]) == ({"env.worth": 5.0}, 100)
    _, line = (made / "confirm.csv").read_text().splitlines()
    assert line == "worth=5,5.0,,,1,5.0,,,1,0.0"
    assert "optimism" in rlssl("summary", "worth-confirm", cwd=tmp_path)[0]
    # It is done once; the command runs more points and seeds.
    assert "were confirmed by the run worth-confirm" in rlssl("resume", "worth", cwd=tmp_path)[0]
    rlssl("confirm", "worth", "--top", "2", "--seeds", "1", cwd=tmp_path)
    again = tmp_path / "results" / "worth-confirm-2"
    assert len(list(again.glob("*/trial.json"))) == 2
    _, errors = rlssl("confirm", "nowhere", cwd=tmp_path, code=2)
    assert "no run 'nowhere'" in errors
