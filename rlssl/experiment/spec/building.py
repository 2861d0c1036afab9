"""Turns a spec into RLlib's config: calls the builder methods for its sections."""

from typing import Any

import numpy as np

from rlssl.errors import SpecError
from rlssl.experiment.spec.checks import algorithm_class
from rlssl.experiment.spec.schema import START_KEYS, Spec, dump


def build_config(spec: Spec) -> Any:
    """The AlgorithmConfig of a spec without a search; missing keys keep the algorithm's defaults.

    Raises:
        SpecError: If the spec has a search, or a builder method refuses a value.

    Example:
        >>> from rlssl.experiment.spec import load_spec
        >>> build_config(load_spec({"algorithm": "ppo", "env": "CartPole-v1"})).env
        'CartPole-v1'
    """
    if spec.search:
        raise SpecError(f"at_point must first choose values of {sorted(spec.search)}.")
    config = algorithm_class(spec.algorithm)()
    try:
        for method, arguments in _builder_calls(spec):
            if arguments:
                getattr(config, method)(**arguments)
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, SpecError) else SpecError(str(error)) from error
    return config


def _builder_calls(spec: Spec) -> list[tuple[str, dict[str, Any]]]:
    """The builder methods in call order. Plug-ins come first: they may register other names."""
    runners, resources = spec.env_runners, spec.resources
    return [
        ("plugins", {"modules": spec.plugins} if spec.plugins else {}),
        ("environment", {"env": spec.env}),
        ("data", {} if spec.data is None else dump(spec.data)),
        ("model", {k: v for k, v in dump(spec.model).items() if k not in START_KEYS}),
        ("training", spec.training),
        ("set_auxiliary", {"losses": spec.auxiliary} if spec.auxiliary else {}),
        (
            "env_runners",
            {
                "num_env_runners": resources.env_runners,
                "num_cpus_per_env_runner": resources.cpus_per_env_runner,
                "num_gpus_per_env_runner": resources.gpus_per_env_runner,
                **_given(
                    num_envs_per_env_runner=runners.num_envs,
                    rollout_fragment_length=runners.fragment_length,
                ),
            },
        ),
        ("resources", {"num_cpus_for_main_process": resources.cpus}),
        (
            "vectorization",
            _given(vectorize=runners.vectorize, double_buffering=runners.double_buffering),
        ),
        (
            "learners",
            {
                "num_learners": resources.learners,
                "num_gpus_per_learner": resources.gpus_per_learner,
            },
        ),
        ("connectors", {key: value for key, value in dump(spec.connectors).items() if value}),
        ("evaluation", dump(spec.evaluation)),
        ("diagnostics", {"names": spec.diagnostics} if spec.diagnostics else {}),
        (
            "experiment",
            _given(
                watchdog_s=spec.watchdog_s,
                env_step_timeout_s=spec.env_step_timeout_s,
                max_env_crashes_per_1000_env_steps=spec.max_env_crashes_per_1000_env_steps,
                checkpoint_replay=spec.checkpoint.replay_buffer,
                total_env_steps=spec.end,
                deterministic=resources.deterministic or None,
            ),
        ),
        ("debugging", {} if spec.seed is None else {"seed": run_seed(spec.seed)}),
    ]


def run_seed(seed: int) -> int:
    """The seed of a trial's processes, far away from that of neighboring seeds.

    `rlssl.system.seeding` derives all streams of random numbers from it. Code that adds a small
    index to it, as RLlib's own EnvRunners do, shares no stream with the next trial either.
    """
    return int(np.random.SeedSequence(seed).generate_state(1)[0]) % 2**31


def _given(**arguments: Any) -> dict[str, Any]:
    return {key: value for key, value in arguments.items() if value is not None}
