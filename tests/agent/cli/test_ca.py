"""`warren ca` as a process."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from agent.ca.authority import Authority
from agent.ca.directory import open_root
from agent.ca.revocation import serials, usable
from agent.ca.spiffe import SpiffeId
from protocols.ca_pb2 import IstioCertificateRequest, IstioCertificateResponse
from tests.support.authority import WEB, csr
from tests.support.ports import free_port
from tests.support.wait import until

POD = """
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: default, labels: {istio.io/dataplane-mode: ambient}}
spec: {nodeName: node1, serviceAccountName: web}
status: {phase: Running}
"""


def speaks_tls_1_2(port: int) -> bool:
    command = ["openssl", "s_client", "-tls1_2", "-alpn", "h2", "-connect", f"127.0.0.1:{port}"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert b"CONNECTED" in done.stdout
    return b"Cipher is ECDHE" in done.stdout


def warren(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "agent.cli.main", *arguments]


def test_it_signs_for_pods_of_the_folder_until_it_is_told_to_stop(tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    (tmp_path / "tokens").write_text(json.dumps({"token1": "node1"}))
    port = free_port()
    settings = {"--listen": f"127.0.0.1:{port}", "--dir": f"{tmp_path}/ca", "--tokens": f"{tmp_path}/tokens",
                "--source": f"dir:{tmp_path}/cluster", "--metrics-port": "0"}  # fmt: skip
    command = warren("ca", *(word for pair in settings.items() for word in pair))
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        log = process.stderr
        assert log
        until(lambda: "signing for cluster.local" in log.readline(), what="it serves")
        credentials = grpc.ssl_channel_credentials((tmp_path / "ca" / "root.pem").read_bytes())
        with grpc.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
            method = channel.unary_unary(
                "/istio.v1.auth.IstioCertificateService/CreateCertificate",
                IstioCertificateRequest.SerializeToString,
                IstioCertificateResponse.FromString,
            )
            request = IstioCertificateRequest(csr=csr())
            request.metadata.update({"ImpersonatedIdentity": WEB})

            def asked() -> grpc.StatusCode:
                try:
                    method(request, metadata=(("authorization", "Bearer token1"),), timeout=5)
                except grpc.RpcError as error:
                    return error.code()
                return grpc.StatusCode.OK

            assert asked() is grpc.StatusCode.PERMISSION_DENIED
            (tmp_path / "cluster" / "pod.yaml").write_text(POD)
            until(lambda: asked() is grpc.StatusCode.OK, what="the pod is known")
        assert not speaks_tls_1_2(port)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.communicate()


def test_all_bad_settings_are_named_at_once(tmp_path: Path) -> None:
    command = warren("ca", "--listen", "localhost", "--source", f"dir:{tmp_path}/none", "--tokens", "/none")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    named = {line.split(" ")[3] for line in done.stderr.splitlines()}
    assert named == {"--listen:", "--source:", "--tokens:"}


def test_what_a_folder_needs_beside_it_is_named(tmp_path: Path) -> None:
    command = warren("ca", "--listen", "127.0.0.1:0", "--source", f"dir:{tmp_path}")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"warren: {name} is missing: --source dir:PATH needs it" for name in ("--dir", "--tokens")
    ]


@pytest.mark.parametrize("spoil", ["tokens", "ca/root.pem"])
def test_a_file_that_cannot_be_used_is_one_line_and_no_traceback(tmp_path: Path, spoil: str) -> None:
    (tmp_path / "ca").mkdir()
    (tmp_path / "tokens").write_text("{}")
    (tmp_path / spoil).write_text("nonsense")
    command = warren("ca", "--listen", "127.0.0.1:0", "--source", f"dir:{tmp_path}", "--metrics-port", "0",
                     "--tokens", f"{tmp_path}/tokens", "--dir", f"{tmp_path}/ca")  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_without_a_cluster_certificates_are_revoked_in_the_folder(tmp_path: Path) -> None:
    root = open_root(tmp_path, "cluster.local")
    leaf = tmp_path / "leaf.pem"
    leaf.write_text(Authority(lambda: root).issue(csr(), SpiffeId.parse(WEB)).pem)
    serial = x509.load_pem_x509_certificate(leaf.read_bytes()).serial_number
    for name in ("AB:CD", str(leaf)):
        subprocess.run(warren("ca", "revoke", f"--dir={tmp_path}", name), check=True, capture_output=True)
    text = (tmp_path / "ca-crl.pem").read_text()
    assert serials(text) == {0xABCD, serial}
    assert usable(text, root.path) == text
    command = warren("ca", "revoke", f"--dir={tmp_path / 'none'}", "AB")
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, "No such file or directory" in done.stderr) == (1, True), done.stderr
    assert not (tmp_path / "none").exists()
