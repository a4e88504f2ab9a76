"""What a server keeps in its folder: CA and certificate, the key that signs tokens, kubeconfig."""

import ipaddress
import json
import secrets
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_PEM = serialization.Encoding.PEM
_DAYS = 365
_HOSTS = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")


class Pki:
    """The files of a folder, made where they are missing, under the names that kubeapi gives them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.certificate, self.key = folder / "server.crt", folder / "server.key"
        self.root_file, self.tokens = folder / "ca.crt", folder / "tokens.csv"
        self.kubeconfig = folder / "kubeconfig"
        if not self.root_file.exists():
            self._make()
        if not self.tokens.exists():
            self.tokens.write_text(f'{secrets.token_urlsafe(24)},kubernetes-admin,admin,"system:masters"\n')
            self.tokens.chmod(0o600)
        signer = folder / "token.key"
        if not signer.exists():
            _write_key(signer, ec.generate_private_key(ec.SECP256R1()))
        key = serialization.load_pem_private_key(signer.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self.signer = key
        self.root = self.root_file.read_text()
        self.admin = self.tokens.read_text().partition(",")[0]

    def write_kubeconfig(self, port: int, token: str = "", file: Path | None = None) -> Path:
        """A kubeconfig for the bearer of a token, the admin unless given; its path."""
        file = file or self.kubeconfig
        cluster = {
            "server": f"https://127.0.0.1:{port}",
            "certificate-authority-data": b64encode(self.root.encode()).decode(),
        }
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "fake", "cluster": cluster}],
            "users": [{"name": "user", "user": {"token": token or self.admin}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "user"}}],
            "current-context": "fake",
        }
        file.write_text(json.dumps(config, indent=1) + "\n")  # JSON is YAML
        return file

    def _make(self) -> None:
        now = datetime.now(UTC)
        ca, leaf = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kubernetes")])

        def certificate(key: ec.EllipticCurvePrivateKey, subject: x509.Name) -> x509.CertificateBuilder:
            return (
                x509.CertificateBuilder()
                .subject_name(subject)
                .issuer_name(issuer)
                .public_key(key.public_key())
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - timedelta(hours=1))
                .not_valid_after(now + timedelta(days=_DAYS))
                .add_extension(
                    x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.public_key()), critical=False
                )
            )

        authority = (
            certificate(ca, issuer)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca.public_key()), critical=False)
            .add_extension(_usage(signs=True), critical=True)
            .sign(ca, hashes.SHA256())
        )
        names: list[x509.GeneralName] = [x509.DNSName(host) for host in _HOSTS]
        names += [x509.IPAddress(ipaddress.ip_address(each)) for each in ("127.0.0.1", "::1")]
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kube-apiserver")])
        server = (
            certificate(leaf, subject)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(_usage(signs=False), critical=True)
            .sign(ca, hashes.SHA256())
        )
        _write_key(self.key, leaf)
        self.certificate.write_bytes(server.public_bytes(_PEM) + authority.public_bytes(_PEM))
        self.root_file.write_bytes(authority.public_bytes(_PEM))


def _usage(signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write_key(file: Path, key: ec.EllipticCurvePrivateKey) -> None:
    form, no_password = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file.write_bytes(key.private_bytes(_PEM, form, no_password))
    file.chmod(0o600)
