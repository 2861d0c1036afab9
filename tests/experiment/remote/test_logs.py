"""Files that grow become numbered parts, of which none is sent twice."""

from pathlib import Path

from rlssl.experiment.remote.logs import (
    PARTS,
    Part,
    Sent,
    matching,
    newest_generation,
    parts_of,
)
from rlssl.system.files import append, replace
from rlssl.system.stores.objects import ObjectInfo


class Store:
    """The parts of one file, as a store lists them."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}

    def send(self, sent: Sent, path: Path) -> int:
        """Sends what is due; returns the number of bytes."""
        found = sent.next_part(path)
        if found is None:
            return 0
        part, data = found
        self.data[f"result.json{PARTS}/{part.name}"] = data
        sent.note(part, data, path)
        return len(data)

    @property
    def parts(self) -> list[Part]:
        listing = {name: ObjectInfo(len(data), 0.0) for name, data in self.data.items()}
        return parts_of(listing)["result.json"]

    def content(self) -> bytes:
        names = [f"result.json{PARTS}/{part.name}" for part in newest_generation(self.parts)]
        return b"".join(self.data[name] for name in names)


def test_only_new_bytes_are_sent(tmp_path: Path) -> None:
    store, sent, path = Store(), Sent(0, -1, 0, b""), tmp_path / "result.json"
    path.write_bytes(b"one\n")
    assert store.send(sent, path) == 4
    assert store.send(sent, path) == 0
    append(path, b"two\nthree\n")
    assert store.send(sent, path) == 10
    assert store.content() == b"one\ntwo\nthree\n"


def test_a_file_that_was_written_again_gets_a_new_generation(tmp_path: Path) -> None:
    store, sent, path = Store(), Sent(0, -1, 0, b""), tmp_path / "result.json"
    path.write_bytes(b"a,b\n1,2\n")
    store.send(sent, path)
    replace(path, b"a,b,c\n1,2,\n3,4,5\n")
    assert store.send(sent, path) == 17
    append(path, b"6,7,8\n")
    store.send(sent, path)
    assert store.content() == path.read_bytes()
    assert {part.generation for part in store.parts} == {1, 2}


def test_a_line_that_was_dropped_and_replaced_is_noticed(tmp_path: Path) -> None:
    """A resumed run truncates half a line, and appends to the same file."""
    store, sent, path = Store(), Sent(0, -1, 0, b""), tmp_path / "result.json"
    path.write_bytes(b'{"a": 1}\n{"a": ')
    store.send(sent, path)
    with path.open("r+b") as file:
        file.truncate(9)
    append(path, b'{"b": 2}\n{"b": 3}\n')
    store.send(sent, path)
    assert store.content() == path.read_bytes()


def test_a_later_process_goes_on_where_the_earlier_one_ended(tmp_path: Path) -> None:
    store, path = Store(), tmp_path / "result.json"
    path.write_bytes(b"one\n")
    store.send(Sent(0, -1, 0, b""), path)
    append(path, b"two\n")
    sent = Sent.find(store.parts, path)
    assert store.send(sent, path) == 4
    assert store.content() == b"one\ntwo\n"


def test_a_later_process_with_another_file_begins_a_new_generation(tmp_path: Path) -> None:
    store, path = Store(), tmp_path / "result.json"
    path.write_bytes(b"one\n")
    store.send(Sent(0, -1, 0, b""), path)
    path.write_bytes(b"other\n")
    store.send(Sent.find(store.parts, path), path)
    assert store.content() == b"other\n"


def test_a_part_that_arrived_without_an_answer_is_covered_by_the_next_one(tmp_path: Path) -> None:
    store, path = Store(), tmp_path / "result.json"
    sent = Sent(0, -1, 0, b"")
    path.write_bytes(b"one\n")
    store.send(sent, path)
    append(path, b"two\n")
    found = sent.next_part(path)
    assert found is not None
    store.data[f"result.json{PARTS}/{found[0].name}"] = found[1]  # and no `note`
    append(path, b"three\n")
    assert store.send(sent, path) == 10
    append(path, b"four\n")
    store.send(sent, path)
    assert store.content() == b"one\ntwo\nthree\nfour\n"


def test_bytes_match_up_to_the_first_damaged_part() -> None:
    parts = [Part.of(1, 0, b"one\n"), Part.of(1, 4, b"two\n"), Part.of(1, 8, b"end\n")]
    assert matching(parts, b"one\ntwo\nend\n") == 12
    assert matching(parts, b"one\ntwX\nend\n") == 4
    assert matching(parts[1:], b"one\ntwo\nend\n") == 0
