"""Reading specs: scalars, refused YAML, and the names of files and sweeps."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rlssl.errors import SpecError
from rlssl.experiment.spec.loading import load_spec
from rlssl.experiment.spec.yaml_reader import parse_yaml
from tests.experiment.spec.specs import BASE


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 0.0001),
        ("1.5E+3", 1500),  # a whole number, so that stop: {env_steps: 1.5e3} is allowed
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
def test_text_that_is_not_plain_yaml_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_yaml(text, "here")
    assert message in str(caught.value)


def test_run_is_named_after_its_file_unless_the_spec_names_it(tmp_path: Path) -> None:
    path = tmp_path / "my sweep.yaml"
    path.write_text("algorithm: ppo\nenv: CartPole-v1\nstop: {env_steps: 1e3}\n")
    assert load_spec(path).name == "my-sweep"
    assert load_spec(str(path), ["name=other"]).name == "other"
    assert load_spec({**BASE, "env": "phys2d/CartPole-v1"}).name == "ppo-phys2d-CartPole-v1"


def test_missing_file_and_unknown_sweep_have_different_errors() -> None:
    with pytest.raises(SpecError, match=r"no spec file 'a/b\.yaml'; check the path"):
        load_spec("a/b.yaml")
    with pytest.raises(SpecError, match="unknown sweep 'quikstart'; did you mean 'quickstart'"):
        load_spec("quikstart")


@pytest.mark.parametrize("written", ["small", "smalls"])
def test_a_file_without_its_ending_is_suggested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    (tmp_path / "small.yaml").write_text("algorithm: ppo")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError, match=f"unknown sweep '{written}'; did you mean 'small.yaml'"):
        load_spec(written)


@settings(max_examples=200)
@given(st.text(alphabet="ab:{}[]-,&*!#|>'\"\n 01.e_~%@?<", max_size=30))
def test_any_text_gives_plain_data_or_a_spec_error(text: str) -> None:
    try:
        value = parse_yaml(text, "here")
    except SpecError:
        return
    assert yaml.safe_load(yaml.safe_dump(value)) == value
