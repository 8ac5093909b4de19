# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cloud that Vault and the snapshots need: S3 and KMS as moto simulates them, and SeaweedFS, a real S3 server.

Other accounts of this machine reach every address of it, so a cloud serves only its own random access key.
"""

from __future__ import annotations

import http.client
import secrets
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
import requests
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from .binaries import SEAWEEDFS, binary
from .processes import LabError, Server, free_port

_REGION = "eu-central-1"


class S3Server(Server):
    """A server of S3 at `endpoint`, with one access key that may do everything."""

    region = _REGION
    endpoint: str

    @cached_property
    def access_key(self) -> str:
        """The access key of this server alone. To moto it is the secret."""
        return secrets.token_hex(16)

    @cached_property
    def secret_key(self) -> str:
        """The secret key of this server alone."""
        return secrets.token_hex(16)

    @property
    def environment(self) -> dict[str, str]:
        """What an AWS client needs to talk to this cloud and to no other."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def create_bucket(self, name: str, *, versioned: bool = False, locked: bool = False) -> str:
        """Make an S3 bucket and return its name; one with object lock is versioned as well."""
        s3 = self.s3()
        s3.create_bucket(
            Bucket=name,
            CreateBucketConfiguration={"LocationConstraint": self.region},
            ObjectLockEnabledForBucket=locked,
        )
        if versioned:
            s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    def s3(self) -> Any:
        """Return the boto3 S3 client of this cloud; to make one takes a fifth of a second of CPU time."""
        return self._s3

    @cached_property
    def _s3(self) -> Any:
        return self._client("s3")

    def _client(self, service: str) -> Any:
        return boto3.session.Session().client(
            service,
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(proxies={}, retries={"max_attempts": 1}),
        )


class Moto(S3Server):
    """S3 and KMS over HTTP. Their state is in memory: buckets and keys end with the process."""

    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        port = free_port()
        self.endpoint = f"http://{address}:{port}"
        # -I: this folder's modules must not be found by the names of others.
        command = [sys.executable, "-I", str(Path(__file__).with_name("moto_server.py")), address, str(port)]
        env = {"LAB_ACCESS_KEY": self.access_key}
        super().__init__("moto", command, folder, ready=self._answers, env=env)

    def create_kms_key(self) -> str:
        """Make a symmetric key and return its id."""
        return str(self._client("kms").create_key(Description="custodes lab")["KeyMetadata"]["KeyId"])

    @cached_property
    def key_id(self) -> str:
        """One key, made when it is first asked for, that clusters share unless they are given another."""
        return self.create_kms_key()

    def fill_bucket(self, name: str, keys: Iterable[str], content: bytes = b"{}") -> None:
        """Put thousands of small objects, all alike, as fast as the cloud takes them: moto verifies no signature."""
        headers = self._unsigned()
        address = self.endpoint.removeprefix("http://")

        def put(some: Sequence[str]) -> None:
            with closing(http.client.HTTPConnection(address, timeout=60)) as connection:
                for key in some:
                    connection.request("PUT", f"/{name}/{quote(key)}", content, headers)
                    answer = connection.getresponse()
                    answer.read()
                    if answer.status != 200:
                        raise LabError(f"moto did not take {key}: {answer.status}")

        everything = list(keys)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(put, (everything[start::4] for start in range(4))))

    def _unsigned(self) -> dict[str, str]:
        credential = f"Credential={self.access_key}/20260101/{self.region}/s3/aws4_request"
        return {"Authorization": f"AWS4-HMAC-SHA256 {credential}, SignedHeaders=host, Signature=none"}

    def _answers(self) -> bool:
        with requests.Session() as session:
            session.trust_env = False
            try:
                return session.get(f"{self.endpoint}/moto-api/data.json", headers=self._unsigned(), timeout=2).ok
            except requests.RequestException:
                return False


class SeaweedFS(S3Server):
    """SeaweedFS, a real S3 server: it verifies checksums, keeps versions and locks, and pages its listings."""

    def __init__(self, folder: Path) -> None:
        ports = {name: free_port() for name in ("master", "volume", "filer", "s3", "admin")}
        self.endpoint = f"http://127.0.0.1:{ports['s3']}"
        # Each server has a second port, for gRPC.
        options = {f"{name}.port": port for name, port in ports.items()}
        options |= {f"{name}.port.grpc": free_port() for name in ports}
        switches = ("webdav=false", "admin.ui=false", "master.telemetry=false", "s3.port.iceberg=0", "metricsPort=0")
        command = [
            *(str(binary(SEAWEEDFS)), "mini", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
            *(f"-{name}={port}" for name, port in options.items()),
            *(f"-{switch}" for switch in switches),
        ]
        super().__init__("seaweedfs", command, folder, ready=self._answers, env=self._key())
        (folder / "data").mkdir(mode=0o700, parents=True)

    def _key(self) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}

    def _answers(self) -> bool:
        try:
            self.s3().list_buckets()
        except (BotoCoreError, ClientError):
            return False
        return True
