"""Remote runners that wait instead of sampling, and return fragments that a real one has sampled.

They import neither torch nor rlssl, so that 32 of them start and answer on a small machine. The
driver does not know the difference: it requests, receives, stores and sends as always.
"""

import copy
import pickle
import time
import uuid
from typing import Any

#: Processes that are not the driver: no logical CPUs, so that any number fits.
_OPTIONS = {"num_cpus": 0, "max_restarts": 0}


class FakeRunner:
    """The requests that an Algorithm sends to an EnvRunner."""

    def __init__(self, fragment: bytes, wait_s: float) -> None:
        """Keeps a pickled fragment, which takes ``wait_s`` seconds."""
        self._fragment, self._wait_s = fragment, wait_s

    def apply(self, func: Any, *args: Any, **kwargs: Any) -> Any:
        """As RLlib calls remote runners."""
        return func(self, *args, **kwargs)

    def fragment(self) -> bytes:
        """Waits as long as a fragment takes."""
        time.sleep(self._wait_s)
        return self._fragment

    def wait_for(self, wait_s: float, fragment: bytes) -> None:
        """Sets the fragment from now on."""
        self._fragment, self._wait_s = fragment, wait_s

    def get_state(self, **_: Any) -> dict[str, Any]:
        """No connectors."""
        return {}

    def set_state(self, state: Any, **_: Any) -> None:
        """Takes weights."""

    def ping(self) -> str:
        """Is alive."""
        return "pong"

    def stop(self) -> None:
        """Has nothing to close."""


def put_fakes(algorithm: Any, runners: int) -> None:
    """Replaces the remote runners of a built Algorithm; they have no fragment yet."""
    import ray

    from rlssl.rollouts.fragment_requests import FragmentRequests

    class FakeRequests(FragmentRequests):
        """Requests that fake runners understand."""

        def send(self, **request: Any) -> None:
            del request
            if not self._arrived:
                self._group.foreach_env_runner_async(lambda runner: runner.fragment(), tag="fake")

        @property
        def has_fragments(self) -> bool:
            return bool(self._arrived or self._group.num_in_flight_async_reqs("fake"))

        def _receive(self, timeout_s: float | None = None) -> None:
            replies = self._group.fetch_ready_async_reqs(tags=["fake"], timeout_seconds=timeout_s)
            self._arrived += [as_new(pickle.loads(fragment)) for _, fragment in sorted(replies)]

    fake = ray.remote(**_OPTIONS)(FakeRunner)
    algorithm.env_runner_group.reset([fake.remote(b"", 0.0) for _ in range(runners)])
    algorithm.fragment_requests = FakeRequests(algorithm.env_runner_group)


def set_fragment(algorithm: Any, fragment: Any, wait_s: float) -> None:
    """Sets what all fake runners return, and how long it takes."""
    from ray import cloudpickle

    pickled = cloudpickle.dumps(fragment)
    algorithm.env_runner_group.foreach_env_runner(
        lambda runner: runner.wait_for(wait_s, pickled), local_env_runner=False
    )


def keep(algorithm: Any, runners: int) -> None:
    """Ends fake runners until ``runners`` are left."""
    import ray

    from rlssl.ray_internals.env_runner import actor_manager

    manager = actor_manager(algorithm.env_runner_group)
    for index in manager.actor_ids()[runners:]:
        ray.kill(manager.remove_actor(index))


def as_new(fragment: Any) -> Any:
    """The fragment with episodes that no earlier one continues."""
    episodes = []
    for episode in fragment.episodes:
        again = copy.copy(episode)
        again.id_, again.is_truncated = uuid.uuid4().hex, not episode.is_terminated
        episodes.append(again)
    return fragment._replace(episodes=episodes)
