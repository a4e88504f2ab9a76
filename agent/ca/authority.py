"""What the authority signs: certificates of workloads, and the one that it serves with."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from agent.ca import keys
from agent.ca.clock import Now, system_time
from agent.ca.errors import Reason, Refusal
from agent.ca.request import check
from agent.ca.root import CLOCK_SKEW
from agent.ca.signer import Signer, pem
from agent.ca.spiffe import SpiffeId

DAY = timedelta(days=1)
_SHORTEST = timedelta(minutes=5)  # less, and a node would do little else than renew
_ONLY_SIGNATURES = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True)
class Issued:
    """A signed leaf: PEM, serial number, its end, and who signed it."""

    pem: str
    serial: int
    not_after: datetime
    signer: Signer

    @property
    def chain(self) -> list[str]:
        """The leaf, and what leads from it to a root that peers have: PEM."""
        return [self.pem, *self.signer.intermediates]


class Authority:
    """Signs. `longest`: what a certificate gets that asks for no lifetime, and the most.

    signer: gives what signs now, each time that something is signed; raises Refusal when nothing does.
    now: the time by which certificates begin and end.
    """

    def __init__(
        self, signer: Callable[[], Signer], longest: timedelta = DAY, now: Now = system_time
    ) -> None:
        self.signer, self.now = signer, now
        self._longest = longest

    def issue(self, csr: str, identity: SpiffeId, validity: int = 0) -> Issued:
        """A certificate for a workload (X.509-SVID sections 3 and 4), by its request in PEM.

        validity: seconds asked for; 0 for the longest. What is given lies between 5 minutes and the longest,
        and never beyond the end of what signs. Raises Refusal.
        """
        if validity < 0:
            raise Refusal(Reason.BAD_VALIDITY, f"validity_duration is {validity} s: it must be 0 or more")
        key = check(csr, identity)
        asked = timedelta(seconds=min(validity, self._longest.total_seconds())) or self._longest
        lifetime = max(asked, min(_SHORTEST, self._longest))
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        return self._sign(key, [x509.UniformResourceIdentifier(str(identity))], uses, lifetime)

    def serving(
        self, hosts: Iterable[str], addresses: Iterable[IPv4Address | IPv6Address]
    ) -> tuple[bytes, Issued]:
        """A new key (PEM, PKCS#8) and its certificate, for a server that is reached by these names.

        Raises Refusal.
        """
        key = keys.make()
        names: list[x509.GeneralName] = [x509.DNSName(host) for host in hosts]
        names += [x509.IPAddress(address) for address in addresses]
        issued = self._sign(key.public_key(), names, [ExtendedKeyUsageOID.SERVER_AUTH], self._longest)
        return keys.to_pem(key), issued

    def _sign(
        self,
        key: keys.PublicKey,
        names: list[x509.GeneralName],
        uses: list[x509.ObjectIdentifier],
        lifetime: timedelta,
    ) -> Issued:
        signer, now = self.signer(), self.now()
        if signer.not_after <= now:
            raise Refusal(
                Reason.ROOT_UNKNOWN, f"what signs has ended on {signer.not_after:%Y-%m-%d %H:%M} UTC"
            )
        serial = x509.random_serial_number()
        # An empty subject makes the name a critical extension (RFC 5280 section 4.2.1.6).
        builder = (
            x509.CertificateBuilder(signer.certificate.subject, x509.Name([]), key, serial)
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(min(now + lifetime, signer.not_after))
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_ONLY_SIGNATURES, critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(signer.key_identifier, critical=False)
        )
        leaf = builder.sign(signer.key, hashes.SHA256())
        return Issued(pem(leaf), serial, leaf.not_valid_after_utc, signer)
