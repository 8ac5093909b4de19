# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP client for Vault: hvac's API on a transport that is strict about where a token goes.

hvac knows Vault's paths; this transport adds what an emergency needs: the operator's CA wins over the environment,
a redirect is never followed (hvac would take the token along), connect and read have limits of their own, only what
is safe to repeat is repeated, and each failure is told apart by what has to be done about it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Optional, Union
from urllib.parse import urlsplit

from .encoding import CHUNK, decoded
from .errors import VaultAuthError, VaultConfigError, VaultError, VaultSealedError, VaultUnreachableError
from .failures import from_exception, from_response, is_transient

try:
    import requests
    from hvac import Client as HvacClient
    from hvac.adapters import JSONAdapter, RawAdapter
except ImportError as error:
    HVAC_IMPORT_ERROR: Optional[ImportError] = error
    JSONAdapter = RawAdapter = object
else:
    HVAC_IMPORT_ERROR = None

_CREDENTIALS = re.compile(r"(?:(?<=://)|^(?!\w+://)).*@")

SAFE_METHODS = frozenset({"GET", "HEAD", "LIST"})
UPLOAD_STALL = 60.0
"""Seconds for which a server may take nothing of an upload: urllib3 sends a body under the limit for connecting."""


@dataclass(frozen=True)
class Connection:
    """How to reach one Vault node.

    Attributes:
        url: scheme, host and port, such as ``https://vault-1:8200``.
        ca_cert: PEM file or folder that vouches for the server; None trusts the system's bundle.
        validate_certs: False only ever by the operator's explicit word.
        namespace: Vault Enterprise or OpenBao namespace.
        timeout: longest silence of the server that is borne, in seconds.
        connect_timeout: longest wait for a connection, in seconds.
        retries: how often a request that is safe to repeat is repeated.
        proxies: as `requests` takes them; None uses the environment's.
        client_cert: certificate and key file for the cert auth method.
    """

    url: str
    ca_cert: Optional[str] = None
    validate_certs: bool = True
    namespace: Optional[str] = None
    timeout: float = 30.0
    connect_timeout: float = 5.0
    retries: int = 2
    proxies: Optional[Mapping[str, str]] = field(default=None, repr=False)
    client_cert: Optional[tuple[str, str]] = None

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            port_is_valid = parts.port is None or parts.port > 0
        except ValueError:
            port_is_valid = False
        if not port_is_valid or parts.scheme not in ("http", "https") or not parts.hostname:
            # What is before an @ may be a password.
            raise VaultConfigError(
                f"'{self.url.rpartition('@')[2]}' is not the address of a Vault server. Give url (or VAULT_ADDR) as "
                "https://HOST:PORT."
            )
        if parts.username or parts.password or parts.query or parts.fragment:
            raise VaultConfigError(
                "url must be https://HOST:PORT with no user name, password or query. "
                "Credentials belong into the options of the auth method."
            )
        if self.ca_cert and not os.path.exists(self.ca_cert):
            raise VaultConfigError(
                f"The CA bundle {self.ca_cert} does not exist on this host. Give ca_cert (or VAULT_CACERT) the path of "
                "the PEM file that vouches for Vault's certificate."
            )
        for path in self.client_cert or ():
            if not os.access(path, os.R_OK):
                raise VaultConfigError(f"The client certificate file {path} cannot be read.")

    @classmethod
    def from_options(cls, options: Mapping[str, Any], url: Optional[str] = None) -> Connection:
        """The connection that the modules' options describe, to another node when a url is given.

        What is absent or None has its default. Raises VaultConfigError.
        """
        names = ("ca_cert", "validate_certs", "namespace", "timeout", "connect_timeout", "retries", "proxies")
        given = {name: options[name] for name in names if options.get(name) is not None}
        public, private = options.get("cert_auth_public_key"), options.get("cert_auth_private_key")
        pair = (public, private) if public and private else None
        return cls(url=url or options.get("url") or "", client_cert=pair, **given)

    @property
    def verify(self) -> Union[bool, str]:
        """What `requests` takes as ``verify``."""
        if not self.validate_certs:
            return False
        return self.ca_cert or os.environ.get("REQUESTS_CA_BUNDLE") or True


def _shown_proxy(connection: Connection, proxies: Mapping[str, str]) -> str:
    """Return the proxy on the way and who named it, for messages, without user and password; empty without a proxy."""
    proxy = requests.utils.select_proxy(connection.url, proxies)
    if not proxy:
        return ""
    scheme = urlsplit(connection.url).scheme
    names = [name for plain in (f"{scheme}_proxy", "all_proxy") for name in (plain, plain.upper())]
    variable = next((name for name in names if os.environ.get(name)), "the environment")
    origin = variable if connection.proxies is None else "the option proxies"
    return f" through the proxy {_CREDENTIALS.sub('', proxy)} (of {origin})"


class _Transport(JSONAdapter):  # type: ignore[misc]
    """hvac's adapter with our rules for retries, redirects and errors.

    Attributes:
        proxy: the proxy on the way, for messages; empty without one.
        where: the server's address and the proxy on the way, for messages.
    """

    def __init__(self, connection: Connection, sleep: Callable[[float], None], session: Any = None) -> None:
        if session is None:
            session = requests.Session()
        # With trust_env, REQUESTS_CA_BUNDLE and .netrc would beat what the operator gave.
        session.trust_env = False
        session.verify = connection.verify
        session.cert = connection.client_cert
        session.proxies = dict(
            connection.proxies if connection.proxies is not None else requests.utils.get_environ_proxies(connection.url)
        )
        super().__init__(
            base_uri=connection.url,
            token=None,
            timeout=(connection.connect_timeout, connection.timeout),
            allow_redirects=False,
            session=session,
            namespace=connection.namespace,
            verify=connection.verify,
        )
        self.proxy = _shown_proxy(connection, session.proxies)
        self.where = connection.url + self.proxy
        self._retries = connection.retries
        self._sleep = sleep

    def send(self, method: str, url: str, *, raise_exception: bool = True, **kwargs: Any) -> requests.Response:
        """One request, repeated where that is safe; the response as it came.

        Raises VaultError; with raise_exception False, only when there was no response at all.
        """
        method = method.upper()
        attempt = 0
        while True:
            attempt += 1
            left = self._retries - attempt + 1
            try:
                response: requests.Response = RawAdapter.request(self, method, url, raise_exception=False, **kwargs)
                if response.status_code >= 300:
                    _unused = response.content  # read where a connection that breaks off is told from a bug
            except (requests.RequestException, OSError) as caught:
                timeout = kwargs.get("timeout", self._kwargs["timeout"])
                error, never_sent = from_exception(caught, method, self.where, url, timeout, bool(self.proxy))
                repeatable = isinstance(error, VaultUnreachableError) and is_transient(caught)
                if left <= 0 or not repeatable or not (never_sent or method in SAFE_METHODS):
                    raise error from caught
            else:
                if response.status_code < 300 or not raise_exception:
                    return response
                error = from_response(response, method, self.where, url)
                # 412: the node has not caught up yet; 429 and 502-504: busy or between two leaders.
                if method not in SAFE_METHODS or response.status_code not in (412, 429, 502, 503, 504) or left <= 0:
                    raise error
                if isinstance(error, VaultSealedError):
                    raise error
            self._sleep(min(0.2 * 2**attempt, 5.0))

    def request(
        self,
        method: str,
        url: str,
        headers: Optional[dict[str, str]] = None,
        raise_exception: bool = True,
        **kwargs: Any,
    ) -> Any:
        """hvac's entry point: the JSON of a 200, else the response."""
        response = self.send(method, url, headers=headers, raise_exception=raise_exception, **kwargs)
        if response.status_code == 200:
            try:
                return response.json()
            except ValueError:
                pass
        return response

    def get_login_token(self, response: Any) -> str:
        """hvac's way from a login's answer to the token. Raises VaultAuthError."""
        auth = response.get("auth") if isinstance(response, dict) else None
        token = (auth or {}).get("client_token")
        if not token:
            raise VaultAuthError(
                f"The login at {self.base_uri} was answered with no token. Either the method asks for a second factor, "
                "which nobody can give here: use another method; or the address is not that of a Vault server."
            )
        return str(token)


class VaultClient:
    """One Vault node, as one user.

    Attributes:
        connection: how the node is reached.
        hvac: hvac's client on our transport, for its API classes.
    """

    def __init__(
        self,
        connection: Connection,
        token: Optional[str] = None,
        sleep: Callable[[float], None] = time.sleep,
        session: Any = None,
    ) -> None:
        self.connection = connection
        self._sleep = sleep
        self._transport = _Transport(connection, sleep, session)
        self.hvac = HvacClient(url=connection.url, token="", adapter=lambda **_ignored: self._transport)
        self.token = token
        self.owns_token = False
        """True when the token came from a login of ours, which is ours to revoke."""

    @property
    def token(self) -> Optional[str]:
        """The token sent with each request; None before login."""
        return self._transport.token or None

    @token.setter
    def token(self, value: Optional[str]) -> None:
        # requests would quote an unsendable header, and so the token, in its error.
        if value and not (value.isascii() and value.isprintable() and " " not in value):
            raise VaultConfigError("The token holds a space, line break or other character that no Vault token has.")
        self._transport.token = value

    def at(self, url: str) -> VaultClient:
        """The same user at another node of the cluster."""
        return VaultClient(replace(self.connection, url=url), self.token, self._sleep)

    def request(self, method: str, path: str, **kwargs: Any) -> dict[str, Any]:
        """A request to ``/v1/<path>``; the JSON object of the answer, empty where there is none. Raises VaultError."""
        response = self._transport.send(method, f"/v1/{path}", **kwargs)
        try:
            body = response.json() if response.content else {}
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise VaultUnreachableError(
                f"{method} {path} at {self._transport.where} was answered with HTTP {response.status_code} "
                "and something that is not Vault's JSON. Check that the address is a Vault server and no proxy or load "
                "balancer page."
            )
        return body

    def status(self, path: str) -> tuple[int, dict[str, Any]]:
        """HTTP status and JSON object of a path whose status code is itself the answer (``sys/health``)."""
        response = self._transport.send("GET", f"/v1/{path}", raise_exception=False)
        if response.status_code == 400:
            # Go's server says so when it is spoken to in clear text on a TLS port.
            raise from_response(response, "GET", self._transport.where, path)
        try:
            body = response.json()
        except ValueError:
            body = None
        return response.status_code, body if isinstance(body, dict) else {}

    def optional(self, path: str) -> Optional[dict[str, Any]]:
        """The answer of a path that some versions lack, some tokens may not read and some states refuse; else None."""
        try:
            return self.request("GET", path)
        except VaultUnreachableError:
            raise
        except VaultError:
            return None

    def leader_address(self) -> str:
        """API address of the active node, as the cluster advertises it.

        Raises VaultUnreachableError when there is none, VaultConfigError when it would carry the token in clear text.
        """
        answer = self.request("GET", "sys/leader")
        if answer.get("is_self") or answer.get("ha_enabled") is False:
            return self.connection.url
        address = str(answer.get("leader_address") or "") or self.redirected_leader()
        if not address:
            raise VaultUnreachableError(
                f"{self.connection.url} knows of no leader: the cluster is electing one, or has lost its quorum. "
                "If this lasts, look at the logs of the other nodes, and count how many are alive."
            )
        if urlsplit(self.connection.url).scheme == "https" and urlsplit(address).scheme != "https":
            raise VaultConfigError(
                f"The leader of {self.connection.url} advertises itself as {address}: the token would travel in clear "
                "text and is not sent there. Correct api_addr in the leader's configuration to https."
            )
        return address

    def redirected_leader(self) -> str:
        """Return the API address to which a standby redirects a request that it may not forward, empty if it does not.

        A listener with ``redact_addresses`` empties ``leader_address`` in ``sys/leader``, so an empty value there does
        not mean that there is no leader. The redirect still has the address (Vault 1.21.0). It is read, not followed.

        Raises:
            VaultUnreachableError: the node does not answer.
        """
        path = "/v1/sys/internal/ui/mounts"
        headers = {"X-Vault-No-Request-Forwarding": "true"}
        response = self._transport.send("GET", path, raise_exception=False, headers=headers)
        location = str(response.headers.get("Location") or "") if response.status_code == 307 else ""
        return location.rpartition(path)[0]

    def at_leader(self) -> VaultClient:
        """This user at the active node. Raises what `leader_address` raises."""
        address = self.leader_address()
        return self if address.rstrip("/") == self.connection.url.rstrip("/") else self.at(address)

    @contextmanager
    def download(self, path: str, first_byte_timeout: float) -> Iterator[Iterator[bytes]]:
        """Streams an answer's body as chunks of at most CHUNK bytes, as they arrive.

        Args:
            path: below ``/v1/``.
            first_byte_timeout: seconds to wait for the server's first byte, and for each one after it.

        Raises:
            VaultError: before the first byte, or as VaultUnreachableError when the stream breaks off.
        """
        timeout = (self.connection.connect_timeout, first_byte_timeout)
        # What a snapshot holds is compressed already. A proxy that compresses it again would change its checksum.
        headers = {"Accept-Encoding": "identity"}
        response = self._transport.send("GET", f"/v1/{path}", headers=headers, stream=True, timeout=timeout)
        try:
            where = f"GET {path} at {self._transport.where}"
            encoding = str(response.headers.get("Content-Encoding") or "identity")
            yield decoded(self._chunks(response, path, timeout), encoding, where)
        finally:
            response.close()

    def _chunks(self, response: requests.Response, path: str, timeout: tuple[float, float]) -> Iterator[bytes]:
        try:
            while True:
                chunk = response.raw.read(CHUNK, decode_content=False)
                if not chunk:
                    return
                yield chunk
        except Exception as caught:
            if isinstance(caught, (OSError, requests.RequestException)) or "urllib3" in type(caught).__module__:
                raise from_exception(caught, "GET", self._transport.where, path, timeout)[0] from caught
            raise

    def upload(self, path: str, body: Any, timeout: float) -> None:
        """POSTs a file object as it is read, without an encoding; never repeated.

        Args:
            path: below ``/v1/``.
            body: open binary file; its size becomes the Content-Length.
            timeout: seconds to wait for the answer once all is sent.
        """
        self._transport.send("POST", f"/v1/{path}", data=body, timeout=(UPLOAD_STALL, timeout))

    def logout(self) -> None:
        """Revokes the token when a login of ours made it. A failure is none of the caller's business: it expires."""
        if self.owns_token and self.token:
            with suppress(VaultError):
                self.request("POST", "auth/token/revoke-self")
            self.token, self.owns_token = None, False
