"""Named settings of DAgger: none."""

from collections.abc import Mapping
from typing import Any

PRESETS: Mapping[str, Mapping[str, Any]] = {}
VARIANTS: Mapping[str, Mapping[str, Any]] = {}
