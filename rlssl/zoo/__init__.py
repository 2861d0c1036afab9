"""Small trained policies that come with rlssl: ``zoo/ppo/CartPole-v1``.

`docs/zoo.md` lists their settings and scores. A policy is a folder below this one,
``<algorithm>/<environment>``, with "/" of the environment's id written as "__". This module imports
neither torch nor Ray.
"""

from pathlib import Path

from rlssl.errors import SpecError, suggest
from rlssl.run_files import POLICY_FILE

#: What begins the name of a policy of the zoo, wherever a run is named.
PREFIX = "zoo/"

FOLDER = Path(__file__).parent


def folder_name(env: str) -> str:
    """An environment's id as the name of a folder.

    Example:
        >>> folder_name("dmc/cartpole-swingup")
        'dmc__cartpole-swingup'
    """
    return env.replace("/", "__")


def zoo_names() -> list[str]:
    """The sorted names of all policies of the zoo.

    Example:
        >>> "zoo/ppo/CartPole-v1" in zoo_names()
        True
    """
    policies = (path.parent for path in FOLDER.glob(f"*/*/{POLICY_FILE}"))
    return sorted(
        f"{PREFIX}{policy.parent.name}/{policy.name.replace('__', '/')}" for policy in policies
    )


def zoo_folder(name: str) -> Path:
    """The folder of a policy of the zoo.

    Args:
        name: ``zoo/<algorithm>/<environment>``.

    Raises:
        SpecError: If there is no such policy; names similar ones.

    Example:
        >>> zoo_folder("zoo/ppo/CartPole-v1").name
        'CartPole-v1'
        >>> zoo_folder("zoo/ppo/Cartpole-v1")
        Traceback (most recent call last):
        rlssl.errors.SpecError: no policy 'zoo/ppo/Cartpole-v1' comes with rlssl; did you mean \
'zoo/ppo/CartPole-v1'?
    """
    known = zoo_names()
    if name not in known:
        raise SpecError(f"no policy '{name}' comes with rlssl{suggest(name, known)}")
    algorithm, _, env = name.removeprefix(PREFIX).partition("/")
    return FOLDER / algorithm / folder_name(env)
