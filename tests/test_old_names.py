"""Files of earlier versions: what they name is found, and nothing new goes by an old name."""

import importlib
import io
import pickle
import sys
from typing import Any

import pytest

from rlssl import old_names
from rlssl.experiment.checkpoints.exact_state import RunState
from rlssl.rollouts.env_batch import EnvBatch
from rlssl.rollouts.runner_state import RunnerState


def unpickled(module: str, name: str) -> Any:
    """What a pickle of an earlier version gets for a class or a function."""
    return pickle.load(io.BytesIO(f"c{module}\n{name}\n.".encode()))


@pytest.mark.parametrize(
    ("module", "name", "found"),
    [
        ("rlssl.experiment.run_state", "RunState", RunState),
        ("rlssl.rollouts.env_state", "RunnerState", RunnerState),
        ("rlssl.rollouts.lane", "Lane", EnvBatch),
    ],
)
def test_pickles_find_what_has_moved(module: str, name: str, found: Any) -> None:
    assert unpickled(module, name) is found


@pytest.mark.parametrize("old", old_names.MODULES)
def test_old_modules_are_gone_and_show_the_new_ones(old: str) -> None:
    new = importlib.import_module(old_names.MODULES[old])
    shown = importlib.import_module(old)
    assert shown.__spec__ is not None and shown.__spec__.origin is None
    public = [name for name in vars(new) if not name.startswith("_")]
    renamed = {name for module, name in old_names.NAMES if module == new.__name__}
    assert public and all(
        getattr(shown, name) is getattr(new, name) for name in public if name not in renamed
    )
    with pytest.raises(AttributeError, match="no attribute 'never_there'"):
        _ = shown.never_there


@pytest.mark.parametrize(("old", "new"), old_names.NAMES.items())
def test_renamed_names_lead_to_what_exists(old: tuple[str, str], new: tuple[str, str]) -> None:
    assert old_names.attribute_finder(old[0])(old[1]) is getattr(
        importlib.import_module(new[0]), new[1]
    )
    assert hasattr(importlib.import_module(old[0]), "__getattr__") or old[0] in (
        old_names.MODULES.values()
    )


def test_other_modules_are_still_missing() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"rlssl\.never_there"):
        importlib.import_module("rlssl.never_there")
    old_names.install()
    assert sum(type(finder).__name__ == "_OldModules" for finder in sys.meta_path) == 1


def test_weights_of_an_earlier_version_get_todays_names() -> None:
    state = {"draws._extra_state": 1, "auxiliary.curl.draws._extra_state": 2, "pi.weight": 3}
    assert old_names.renamed_state(state) == {
        "update_rng._extra_state": 1,
        "auxiliary.curl.update_rng._extra_state": 2,
        "pi.weight": 3,
    }
