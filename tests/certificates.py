"""Certificates for throwaway servers: each is its own authority, and good for 127.0.0.1 alone."""

from __future__ import annotations

import ipaddress
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

HOST = "127.0.0.1"


def write(folder: Path, uid: int, gid: int) -> tuple[Path, Path]:
    """A new certificate and its key, which only that user may read, as servers insist."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate, private = folder / "server.crt", folder / "server.key"
    certificate.write_bytes(_signed_by_itself(key).public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    for path in (certificate, private):
        os.chown(path, uid, gid)
        path.chmod(0o600)
    return certificate, private


def _signed_by_itself(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a throwaway server")])
    public, now = key.public_key(), datetime.now(UTC)
    return (
        x509.CertificateBuilder(name, name, public, x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False)
        .sign(key, hashes.SHA256())
    )
