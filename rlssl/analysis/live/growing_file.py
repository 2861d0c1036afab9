"""Reads a file that another process writes, each line once."""

from pathlib import Path

#: Last bytes of what was read, by which a file that was written again is recognized.
_TAIL_BYTES = 256


class GrowingFile:
    r"""Gives the lines that a file has got since the last look.

    A line without its newline is not given yet: its process is writing it, or was killed. If the
    file was written again since the last look, all its lines are given.

    Args:
        path: The file, which need not exist yet.

    Attributes:
        path: The file.

    Example:
        >>> import tempfile
        >>> file = GrowingFile(Path(tempfile.mkdtemp()) / "result.json")
        >>> file.new_lines()
        ([], False)
        >>> _ = file.path.write_text("first\nsec")
        >>> file.new_lines()
        (['first'], False)
        >>> _ = file.path.write_text("first\nsecond\n")
        >>> file.new_lines()
        (['second'], False)
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._end, self._tail = 0, b""
        # Size and time of change at the last look; while they stay, nothing is opened.
        self._known: tuple[int, int] | None = None

    def new_lines(self) -> tuple[list[str], bool]:
        """The new whole lines, and whether they replace all lines that were given before."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return [], False
        if (known := (found.st_size, found.st_mtime_ns)) == self._known:
            return [], False
        with self.path.open("rb") as file:
            file.seek(self._end - len(self._tail))
            content = file.read()
            begins_again = not content.startswith(self._tail)
            if begins_again:
                file.seek(0)
                self._end, content = 0, file.read()
            else:
                content = content[len(self._tail) :]
        self._known = known
        whole = content[: content.rfind(b"\n") + 1]
        self._end += len(whole)
        self._tail = ((b"" if begins_again else self._tail) + whole)[-_TAIL_BYTES:]
        return whole.decode("utf-8", errors="replace").splitlines(), begins_again
