"""Wrong specs are refused with key, value and fix."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlssl.errors import SpecError
from rlssl.experiment.spec.loading import load_spec, resolved_dict
from tests.experiment.spec.specs import FULL, refused


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"trainning": {}}, "unknown key 'trainning' in the spec; did you mean 'training'?"),
        (
            {"training": {"lrr": 1}},
            "unknown key 'training.lrr' in the spec; did you mean 'training.lr'?",
        ),
        (
            {"env_runners": {"num_env": 1}},
            "unknown key 'env_runners.num_env' in the spec; did you mean 'env_runners.num_envs'?",
        ),
        (
            {"auxiliary": {"icm": {"cof": 1}}},
            "unknown key 'auxiliary.icm.cof' in the spec; did you mean 'auxiliary.icm.coeff'?",
        ),
        (
            {"model": {"encoder": "mlp", "encoder_config": {"hiden": [1]}}},
            "unknown key 'model.encoder_config.hiden' in the spec; "
            "did you mean 'model.encoder_config.hidden'?",
        ),
        ({"env": {"size": 5}}, "env needs an id, as {id: CartPole-v1}; got {'size': 5}."),
        ({"algorithm": None}, "the key 'algorithm' is missing from the spec."),
        ({"algorithm": "pp"}, "unknown algorithm 'pp'; did you mean 'ppo'?"),
        ({"auxiliary": {"imc": {}}}, "unknown loss 'imc'; did you mean 'icm'?"),
        ({"model": {"encoder": "mpl"}}, "unknown encoder 'mpl'; did you mean 'mlp'"),
        ({"env": "Cartpole-v1"}, "unknown environment 'Cartpole-v1'; did you mean 'CartPole-v1'"),
        ({"env": "no_such:X-v0"}, "env.id 'no_such:X-v0': ModuleNotFoundError: No module"),
        ({"preset": "x"}, "unknown preset 'x' of algorithm 'ppo'; known: none."),
        (
            {"variant": "clipp"},
            "unknown variant 'clipp' of algorithm 'ppo'; did you mean 'clip'?",
        ),
        ({"plugins": ["no_such_module"]}, "plugins: no module 'no_such_module' on the path"),
        ({"connectors": {"learner": ["a"]}}, "connectors.learner: 'a' must have the form"),
        ({"stop": {"env_step": 1}}, "unknown stop metric 'env_step'; did you mean 'env_steps'?"),
    ],
)
def test_unknown_names_are_refused_with_their_path_and_a_suggestion(
    document: dict[str, Any], message: str
) -> None:
    assert refused(document).startswith(message)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            {"training": {"lr": "fast"}},
            "training.lr must be a number or a list of [env_steps, value]; got 'fast'.",
        ),
        ({"training": {"lr": True}}, "training.lr must be a number or a list of"),
        ({"training": {"num_epochs": 1.5}}, "training.num_epochs must be a whole number; got 1.5."),
        ({"training": {"num_epochs": True}}, "training.num_epochs must be a whole number; got Tr"),
        (
            {"training": {"normalize_advantages": 1}},
            "training.normalize_advantages must be true or false; got 1.",
        ),
        (
            {"training": {"grad_clip": "x"}},
            "training.grad_clip must be a number or null; got 'x'.",
        ),
        ({"training": {"gamma": 2}}, "training.gamma must be >= 0 and <= 1; got 2."),
        ({"auxiliary": {"icm": {"coeff": "x"}}}, "auxiliary.icm.coeff must be a number; got 'x'."),
        ({"auxiliary": {"icm": {"coeff": -1}}}, "auxiliary.icm: coeff must be finite and >= 0; g"),
        ({"auxiliary": {"icm": 3}}, "auxiliary.icm must be a mapping; got 3."),
        ({"auxiliary": {"icm": {"isolated": "y"}}}, "auxiliary.icm.isolated must be true or false"),
        ({"auxiliary": {"icm": {"isolated": True}}}, "auxiliary.icm.isolated: loss 'icm' has no"),
        (
            {"resources": {"gpus_per_learner": 1.5}},
            "resources.gpus_per_learner must be at most 1; got 1.5. A Learner computes on one GPU; "
            "for more GPUs, use more Learners: resources={learners: 2, gpus_per_learner: 1}.",
        ),
        (
            {"resources": {"learners": 2, "gpus_per_learner": 0.5}},
            "resources.learners: 2 with resources.gpus_per_learner: 0.5 would put several Learners "
            "of a trial on one GPU, and NCCL",
        ),
        (
            {"resources": {"gpus_per_env_runner": 0.1}},
            "resources.gpus_per_env_runner: 0.1 is for remote processes that sample, and",
        ),
        (
            {"resources": {"gpus_per_env_runner": 2, "env_runners": 2}},
            "resources.gpus_per_env_runner must be at most 1; got 2.",
        ),
        (
            {"algorithm": "a3c", "resources": {"gpus_per_env_runner": 1, "env_runners": 2}},
            "resources.gpus_per_env_runner must be 0 for a3c; got 1.",
        ),
        (
            {"env_runners": {"fragment_length": "autp"}},
            "env_runners.fragment_length must be a whole number or 'auto'; got 'autp'.",
        ),
        ({"model": {"frame_stack": 0}}, "model.frame_stack must be > 0; got 0."),
        ({"model": {"frame_stack": 4.0}}, "model.frame_stack must be a whole number; got 4.0."),
        ({"model": {"lstm": True}}, "model.lstm must be a mapping; got True."),
        ({"model": {"lstm": {"hidden": 0}}}, "model.lstm.hidden must be > 0; got 0."),
        ({"model": {"lstm": {"hiden": 8}}}, "unknown key 'model.lstm.hiden'"),
        ({"model": 3}, "model must be a mapping; got 3."),
        ({"resources": {"learners": -1}}, "resources.learners must be >= 0; got -1."),
        ({"evaluation": {"every_env_steps": 0}}, "evaluation.every_env_steps must be > 0; got 0."),
        ({"seeds": []}, "seeds must not be empty; got []."),
        ({"seeds": [1, 1]}, "seeds must differ; got [1, 1]."),
        ({"seeds": [1, "2"]}, "seeds[1] must be a whole number; got '2'."),
        ({"stop": {"env_steps": "x"}}, "stop.env_steps must be a number; got 'x'."),
        ({"stop": {"env_steps": 1.5}}, "stop.env_steps must be a whole number; got 1.5."),
        ({"stop": {"env_steps": 0}}, "stop.env_steps must be > 0; got 0."),
        ({"name": "../x"}, "name must be letters, digits"),
        ({"env": {"id": "CartPole-v1", "seed": 1}}, "env.seed is set by rlssl for every environ"),
        ({"evaluation": {"env": {"seed": 1}}}, "evaluation.env: env.seed is set by rlssl"),
        ({"env": {"id": "CartPole-v1", "x": {1, 2}}}, "env.x must be plain data"),
        ({"training": {"lr": float("nan")}}, "training.lr must be a number; got nan."),
    ],
)
def test_wrong_values_are_refused_with_key_value_and_expected_type(
    document: dict[str, Any], message: str
) -> None:
    assert refused(document).startswith(message)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"seeds": [0, 1]}, "stop.env_steps is missing: a sweep must say when its trials end, for"),
        ({"search": {"training.lr": {"grid": [0.1]}}}, "stop.env_steps is missing: a sweep must"),
        ({"seed": 3, "seeds": [0]}, "seed is for a single trial; got seed 3 and seeds [0]."),
        (
            {"scheduler": {"asha": {"grace_env_steps": 3}}},
            "scheduler needs a search: it compares points, and there is only one; remove it.",
        ),
        (
            {
                "scheduler": {"asha": {"grace_env_steps": 300}},
                "search": {"training.lr": {"grid": [0.1, 0.2]}},
                "stop": {"env_steps": 200},
            },
            "scheduler.asha.grace_env_steps must be at most 200, the end of a trial; got 300.",
        ),
        (
            {
                "scheduler": {"median": {"grace_env_steps": 300}},
                "search": {"training.lr": {"grid": [0.1, 0.2]}},
                "stop": {"env_steps": 200},
            },
            "scheduler.median.grace_env_steps must be at most 200, the end of a trial; got 300.",
        ),
        (
            {
                "scheduler": {
                    "asha": {"grace_env_steps": 10},
                    "median": {"grace_env_steps": 10},
                },
                "search": {"training.lr": {"grid": [0.1, 0.2]}},
            },
            "scheduler must have one of asha, median",
        ),
        ({"searcher": {"random": {"num_samples": 3}}}, "searcher: search draws no values at rand"),
        (
            {"searcher": {"optuna": {}}},
            "the key 'searcher.optuna.num_samples' is missing from the spec.",
        ),
        ({"scheduler": {"pb2": {}}}, "scheduler: 'pb2' is not supported; use pbt."),
        (
            {"scheduler": {"pbt": {}}},
            "the key 'scheduler.pbt.every_env_steps' is missing from the spec.",
        ),
        (
            {"scheduler": {"pbt": {"every_env_steps": 10, "quantile": 0.7}}},
            "scheduler.pbt.quantile must be less than or equal to 0.5; got 0.7.",
        ),
        (
            {"scheduler": {"pbt": {"every_env_steps": 10, "perturbation_interval": 4}}},
            "unknown key 'scheduler.pbt.perturbation_interval' in the spec",
        ),
        ({"tracking": ["wandbb"]}, "unknown tracking 'wandbb'; did you mean 'wandb'?"),
        ({"tracking": ["mlflow", {"mlflow": {}}]}, "tracking: 'mlflow' is there twice; leave one"),
        ({"tracking": [{"wandb": 7}]}, "tracking.wandb must be a mapping; got 7."),
        (
            {"tracking": [{"wandb": {"mode": "off"}}]},
            "tracking.wandb.mode must be 'online' or 'offline' or null; got 'off'; did you mean "
            "'offline'?",
        ),
        (
            {"tracking": [{"wandb": {"api_key_file": "mine"}}]},
            "unknown key 'tracking.wandb.api_key_file' in the spec; ",
        ),
        (
            {"tracking": [{"mlflow": {}, "wandb": {}}]},
            "tracking: one tracker for each entry of the list; got {'mlflow': {}, 'wandb': {}}.",
        ),
        (
            {"stop": {"evaluation/episode_return_mean": 9}},
            "stop.evaluation/episode_return_mean needs evaluations; set evaluation.every_env_ste",
        ),
    ],
)
def test_combinations_that_cannot_work_are_refused(document: dict[str, Any], message: str) -> None:
    assert refused(document).startswith(message)


def test_several_wrong_keys_are_reported_together() -> None:
    assert refused({"trainning": {}, "modle": {}}) == (
        "unknown key 'trainning' in the spec; did you mean 'training'?\n"
        "unknown key 'modle' in the spec; did you mean 'model'?"
    )


PATHS: list[tuple[str, ...]] = [(key,) for key in FULL] + [
    (key, inner) for key, value in FULL.items() if isinstance(value, dict) for inner in value
]
WORDS = st.sampled_from(["env_steps", "auto", "ppo", "icm", "grid", "lr", "uniform", "id", "a.b"])
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from(PATHS), JUNK), min_size=1, max_size=3))
def test_any_document_gives_a_spec_or_a_spec_error(
    changes: list[tuple[tuple[str, ...], Any]],
) -> None:
    document = {key: dict(v) if isinstance(v, dict) else v for key, v in FULL.items()}
    for path, value in changes:
        parent: Any = document
        for key in path[:-1]:
            parent = parent[key]
        if isinstance(parent, dict):
            parent[path[-1]] = value
    try:
        spec = load_spec(document)
    except SpecError:
        return
    assert load_spec(resolved_dict(spec)) == spec
