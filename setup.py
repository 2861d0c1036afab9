"""Lists the packages; everything else is in pyproject.toml.

``envs/`` and ``tune_configs/`` install under other names. ``packages.find`` in pyproject.toml
cannot rename, and a list written by hand would drop a new sub-package from wheels in silence.
"""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["rlssl", "rlssl.*"]),
        "rlssl_envs",
        *(f"rlssl_envs.{name}" for name in find_packages("envs")),
        "rlssl_tune_configs",
    ]
)
