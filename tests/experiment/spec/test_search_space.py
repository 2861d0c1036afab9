"""The search space of a sweep: its points, its draws, and the searches that are refused."""

from typing import Any

import pytest

from rlssl.errors import SpecError
from rlssl.experiment.spec.loading import at_point, load_spec
from rlssl.experiment.spec.schema import Spec
from rlssl.experiment.spec.search_space import (
    dimensions,
    draw_points,
    has_random,
    num_trials,
    points,
    points_to_check,
    to_tune,
)

BASE: dict[str, Any] = {"algorithm": "ppo", "env": "CartPole-v1", "stop": {"env_steps": 1000}}


def sweep(search: dict[str, Any], **rest: Any) -> Spec:
    return load_spec({**BASE, "search": search, **rest})


def refused(search: dict[str, Any], **rest: Any) -> str:
    with pytest.raises(SpecError) as caught:
        sweep(search, **rest)
    return str(caught.value)


def test_points_are_the_cross_product_with_the_last_path_fastest() -> None:
    spec = sweep(
        {"training.lr": {"grid": [0.1, 0.2]}, "training.num_epochs": {"grid": [1, 2, 3]}},
        seeds=[0, 1],
    )
    found = points(spec)
    assert [tuple(point.values()) for point in found] == [
        (0.1, 1), (0.1, 2), (0.1, 3), (0.2, 1), (0.2, 2), (0.2, 3),
    ]  # fmt: skip
    assert num_trials(spec) == 12  # 2 x 3 points x 2 seeds
    assert not has_random(spec)


def test_spec_without_a_search_is_one_point() -> None:
    spec = load_spec(BASE)
    assert points(spec) == [{}]
    assert at_point(spec, {}, 5).seed == 5


def test_loss_can_be_present_in_one_point_and_absent_in_another() -> None:
    whole = sweep({"auxiliary": {"grid": [{}, {"icm": {"coeff": 2.0}}]}})
    losses = [at_point(whole, point, 0).auxiliary for point in points(whole)]
    assert losses == [{}, {"icm": {"coeff": 2.0}}]
    # Also if the file sets the loss, and if only one loss is searched.
    file = {"auxiliary": {"icm": {"coeff": 3.0}}}
    whole = sweep({"auxiliary": {"grid": [{}, {"icm": {}}]}}, **file)
    assert [at_point(whole, point, 0).auxiliary for point in points(whole)] == [{}, {"icm": {}}]
    one = sweep({"auxiliary.icm": {"grid": [None, {"coeff": 2.0}]}})
    assert [at_point(one, point, 0).auxiliary for point in points(one)] == losses


def test_spec_at_a_point_has_no_search() -> None:
    spec = sweep(
        {"auxiliary.icm.coeff": {"grid": [0.0, 1.0]}, "training.lr": {"loguniform": [1e-5, 1e-3]}},
        searcher={"random": {"num_samples": 3}},
        scheduler={"asha": {"grace_env_steps": 100}},
        seeds=[4, 5],
    )
    trial = at_point(spec, {"auxiliary.icm.coeff": 1.0, "training.lr": 2e-4}, 5)
    assert trial.auxiliary == {"icm": {"coeff": 1.0}}
    assert trial.training == {"lr": 2e-4}
    assert (trial.search, trial.searcher, trial.scheduler) == ({}, None, None)
    assert (trial.seed, trial.seeds) == (5, [5])
    assert num_trials(spec) == 12  # 2 grid points x 3 samples x 2 seeds
    assert has_random(spec)


def test_point_must_give_every_path_and_no_other() -> None:
    spec = sweep({"training.lr": {"grid": [0.1]}})
    with pytest.raises(SpecError, match=r"must give values to \['training.lr'\]; got \[\]"):
        at_point(spec, {}, 0)
    with pytest.raises(SpecError, match=r"got \['training.gamma', 'training.lr'\]"):
        at_point(spec, {"training.lr": 0.1, "training.gamma": 0.9}, 0)


def test_every_kind_becomes_a_search_object_of_tune() -> None:
    search = {
        "training.lr": {"grid": [0.1, 0.2]},
        "training.gamma": {"choice": [0.9, 0.99]},
        "training.lambda_": {"uniform": [0.1, 0.9]},
        "training.kl_target": {"quniform": [0.1, 0.9, 0.1]},
        "training.kl_coeff": {"loguniform": [1e-3, 1]},
        "training.adam_epsilon": {"qloguniform": [0.1, 1, 0.1]},
        "training.num_epochs": {"randint": [1, 5]},
        "training.minibatch_size": {"qrandint": [32, 128, 32]},
        "training.train_batch_size_per_learner": {"lograndint": [256, 512]},
        "env_runners.num_envs": {"qlograndint": [2, 8, 2]},
        "training.entropy_coeff": {"randn": [5.0, 0.1]},
        "training.clip_param": {"qrandn": [5.0, 0.1, 0.05]},
    }
    spec = sweep(search, searcher={"random": {"num_samples": 2}})
    tuned = to_tune(spec)
    assert tuned.pop("training.lr") == {"grid_search": [0.1, 0.2]}
    drawn = {path: domain.sample() for path, domain in tuned.items()}
    trial = at_point(spec, {"training.lr": 0.1, **drawn}, 0)  # some values are numpy scalars
    assert trial.training["num_epochs"] in (1, 2, 3, 4)
    assert trial.training["minibatch_size"] % 32 == 0
    assert 1e-3 <= trial.training["kl_coeff"] <= 1


DRAWN: dict[str, Any] = {
    "training.lr": {"grid": [0.1, 0.2]},
    "training.entropy_coeff": {"loguniform": [1e-3, 1e-1]},
    "training.num_epochs": {"randint": [1, 5]},
}


def drawn(num_samples: int, seed: int = 0) -> list[dict[str, Any]]:
    searcher = {"random": {"num_samples": num_samples, "seed": seed}}
    return draw_points(sweep(DRAWN, searcher=searcher))


def test_each_point_of_the_grid_has_draws_of_its_own() -> None:
    found = drawn(2)
    assert [point["training.lr"] for point in found] == [0.1, 0.2, 0.1, 0.2]
    assert len({point["training.entropy_coeff"] for point in found}) == 4
    assert all(list(point) == list(DRAWN) for point in found)
    # Plain numbers: they are saved as JSON.
    assert {type(value) for point in found for value in point.values()} == {float, int}


def test_draws_repeat_with_the_seed_and_more_samples_keep_the_first() -> None:
    assert drawn(2) == drawn(2) == drawn(5)[:4]
    assert drawn(2) != drawn(2, seed=1)


def test_no_point_is_drawn_twice() -> None:
    search = {"training.gamma": {"choice": [0.9, 0.99]}, "training.num_epochs": {"randint": [1, 3]}}
    spec = sweep(search, searcher={"random": {"num_samples": 100}}, seeds=[0, 1])
    found = draw_points(spec)
    assert len(found) == 4  # 2 x 2, and no more exist
    assert num_trials(spec) == 8


def test_points_without_random_entries_are_those_of_the_grid() -> None:
    assert draw_points(load_spec(BASE)) == [{}]
    spec = sweep({"training.lr": {"grid": [0.1, 0.2]}})
    assert draw_points(spec) == points(spec)


def test_every_value_and_both_bounds_are_checked_before_the_start() -> None:
    search = {
        "training.lr": {"grid": [1, 2]},
        "training.gamma": {"choice": [3, 4]},
        "training.num_epochs": {"randint": [5, 9]},
        "training.minibatch_size": {"qrandint": [8, 16, 8]},
    }
    ends = {d.path: d.examples for d in dimensions(search)}
    assert ends["training.num_epochs"] == (5, 8)  # the upper bound is exclusive ...
    assert ends["training.minibatch_size"] == (8, 16)  # ... unless the values are quantized
    spec = Spec.model_construct(search=search)
    assert [tuple(point.values()) for point in points_to_check(spec)] == [
        (3, 5, 8, 1), (3, 5, 8, 2), (4, 5, 8, 1), (3, 8, 8, 1), (3, 5, 16, 1),
    ]  # fmt: skip


RANDOM = {"searcher": {"random": {"num_samples": 2}}}


@pytest.mark.parametrize(
    ("search", "rest", "message"),
    [
        (
            {"training.lr": {"grid": [0.1, "x"]}},
            {},
            "search at training.lr = 'x': training.lr must be a number or a list of "
            "[env_steps, value]; got 'x'.",
        ),
        (
            {"training.lrr": {"grid": [0.1]}},
            {},
            "search at training.lrr = 0.1: unknown key 'training.lrr' in the spec; "
            "did you mean 'training.lr'?",
        ),
        (
            {"auxiliary.imc.coeff": {"grid": [0.1]}},
            {},
            "search at auxiliary.imc.coeff = 0.1: unknown loss 'imc'; did you mean 'icm'?",
        ),
        (
            {"training.gamma": {"uniform": [0.5, 1.5]}},
            RANDOM,
            "search at training.gamma = 1.5: training.gamma must be >= 0 and <= 1; got 1.5.",
        ),
        (
            {"training.num_epochs": {"quniform": [1, 5, 1]}},
            RANDOM,
            "search at training.num_epochs = 1.0: training.num_epochs must be a whole number; ",
        ),
        (
            {"variant": {"grid": ["clip", "clipp"]}},
            {},
            "search at variant = 'clipp': unknown variant 'clipp' of algorithm 'ppo'; did you mean",
        ),
        (
            {"trainning.lr": {"grid": [0.1]}},
            {},
            "search cannot vary 'trainning.lr'; did you mean 'training'?",
        ),
        (
            {"seed": {"grid": [0, 1]}},
            {},
            "search cannot vary 'seed'; list the seeds under 'seeds'.",
        ),
        ({"storage": {"grid": ["a"]}}, {}, "search cannot vary 'storage'"),
        (
            {"training.lr": {"gird": [1]}},
            {},
            "unknown search 'gird' at 'search.training.lr'; did you mean 'grid'?",
        ),
        ({"training": {"lr": {"grid": [1]}}}, {}, "unknown search 'lr' at 'search.training'"),
        (
            {"training.lr": {"choice": [0.1, {"uniform": [0, 1]}]}},
            RANDOM,
            "search.training.lr lists {'uniform': [0, 1]}, which is a space itself; a space can",
        ),
        ({"training.lr": [1, 2]}, {}, "search.training.lr must be one of"),
        ({"training.lr": {"grid": []}}, {}, "search.training.lr.grid must be a list of values; g"),
        ({"training.lr": {"grid": [1, 2, 1]}}, {}, "search.training.lr.grid lists 1 twice"),
        (
            {"training.lr": {"uniform": [1]}},
            RANDOM,
            "search.training.lr.uniform takes [lower, upper]; got [1].",
        ),
        (
            {"training.lr": {"uniform": [1, "2"]}},
            RANDOM,
            "search.training.lr.uniform takes [lower, upper] as numbers; got [1, '2'].",
        ),
        (
            {"training.num_epochs": {"randint": [1, 2.5]}},
            RANDOM,
            "search.training.num_epochs.randint takes [lower, upper] as whole numbers; got",
        ),
        ({"training.lr": {"uniform": [2, 1]}}, RANDOM, "search.training.lr.uniform needs lower < "),
        ({"training.lr": {"loguniform": [0, 1]}}, RANDOM, "search.training.lr.loguniform needs lo"),
        (
            {"training.lr": {"quniform": [0.1, 1, 0.3]}},
            RANDOM,
            "search.training.lr.quniform: lower must be a multiple of q; got 0.1 and 0.3.",
        ),
        (
            {"auxiliary": {"grid": [{}]}, "auxiliary.icm.coeff": {"grid": [1]}},
            {},
            "search: 'auxiliary' and 'auxiliary.icm.coeff' both set 'auxiliary.icm.coeff'; ",
        ),
        (
            {"training.lr": {"uniform": [0.1, 0.2]}},
            {"searcher": {"random": {"num_samples": 2, "seed": -1}}},
            "searcher.random.seed must be >= 0; got -1.",
        ),
        (
            {"training.lr": {"uniform": [0.1, 0.2]}},
            {},
            "search draws values at random and needs a number of samples; add "
            "searcher: {random: {num_samples: 8}}.",
        ),
        (
            {"training.lr": {"grid": list(range(1, 102))}, "training.gamma": {"grid": [0.01] * 1}}
            | {"training.num_epochs": {"grid": list(range(1, 101))}},
            {},
            "search: the grid has 10100 points; at most 10000 are allowed.",
        ),
    ],
)
def test_search_that_cannot_run_is_refused(
    search: dict[str, Any], rest: dict[str, Any], message: str
) -> None:
    assert refused(search, **rest).startswith(message)


def test_paths_with_a_common_prefix_do_not_overlap() -> None:
    spec = sweep({"model.encoder": {"grid": ["mlp"]}, "model.encoder_config": {"grid": [{}]}})
    assert len(points(spec)) == 1
