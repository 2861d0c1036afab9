"""The files of a run on a real S3 server: sent while they are written, and fetched elsewhere."""

import json
import time
from pathlib import Path

import pytest

from rlssl.errors import ResourceError, SpecError
from rlssl.experiment.commands.results.runs import runs
from rlssl.experiment.commands.watching.watch import watch
from rlssl.experiment.remote.fetch import fetch_path
from rlssl.experiment.remote.uploads import RunUploads, send_results
from rlssl.experiment.run_folders import locate
from rlssl.run_files import EPISODES_FILE, FAULTS_FILE, RESULTS_FILE, RUN_FILE, TRIAL_FILE
from rlssl.system.files import append, replace
from rlssl.system.stores.places import Place, parse_place
from tests.experiment.remote.store_server import CuttingProxy, StoreServer, server, set_keys

__all__ = ["server"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Machines:
    """Two machines that share nothing but the server."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder, self._patch = tmp_path, monkeypatch

    def be(self, name: str) -> None:
        self._patch.setenv("RLSSL_CACHE", str(self._folder / name))


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machines:
    set_keys(monkeypatch)
    found = Machines(tmp_path, monkeypatch)
    found.be("first")
    return found


def begin_run(uri: str) -> tuple[Place, Path]:
    place = parse_place(uri)
    assert place is not None
    folder = place.create_folder()
    (folder / RUN_FILE).write_text(json.dumps({"name": "ppo", "started": time.time()}))
    trial = folder / "trial-1"
    trial.mkdir()
    (trial / TRIAL_FILE).write_text("{}")
    append(trial / RESULTS_FILE, b'{"env_steps": 100}\n')
    append(trial / EPISODES_FILE, b"env_steps,return,length,success\n")
    (folder / "tuner.pkl").write_bytes(b"of Tune")
    return place, trial


def parts(server: StoreServer, path: str) -> list[str]:
    return [name for name in server.names(path) if f"{RESULTS_FILE}.parts/" in name]


def test_files_come_back_and_no_byte_of_a_log_is_sent_twice(
    server: StoreServer, machines: Machines
) -> None:
    place, trial = begin_run(server.uri("once/ppo"))
    with RunUploads(place.folder, keep=2).running():
        append(trial / RESULTS_FILE, b'{"env_steps": 200}\n')
    with RunUploads(place.folder, keep=2).running():  # a resume
        append(trial / RESULTS_FILE, b'{"env_steps": 300}\n')
    written = (trial / RESULTS_FILE).read_bytes()
    sent = [server.read(name) for name in parts(server, "once")]
    assert b"".join(sent) == written
    assert len(sent) == 3
    assert not [name for name in server.names("once") if name.endswith(".pkl")]
    machines.be("second")
    folder = fetch_path(place, with_checkpoints=False)
    assert (folder / "trial-1" / RESULTS_FILE).read_bytes() == written
    assert json.loads((folder / RUN_FILE).read_text())["name"] == "ppo"


def test_a_file_that_was_written_again_replaces_its_parts(
    server: StoreServer, machines: Machines
) -> None:
    place, trial = begin_run(server.uri("again/ppo"))
    with RunUploads(place.folder, keep=2).running():
        replace(trial / RESULTS_FILE, b'{"env_steps": 50}\n')
    assert [server.read(name) for name in parts(server, "again")] == [b'{"env_steps": 50}\n']


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_damaged_part_is_named_and_costs_only_its_rows(
    server: StoreServer, machines: Machines, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place, trial = begin_run(server.uri(f"{damage}/ppo"))
    for env_steps in (200, 300):
        with RunUploads(place.folder, keep=2).running():
            append(trial / RESULTS_FILE, f'{{"env_steps": {env_steps}}}\n'.encode())
    name = parts(server, damage)[1]
    server.delete(name) if damage == "missing" else server.write(name, b'{"env_steps": XXX}\n')
    machines.be("second")
    folder = fetch_path(place, with_checkpoints=False)
    rows = (folder / "trial-1" / RESULTS_FILE).read_text().split()
    assert "200}" not in rows
    assert [row for row in rows if row.endswith("00}")] == ["100}", "300}"]
    printed = capsys.readouterr().err
    assert "is missing" in printed if damage == "missing" else name in printed


def test_a_copy_that_another_machine_went_on_from_is_set_aside(
    server: StoreServer, machines: Machines, capsys: pytest.CaptureFixture[str]
) -> None:
    place, trial = begin_run(server.uri("moved/ppo"))
    with RunUploads(place.folder, keep=2).running():
        pass
    append(trial / RESULTS_FILE, b'{"env_steps": 200}\n')  # lost: its process was killed
    machines.be("second")
    folder = fetch_path(place, with_checkpoints=False)
    with RunUploads(folder, keep=2).running():
        append(folder / "trial-1" / RESULTS_FILE, b'{"env_steps": 201}\n')
    machines.be("first")
    fetched = fetch_path(place, with_checkpoints=False)
    rows = (fetched / "trial-1" / RESULTS_FILE).read_text().splitlines()
    assert rows == ['{"env_steps": 100}', '{"env_steps": 201}']
    assert "was continued from another local copy" in capsys.readouterr().err
    (aside,) = fetched.parent.glob(".ppo.superseded-*")
    assert '"env_steps": 200' in (aside / "trial-1" / RESULTS_FILE).read_text()


def test_the_copy_of_a_running_run_is_not_overwritten(
    server: StoreServer, machines: Machines
) -> None:
    place, trial = begin_run(server.uri("ahead/ppo"))
    with RunUploads(place.folder, keep=2).running():
        append(trial / RESULTS_FILE, b'{"env_steps": 200}\n')
        fetch_path(place, with_checkpoints=False)
        assert len((trial / RESULTS_FILE).read_bytes().splitlines()) == 2


def test_cut_connections_delay_files_and_lose_none(
    server: StoreServer, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlssl.experiment.remote.uploads.PERIOD_S", 0.5)
    proxy = CuttingProxy(server.port)
    place, trial = begin_run(server.uri("cut/ppo", proxy.port))
    with RunUploads(place.folder, keep=2).running():
        proxy.limit = 0
        append(trial / RESULTS_FILE, b'{"env_steps": 200}\n')
        (place.folder / "points.json").write_text("{}")
        deadline = time.monotonic() + 60
        while not (place.folder / FAULTS_FILE).exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        proxy.limit = None
    assert proxy.num_cut
    assert '"kind": "upload"' in (place.folder / FAULTS_FILE).read_text()
    sent = b"".join(server.read(name) for name in parts(server, "cut"))
    assert sent == (trial / RESULTS_FILE).read_bytes()
    assert "cut/ppo/points.json" in server.names("cut")
    proxy.close()


def test_names_are_looked_up_on_the_store(
    server: StoreServer, machines: Machines, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = server.uri("names")
    for name in ("ppo", "ppo-2"):
        place, _ = begin_run(server.uri(f"names/{name}"))
        with RunUploads(place.folder, keep=2).running():
            pass
    machines.be("second")
    assert locate("ppo", storage).name == "ppo-2"
    assert "2 runs have the name 'ppo'" in capsys.readouterr().err
    assert locate("ppo-2", storage).name == "ppo-2"
    assert locate(server.uri("names/ppo/trial-1")).name == "trial-1"
    runs(storage=storage, as_json=True)
    listed = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in listed} == {"ppo", "ppo-2"}
    with pytest.raises(SpecError, match=r"no run 'sac'.*below s3://lab/names"):
        locate("sac", storage)
    with pytest.raises(SpecError, match=r"no run 's3://lab/names/sac.*it has no run.json"):
        locate(server.uri("names/sac"))
    with pytest.raises(ResourceError, match=r"there is no bucket 'nobody'"):
        locate("ppo", storage.replace("s3://lab", "s3://nobody"))
    with pytest.raises(ResourceError, match=r"there is no bucket 'nobody'"):
        runs(storage=storage.replace("s3://lab", "s3://nobody"))
    with pytest.raises(ResourceError, match=r"there is no bucket 'nobody'"):
        locate(server.uri("names/ppo").replace("s3://lab", "s3://nobody"))


def test_only_the_copy_that_wrote_a_run_sends_its_table(
    server: StoreServer, machines: Machines
) -> None:
    place, _ = begin_run(server.uri("table/ppo"))
    with RunUploads(place.folder, keep=2).running():
        pass
    machines.be("second")
    reader = fetch_path(place, with_checkpoints=False)
    (reader / "table.csv").write_text("of a reader")
    assert send_results(reader) == 0
    assert "table/ppo/table.csv" not in server.names("table")
    machines.be("first")
    (place.folder / "table.csv").write_text("of the run")
    assert send_results(place.folder) == 0
    assert server.read("table/ppo/table.csv") == b"of the run"


def test_a_run_is_watched_from_another_machine(
    server: StoreServer, machines: Machines, capsys: pytest.CaptureFixture[str]
) -> None:
    place, trial = begin_run(server.uri("watched/ppo"))
    (trial / TRIAL_FILE).write_text(json.dumps({"point": {}, "seed": 0}))

    def seen() -> int:
        machines.be("second")
        watch(place.uri, as_json=True)
        machines.be("first")
        (found,) = json.loads(capsys.readouterr().out)["trials"]
        return int(found["env_steps"])

    with RunUploads(place.folder, keep=2).running():
        pass
    assert seen() == 100
    append(trial / RESULTS_FILE, b'{"env_steps": 200}\n')
    with RunUploads(place.folder, keep=2).running():
        pass
    assert seen() == 200
