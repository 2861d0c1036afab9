"""The typed form of a spec file: its keys, their types and defaults."""

import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

from rlssl.errors import DEFAULT_STORAGE, SpecError, suggest
from rlssl.experiment.spec.yaml_reader import plain

NonNegativeInt = Annotated[int, Field(ge=0)]


class _Section(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class LSTMSpec(_Section):
    """A memory behind the encoder. None: `rlssl.networks.recurrent.LSTMConfig`'s default."""

    # Features of its output and of its cells.
    hidden: PositiveInt | None = None
    # Rows of a sequence in a minibatch.
    sequence_length: PositiveInt | None = None


class ModelSpec(_Section):
    """The networks. None: the algorithm's default, which may look at the observation space."""

    # Registered name.
    encoder: str | None = None
    # Keyword arguments of the encoder.
    encoder_config: dict[str, Any] = {}
    # Observations in a stack.
    frame_stack: PositiveInt | None = None
    # Whether policy and value function share their encoder.
    shared_encoder: bool | None = None
    # Augmentation of what the RL loss sees: "shift", {crop: {size: 84}}, ...
    augmentation: str | dict[str, Any] | None = None
    # In which the encoder computes.
    precision: Literal["float32", "bfloat16"] | None = None
    # On-policy algorithms: a memory behind the encoder; {}: with its defaults.
    lstm: LSTMSpec | None = None


class EnvRunnersSpec(_Section):
    """How experience is sampled. None: the algorithm's default."""

    # Environments a runner steps together.
    num_envs: PositiveInt | None = None
    # Agent steps an environment contributes to one fragment.
    fragment_length: PositiveInt | Literal["auto"] | None = None
    # The suite's own vector environment, or gymnasium's.
    vectorize: Literal["native", "sync", "async"] | None = None
    # Whether half of them steps while the policy runs on the other half.
    double_buffering: bool | None = None


class ConnectorsSpec(_Section):
    """Users' own ConnectorV2 pieces, as "module:attr"."""

    env_to_module: list[str] = []
    learner: list[str] = []


class RandomSearchSpec(_Section):
    """Draws every random entry of ``search`` this often, once for each point of the grid."""

    num_samples: PositiveInt


class SearcherSpec(_Section):
    """How points of the search are chosen; absent: the grid."""

    random: RandomSearchSpec


class AshaSpec(_Section):
    """Asynchronous successive halving, in env steps."""

    # Where the best trials end; None: at stop.env_steps.
    max_env_steps: PositiveInt | None = None
    # No trial is stopped before.
    grace_env_steps: PositiveInt
    # One in this many goes on at each rung.
    reduction_factor: Annotated[int, Field(ge=2)] = 4
    # What trials are ranked by.
    metric: str = "episode_return_mean"
    mode: Literal["max", "min"] = "max"


class SchedulerSpec(_Section):
    """Which trials are stopped early; absent: none."""

    asha: AshaSpec


class EvaluationSpec(_Section):
    """Evaluation while training."""

    # None: never.
    every_env_steps: PositiveInt | None = None
    episodes: PositiveInt = 10
    # Whether actions are sampled rather than the policy's best.
    explore: bool = False
    # Options of the environment that differ from the training's.
    env: dict[str, Any] = {}


class CheckpointSpec(_Section):
    """What is kept of a run."""

    # None: a tenth of stop.env_steps; and always at the end.
    every_env_steps: PositiveInt | None = None
    # How many of the newest.
    keep: PositiveInt = 2
    # Whether with the replay buffer, where there is one.
    replay_buffer: bool = True


class ResourcesSpec(_Section):
    """What one trial asks of the cluster."""

    # Of the trial's own process, as many as torch has threads there: more pay where it learns by
    # itself from pixels; networks of vectors are as fast on one.
    cpus: PositiveInt = 1
    # Remote processes that sample; 0: the trial's own process does.
    env_runners: NonNegativeInt = 0
    cpus_per_env_runner: PositiveFloat = 1
    # Remote Learners; 0: in the trial's own process.
    learners: NonNegativeInt = 0
    gpus_per_learner: Annotated[float, Field(ge=0)] = 0


class Spec(_Section):
    """One experiment: an algorithm on an environment, at one point or over a search.

    ``load_spec`` makes one from a file, a sweep's name or a dict, and checks all that can be known
    before anything starts. ``at_point`` takes one trial out of a sweep.
    """

    # Folder of the results below `storage`.
    name: str
    algorithm: str
    # Named settings of the algorithm, below those of the file.
    preset: str | None = None
    # Variant of the algorithm, above the preset and below the file.
    variant: str | None = None
    # Modules to import, in every process.
    plugins: list[str] = []
    # {id: ..., **options}.
    env: dict[str, Any]
    # Name of a loss -> fields of its Config; null: the loss of a preset is not wanted.
    auxiliary: dict[str, dict[str, Any] | None] = {}
    model: ModelSpec = ModelSpec()
    # Arguments of the `training` builder of the algorithm's config.
    training: dict[str, Any] = {}
    env_runners: EnvRunnersSpec = EnvRunnersSpec()
    connectors: ConnectorsSpec = ConnectorsSpec()
    # Dotted path -> {kind: arguments}.
    search: dict[str, Any] = {}
    # Repeats of every point.
    seeds: Annotated[list[NonNegativeInt], Field(min_length=1)] = [0]
    # Of a single trial; equals seeds[0] then.
    seed: NonNegativeInt | None = None
    searcher: SearcherSpec | None = None
    scheduler: SchedulerSpec | None = None
    # Metric -> value at which a trial ends.
    stop: dict[str, int | float] = {}
    evaluation: EvaluationSpec = EvaluationSpec()
    checkpoint: CheckpointSpec = CheckpointSpec()
    resources: ResourcesSpec = ResourcesSpec()
    # Seconds after which a step of the environment counts as stalled; None: the default.
    env_step_timeout_s: PositiveFloat | None = None
    # Seconds without new env steps after which a run fails; None: the default.
    watchdog_s: PositiveFloat | None = None
    # How often a trial goes on from its newest checkpoint after one of its processes died.
    max_failures: NonNegativeInt = 2
    tracking: list[str] = ["tensorboard"]
    # A folder; on a cluster, one that every node sees.
    storage: str = DEFAULT_STORAGE


def parse(document: Mapping[str, Any]) -> Spec:
    """The document as a Spec, keys and types checked.

    Raises:
        SpecError: One line for each key that is wrong.
    """
    try:
        return Spec.model_validate(document)
    except ValidationError as error:
        raise SpecError(_explain(error)) from None


def dump(section: BaseModel) -> dict[str, Any]:
    """A section as plain data, without the keys that are left to the algorithm."""
    values = ((key, getattr(section, key)) for key in type(section).model_fields)
    return {
        key: dump(value) if isinstance(value, BaseModel) else plain(value, key)
        for key, value in values
        if value is not None
    }


def _explain(error: ValidationError) -> str:
    """One line for each key that is wrong, however many types it could have had."""
    problems: dict[str, list[Any]] = {}
    for detail in error.errors():
        path, _ = _locate(detail["loc"])
        problems.setdefault(path, []).append(detail)
    return "\n".join(_explain_key(path, details) for path, details in problems.items())


def _explain_key(path: str, details: list[Any]) -> str:
    first = details[0]
    if first["type"] == "extra_forbidden":
        parent, _, key = path.rpartition(".")
        _, section = _locate(first["loc"][:-1])
        close = suggest(key, section.model_fields, f"{parent}." if parent else "")
        return f"unknown key '{path}' in the spec{close}"
    if first["type"] == "missing":
        return f"the key '{path}' is missing from the spec."
    if first["type"] in ("model_type", "model_attributes_type"):
        return f"{path} must be a mapping; got {first['input']!r}."
    if first["type"] == "too_short":
        return f"{path} must not be empty; got {first['input']!r}."
    expected = dict.fromkeys(_expected(detail["msg"]) for detail in details)
    if "a number" in expected:
        expected.pop("a whole number", None)
    return f"{path} must be {' or '.join(expected)}; got {first['input']!r}."


def _expected(message: str) -> str:
    words = message.removeprefix("Input should be ").removeprefix("a valid ")
    words = words.replace("greater than or equal to", ">=").replace("greater than", ">")
    renamed = {
        "integer": "a whole number",
        "number": "a number",
        "boolean": "true or false",
        "string": "text",
        "list": "a list",
        "dictionary": "a mapping",
    }
    return renamed.get(words, words)


def _locate(location: tuple[int | str, ...]) -> tuple[str, Any]:
    """Dotted path of an error and the annotation there, without pydantic's marks for unions."""
    path = ""
    annotation: Any = Spec
    for part in location:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            path = f"{path}.{part}" if path else str(part)
            field = annotation.model_fields.get(str(part))
            annotation = _single(field.annotation) if field else None
        elif isinstance(part, int):
            path += f"[{part}]"
        elif get_origin(annotation) is dict:
            path += f".{part}"
            annotation = _single(get_args(annotation)[1])
    return path, annotation


def _single(annotation: Any) -> Any:
    """``X`` for ``X | None``; unions of more stay as they are."""
    if get_origin(annotation) in (Union, types.UnionType):
        members = [member for member in get_args(annotation) if member is not type(None)]
        return members[0] if len(members) == 1 else annotation
    return annotation
