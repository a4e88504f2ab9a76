"""Requests, and the credentials that they are made with."""

import gc
import json
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.errors import SettingsError
from agent.kube.client import Client, path_of
from agent.kube.errors import ApiError
from tests.support import apiserver, sockets
from tests.support.apiserver import Fake
from tests.support.cluster import Cluster
from tests.support.ports import free_port
from tests.support.wait import until

_API = "https://kubernetes.default.svc.cluster.local"  # the audience of tokens for the server itself
NAMESPACES = "/api/v1/namespaces"


def rewrite(kubeconfig: Path, target: Path, user: dict[str, Any] | None = None, **cluster: Any) -> Path:
    """The same server in another file, with another user or other settings of the cluster."""
    config = yaml.safe_load(kubeconfig.read_text())
    config["clusters"][0]["cluster"] |= cluster
    if user is not None:
        config["users"][0]["user"] = user
    target.write_text(yaml.safe_dump(config))
    return target


def admin_token(kubeconfig: Path) -> str:
    return str(yaml.safe_load(kubeconfig.read_text())["users"][0]["user"]["token"])


def test_objects_come_and_go(cluster: Cluster) -> None:
    path = path_of("api", "v1", "namespaces", cluster.namespace, "configmaps")
    cluster.client.request("POST", path, body={"metadata": {"name": "a"}, "data": {"x": "ü"}})
    assert json.loads(cluster.client.request("GET", f"{path}/a"))["data"] == {"x": "ü"}
    cluster.client.request("DELETE", f"{path}/a")
    with pytest.raises(ApiError, match=f'GET {path}/a: 404 configmaps "a" not found') as caught:
        cluster.client.request("GET", f"{path}/a")
    assert (caught.value.status, caught.value.reason) == (404, "NotFound")


def test_a_name_is_one_step_of_a_path() -> None:
    assert path_of("api", "v1", "../x", "a b") == "/api/v1/..%2Fx/a%20b"


def test_a_server_that_is_not_there(kubeconfig: Path, tmp_path: Path) -> None:
    nobody = rewrite(kubeconfig, tmp_path / "config", server=f"https://127.0.0.1:{free_port()}")
    with pytest.raises(ApiError, match=f"GET {NAMESPACES}: .*refused") as caught:
        Client.load(nobody).request("GET", NAMESPACES)
    assert (caught.value.status, caught.value.reason) == (0, "Unreachable")


def test_a_server_that_resets_before_tls_begins(kubeconfig: Path, tmp_path: Path) -> None:
    """What is left of these connections is no test's fault."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        away = rewrite(
            kubeconfig, tmp_path / "config", server=f"https://127.0.0.1:{listener.getsockname()[1]}"
        )
        client = Client.load(away)

        def reset() -> None:
            for _ in range(50):
                sock, _ = listener.accept()
                sockets.reset_on_close(sock)
                sock.close()

        with ThreadPoolExecutor(1) as threads:
            resetting = threads.submit(reset)
            for _ in range(50):
                with pytest.raises(ApiError, match=f"GET {NAMESPACES}: "):
                    client.request("GET", NAMESPACES)
            resetting.result()
    gc.collect()


def test_a_server_that_is_another(cluster: Cluster, fake: Fake, tmp_path: Path) -> None:
    server = yaml.safe_load(fake.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    with pytest.raises(ApiError, match="certificate verify failed"):
        Client.load(rewrite(cluster.kubeconfig, tmp_path / "config", server=server)).request(
            "GET", NAMESPACES
        )


@pytest.mark.parametrize("content", [None, "", "a: [", "[]", "apiVersion: v1\nkind: Config\n", "\0"])
def test_a_kubeconfig_that_is_none(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "config"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingsError, match=f"^--kubeconfig {file}: .+") as caught:
        Client.load(file)
    assert "\n" not in str(caught.value)


def test_no_kubeconfig_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match=r"^--kubeconfig is not given, and no other found: "):
        Client.load(None)


def test_a_token_file_that_rotates(tmp_path: Path) -> None:
    (tmp_path / "tokens.csv").write_text("one,a,1,system:masters\ntwo,a,1,system:masters\n")
    token = tmp_path / "token"
    token.write_text("one")
    with apiserver.fake(tmp_path) as fake:
        client = Client.load(rewrite(fake.kubeconfig, tmp_path / "config", {"tokenFile": str(token)}))
        client.request("GET", NAMESPACES)
        fake.revoke("one")
        with pytest.raises(ApiError) as caught:
            client.request("GET", NAMESPACES)
        assert caught.value.status == 401
        token.write_text("two")
        client.request("GET", NAMESPACES)


def test_a_token_that_expires(cluster: Cluster, tmp_path: Path) -> None:
    cluster.account("a")
    short = cluster.token("a", None, _API, seconds=1)
    token = tmp_path / "token"
    token.write_text(short)
    client = Client.load(rewrite(cluster.kubeconfig, tmp_path / "config", {"tokenFile": str(token)}))

    def refused() -> int:
        with pytest.raises(ApiError) as caught:
            client.request("GET", NAMESPACES)
        return caught.value.status

    until(lambda: refused() == 401)
    token.write_text(cluster.token("a", None, _API))
    assert refused() == 403, "known again, and with no rights"
    cluster.client.request("GET", NAMESPACES)


def test_a_plug_in_is_asked_again(fake: Fake, tmp_path: Path) -> None:
    token, plugin = tmp_path / "token", tmp_path / "plugin.py"
    plugin.write_text(
        "import json, pathlib\n"
        f"status = {{'token': pathlib.Path({str(token)!r}).read_text()}}\n"
        "print(json.dumps({'apiVersion': 'client.authentication.k8s.io/v1', 'kind': 'ExecCredential',"
        " 'status': status}))\n"
    )
    token.write_text("nobody's")
    call = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": [str(plugin)],
        "interactiveMode": "Never",
    }
    client = Client.load(rewrite(fake.kubeconfig, tmp_path / "config", {"exec": call}))
    token.write_text(admin_token(fake.kubeconfig))
    client.request("GET", NAMESPACES)


def test_the_lines_of_a_watch(cluster: Cluster) -> None:
    query = {"watch": "1", "fieldSelector": f"metadata.name={cluster.namespace}", "timeoutSeconds": "1"}
    with cluster.client.stream(NAMESPACES, query, 10) as stream:
        [line] = list(stream)
    assert json.loads(line)["object"]["metadata"]["name"] == cluster.namespace


def test_silence_ends_a_watch(cluster: Cluster) -> None:
    query = {"watch": "1", "fieldSelector": "metadata.name=none"}
    with cluster.client.stream(NAMESPACES, query, 0.2) as stream, pytest.raises(ApiError) as caught:
        list(stream)
    assert caught.value.reason == "Silent"


def test_a_watch_ends_when_another_thread_says_so(cluster: Cluster) -> None:
    query = {"watch": "1", "fieldSelector": f"metadata.name={cluster.namespace}"}
    with cluster.client.stream(NAMESPACES, query, 60) as stream:
        lines = iter(stream)
        next(lines)
        threading.Timer(0.1, stream.stop).start()
        with pytest.raises(ApiError):
            next(lines)
    stream.stop()


def test_a_watch_that_is_refused(cluster: Cluster) -> None:
    with pytest.raises(ApiError, match="404"):
        cluster.client.stream("/api/v1/nothings", {"watch": "1"}, 1)


def test_a_cut_in_the_middle_of_a_line(fake: Fake) -> None:
    fake.faults.watch_bytes = lambda: 100
    client = Client.load(fake.kubeconfig)
    with client.stream(NAMESPACES, {"watch": "1"}, 10) as stream, pytest.raises(ApiError) as caught:
        list(stream)
    assert caught.value.reason == "Unreachable"
