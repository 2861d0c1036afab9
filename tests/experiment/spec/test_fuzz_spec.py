"""For any input, the spec loader returns a spec or raises an error of one screen."""

import copy
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rlssl.errors import SpecError
from rlssl.experiment.spec.loading import load_spec, resolved_dict, save_spec
from rlssl.experiment.spec.schema import Spec
from rlssl.experiment.spec.yaml_reader import list_sweeps
from tests.experiment.spec import specs

FULL: dict[str, Any] = {
    **specs.FULL,
    "env": {"id": "CartPole-v1", "render_mode": None},
    "search": {**specs.FULL["search"], "auxiliary.icm.coeff": {"choice": [0.0, 0.1]}},
}
SMALL: dict[str, Any] = {
    "algorithm": "ppo",
    "env": "CartPole-v1",
    "auxiliary": {"icm": {}},
    "training": {"lr": 1e-3},
    "stop": {"env_steps": 1000},
}
REPLAYED: dict[str, Any] = {
    "algorithm": "ddpg",
    "preset": "td3",
    "env": {"id": "Pendulum-v1", "distractors": {"dims": 3, "kind": "correlated"}},
    "auxiliary": {"bisimulation": {"variant": "paper", "isolated": False}},
    "model": {"encoder_config": {"hidden": [16]}},
    "training": {"replay": {"prioritized": True}, "auxiliary_step": "joint", "num_critics": 3},
    "stop": {"env_steps": 1000},
}
RECURRENT: dict[str, Any] = {
    "algorithm": "a3c",
    "variant": "a2c",
    "env": {"id": "memory/cue", "delay": 5},
    "model": {"lstm": {"hidden": 16, "sequence_length": 8}},
    "auxiliary": {"deepmdp": {"decoder": "observation"}},
    "training": {"entropy_coeff_per_worker": [0.01, 0.02], "optimizer_state": "shared"},
    "stop": {"env_steps": 1000},
}
DOCUMENTS = [
    *(SMALL, FULL, {**SMALL, "search": FULL["search"], "searcher": FULL["searcher"]}),
    *(REPLAYED, RECURRENT),
]

#: Words that are valid at some place of a spec; the tests put them at wrong places.
WORDS = (
    *("ppo", "rainbow", "icm", "curl", "mlp", "nature", "auto", "sync", "env_steps", "lr", "id"),
    *("a3c", "sac", "ddpg", "td3", "drq_v2", "a2c", "bisimulation", "deepmdp", "joint", "separate"),
    *("memory/cue", "Pendulum-v1", "distractors", "lstm", "per_worker", "prioritized", "paper"),
    *("grid", "choice", "uniform", "qlograndint", "randn", "random", "asha", "optuna", "pbt"),
    *("clip", "both", "coeff", "isolated", "CartPole-v1", "CartPole-v9", "ALE/Pong-v5", "a.b", "."),
    *(
        "training.lr",
        "auxiliary",
        "auxiliary.icm",
        "variant",
        "seed",
        "api_key",
        "a:b",
        "../x",
        "~",
    ),
    *("{1: 2}", "&a [*a]", "!!python/name:os.system", "\x00", "\x1b[2J", "\ud800", "é\u2028", ""),
)
NUMBERS = (
    *(0, -1, 1, 3, 2**31, 2**63 - 1, 2**63, 10**400, -(2**70), True, False, None),
    *(0.0, -0.0, 0.5, 1e-320, 1e300, float("inf"), float("-inf"), float("nan")),
)


class Junk:
    """An object that is not plain data."""


def recursive_list() -> list[Any]:
    itself: list[Any] = []
    itself.append(itself)
    return itself


def recursive_dict() -> dict[str, Any]:
    itself: dict[str, Any] = {}
    itself["again"] = itself
    return itself


def many_values() -> list[Any]:
    """Ten billion numbers in ten small lists, as YAML aliases can create."""
    value: list[Any] = [1]
    for _ in range(10):
        value = [value] * 10
    return value


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


ODDITIES: tuple[Callable[[], Any], ...] = (
    Junk,
    recursive_list,
    recursive_dict,
    many_values,
    lambda: nested(500),
    lambda: "x" * 100_000,
    lambda: ["x"] * 3_000,
    lambda: {f"key{i}": i for i in range(1_000)},
    lambda: {1, 2},
    lambda: b"bytes",
    lambda: {1: 2, None: 3},
    lambda: Path("somewhere"),
)
LEAVES = st.sampled_from(WORDS) | st.sampled_from(NUMBERS) | st.text(max_size=5)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
) | st.sampled_from(ODDITIES)


def made(value: Any) -> Any:
    """The value with each function replaced by its result: hypothesis prints the functions."""
    if callable(value):
        return value()
    if isinstance(value, dict):
        return {key: made(inner) for key, inner in value.items()}
    return [made(item) for item in value] if isinstance(value, list) else value


def paths(document: Any, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key of the nested mappings."""
    for key, value in document.items() if isinstance(document, dict) else ():
        yield (*prefix, key)
        yield from paths(value, (*prefix, key))


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """A valid spec with one to three keys misspelled, moved, removed or given another value."""
    original = draw(st.sampled_from(DOCUMENTS))
    document: dict[str, Any] = copy.deepcopy(original)
    for _ in range(draw(st.integers(1, 3))):
        *above, key = draw(st.sampled_from([*paths(original), ("new",)]))
        parent: Any = document
        for part in above:
            parent = parent.get(part) if isinstance(parent, dict) else None
        if isinstance(parent, dict):
            mutate(draw, parent, key)
    return document


def mutate(draw: st.DrawFn, parent: dict[str, Any], key: str) -> None:
    kind = draw(st.sampled_from(("value", "value", "rename", "remove", "wrap", "add")))
    if kind == "value":
        parent[key] = draw(VALUES)
    elif kind == "add":
        parent[draw(st.sampled_from(WORDS) | st.text(max_size=8))] = draw(VALUES)
    elif key in parent:
        value = parent.pop(key)
        if kind == "rename":
            parent[misspelled(draw, key)] = value
        elif kind == "wrap":
            parent[key] = {draw(st.sampled_from(WORDS)): value}


def misspelled(draw: st.DrawFn, word: str) -> str:
    at = draw(st.integers(0, len(word)))
    letter = draw(st.sampled_from("aeX_. \n\x00é"))
    return draw(st.sampled_from((word[:at] + letter + word[at:], word[:at] + word[at + 1 :])))


@st.composite
def yaml_texts(draw: st.DrawFn) -> str:
    """The text of a spec with a few characters changed, or an odd value followed by text."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from(WORDS)) + draw(st.text(max_size=30))
    text = yaml.safe_dump(draw(st.sampled_from(DOCUMENTS)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        insert = draw(st.sampled_from((*"{}[]:,&*!|>'\"#%@\n\t -?~0e.", *WORDS)))
        text = text[:at] + insert + text[at + draw(st.integers(0, 3)) :]
    return text


def load(folder: Path, source: Any, overrides: list[str]) -> Spec | None:
    """Loads a spec, and checks the errors; a saved spec must be read back unchanged."""
    begin = time.perf_counter()
    try:
        spec = load_spec(made(source), overrides)
    except SpecError as error:
        assert_one_screen(str(error))
        return None
    finally:
        assert time.perf_counter() - begin < 30.0
    assert load_spec(resolved_dict(spec)) == spec
    if "env_steps" in spec.stop:  # a file must have stop.env_steps
        assert load_spec(save_spec(spec, folder / "saved.yaml")) == spec
    return spec


def assert_one_screen(message: str) -> None:
    lines = message.split("\n")
    assert message.strip() and sum(1 + len(line) // 80 for line in lines) <= 24
    assert all(letter.isprintable() or letter == "\n" for letter in message)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("specs")


MAPPINGS = st.tuples(
    mutated(),
    st.lists(
        st.tuples(st.sampled_from([".".join(path) for path in paths(FULL)]), LEAVES).map(
            lambda pair: f"{pair[0]}={pair[1]}"
        )
        | st.text(max_size=10),
        max_size=2,
    ),
)


@settings(max_examples=200)
@given(case=MAPPINGS)
def test_any_mapping_gives_a_spec_or_one_screen(folder: Path, case: Any) -> None:
    load(folder, *case)


@settings(max_examples=200)
@given(text=yaml_texts())
def test_any_file_gives_a_spec_or_one_screen(folder: Path, text: str) -> None:
    load_text(folder, text)


def load_text(folder: Path, text: str) -> None:
    path = folder / "spec.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    load(folder, path, [])


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(max_examples=10_000, database=None)
@given(case=st.one_of(MAPPINGS, yaml_texts()))
def test_ten_thousand_inputs_give_a_spec_or_one_screen(folder: Path, case: Any) -> None:
    if isinstance(case, str):
        load_text(folder, case)
    else:
        load(folder, *case)


@settings(max_examples=50)
@given(source=st.text(max_size=20) | LEAVES | st.sampled_from(ODDITIES))
def test_any_other_source_gives_one_screen(folder: Path, source: Any) -> None:
    if source not in list_sweeps():
        assert load(folder, source, []) is None


def test_documents_to_mutate_are_valid(folder: Path) -> None:
    for document in DOCUMENTS:
        assert load(folder, document, []) is not None


@pytest.mark.parametrize("letters", [b"\xff\xfe", b"\x00", bytes(range(256))])
def test_file_that_is_not_text_is_refused(folder: Path, letters: bytes) -> None:
    (folder / "binary.yaml").write_bytes(letters)
    assert load(folder, folder / "binary.yaml", []) is None


def test_aliases_of_aliases_are_refused_at_once(folder: Path) -> None:
    lines = ["a0: &a0 [1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    (folder / "bomb.yaml").write_text("\n".join(lines))
    with pytest.raises(SpecError, match="may have at most 20000 values"):
        load_spec(folder / "bomb.yaml")


def test_half_a_surrogate_pair_is_refused(folder: Path) -> None:
    (folder / "half.yaml").write_text('{algorithm: ppo, env: {id: CartPole-v1, x: "\\ud800"}}')
    with pytest.raises(SpecError, match=r"env\.x has text that is not valid Unicode: '\\ud800'"):
        load_spec(folder / "half.yaml")


def test_largest_allowed_grid_is_checked_in_seconds(folder: Path) -> None:
    generator = random.Random(0)
    values = [round(generator.uniform(0.9, 0.999), 9) for _ in range(100)]
    search = {"training.gamma": {"grid": values}, "training.lambda_": {"grid": values}}
    assert load(folder, {**SMALL, "search": search}, []) is not None
