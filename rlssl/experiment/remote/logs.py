"""Files that grow, on an object store: numbered parts, of which none is written twice.

The parts of ``result.json`` are ``result.json.parts/<generation>-<offset>-<checksum>``. A file that
only grew gets further parts. A file that was written again, as ``progress.csv`` with a new column,
gets a new generation, whose first part begins at 0; then the parts of the earlier one are deleted.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlssl.run_files import EPISODES_FILE, EVENT_FILES, FAULTS_FILE, PROGRESS_FILE, RESULTS_FILE
from rlssl.system.stores.objects import ObjectInfo

#: Names, or name patterns, of the files that grow.
LOGS = (EPISODES_FILE, EVENT_FILES, FAULTS_FILE, PROGRESS_FILE, RESULTS_FILE, "tracking_*.log")

#: End of the folder of a file's parts.
PARTS = ".parts"

_PART = re.compile(r"(\d{6})-(\d{12})-([0-9a-f]{16})")
#: Last bytes of what was sent, by which a file that was written again is recognized.
_TAIL_BYTES = 4096


@dataclass(frozen=True)
class Part:
    """A part of a file.

    Attributes:
        generation: Counts how often the file was written again.
        offset: Of its first byte in the file.
        checksum: First digits of the SHA-256 of its bytes.
        size: Number of its bytes.
    """

    generation: int
    offset: int
    checksum: str
    size: int

    @classmethod
    def of(cls, generation: int, offset: int, data: bytes) -> "Part":
        """The part that holds some bytes.

        Example:
            >>> Part.of(1, 0, b"a row").name
            '000001-000000000000-adc376f3b632de3c'
        """
        return cls(generation, offset, checksum_of(data), len(data))

    @property
    def name(self) -> str:
        """The name of its object, in the folder of parts."""
        return f"{self.generation:06d}-{self.offset:012d}-{self.checksum}"

    @property
    def end(self) -> int:
        """The offset behind its last byte."""
        return self.offset + self.size


def checksum_of(data: bytes) -> str:
    """The checksum in a part's name."""
    return hashlib.sha256(data).hexdigest()[:16]


def is_log(name: str) -> bool:
    """Whether a file of a run grows.

    Example:
        >>> is_log("trial-1/result.json"), is_log("run.json")
        (True, False)
    """
    return any(Path(name).match(pattern) for pattern in LOGS)


def parts_of(listing: Mapping[str, ObjectInfo]) -> dict[str, list[Part]]:
    """File -> its parts of all generations, in order; from a list of objects."""
    found: dict[str, list[Part]] = {}
    for name, info in listing.items():
        folder, _, base = name.rpartition("/")
        match = _PART.fullmatch(base)
        if folder.endswith(PARTS) and match is not None:
            part = Part(int(match[1]), int(match[2]), match[3], info.size)
            found.setdefault(folder.removesuffix(PARTS), []).append(part)
    for parts in found.values():
        parts.sort(key=lambda part: (part.generation, part.offset, -part.size))
    return found


def newest_generation(parts: Sequence[Part]) -> list[Part]:
    """The parts of the newest generation, without those that an earlier one covers."""
    newest: list[Part] = []
    generation = max((part.generation for part in parts), default=0)
    for part in parts:
        is_covered = bool(newest) and part.end <= newest[-1].end
        if part.generation == generation and not is_covered:
            newest.append(part)
    return newest


def matching(parts: Iterable[Part], content: bytes) -> int:
    """Number of bytes at the beginning of a file's content that are in parts already."""
    end = 0
    for part in parts:
        data = content[part.offset : part.end]
        if part.offset != end or checksum_of(data) != part.checksum:
            return end
        end = part.end
    return end


@dataclass
class Sent:
    """What of a file is on the store.

    Attributes:
        generation: Of the parts.
        inode: Of the file; a file that was replaced has another one.
        end: Number of bytes that are there.
        tail: The last of them.
    """

    generation: int
    inode: int
    end: int
    tail: bytes

    @classmethod
    def find(cls, parts: Sequence[Part], path: Path) -> "Sent":
        """What of a file is on the store, if another process has sent it.

        Args:
            parts: Of the file, of all generations.
            path: The file.
        """
        newest, content = newest_generation(parts), path.read_bytes()
        generation, end = newest[0].generation, matching(newest, content)
        if end != newest[-1].end:
            return cls(generation, -1, 0, b"")  # a new generation is due
        return cls(generation, path.stat().st_ino, end, content[max(0, end - _TAIL_BYTES) : end])

    def next_part(self, path: Path) -> tuple[Part, bytes] | None:
        """What has to be sent of a file; None if all is on the store.

        Args:
            path: The file.
        """
        with path.open("rb") as file:
            content_from = max(0, self.end - len(self.tail))
            file.seek(content_from)
            content = file.read()
        tail, new = content[: len(self.tail)], content[len(self.tail) :]
        if path.stat().st_ino == self.inode and tail == self.tail:
            return (Part.of(self.generation, self.end, new), new) if new else None
        whole = path.read_bytes()
        return Part.of(self.generation + 1, 0, whole), whole

    def note(self, part: Part, data: bytes, path: Path) -> None:
        """Takes note of a part that is on the store now."""
        is_new = part.generation != self.generation
        self.tail = ((b"" if is_new else self.tail) + data)[-_TAIL_BYTES:]
        self.generation, self.end = part.generation, part.end
        if is_new:
            self.inode = path.stat().st_ino
