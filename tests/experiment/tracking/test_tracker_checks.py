"""What is checked of trackers before a run starts."""

import http.server
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from rlssl.errors import ResourceError, SpecError
from rlssl.experiment.spec import load_spec
from rlssl.experiment.spec.trackers import MlflowOptions
from rlssl.experiment.tracking.checks import check_trackers, mlflow_uri


def check(*tracking: Any) -> None:
    document = {"algorithm": "ppo", "env": "CartPole-v1", "tracking": list(tracking)}
    check_trackers(load_spec(document))


@pytest.fixture(autouse=True)
def without_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key and no address in the environment, and no file of logins."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def test_wandb_needs_a_key_or_the_offline_mode(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match=r"no key for api.wandb.ai; .*WANDB_API_KEY.*offline"):
        check("wandb")
    check({"wandb": {"mode": "offline"}})
    monkeypatch.setenv("WANDB_MODE", "offline")
    check("wandb")
    with pytest.raises(SpecError, match="no key"):
        check({"wandb": {"mode": "online"}})
    monkeypatch.setenv("WANDB_BASE_URL", "http://wandb.my-lab.org:8080")
    (tmp_path / "netrc").write_text("machine wandb.my-lab.org login user password 0123\n")
    check({"wandb": {"mode": "online"}})


def test_mlflows_server_must_answer() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ResourceError, match=f"no answer from {uri}"):
            check({"mlflow": {"uri": uri}})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        check({"mlflow": {"uri": f"http://127.0.0.1:{server.server_port}"}})
    finally:
        server.shutdown()
        server.server_close()


def test_mlflows_store_is_in_the_storage_unless_something_else_is_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert mlflow_uri(MlflowOptions(), str(tmp_path)) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://one:5000")
    assert mlflow_uri(MlflowOptions(), str(tmp_path)) == "http://one:5000"
    assert mlflow_uri(MlflowOptions(uri="http://two:5000"), str(tmp_path)) == "http://two:5000"
