"""The layers of a spec: presets, variants, the file, overrides and the search."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rlssl.registry
from rlssl.errors import SpecError
from rlssl.experiment.spec.loading import at_point, load_spec, resolved_dict, save_spec
from tests.experiment.spec.specs import BASE, refused


@pytest.fixture
def layered_ppo(monkeypatch: pytest.MonkeyPatch) -> None:
    """PPO with a preset and two variants that overlap."""
    ppo = rlssl.registry.ALGORITHMS["ppo"]
    preset = {
        "training": {"lr": 1e-5, "gamma": 0.5, "num_epochs": 7},
        "auxiliary": {"icm": {"coeff": 3.0}},
        "model": {"encoder": "mlp", "encoder_config": {"hidden": [16]}},
    }
    variants = {"fast": {"training": {"gamma": 0.6, "num_epochs": 8}}, "plain": {}}
    monkeypatch.setattr(ppo, "presets", {"small": preset})
    monkeypatch.setattr(ppo, "variants", variants)


@pytest.mark.usefixtures("layered_ppo")
def test_each_layer_wins_over_the_one_below() -> None:
    document = {**BASE, "preset": "small", "variant": "fast", "training": {"num_epochs": 9}}
    assert load_spec(document).training == {"lr": 1e-5, "gamma": 0.6, "num_epochs": 9}
    extra = {"training": {"lr": 1, "num_epochs": 10}}
    assert load_spec(document, extra=extra).training["num_epochs"] == 10
    over = load_spec(document, ["training.num_epochs=11"], extra=extra)
    assert over.training == {"lr": 1, "gamma": 0.6, "num_epochs": 11}


@pytest.mark.usefixtures("layered_ppo")
def test_search_wins_over_every_layer_and_the_file_over_a_searched_variant() -> None:
    document = {
        **BASE,
        "preset": "small",
        "training": {"num_epochs": 9},
        "stop": {"env_steps": 1},
        "search": {"variant": {"grid": ["fast", "plain"]}, "training.lr": {"grid": [0.5]}},
    }
    spec = load_spec(document)
    fast = at_point(spec, {"variant": "fast", "training.lr": 0.5}, 0)
    plain = at_point(spec, {"variant": "plain", "training.lr": 0.5}, 0)
    assert fast.training == {"lr": 0.5, "gamma": 0.6, "num_epochs": 9}
    assert plain.training == {"lr": 0.5, "gamma": 0.5, "num_epochs": 9}
    again = load_spec(resolved_dict(spec))
    assert at_point(again, {"variant": "fast", "training.lr": 0.5}, 0) == fast


@pytest.mark.usefixtures("layered_ppo")
def test_preset_is_not_applied_again_to_a_resolved_spec(tmp_path: Path) -> None:
    document = {**BASE, "preset": "small", "auxiliary": {"icm": None}, "stop": {"env_steps": 1}}
    spec = load_spec(document)
    assert spec.auxiliary == {}
    assert load_spec(save_spec(spec, tmp_path / "spec.yaml")) == spec
    assert load_spec(resolved_dict(spec)) == spec
    with pytest.raises(SpecError, match="cannot set 'preset' on a resolved spec"):
        load_spec(tmp_path / "spec.yaml", ["preset=null"])


@pytest.mark.usefixtures("layered_ppo")
def test_point_without_losses_takes_no_loss_from_the_preset() -> None:
    search = {"auxiliary": {"grid": [{}, {"icm": {"coeff": 1.0}}]}}
    spec = load_spec({**BASE, "preset": "small", "search": search, "stop": {"env_steps": 1}})
    assert spec.auxiliary == {"icm": {"coeff": 3.0}}
    assert at_point(spec, {"auxiliary": {}}, 0).auxiliary == {}


@pytest.mark.usefixtures("layered_ppo")
@pytest.mark.parametrize(
    ("document", "override", "message"),
    [
        (
            {"training": {"gamma": 0.9}, "search": {"training": {"grid": [{"lr": 1}]}}},
            "seed=0",
            "search.training gives training as a whole: training.gamma of the file or the preset "
            "would be lost at {'lr': 1}. Repeat it in each value, or search the paths below",
        ),
        (
            {"preset": "small", "search": {"training": {"choice": [{"lr": {"uniform": [0, 1]}}]}}},
            "searcher.random.num_samples=2",
            "search.training gives training as a whole: training.gamma",
        ),
        (
            {"env": {"id": "CartPole-v1", "max_episode_steps": 7}},
            "search.env.grid=[CartPole-v1, Acrobot-v1]",
            "search.env gives env as a whole: env.max_episode_steps",
        ),
        (
            {"search": {"training.lr": {"grid": [1, 2]}}},
            "training={lr: 3}",
            "--set training.lr: the sweep searches training.lr, so this value would not be used. "
            "Change the search: --set 'search.training.lr.grid=[...]'.",
        ),
        (
            {"search": {"auxiliary": {"grid": [{}, {"icm": {}}]}}},
            "auxiliary.icm.coeff=2",
            "--set auxiliary.icm.coeff: the sweep searches auxiliary,",
        ),
    ],
)
def test_search_replaces_no_setting_without_a_word(
    document: dict[str, Any], override: str, message: str
) -> None:
    assert refused({"stop": {"env_steps": 1}, **document}, override).startswith(message)


@pytest.mark.usefixtures("layered_ppo")
def test_searched_preset_adds_no_loss_that_the_file_removes() -> None:
    document = {**BASE, "auxiliary": {"icm": None}, "stop": {"env_steps": 1}}
    spec = load_spec({**document, "search": {"preset": {"grid": [None, "small"]}}})
    assert at_point(spec, {"preset": "small"}, 0).auxiliary == {}
    assert at_point(spec, {"preset": "small"}, 0).training["num_epochs"] == 7
    assert at_point(spec, {"preset": None}, 0).training == {}


@pytest.mark.usefixtures("layered_ppo")
def test_options_of_an_encoder_are_not_inherited_by_another() -> None:
    document = {**BASE, "preset": "small", "model": {"encoder": "nature"}}
    assert load_spec(document).model.encoder_config == {}
    same = {**BASE, "preset": "small", "model": {"encoder_config": {"activation": "relu"}}}
    assert load_spec(same).model.encoder_config == {"hidden": [16], "activation": "relu"}


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("training.lr=1e-4", lambda spec: spec.training == {"lr": 1e-4}),
        ("training.lr=[[0, 1], [5, 0]]", lambda spec: spec.training["lr"] == [[0, 1], [5, 0]]),
        ("env.render_mode=null", lambda spec: spec.env["render_mode"] is None),
        ("stop.env_steps=2e5", lambda spec: spec.stop == {"env_steps": 200_000}),
        (
            "search.training.lr={grid: [1, 2]}",
            lambda spec: spec.search == {"training.lr": {"grid": [1, 2]}},
        ),
        (
            "search.training.lr.grid=[1, 2]",
            lambda spec: spec.search == {"training.lr": {"grid": [1, 2]}},
        ),
        ("auxiliary.icm={}", lambda spec: spec.auxiliary == {"icm": {}}),
        ("seed=4", lambda spec: (spec.seed, spec.seeds) == (4, [4])),
        ("seeds=[5, 6]", lambda spec: (spec.seed, spec.seeds) == (None, [5, 6])),
    ],
)
def test_overrides_are_dotted_paths_with_yaml_values(
    override: str, read: Callable[[Any], bool]
) -> None:
    document = {**BASE, "stop": {"env_steps": 100}}
    assert read(load_spec(document, [override]))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.lrr=1", "unknown key 'training.lrr' in the spec; did you mean 'training.lr'?"),
        ("lr", "cannot set 'lr'; write KEY=VALUE, for example training.lr=1e-4."),
        ("a..b=1", "cannot set 'a..b=1'; write KEY=VALUE"),
        ("algorithm.lr=1", "cannot set 'algorithm.lr': 'algorithm' is 'ppo', not a mapping."),
        ("training.lr=[1", "--set training.lr=[1, line 1: expected ',' or ']'"),
    ],
)
def test_wrong_overrides_are_refused(override: str, message: str) -> None:
    assert refused({}, override).startswith(message)


def test_later_override_wins_also_for_the_seed() -> None:
    assert load_spec({**BASE, "seed": 1}, ["seed=2", "seed=3"]).seeds == [3]
