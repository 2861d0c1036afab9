"""What a remote process raised, out of the errors that Ray makes of it."""

from collections.abc import Iterator

from ray.exceptions import RayActorError


def is_unbuilt_actor(error: BaseException) -> bool:
    """Whether an actor could not be built: no process died."""
    return isinstance(error, RayActorError) and error.actor_init_failed


def raised_by_worker(error: BaseException) -> BaseException:
    """What the remote process raised; ``error`` itself if Ray wrapped nothing in it."""
    inner = error.args[0] if is_unbuilt_actor(error) and error.args else error
    return getattr(inner, "cause", None) or error


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """``error`` and what caused it, outermost first; without errors of unbuilt actors."""
    while error is not None:
        if not is_unbuilt_actor(error):
            yield error
        inner = raised_by_worker(error)
        error = inner if inner is not error else error.__cause__
