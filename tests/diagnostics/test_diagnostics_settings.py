"""The key `diagnostics` of a spec and the builder method."""

from typing import Any

import pytest

import rlssl
from rlssl.errors import SpecError
from rlssl.experiment.spec.building import build_config
from rlssl.experiment.spec.loading import load_spec
from tests.experiment.spec.specs import BASE, refused

EVALUATED: dict[str, Any] = {"evaluation": {"every_env_steps": 1000}}


def test_names_and_options_reach_the_config() -> None:
    wanted = ["ranks", {"dormant": {"tau": 0.025}}, "reward_probe"]
    config = build_config(load_spec({**BASE, **EVALUATED, "diagnostics": wanted}))
    assert config.latent_diagnostics == {
        "ranks": {"delta": 0.01},
        "dormant": {"tau": 0.025},
        "reward_probe": {"quantile": 0.5},
    }
    assert build_config(load_spec(BASE)).latent_diagnostics == {}


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (["rank"], "unknown diagnostic 'rank'; did you mean 'ranks'"),
        ([{"dormant": {"taw": 0.1}}], "unknown option 'diagnostics.dormant.taw'"),
        ([{"dormant": {"tau": -1}}], "diagnostics.dormant.tau must be a number >= 0; got -1"),
        ([{"ranks": {"delta": 1}}], "diagnostics.ranks.delta must be a number in (0, 1); got 1"),
        ([{"reward_probe": {"quantile": "half"}}], "diagnostics.reward_probe.quantile must be"),
        ([{"ranks": {}, "dormant": {}}], "one diagnostic for each entry"),
        (["ranks", "ranks"], "'ranks' is there twice"),
        ([{"ranks": 3}], "diagnostics.ranks must be a mapping of options; got 3"),
    ],
)
def test_wrong_values_are_refused_in_words(wanted: Any, words: str) -> None:
    assert words in refused({**EVALUATED, "diagnostics": wanted})


def test_a_name_alone_is_no_list() -> None:
    with pytest.raises(SpecError, match=r"diagnostics must be a list, as \[ranks, dormant\]"):
        rlssl.PPOConfig().diagnostics("ranks")


def test_diagnostics_need_evaluations() -> None:
    words = "set evaluation.every_env_steps"
    assert words in refused({"diagnostics": ["ranks"]})
    config = rlssl.PPOConfig().environment("CartPole-v1").diagnostics(["ranks"])
    with pytest.raises(SpecError, match=words):
        config.validate()


def test_probes_need_two_episodes() -> None:
    one = {"evaluation": {"every_env_steps": 1000, "episodes": 1}}
    words = "diagnostics action_probe: a probe is fitted on some episodes and tested on others"
    assert words in refused({**one, "diagnostics": ["ranks", "action_probe"]})
    assert load_spec({**BASE, **one, "diagnostics": ["ranks"]}).diagnostics == ["ranks"]


def test_an_objective_of_a_diagnostic_needs_it() -> None:
    objective = {"metric": "diagnostics/ranks/srank"}
    given = {**EVALUATED, "objective": objective}
    assert load_spec({**BASE, **given, "diagnostics": ["ranks"]}).objective is not None
    words = "objective.metric 'diagnostics/ranks/srank' needs the diagnostic; add ranks"
    assert words in refused({**given, "diagnostics": ["dormant"]})
