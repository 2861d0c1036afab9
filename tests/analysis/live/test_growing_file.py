"""Each line of a file that grows is given once."""

import os
from pathlib import Path

import pytest

from rlssl.analysis.live.growing_file import GrowingFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "result.json"


def add(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)


def test_half_a_line_is_given_when_its_end_is_there(path: Path) -> None:
    file = GrowingFile(path)
    add(path, b"one\ntw")
    assert file.new_lines() == (["one"], False)
    assert file.new_lines() == ([], False)
    add(path, b"o")
    assert file.new_lines() == ([], False)
    add(path, b"\nthree\n")
    assert file.new_lines() == (["two", "three"], False)


def test_half_a_character_is_not_replaced(path: Path) -> None:
    file = GrowingFile(path)
    add(path, b"a " + "ü".encode()[:1])
    assert file.new_lines() == ([], False)
    add(path, "ü".encode()[1:] + b"\n")
    assert file.new_lines() == (["a ü"], False)


def test_a_copy_with_more_lines_continues(path: Path) -> None:
    # A run on an object store is fetched into a new file, which replaces the one before.
    file = GrowingFile(path)
    add(path, b"one\ntwo\n")
    assert file.new_lines() == (["one", "two"], False)
    copy = path.with_name("copy")
    add(copy, b"one\ntwo\nthree\n")
    copy.replace(path)
    assert file.new_lines() == (["three"], False)


@pytest.mark.parametrize("content", [b"other\n", b"other\nlonger than before\n", b""])
def test_a_file_that_is_written_again_begins_anew(path: Path, content: bytes) -> None:
    file = GrowingFile(path)
    add(path, b"one\ntwo\n")
    file.new_lines()
    path.write_bytes(content)
    os.utime(path, (1, 1))
    assert file.new_lines() == (content.decode().splitlines(), True)
    add(path, b"more\n")
    assert file.new_lines()[0] == ["more"]


def test_bytes_that_were_read_are_not_read_again(path: Path) -> None:
    file = GrowingFile(path)
    add(path, b"x" * 100_000 + b"\n")
    file.new_lines()
    with path.open("r+b") as opened:
        opened.write(b"changed")  # far before the end: only who reads all would see it
    add(path, b"new\n")
    assert file.new_lines() == (["new"], False)
