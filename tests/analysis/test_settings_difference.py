"""Settings of runs and points stand side by side; the differing ones are marked."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlssl.analysis.results import Episodes, Trial
from rlssl.analysis.settings_difference import SettingRow, compare_settings, flat_settings


def side(*effective: dict[str, Any], **beside: Any) -> list[Trial]:
    none = Episodes(*np.empty((4, 0)))
    return [
        Trial(Path("a"), {"effective": used, **beside}, {}, seed, "", [], none)
        for seed, used in enumerate(effective)
    ]


def differing(*sides: list[Trial]) -> dict[str, tuple[str, ...]]:
    return {row.key: row.cells for row in compare_settings(sides) if row.differs}


def test_only_differing_settings_are_marked() -> None:
    ours = side({"training": {"lr": 0.1, "gamma": 0.99}, "auxiliary": {"icm": {"coeff": 1.0}}})
    theirs = side({"training": {"lr": 0.2, "gamma": 0.99}, "auxiliary": {}})
    assert differing(ours, theirs) == {
        "training.lr": ("0.1", "0.2"),
        "auxiliary.icm.coeff": ("1.0", "(absent)"),
        "auxiliary": ("(absent)", "{}"),
    }
    assert [row.key for row in compare_settings([ours, theirs])] == [
        "training.lr", "training.gamma", "auxiliary.icm.coeff", "auxiliary"
    ]  # fmt: skip


def test_settings_without_an_effective_one_are_compared() -> None:
    used: dict[str, Any] = {"model": {"encoder": "mlp", "augmentation": {"shift": {"pad": 4}}}}
    given = {"encoder": "mlp", "augmentation": "shift"}
    ours = side(used, model={**given, "from": "runs/a"}, data={"path": "d", "episodes": 20})
    theirs = side(used, model=given, data={"path": "d", "episodes": 50})
    assert differing(ours, theirs) == {
        "model.from": ("runs/a", "(absent)"),
        "data.episodes": ("20", "50"),
    }


def test_budget_and_versions_stand_beside_the_settings_and_seeds_do_not() -> None:
    ours = side({}, stop={"env_steps": 10}, provenance={"versions": {"ray": "2.60.0"}}, seed=0)
    theirs = side({}, stop={"env_steps": 20}, provenance={"versions": {"ray": "2.61.0"}}, seed=9)
    assert differing(ours, theirs) == {
        "stop.env_steps": ("10", "20"),
        "versions.ray": ("2.60.0", "2.61.0"),
    }


def test_several_values_of_a_side_are_listed() -> None:
    many = side(*({"training": {"lr": value}} for value in (1, 2, 3, 4, 5, 5)))
    assert differing(many, side({"training": {"lr": 1}})) == {
        "training.lr": ("1 | 2 | 3 | 4 | 1 more", "1")
    }


@pytest.mark.parametrize(
    ("one", "other", "differs"),
    [
        (1, 1.0, False),
        (1, True, True),
        (None, 0, True),
        (float("nan"), float("nan"), False),
        ([1, 2], [2, 1], True),
        ({}, None, True),
        ("1", 1, True),
    ],
)
def test_values_differ_by_meaning(one: Any, other: Any, differs: bool) -> None:
    (row,) = compare_settings([side({"a": one}), side({"a": other})])
    assert row.differs is differs


def test_three_sides_differ_if_one_does() -> None:
    assert SettingRow("a", ((1,), (1,), (2,))).differs
    assert not SettingRow("a", ((1,),)).differs


def test_secrets_are_hidden_wherever_they_stand() -> None:
    spec = {
        "effective": {
            "env": {"id": "A", "apiKey": "abc", "password": {"of": "abc"}},
            "connectors": [{"auth_token": "abc"}, "s3://me:abc@host"],
        }
    }
    assert "abc" not in str(flat_settings(spec))
    assert flat_settings(spec)["env.id"] == "A"


def test_specs_without_effective_settings_give_what_they_say() -> None:
    spec = {"name": "x", "algorithm": "ppo", "env": {"id": "A"}, "storage": "/tmp", "seeds": [0]}
    assert flat_settings(spec) == {"algorithm": "ppo", "env.id": "A"}


def test_a_side_without_trials_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one trial"):
        compare_settings([side({}), []])
