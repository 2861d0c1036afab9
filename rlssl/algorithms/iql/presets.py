"""Named settings of IQL: those of the paper's AntMaze tasks."""

from collections.abc import Mapping
from typing import Any

#: Kostrikov et al. 2021, section 5: AntMaze.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "antmaze": {"training": {"expectile": 0.9, "inverse_temperature": 10.0}}
}
VARIANTS: Mapping[str, Mapping[str, Any]] = {}
