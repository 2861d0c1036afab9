import ast
import dataclasses
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

import rlssl
from rlssl.algorithms.common.config import attribute_of
from rlssl.algorithms.common.settings import ByInput, TrainingSettings, setting
from rlssl.algorithms.common.settings_table import (
    environments_tables,
    losses_tables,
    page_of,
    settings_table,
    with_table,
)
from rlssl.errors import SpecError
from rlssl.registry import ALGORITHMS, ENVIRONMENTS
from rlssl.schedules import Schedule

ROOT = Path(rlssl.__file__).parent
DOCS = ROOT.parent / "docs"
SHARED = ("common", "on_policy", "off_policy")


@dataclasses.dataclass(frozen=True)
class Small(TrainingSettings):
    rate: Schedule = setting(ByInput(0.5, 0.25), "A rate.")
    sizes: list[int] = setting([8], "Sizes.")
    kind: Literal["plain", "odd"] = setting("plain", "A word.", is_for_networks=True)
    share: float | None = setting(None, "A share.", above=0, high=1)
    hidden: int = setting(3, "No argument.", is_argument=False)


VALUES: dict[str, Any] = {"rate": 0.5, "sizes": [8], "kind": "plain", "share": None, "hidden": 3}


def test_defaults_by_input_are_none_until_the_input_is_known() -> None:
    assert Small().defaults() == {**VALUES, "rate": None}
    assert Small().by_input("frames") == {"rate": 0.25}
    assert Small().for_input("frames") == Small(rate=0.25)


def test_arguments_and_networks_settings_come_from_the_fields() -> None:
    assert list(Small.arguments()) == ["rate", "sizes", "kind", "share"]
    assert Small.for_networks() == ["kind"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rate": -1.0}, "training.rate must be finite and >= 0; got -1.0."),
        ({"sizes": [0]}, "training.sizes must list sizes >= 1; got [0]."),
        ({"kind": "new"}, "training.kind must be one of ['plain', 'odd']; got 'new'."),
        ({"share": 0}, "training.share must be > 0 and <= 1; got 0."),
        ({"share": 1.5}, "training.share must be > 0 and <= 1; got 1.5."),
    ],
)
def test_bad_values_name_key_and_bound(wrong: dict[str, Any], message: str) -> None:
    Small.check(VALUES)
    with pytest.raises(SpecError, match=re.escape(message)):
        Small.check({**VALUES, **wrong})


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_builder_takes_and_documents_every_setting(algorithm: str) -> None:
    config_class = ALGORITHMS[algorithm]
    parameters = inspect.signature(config_class.training).parameters
    arguments = config_class.settings_class.arguments()
    assert [*parameters] == ["self", *arguments, "rllib"]
    for name in arguments:
        assert f"{name}: " in config_class.training.__doc__


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_config_starts_with_the_defaults(algorithm: str) -> None:
    config = ALGORITHMS[algorithm]()
    for name, value in config.settings_class().defaults().items():
        assert getattr(config, attribute_of(name)) == value, name


def test_config_of_an_earlier_version_is_completed() -> None:
    config = rlssl.A3CConfig()
    state = {**vars(config), "optimizer_epsilon": None, "grad_clip": None}
    del state["worker_timeout_s"]
    old = rlssl.A3CConfig.__new__(rlssl.A3CConfig)
    old.__setstate__(state)
    # None is not allowed for optimizer_epsilon, but it is for grad_clip.
    assert (old.optimizer_epsilon, old.grad_clip, old.worker_timeout_s) == (1e-5, None, 120.0)


def test_values_of_an_earlier_version_get_the_current_spelling() -> None:
    config = rlssl.RainbowConfig().training(noise="factorised")
    assert config.noise == "factorized"
    old = rlssl.RainbowConfig.__new__(rlssl.RainbowConfig)
    old.__setstate__({**vars(config), "noise": "factorised"})
    assert old.noise == "factorized"


def test_config_that_rllib_restores_is_completed_before_it_is_used() -> None:
    state = rlssl.RainbowConfig().environment("CartPole-v1").get_state()
    config = AlgorithmConfig.from_state({**state, "noise": "factorised"})
    config.validate()
    assert config.noise == "factorized"


def literal_defaults(path: Path, names: set[str]) -> Iterator[str]:
    """Places where a file assigns a constant other than None to one of the names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        found: list[tuple[str, ast.expr | None]] = []
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            spec = node.args
            positional = [*spec.posonlyargs, *spec.args]
            with_default = positional[len(positional) - len(spec.defaults) :]
            found += [(a.arg, d) for a, d in zip(with_default, spec.defaults, strict=True)]
            found += [(a.arg, d) for a, d in zip(spec.kwonlyargs, spec.kw_defaults, strict=True)]
        elif isinstance(node, ast.AnnAssign):
            found.append((_name(node.target), node.value))
        elif isinstance(node, ast.Assign):
            found += [(_name(target), node.value) for target in node.targets]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "get":
            keys = [key.value for key in node.args[:1] if isinstance(key, ast.Constant)]
            found += [(str(key), fallback) for key in keys for fallback in node.args[1:]]
        for name, value in found:
            if name in names and _is_literal(value):
                yield f"{path.name}:{line}: {name}"


def _name(target: ast.expr) -> str:
    return getattr(target, "attr", getattr(target, "id", ""))


def _is_literal(value: ast.expr | None) -> bool:
    try:
        return value is not None and ast.literal_eval(value) is not None
    except ValueError:
        return False


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_each_default_is_only_in_the_settings(algorithm: str) -> None:
    names = {attribute_of(name) for name in ALGORITHMS[algorithm].settings_class.types()}
    folders = [ROOT / "algorithms" / folder for folder in (algorithm, *SHARED)]
    files = [path for folder in (*folders, ROOT / "networks") for path in folder.rglob("*.py")]
    files = [path for path in files if path.name not in ("settings.py", "presets.py")]
    assert len(files) > 20
    assert [place for path in files for place in literal_defaults(path, names)] == []


def test_the_search_for_literal_defaults_finds_them(tmp_path: Path) -> None:
    settings = ROOT / "algorithms" / "ppo" / "settings.py"
    assert list(literal_defaults(settings, {"gamma"})) == []  # a call is not a literal
    code = tmp_path / "code.py"
    code.write_text(
        "class A:\n    tau: float = 0.5\n"
        "def f(tau=0.1, *, lr=1e-3): ...\n"
        "x.get('tau', 1)\nself.tau = 2\ntau = None\n"
    )
    found = [place.rsplit(": ", 1)[1] for place in literal_defaults(code, {"tau", "lr"})]
    assert sorted(found) == ["lr", "tau", "tau", "tau", "tau"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_page_has_the_current_table_of_settings(algorithm: str) -> None:
    page = (DOCS / page_of(algorithm)).read_text(encoding="utf-8")
    table = settings_table(ALGORITHMS[algorithm].settings_class)
    assert page == with_table(page, table), "run: make docs-tables"


def test_page_of_losses_has_the_current_options() -> None:
    page = (DOCS / "losses.md").read_text(encoding="utf-8")
    assert page == with_table(page, losses_tables()), "run: make docs-tables"


def test_pages_of_environments_have_the_current_options() -> None:
    tables = environments_tables()
    assert len(tables) == 7
    for name, table in tables.items():
        page = (DOCS / page_of(name)).read_text(encoding="utf-8")
        assert page == with_table(page, table), "run: make docs-tables"


def test_an_environment_with_options_needs_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    environments = {**ENVIRONMENTS, "new/*": ENVIRONMENTS["memory/*"]}
    monkeypatch.setattr(f"{environments_tables.__module__}.ENVIRONMENTS", environments)
    with pytest.raises(ValueError, match=r"'new/\*' needs a page"):
        environments_tables()


def test_options_of_losses_have_a_meaning_and_their_own_defaults() -> None:
    tables = losses_tables()
    assert re.findall(r"^\| `\w+` \| [^|]* \|\s*\|$", tables, re.MULTILINE) == []
    curl = tables.partition("## curl\n")[2].partition("\n## ")[0]
    assert "| `noise` | 0.1 |" in curl
    assert "`grad_clip`" not in curl  # CURL has the default of every loss
