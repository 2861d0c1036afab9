"""The environment suites that come with rlssl, registered through the door a user's own go through.

Only names are registered here; a suite is imported when one of its environments is built.
"""

from rlssl.registry import register_env

for family in ("MiniGrid-*", "BabyAI-*"):
    register_env(
        family,
        "rlssl_envs.minigrid:make",
        extra="minigrid",
        ids=f"rlssl_envs.minigrid:{family.partition('-')[0].lower()}_ids",
    )
register_env("minatar/*", "rlssl_envs.minatar:make", extra="minatar", ids="rlssl_envs.minatar:ids")
