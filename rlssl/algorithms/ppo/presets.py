"""Settings by name: partial specs, below those of a file."""

from collections.abc import Mapping
from typing import Any

PRESETS: Mapping[str, Mapping[str, Any]] = {}

#: The surrogate losses of the paper.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    name: {"training": {"variant": name}} for name in ("clip", "adaptive_kl", "both")
}
