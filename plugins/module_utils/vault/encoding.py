# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Undoes the encoding that a proxy has added to a download, and not the gzip that is a snapshot's own format."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

from .errors import VaultConfigError, VaultUnreachableError

CHUNK = 256 * 1024
"""Bytes asked of the socket at once while a snapshot streams."""


def decoded(chunks: Iterable[bytes], encoding: str, where: str) -> Iterator[bytes]:
    """Yield a body without its encoding, in chunks of at most CHUNK bytes if those that arrive are no longer.

    Args:
        chunks: the body as it arrives.
        encoding: Content-Encoding of the answer. Vault itself sends none (tried with 1.21.0 and OpenBao 2.6.2).
        where: request and address, for messages.

    Raises:
        VaultConfigError: the encoding is unknown.
        VaultUnreachableError: the body is damaged or ends early.
    """
    encoding = encoding.strip().lower()
    if encoding == "identity":
        yield from chunks
        return
    said = f"{where} was answered with Content-Encoding {encoding}"
    advice = "Vault encodes nothing: let the proxy or load balancer on the way leave its answers as they are."
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise VaultConfigError(f"{said}, which cannot be decoded here. {advice}")
    # 32: the header tells gzip from zlib's format, which is what deflate means.
    decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        for chunk in chunks:
            data = chunk
            while data and not decoder.eof:
                yield decoder.decompress(data, CHUNK)
                data = decoder.unconsumed_tail
        yield decoder.flush()
    except zlib.error as error:
        raise VaultUnreachableError(f"{said}, and is damaged ({error}). {advice}") from error
    if not decoder.eof:
        raise VaultUnreachableError(f"{said}, and ended early. Run this again. {advice}")
