"""Builds the environments and networks of a sweep once in this process, before anything starts."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.rl_module import RLModule

from rlssl.algorithms.common.transfer.weights import Taken
from rlssl.algorithms.off_policy.config import OffPolicyConfig
from rlssl.auxiliary.building import check_losses
from rlssl.connectors.frame_stack import stacked_space
from rlssl.environments.success_check import tells_success
from rlssl.errors import SpecError
from rlssl.experiment.spec.building import build_config
from rlssl.experiment.spec.loading import at_point, check_points
from rlssl.experiment.spec.schema import Spec
from rlssl.experiment.spec.search_checks import objective_of
from rlssl.experiment.spec.search_space import (
    MAX_COMBINATIONS_CHECKED,
    draw_points,
    has_random,
    points_to_check,
)
from rlssl.experiment.start_weights.sources import Key, Sources, check_start
from rlssl.experiment.tracking.checks import check_trackers
from rlssl.plugins import with_line
from rlssl.video.encoder import require_encoder
from rlssl.video.rendering import with_rendering


@dataclass(frozen=True)
class CheckedTrial:
    """What building a trial once has shown."""

    # The untrained networks.
    module: RLModule
    # Bytes of memory of the full replay buffer; 0 without one.
    replay_bytes: int
    # What its networks take of other runs, for each of its seeds.
    taken: dict[Key, Taken] = field(default_factory=dict)

    @property
    def num_weights(self) -> int:
        """Number of weights of all networks, with those of auxiliary losses and target networks."""
        return sum(weight.numel() for weight in self.module.parameters())


def check_sweep(
    spec: Spec, sources: Sources | None = None, *, address: str | None = None
) -> list[CheckedTrial]:
    """Checks a sweep at points that together hold every value and bound of its search.

    Args:
        spec: The spec of a run or a sweep.
        sources: The weights that its trials begin with; None: they are not looked at.
        address: Address of the cluster that will train; None: this machine. On a cluster, each
            trial compares its replay buffer with the memory of its own node.

    Raises:
        SpecError: If a value or a tracker is not allowed, or an environment or a network cannot be
            built. Nothing was started.
        ResourceError: If a tracker cannot be reached.
    """
    check_trackers(spec)
    if has_random(spec):
        check_points(spec, draw_points(spec)[:MAX_COMBINATIONS_CHECKED])
    checked = []
    points = points_to_check(spec) if spec.search else [{}]
    specs = [at_point(spec, point, spec.seeds[0]) for point in points]
    for one in specs:
        trial = check_trial(one, is_here=address is None)
        if sources:
            trial = replace(trial, taken=check_start(one, sources, trial.module))
        checked.append(trial)
    _check_success(specs)
    _check_videos(specs)
    return checked


def _check_videos(specs: Sequence[Spec]) -> None:
    """Checks that videos can be written, if the spec wants any."""
    wanted = [spec for spec in specs if spec.evaluation.video is not None]
    if wanted:
        require_encoder()
    environments = {repr(env): env for env in ({**it.env, **it.evaluation.env} for it in wanted)}
    for env in environments.values():
        with_rendering(env)


def _check_success(specs: Sequence[Spec]) -> None:
    """Checks that environments say whether an episode was a success, where a key needs it."""
    metrics = {"objective.metric": objective_of(specs[0]).metric}
    metrics |= {f"stop.{metric}": metric for metric in specs[0].stop}
    where = next((key for key, metric in metrics.items() if metric.endswith("success_rate")), None)
    if where is None:
        return
    environments = {repr(spec.env): spec.env for spec in specs}
    for env in environments.values():
        if tells_success(env) is False:
            raise SpecError(
                f"{where} {metrics[where]}: an episode of {env['id']} ended without 'success' or "
                "'is_success' in its infos; let the environment say it at the end of every "
                "episode, or use a return."
            )


def taken_by(checked: Sequence[CheckedTrial]) -> dict[Key, Taken]:
    """What the trials take of other runs."""
    return {key: it for trial in checked for key, it in trial.taken.items()}


def largest_replay(checked: list[CheckedTrial]) -> int:
    """Bytes of the largest replay buffer of these trials."""
    return max(trial.replay_bytes for trial in checked)


def check_trial(spec: Spec, *, is_here: bool = True) -> CheckedTrial:
    """Builds the environment, networks and auxiliary losses of a trial once.

    Args:
        spec: The spec of a trial.
        is_here: Whether the trial will run on this node, whose memory its replay buffer must fit.

    Raises:
        SpecError: If one of them cannot be built; repeats its error. Nothing was started.
    """
    config = build_config(spec)
    has_replay = isinstance(config, OffPolicyConfig)
    if has_replay:
        config.holds_replay = is_here
    spaces = config.find_spaces()
    config.adapt_to(spaces)
    config.check_training()
    stacked = stacked_space(
        spaces.observation_space, config.frame_stack, config.network["encoder_config"]
    )
    try:
        module = config.get_rl_module_spec(
            spaces={DEFAULT_MODULE_ID: (stacked, spaces.action_space)}, inference_only=False
        ).build()
        check_losses(config, module.auxiliary)
    except Exception as error:
        # A SpecError explains itself; other errors need their type to be understood.
        words = str(error) if isinstance(error, SpecError) else f"{type(error).__name__}: {error}"
        chosen = {"model.encoder": config.network["encoder"], "auxiliary": list(spec.auxiliary)}
        parts = [f"{key}={value!r}" for key, value in chosen.items() if value]
        raise SpecError(
            f"{' or '.join(parts) or 'the default model'} does not fit {spec.env['id']}: "
            f"{with_line(words, error)}"
        ) from error
    return CheckedTrial(module, config.replay_bytes(spaces) if has_replay else 0)
