"""The sweeps that come with rlssl are valid at every point that a start checks."""

import pytest

from rlssl.experiment.spec.loading import load_spec
from rlssl.experiment.spec.search_space import points_to_check
from rlssl.experiment.spec.yaml_reader import list_sweeps


@pytest.mark.parametrize("name", list_sweeps())
def test_shipped_sweep_loads(name: str) -> None:
    assert points_to_check(load_spec(name))
