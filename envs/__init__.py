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
register_env("dmc/*", "rlssl_envs.dmc:make_state", ids="rlssl_envs.dmc:state_ids")
register_env("dmc-pixels/*", "rlssl_envs.dmc:make_pixels", ids="rlssl_envs.dmc:pixel_ids")
register_env("minatar/*", "rlssl_envs.minatar:make", extra="minatar", ids="rlssl_envs.minatar:ids")
register_env(
    "atari/*", "rlssl_envs.atari:make", "rlssl_envs.atari:make_vec", ids="rlssl_envs.atari:ids"
)
register_env("faulty/*", "rlssl_envs.faulty:make", ids="rlssl_envs.faulty:ids")
