"""Unwraps the errors of remote processes from Ray's errors."""

from collections.abc import Iterator

from ray.exceptions import RayActorError


def is_unbuilt_actor(error: BaseException) -> bool:
    """Whether the error says that an actor's constructor raised; no process died."""
    return isinstance(error, RayActorError) and error.actor_init_failed


def raised_by_worker(error: BaseException) -> BaseException:
    """The error that the remote process raised; ``error`` itself if Ray has not wrapped it.

    Example:
        >>> error = ValueError("not from Ray")
        >>> raised_by_worker(error) is error
        True
    """
    inner = error.args[0] if is_unbuilt_actor(error) and error.args else error
    return getattr(inner, "cause", None) or error


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and its causes, outermost first, without Ray's errors of unbuilt actors."""
    while error is not None:
        if not is_unbuilt_actor(error):
            yield error
        inner = raised_by_worker(error)
        error = inner if inner is not error else error.__cause__
