"""YAML that rlssl writes and reads, with PyYAML's C library where it is there."""

from typing import Any

import yaml

# Five to ten times as fast as PyYAML's own parser and emitter.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def read_yaml(text: str | bytes) -> Any:
    """The content of a YAML document.

    Raises:
        yaml.YAMLError: If it is none.

    Example:
        >>> read_yaml("stop: {env_steps: 1000}")
        {'stop': {'env_steps': 1000}}
    """
    return yaml.load(text, _LOADER)


def yaml_text(value: Any) -> str:
    """Plain data as a YAML document: keys in their order, letters as they are.

    Example:
        >>> print(yaml_text({"stop": {"env_steps": 1000}}), end="")
        stop:
          env_steps: 1000
    """
    text: str = yaml.dump(value, Dumper=_DUMPER, sort_keys=False, allow_unicode=True)
    return text
