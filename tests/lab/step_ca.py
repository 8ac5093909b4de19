# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real step-ca: a root and an intermediate of our own, its configuration a file, one JWK provisioner."""

from __future__ import annotations

import base64
import datetime as dt
import json
import secrets
from pathlib import Path
from typing import Any

import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from cryptography.x509.oid import NameOID

from .binaries import step_ca_binary
from .pki import usage, write_private
from .processes import Server, free_port

PROVISIONER = "drill"


class StepCaServer(Server):
    """One step-ca, which knows no other name than its address. It is ready when it says that it is well.

    Args:
        folder: for its files and its log.
        address: where it listens.
        name: of its root.
    """

    def __init__(self, folder: Path, address: str = "127.0.0.1", name: str = "custodes lab step") -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.password = secrets.token_urlsafe(12)
        """Of the provisioner's key."""
        self.port = free_port()
        self.url = f"https://{address}:{self.port}"
        self.root_file = folder / "root.pem"
        config = folder / "ca.json"
        _authority(folder, name)
        write_private(config, json.dumps(self._config(folder, address), indent=2).encode())
        super().__init__("step-ca", [str(step_ca_binary()), str(config)], folder, ready=self.ready)

    def ready(self) -> bool:
        """Whether ``/health`` answers 200."""
        with requests.Session() as session:
            session.trust_env = False
            try:
                return session.get(f"{self.url}/health", timeout=2, verify=str(self.root_file)).status_code == 200
            except requests.RequestException:
                return False

    def _config(self, folder: Path, address: str) -> dict[str, Any]:
        """Of smallstep's documentation, "Configuring step-ca"."""
        public, encrypted = provisioner_key(self.password)
        provisioner = {"type": "JWK", "name": PROVISIONER, "key": public, "encryptedKey": encrypted}
        return {
            "root": str(self.root_file),
            "crt": str(folder / "intermediate.pem"),
            "key": str(folder / "intermediate.key"),
            "address": f"{address}:{self.port}",
            "dnsNames": [address, "localhost"],
            "logger": {"format": "text"},
            "db": {"type": "badgerv2", "dataSource": str(folder / "db")},
            "authority": {"provisioners": [provisioner]},
        }


def provisioner_key(password: str, content: str = "A256GCM", iterations: int = 2000) -> tuple[dict[str, str], str]:
    """A new public JWK, and its private one encrypted as step does (RFC 7518, 4.8), with fewer rounds of PBKDF2."""
    key = ec.generate_private_key(ec.SECP256R1())
    point = key.public_key().public_numbers()
    public = {"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": secrets.token_hex(8)}
    public |= {"x": _encoded(point.x.to_bytes(32, "big")), "y": _encoded(point.y.to_bytes(32, "big"))}
    private = {**public, "d": _encoded(key.private_numbers().private_value.to_bytes(32, "big"))}
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
    header = {"alg": "PBES2-HS256+A128KW", "enc": content, "p2c": iterations, "p2s": _encoded(salt)}
    protected = _encoded(json.dumps(header).encode())
    wrapping = PBKDF2HMAC(hashes.SHA256(), 16, b"PBES2-HS256+A128KW\0" + salt, iterations).derive(password.encode())
    inner = secrets.token_bytes(int(content[1:4]) // 8)
    sealed = AESGCM(inner).encrypt(nonce, json.dumps(private).encode(), protected.encode())
    parts = (aes_key_wrap(wrapping, inner), nonce, sealed[:-16], sealed[-16:])
    return public, ".".join([protected, *map(_encoded, parts)])


def _authority(folder: Path, name: str) -> None:
    """Write root.pem, intermediate.pem and the intermediate's key (0600); the root's is forgotten."""
    now = dt.datetime.now(dt.timezone.utc)
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} root")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} intermediate")])
    for file, owner, public, length in (("root", issuer, root_key, 1), ("intermediate", subject, key, 0)):
        certificate = (
            x509.CertificateBuilder(issuer, owner, public.public_key(), x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=True, path_length=length), critical=True)
            .add_extension(usage(certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
            .sign(root_key, hashes.SHA256())
        )
        (folder / f"{file}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_private(folder / "intermediate.key", plain)


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
