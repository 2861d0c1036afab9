"""Keeps the episodes of remote EnvRunners that may die before their next metrics."""

from collections.abc import Callable, Hashable, Sequence

from rlssl.rollouts.episode_metrics import FinishedEpisode


class EpisodesOfRunners:
    """Finished episodes that came with samples, until the metrics of their EnvRunner bring them.

    The steps of samples count at once, metrics arrive once an iteration. Without this class, the
    episodes of an EnvRunner that dies in between would be missing.

    Example:
        >>> kept = EpisodesOfRunners()
        >>> episode = FinishedEpisode(9.0, 9, 1.0, offset=9, duration_s=0.1)
        >>> kept.receive("runner 1", [episode])
        >>> kept.receive("runner 2", [episode])
        >>> kept.forget("runner 2")
        >>> len(kept.pop_lost(lambda process: True)), len(kept.pop_lost(lambda process: True))
        (1, 0)
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, list[FinishedEpisode]] = {}

    def receive(self, process: Hashable, episodes: Sequence[FinishedEpisode]) -> None:
        """Keeps episodes of a process of an EnvRunner; a restarted EnvRunner is another process."""
        if episodes:
            self._kept.setdefault(process, []).extend(episodes)

    def forget(self, process: Hashable) -> None:
        """Forgets the episodes of a process: its metrics have come."""
        self._kept.pop(process, None)

    def pop_lost(self, is_dead: Callable[[Hashable], bool]) -> list[FinishedEpisode]:
        """Returns and forgets the episodes of processes that have died."""
        dead = [process for process in self._kept if is_dead(process)]
        return [episode for process in dead for episode in self._kept.pop(process)]
