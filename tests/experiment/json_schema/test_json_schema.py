"""The JSON schema of spec files accepts what rlssl accepts, and refuses misspelt keys."""

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from rlssl.experiment.json_schema import spec_schema
from rlssl.experiment.spec.loading import load_spec, resolved_dict
from rlssl.experiment.spec.overrides import set_path
from rlssl.experiment.spec.schema import Spec
from rlssl.experiment.spec.yaml_reader import read_document
from rlssl.registry import ALGORITHMS, AUXILIARY_LOSSES
from rlssl.system.annotations.comments import field_comments

ROOT = Path(__file__).parents[3]
FOLDERS = ("tune_configs", "tune_configs/study", "examples/rlssl_plugin_example")
SWEEPS = [
    file
    for folder in FOLDERS
    for file in sorted((ROOT / folder).glob("*.yaml"))
    if file.name != "matrix.yaml"  # not a spec
]
SPEC: dict[str, Any] = {
    "algorithm": "ppo",
    "env": {"id": "CartPole-v1"},
    "training": {"lr": 0.001},
    "auxiliary": {"icm": {"variant": "burda"}, "curl": None},
    "search": {"training.lr": {"loguniform": [1e-4, 1e-2]}, "env.size": {"grid": [1, 2]}},
    "searcher": {"random": {"num_samples": 4}},
    "scheduler": {"asha": {"grace_env_steps": 100}},
    "stop": {"env_steps": 1000},
    "evaluation": {"every_env_steps": 500},
    "diagnostics": ["ranks", {"dormant": {"tau": 0.1}}],
    "tracking": ["tensorboard", {"wandb": {"mode": "offline"}}],
    "model": {"encoder": "mlp", "lstm": {"hidden": 8}, "augmentation": {"crop": {"size": 64}}},
    "resources": {"env_runners": 2},
}


def as_editors_read(text: str) -> Any:
    """The document in which numbers with underscores are text, as in YAML 1.2."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in rules if not tag.endswith((":int", ":float"))]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for tag, pattern in (
        ("int", r"^[-+]?[0-9]+$"),
        ("float", r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
    ):
        compiled = re.compile(pattern)
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", compiled, list("-+.0123456789"))
    Loader.add_constructor("tag:yaml.org,2002:float", lambda _, node: float(node.value))
    return yaml.load(text, Loader=Loader)


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_every_shipped_sweep_is_valid(
    file: Path, validator: jsonschema.Draft202012Validator, request: pytest.FixtureRequest
) -> None:
    documents = [read_document(file), as_editors_read(file.read_text(encoding="utf-8"))]
    for document in documents:
        losses = document.get("auxiliary") or {}
        plugin = {"reward_prediction"} & losses.keys()
        messages = [error.message for error in validator.iter_errors(document)]
        # The schema has the losses that are registered; the example is a plug-in.
        assert len(messages) == (2 if plugin else 0), messages


def test_numbers_with_underscores_are_text_for_editors() -> None:
    assert as_editors_read("[80_000, 1e-3, 80000, true]") == ["80_000", 1e-3, 80_000, True]


def test_the_sample_is_valid(validator: jsonschema.Draft202012Validator) -> None:
    assert [error.message for error in validator.iter_errors(SPEC)] == []


@pytest.mark.parametrize(
    "path",
    [
        "trainning",
        "training.lrr",
        "auxiliary.crul",
        "auxiliary.icm.coef",
        "auxiliary.icm.no_such",
        "stop.env_step",
        "evaluation.every_steps",
        "model.encoders",
        "model.lstm.units",
        "model.augmentation.crop.pad",
        "scheduler.asha.grace_steps",
        "scheduler.hyperband",
        "searcher.random.samples",
        "resources.runners",
    ],
)
def test_a_misspelt_key_is_refused(path: str, validator: jsonschema.Draft202012Validator) -> None:
    document = set_path(copy.deepcopy(SPEC), path, {})
    assert not validator.is_valid(document)


@pytest.mark.parametrize(
    "key, value",
    [
        ("algorithm", "poo"),
        ("algorithm", None),
        ("preset", "dqn"),  # of rainbow
        ("search", {"training.lrr": {"grid": [1]}}),
        ("search", {"training.tau": {"grid": [1]}}),  # of sac
        ("search", {"auxiliary.icm.coef": {"grid": [1]}}),
        ("search", {"seeds": {"grid": [1]}}),
        ("search", {"training.lr": {"grids": [1]}}),
        ("search", {"training.lr": {"uniform": [1]}}),
        ("env", {"size": 3}),
        ("training", {"lr": "fast"}),
        ("training", {"gamma": 1.5}),
        ("seeds", []),
        ("seeds", [-1]),
        ("diagnostics", ["rank"]),
        ("tracking", [{"wandb": {"projekt": "mine"}}]),
        ("report_every_s", True),
    ],
)
def test_a_wrong_value_is_refused(
    key: str, value: Any, validator: jsonschema.Draft202012Validator
) -> None:
    assert not validator.is_valid({**SPEC, key: value})


def test_a_search_over_algorithms_may_have_the_paths_of_each(
    validator: jsonschema.Draft202012Validator,
) -> None:
    search = {"algorithm": {"grid": ["ppo", "sac"]}, "training.tau": {"grid": [0.1]}}
    assert validator.is_valid({**SPEC, "search": search})


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_every_preset_and_variant_is_valid(
    algorithm: str, validator: jsonschema.Draft202012Validator
) -> None:
    config = ALGORITHMS[algorithm]
    for layers in (config.presets, config.variants):
        for name, values in layers.items():
            document = {"algorithm": algorithm, "env": "CartPole-v1", **as_plain(values)}
            assert [error.message for error in validator.iter_errors(document)] == [], name


def as_plain(values: Any) -> Any:
    if isinstance(values, Mapping):
        return {key: as_plain(value) for key, value in values.items()}
    return [as_plain(value) for value in values] if isinstance(values, list | tuple) else values


def test_a_saved_spec_is_valid(validator: jsonschema.Draft202012Validator) -> None:
    document = {"algorithm": "sac", "env": "Pendulum-v1", "auxiliary": {"curl": {"coeff": 0.5}}}
    saved = resolved_dict(load_spec(document))
    assert [error.message for error in validator.iter_errors(saved)] == []


def test_every_loss_and_every_setting_has_its_default_and_description() -> None:
    schema = spec_schema()
    losses = schema["properties"]["auxiliary"]["anyOf"][0]["properties"]
    assert losses.keys() >= set(AUXILIARY_LOSSES)
    own = losses["rnd"]["anyOf"][0]["properties"]
    assert own["coeff"]["default"] == 1.0
    assert own["coeff"]["description"].startswith("Weight of the loss relative to the RL loss")
    (ppo,) = [
        rule["then"]["properties"]["training"]["anyOf"][0]["properties"]
        for rule in schema["allOf"]
        if rule["if"].get("properties") == {"algorithm": {"const": "ppo"}}
    ]
    assert ppo.keys() == ALGORITHMS["ppo"].training_arguments().keys()
    assert ppo["gamma"]["maximum"] == 1 and ppo["gamma"]["default"] == 0.99
    assert all(setting["description"] for setting in ppo.values())


def test_comments_above_fields_are_their_descriptions() -> None:
    comments = field_comments(Spec)
    assert comments["seeds"] == "Every point runs once with each seed."
    assert comments["scheduler" if "scheduler" in comments else "objective"]
    assert "None" not in comments["objective"]  # YAML has null
