"""Specs: what is read, what is refused and in which words, and what comes out."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import rlssl.registry
from rlssl.errors import SpecError
from rlssl.experiment.spec.building import build_config, run_seed
from rlssl.experiment.spec.loading import at_point, load_spec, resolved_dict, save_spec
from rlssl.experiment.spec.yaml_reader import parse_yaml
from tests.experiment.spec.full_spec import FULL

BASE: dict[str, Any] = {"algorithm": "ppo", "env": "CartPole-v1"}


def refused(document: dict[str, Any], *overrides: str) -> str:
    with pytest.raises(SpecError) as caught:
        load_spec({**BASE, **document}, overrides)
    return str(caught.value)


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


# --- reading -----------------------------------------------------------------------------------


def test_every_key_of_the_design_is_accepted_and_kept() -> None:
    spec = load_spec(FULL)
    assert spec.model_dump(exclude={"seed"})["scheduler"]["asha"]["reduction_factor"] == 4
    for key, value in FULL.items():
        if isinstance(value, dict) and key not in ("scheduler", "model", "training"):
            assert resolved_dict(spec)[key] == value, key


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 0.0001),
        ("1.5E+3", 1500),  # whole, so that stop: {env_steps: 1.5e3} is a number of steps
        ("1e6", 1_000_000),
        ("400_000", 400_000),
        ("-3", -3),
        (".5", 0.5),
        (".inf", float("inf")),
        ("no", "no"),  # YAML 1.1 says False
        ("010", "010"),  # YAML 1.1 says 8
        ("12:30", "12:30"),  # YAML 1.1 says 750
        ("2026-01-31", "2026-01-31"),
        ("true", True),
        ("null", None),
        ("", None),
    ],
)
def test_scalars_mean_what_they_look_like(text: str, value: Any) -> None:
    read = parse_yaml(text, "here")
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: {c: 1, c: 2}", "here, line 2: the key 'c' is given twice."),
        ("a: [1", "here, line 1: expected ',' or ']', but got '<stream end>'."),
        ("!!python/object/apply:os.getcwd []", "could not determine a constructor for the tag"),
        ("!!int x", "here, line 1: cannot read 'x' as tag:yaml.org,2002:int."),
        ("{1: 2}", "keys must be text; got 1 in the spec; quote it."),
        ("&a [*a]", "nested deeper than 20 levels"),
        ("[" * 5000, "here: cannot be read as YAML"),
    ],
)
def test_what_is_no_plain_yaml_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_yaml(text, "here")
    assert message in str(caught.value)


def test_a_file_is_named_after_itself_unless_it_says_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "my sweep.yaml"
    path.write_text("algorithm: ppo\nenv: CartPole-v1\nstop: {env_steps: 1e3}\n")
    assert load_spec(path).name == "my-sweep"
    assert load_spec(str(path), ["name=other"]).name == "other"
    assert load_spec({**BASE, "env": "phys2d/CartPole-v1"}).name == "ppo-phys2d-CartPole-v1"


def test_a_missing_file_and_an_unknown_sweep_are_told_apart(monkeypatch: Any) -> None:
    monkeypatch.setattr("rlssl.experiment.spec.yaml_reader.list_sweeps", lambda: ["quickstart"])
    with pytest.raises(SpecError, match=r"no spec file 'a/b\.yaml'; check the path"):
        load_spec("a/b.yaml")
    with pytest.raises(SpecError, match="unknown sweep 'quikstart'; did you mean 'quickstart'"):
        load_spec("quikstart")


# --- refusing ----------------------------------------------------------------------------------


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
        ({"connectors": {"learner": ["a"]}}, "connectors.learner: 'a' is not of the form"),
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
        ({"auxiliary": {"icm": {"isolated": True}}}, "auxiliary.icm.isolated: loss 'icm' declares"),
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
        ({"env": {"id": "CartPole-v1", "seed": 1}}, "env.seed is given to every environment by"),
        ({"env": {"id": "CartPole-v1", "x": {1, 2}}}, "env.x must be plain data"),
        ({"training": {"lr": float("nan")}}, "training.lr must be a number; got nan."),
    ],
)
def test_wrong_values_are_refused_with_key_value_and_what_is_expected(
    document: dict[str, Any], message: str
) -> None:
    assert refused(document).startswith(message)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"seeds": [0, 1]}, "stop.env_steps is missing: a sweep must say when its trials end."),
        ({"search": {"training.lr": {"grid": [0.1]}}}, "stop.env_steps is missing: a sweep must"),
        ({"seed": 3, "seeds": [0]}, "seed is for a single trial; got seed 3 and seeds [0]."),
        (
            {"scheduler": {"asha": {"grace_env_steps": 3}}},
            "scheduler needs a search: with one point there is nothing to compare.",
        ),
        (
            {
                "scheduler": {"asha": {"grace_env_steps": 300}},
                "search": {"training.lr": {"grid": [0.1, 0.2]}},
                "stop": {"env_steps": 200},
            },
            "scheduler.asha.grace_env_steps must be at most 200, the end of a trial; got 300.",
        ),
        ({"searcher": {"random": {"num_samples": 3}}}, "searcher: nothing in search is drawn at"),
        ({"searcher": {"optuna": {}}}, "searcher: 'optuna' is not supported yet."),
        ({"scheduler": {"pbt": {}}}, "scheduler: 'pbt' is not supported yet."),
        ({"tracking": ["wandb"]}, "tracking: 'wandb' is not supported yet."),
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


@settings(max_examples=200)
@given(st.text(alphabet="ab:{}[]-,&*!#|>'\"\n 01.e_~%@?<", max_size=30))
def test_any_text_gives_plain_data_or_a_spec_error(text: str) -> None:
    try:
        value = parse_yaml(text, "here")
    except SpecError:
        return
    assert yaml.safe_load(yaml.safe_dump(value)) == value


# --- layers ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("layered_ppo")
def test_each_layer_wins_over_the_one_below() -> None:
    document = {**BASE, "preset": "small", "variant": "fast", "training": {"num_epochs": 9}}
    assert load_spec(document).training == {"lr": 1e-5, "gamma": 0.6, "num_epochs": 9}
    extra = {"training": {"lr": 1, "num_epochs": 10}}
    assert load_spec(document, extra=extra).training["num_epochs"] == 10
    over = load_spec(document, ["training.num_epochs=11"], extra=extra)
    assert over.training == {"lr": 1, "gamma": 0.6, "num_epochs": 11}


@pytest.mark.usefixtures("layered_ppo")
def test_the_search_wins_over_every_layer_and_a_searched_variant_stays_below_the_file() -> None:
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
def test_a_preset_does_not_come_back_when_a_resolved_spec_is_read_again(tmp_path: Path) -> None:
    document = {**BASE, "preset": "small", "auxiliary": {"icm": None}, "stop": {"env_steps": 1}}
    spec = load_spec(document)
    assert spec.auxiliary == {}
    assert load_spec(save_spec(spec, tmp_path / "spec.yaml")) == spec
    assert load_spec(resolved_dict(spec)) == spec
    with pytest.raises(SpecError, match="cannot set 'preset' on a resolved spec"):
        load_spec(tmp_path / "spec.yaml", ["preset=null"])


@pytest.mark.usefixtures("layered_ppo")
def test_a_point_without_losses_takes_none_from_the_preset_either() -> None:
    search = {"auxiliary": {"grid": [{}, {"icm": {"coeff": 1.0}}]}}
    spec = load_spec({**BASE, "preset": "small", "search": search, "stop": {"env_steps": 1}})
    assert spec.auxiliary == {"icm": {"coeff": 3.0}}
    assert at_point(spec, {"auxiliary": {}}, 0).auxiliary == {}


@pytest.mark.usefixtures("layered_ppo")
def test_a_searched_preset_adds_no_loss_that_the_file_removes() -> None:
    document = {**BASE, "auxiliary": {"icm": None}, "stop": {"env_steps": 1}}
    spec = load_spec({**document, "search": {"preset": {"grid": [None, "small"]}}})
    assert at_point(spec, {"preset": "small"}, 0).auxiliary == {}
    assert at_point(spec, {"preset": "small"}, 0).training["num_epochs"] == 7
    assert at_point(spec, {"preset": None}, 0).training == {}


@pytest.mark.usefixtures("layered_ppo")
def test_options_of_one_encoder_are_not_inherited_by_another() -> None:
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
def test_overrides_that_name_nothing_are_refused(override: str, message: str) -> None:
    assert refused({}, override).startswith(message)


#: An environment whose actions the algorithm takes.
ENV_OF = {
    "a3c": "CartPole-v1",
    "ddpg": "Pendulum-v1",
    "ppo": "CartPole-v1",
    "rainbow": "CartPole-v1",
    "sac": "Pendulum-v1",
}


@pytest.mark.parametrize(
    "algorithm, preset, variant",
    [
        (algorithm, preset, variant)
        for algorithm in rlssl.registry.ALGORITHMS
        for preset in (None, *rlssl.registry.ALGORITHMS[algorithm].presets)
        for variant in (None, *rlssl.registry.ALGORITHMS[algorithm].variants)
        # A second step on the encoder, where its steps are apart.
        if (algorithm, variant) != ("sac", "code") or preset == "curl"
    ],
)
def test_every_preset_and_variant_reaches_the_config(
    algorithm: str, preset: str | None, variant: str | None
) -> None:
    document = {
        **{"algorithm": algorithm, "env": ENV_OF[algorithm], "stop": {"env_steps": 1000}},
        **{"preset": preset, "variant": variant},
    }
    spec = load_spec(document)
    assert load_spec(resolved_dict(spec)) == spec
    config_class = rlssl.registry.ALGORITHMS[algorithm]
    layers = [config_class.presets.get(preset, {}), config_class.variants.get(variant, {})]
    expected: dict[str, Any] = {}
    for layer in layers:
        expected |= layer.get("training", {})
    config = build_config(spec)
    assert config.algorithm_name == algorithm
    for key, value in expected.items():
        name = "_train_batch_size_per_learner" if key == "train_batch_size_per_learner" else key
        found = getattr(config, name)
        assert (value.items() <= found.items()) if key == "replay" else found == value, key


# --- coming out --------------------------------------------------------------------------------


def test_a_saved_spec_says_what_made_it_and_is_read_as_the_same(tmp_path: Path) -> None:
    spec = load_spec(FULL)
    path = save_spec(spec, tmp_path / "spec.yaml", {"git_commit": "abc"})
    assert yaml.safe_load(path.read_text())["provenance"] == {"resolved": True, "git_commit": "abc"}
    assert load_spec(path) == spec


def test_neighbouring_seeds_share_no_environments_stream() -> None:
    # Runner and environment add at most a few thousand to a run's seed, a million in evaluation.
    seeds = sorted(run_seed(seed) for seed in range(50))
    assert min(b - a for a, b in itertools.pairwise(seeds)) > 10_000
    assert seeds[0] >= 0 and seeds[-1] < 2**31


def test_everything_in_a_spec_reaches_the_config() -> None:
    spec = at_point(load_spec(FULL), {"training.gamma": 0.9, "training.kl_target": 0.5}, 7)
    config = build_config(spec)
    assert (config.env, config.env_config) == ("CartPole-v1", {})
    assert (config.variant, config.gamma, config.kl_target, config.grad_clip) == (
        "both",
        0.9,
        0.5,
        None,
    )
    assert config.lr == [[0, 1e-3], [400_000, 0]]
    assert config.auxiliary_losses == FULL["auxiliary"]
    assert config.network["encoder_config"] == {"hidden": [64]}
    assert config.network["frame_stack"] == 2
    assert (config.num_env_runners, config.num_envs_per_env_runner) == (2, 4)
    assert (config.rollout_fragment_length, config.vectorize) == ("auto", "sync")
    request = config.algo_class.default_resource_request(config)
    assert request.bundles[0]["CPU"] == config.num_cpus_for_main_process == 2
    assert config.seeded_evaluation == FULL["evaluation"]
    assert (config.watchdog_s, config.seed) == (300, run_seed(7))


def test_what_a_spec_leaves_out_stays_at_the_algorithms_default() -> None:
    config, default = build_config(load_spec(BASE)), rlssl.registry.ALGORITHMS["ppo"]()
    default.environment("CartPole-v1")
    changed = {k for k, v in vars(config).items() if vars(default).get(k) != v}
    assert changed - {"_model"} == set()


def test_a_sweep_gives_no_config_before_a_point_is_chosen() -> None:
    with pytest.raises(SpecError, match=r"at_point must choose first among \['training.gamma'"):
        build_config(load_spec(FULL))


def test_a_later_override_wins_also_for_the_seed() -> None:
    assert load_spec({**BASE, "seed": 1}, ["seed=2", "seed=3"]).seeds == [3]
