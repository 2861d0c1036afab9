"""What RLlib's ConnectorV2 looks up. If Ray changes it, a test fails."""

import inspect
import sys
from typing import Any

import pytest
from ray.rllib.connectors import connector_v2
from ray.rllib.connectors.connector_v2 import ConnectorV2

from rlssl.ray_internals.connectors import build_connectors_quickly


class Piece(ConnectorV2):
    def __init__(self, input_observation_space: Any, *, size: int, **kwargs: Any) -> None:
        super().__init__(input_observation_space, None, **kwargs)

    def __call__(self, **kwargs: Any) -> Any:
        raise NotImplementedError


class Child(Piece):
    """RLlib stores no arguments of a class without a constructor of its own."""


def test_rllib_still_looks_for_the_frame_in_this_way() -> None:
    source = inspect.getsource(connector_v2)
    assert source.count("inspect.stack()[1].frame") == 1
    assert source.count("inspect.") == source.count("inspect.getargvalues") + 1 == 2


@pytest.mark.parametrize("kind", [Piece, Child])
def test_a_connector_stores_the_same_arguments(
    kind: type[Piece], monkeypatch: pytest.MonkeyPatch
) -> None:
    def arguments() -> Any:
        return kind("space", size=3, more=4).get_ctor_args_and_kwargs()

    with monkeypatch.context() as patch:
        patch.setattr(connector_v2, "inspect", inspect)
        stored = arguments()
    build_connectors_quickly()
    assert arguments() == stored
    assert kind is Child or stored == ((), {"input_observation_space": "space", "size": 3})


def test_a_connector_is_built_without_a_look_at_the_modules() -> None:
    build_connectors_quickly()
    called: list[str] = []
    sys.setprofile(lambda frame, event, argument: called.append(frame.f_code.co_name))
    try:
        Piece("space", size=3)
    finally:
        sys.setprofile(None)
    assert "getouterframes" not in called and "_two_frames" in called
