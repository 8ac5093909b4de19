# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moto refuses every request without the access key of the lab that started it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from lab.cloud import Moto
from lab.moto_server import guarded

KEY = "0123456789abcdef0123456789abcdef"


def asked(**environ: str) -> str:
    """Return the status of a request to a guarded application that answers 200 to everything."""
    statuses: list[str] = []

    def application(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", [])
        return []

    def start_response(status: str, _headers: list[tuple[str, str]]) -> None:
        statuses.append(status)

    list(guarded(application, KEY)({"PATH_INFO": "/", **environ}, start_response))
    (status,) = statuses
    return status


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (f"AWS4-HMAC-SHA256 Credential={KEY}/20260101/eu-central-1/kms/aws4_request", "200 OK"),
        ("AWS4-HMAC-SHA256 Credential=lab/20260101/eu-central-1/kms/aws4_request", "403 Forbidden"),
        (f"AWS4-HMAC-SHA256 Credential=lab/{KEY}/eu-central-1/kms/aws4_request", "403 Forbidden"),
        (f"AWS4-HMAC-SHA256 Credential={KEY}0/20260101/eu-central-1/s3/aws4_request", "403 Forbidden"),
        ("AWS4-HMAC-SHA256 Credential=\xe9/20260101/eu-central-1/s3/aws4_request", "403 Forbidden"),
        ("AWS lab:signature", "403 Forbidden"),
        ("", "403 Forbidden"),
    ],
)
def test_only_the_access_key_of_the_lab_is_served(authorization: str, status: str) -> None:
    assert asked(HTTP_AUTHORIZATION=authorization) == status


@pytest.mark.parametrize("path", ["/", "/moto-api/data.json", "/moto-api/reset", f"/bucket?X-Amz-Credential={KEY}/x"])
def test_no_path_is_open_to_others(path: str) -> None:
    assert asked(PATH_INFO=path) == "403 Forbidden"


def test_the_access_key_is_random_and_no_argument(tmp_path: Path) -> None:
    one, other = Moto(tmp_path), Moto(tmp_path)
    assert len(one.access_key) == 32
    assert len({one.access_key, other.access_key, one.secret_key, other.secret_key}) == 4
    assert not any(one.access_key in word for word in one.command)
