"""Settings that a sweep has found for an algorithm on an environment; used only when asked for."""

import importlib.resources
from typing import Any

import yaml

from rlssl.errors import SpecError
from rlssl.experiment.spec.yaml_reader import read_document

#: Package and folder of the files, ``tuned/<algorithm>/<environment>.yaml``.
_PACKAGE, _FOLDER = "rlssl_tune_configs", "tuned"


def list_tuned() -> list[tuple[str, str]]:
    """Algorithm and environment of all tuned settings.

    Example:
        >>> ("ppo", "CartPole-v1") in list_tuned()
        True
    """
    folder = importlib.resources.files(_PACKAGE) / _FOLDER
    return sorted(
        (algorithm.name, file.name.removesuffix(".yaml").replace("__", "/"))
        for algorithm in folder.iterdir()
        if algorithm.is_dir()
        for file in algorithm.iterdir()
        if file.name.endswith(".yaml")
    )


def tuned_settings(algorithm: str, env: str) -> dict[str, Any]:
    """A partial spec with the tuned settings of an algorithm on an environment.

    Raises:
        SpecError: If there are none; names those that there are.

    Example:
        >>> sorted(tuned_settings("ppo", "CartPole-v1"))
        ['env_runners', 'training']
    """
    if (algorithm, env) not in list_tuned():
        known = ", ".join(f"{one} {other}" for one, other in list_tuned())
        raise SpecError(
            f"--tuned: there are no tuned settings of {algorithm} on {env}. Known: {known}."
        )
    name = f"{env.replace('/', '__')}.yaml"
    file = importlib.resources.files(_PACKAGE) / _FOLDER / algorithm / name
    with importlib.resources.as_file(file) as path:
        return read_document(path)


def in_words(settings: dict[str, Any]) -> str:
    """Settings in one line.

    Example:
        >>> in_words({"training": {"lr": 0.001}})
        '{training: {lr: 0.001}}'
    """
    text: str = yaml.safe_dump(
        settings, default_flow_style=True, width=10_000, sort_keys=False, allow_unicode=True
    )
    return text.strip()
