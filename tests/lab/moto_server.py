# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve moto to clients with this lab's access key, and refuse all others.

    LAB_ACCESS_KEY=... python -I moto_server.py ADDRESS PORT

Moto takes every access key and verifies no signature, so any account of this machine could read the snapshots and
decrypt the seal's key. The access key is therefore a secret: it comes from the environment, which only this account
and root can read.
"""

from __future__ import annotations

import hmac
import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

_CREDENTIAL = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/]+)/")
_REFUSAL = b"<Error><Code>InvalidAccessKeyId</Code><Message>This is not the access key of this lab.</Message></Error>"

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def guarded(application: Application, access_key: str) -> Application:
    """Return a WSGI application that answers 403 to every request without the access key in its Authorization."""

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        found = _CREDENTIAL.match(environ.get("HTTP_AUTHORIZATION", ""))
        if found and hmac.compare_digest(found[1].encode(), access_key.encode()):
            return application(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "application/xml"), ("Content-Length", str(len(_REFUSAL)))])
        return [_REFUSAL]

    return answer


def main(address: str, port: int, access_key: str) -> None:
    """Serve until the process is ended."""
    # This import takes seconds, and the guard alone needs none of it.
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import run_simple

    # As moto.server sets it: S3's answers name the port.
    os.environ["MOTO_PORT"] = str(port)
    application = guarded(DomainDispatcherApplication(create_backend_app), access_key)
    run_simple(address, port, application, threaded=True, request_handler=MotoRequestHandler)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), os.environ["LAB_ACCESS_KEY"])
