# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Vault's PKI engine with several issuers in one mount, as a root is rotated in it.

A new root is made beside the old one, becomes the default, and only then the old one is retired. That every host trusts
the new root before it signs is the caller's to prove. Nothing here deletes an issuer or its key.

Source of paths and fields: Vault's API documentation, "PKI secrets engine" (since 1.11).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Optional

from ..vault.errors import VaultApiError
from .errors import CaError

ROOT_KEYS = {"rsa": 4096, "ec": 384}
"""Kinds of key for a root, and their bits: it has to last for years."""

Request = Callable[..., Any]
"""Called with method, path and ``json=``, as VaultClient.request; gives Vault's whole answer, and raises VaultError."""


@dataclass(frozen=True)
class Issuer:
    """One issuer of the mount.

    Attributes:
        id: Vault's identifier.
        name: its name, empty when it has none.
        certificate: PEM.
        key_id: empty when the mount does not hold the key, so that it cannot sign.
        revoked: whether Vault was told to revoke it.
    """

    id: str
    name: str
    certificate: str
    key_id: str
    revoked: bool


class VaultPki:
    """The issuers of one PKI mount."""

    def __init__(self, request: Request, mount: str = "pki") -> None:
        self._request = request
        self.mount = mount.strip("/")

    def issuer(self, reference: str) -> Issuer:
        """Read one issuer by id, name or ``default``."""
        data = self._call("GET", f"issuer/{reference}")
        return Issuer(
            id=self._field(data, "issuer_id", f"issuer/{reference}"),
            name=data.get("issuer_name") or "",
            certificate=self._field(data, "certificate", f"issuer/{reference}"),
            key_id=data.get("key_id") or "",
            revoked=bool(data.get("revoked")),
        )

    def issuers(self) -> list[Issuer]:
        """All issuers of the mount, in Vault's order."""
        try:
            listed = self._call("LIST", "issuers")
        except VaultApiError as error:
            # A mount without any says so.
            if error.status == 404:
                return []
            raise
        return [self.issuer(key) for key in listed.get("keys") or []]

    def default(self) -> str:
        """The default issuer's id, empty when the mount has none."""
        return self._call("GET", "config/issuers").get("default") or ""

    def prepare(
        self, name: str, common_name: str, ttl: str, key_type: str = "rsa", dry: bool = False
    ) -> tuple[Optional[Issuer], bool]:
        """Generate a root named `name` beside the others, whose key never leaves Vault.

        Run again it finds the root by its name, so a killed rotation goes on where it stopped. The default stays what
        it is, also in a mount that is told to follow the latest issuer: nobody trusts the new root yet.

        Args:
            name: the issuer's name in the mount.
            common_name: the subject's CN.
            ttl: how long the root is good, as Vault writes durations (``87600h``).
            key_type: one of ROOT_KEYS.
            dry: only look.

        Returns:
            The issuer (None when it was only looked), and whether it is new.
        """
        for found in self.issuers():
            if found.name == name:
                return found, False
        if dry:
            return None, True
        config = self._call("GET", "config/issuers")
        if config.get("default") and config.get("default_follows_latest_issuer"):
            self._call("POST", "config/issuers", _default(config["default"]))
        body: dict[str, Any] = {"issuer_name": name, "key_name": name, "common_name": common_name, "ttl": ttl}
        body.update({"key_type": key_type, "key_bits": ROOT_KEYS[key_type]})
        made = self._call("POST", "root/rotate/internal", body)
        return self.issuer(self._field(made, "issuer_id", "root/rotate/internal")), True

    def activate(self, reference: str, dry: bool = False) -> bool:
        """Make an issuer the default and read it back; True if it was not before. `dry` only looks.

        Raises:
            CaError: it has no key here, is revoked, or Vault did not keep the choice.
        """
        wanted = self.issuer(reference)
        if not wanted.key_id or wanted.revoked:
            fault = "is revoked" if wanted.revoked else "has no key in this mount"
            raise CaError(
                f"Issuer {reference} of {self.mount} {fault}, so it cannot sign and was not made the default. "
                "Name an issuer that is good, or prepare a new one."
            )
        if self.default() == wanted.id:
            return False
        if dry:
            return True
        self._call("POST", "config/issuers", _default(wanted.id))
        if self.default() != wanted.id:
            raise CaError(
                f"{self.mount}/config/issuers took {wanted.id} as the default and does not give it back. "
                "See who else changes this mount, then run again."
            )
        return True

    def retire(self, reference: str, dry: bool = False) -> bool:
        """Revoke an issuer, which cannot be taken back; True if it was not revoked before. `dry` only looks.

        Raises:
            CaError: it is the default, or a role names it: new certificates would stop at once.
        """
        old = self.issuer(reference)
        if old.revoked:
            return False
        if self.default() == old.id:
            raise CaError(
                f"Issuer {reference} is still the default of {self.mount}, so it was not revoked. "
                "Activate its successor first."
            )
        bound = self._bound_to(old)
        if bound:
            raise CaError(
                f"Of {self.mount} these roles issue from {reference}, so it was not revoked: {', '.join(bound)}. Write "
                f"into each: vault patch {self.mount}/roles/{bound[0]} issuer_ref=default"
            )
        if dry:
            return True
        self._call("POST", f"issuer/{old.id}/revoke", {})
        return True

    def issue(self, name: str, role: str, ttl: str = "") -> list[str]:
        """Has a role issue a certificate, whose key is forgotten: it is only looked at.

        Not ``sign``, which refuses a request whose key is not of the kind that the role asks for.

        Args:
            name: the DNS name that it is for.
            role: of the mount.
            ttl: how long the certificate is good; the role's own if empty.

        Returns:
            The chain in PEM, the certificate first and the root last.
        """
        body = {"common_name": name, **({"ttl": ttl} if ttl else {})}
        data = self._call("POST", f"issue/{role}", body)
        certificate = self._field(data, "certificate", f"issue/{role}")
        above = data.get("ca_chain") or [self._field(data, "issuing_ca", f"issue/{role}")]
        return [certificate, *(str(one) for one in above)]

    def _bound_to(self, issuer: Issuer) -> list[str]:
        """Roles that issue from it by its id or name, but for those that this login may not read."""
        found = []
        for name in self._unless_hidden("LIST", "roles").get("keys") or []:
            role = self._unless_hidden("GET", f"roles/{name}")
            if role.get("issuer_ref") in {issuer.id, issuer.name} - {""}:
                found.append(str(name))
        return found

    def _unless_hidden(self, method: str, path: str) -> Mapping[str, Any]:
        """What is there; nothing where there is none, or where this login may not look."""
        try:
            return self._call(method, path)
        except VaultApiError as error:
            if error.status in (403, 404):
                return {}
            raise

    def _call(self, method: str, path: str, body: Any = None) -> Mapping[str, Any]:
        answer = self._request(method, f"{self.mount}/{path}", json=body)
        data = answer.get("data") if isinstance(answer, Mapping) else None
        if data is None and method == "POST":
            return {}
        if not isinstance(data, Mapping):
            raise CaError(
                f"{method} {self.mount}/{path} gave no data. "
                f"See that {self.mount} is a PKI mount of Vault 1.11 or newer."
            )
        return data

    def _field(self, data: Mapping[str, Any], key: str, path: str) -> str:
        value = data.get(key)
        if not isinstance(value, str) or not value:
            raise CaError(f"Vault's answer to {self.mount}/{path} has no {key}. It needs Vault 1.11 or newer.")
        return value


def _default(issuer: str) -> dict[str, Any]:
    # Said explicitly: else the next root, or an imported cross-signed certificate, becomes the default by itself.
    return {"default": issuer, "default_follows_latest_issuer": False}
