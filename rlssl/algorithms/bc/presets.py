"""Named settings of behavior cloning: none."""

from collections.abc import Mapping
from typing import Any

PRESETS: Mapping[str, Mapping[str, Any]] = {}
VARIANTS: Mapping[str, Mapping[str, Any]] = {}
