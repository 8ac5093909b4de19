# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where snapshots are kept."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of module_utils/module.py, STORES_SPEC."""

    DOCUMENTATION = r"""
requirements:
  - boto3 (Python library, 1.36 or newer), for stores of the type V(s3)
options:
  stores:
    description:
      - The places that keep snapshots, one or more.
    type: list
    elements: dict
    required: true
    aliases: [destinations]
    suboptions:
      type:
        description:
          - V(filesystem) is a folder on this host, or of something mounted here. V(s3) is a bucket of S3, or of what
            speaks its protocol.
        type: str
        choices: [filesystem, s3]
        required: true
      required:
        description:
          - Whether a backup fails without a verified copy in this store. Of no meaning to what only reads.
        type: bool
        default: true
      retention:
        description:
          - What a backup keeps in this store. A snapshot is deleted only when all of these let it go, only by a run
            that has succeeded, and never the newest good one. Without it nothing is ever deleted.
          - Of no meaning to what only reads.
        type: dict
        suboptions:
          max_age_days:
            description:
              - Days for which every snapshot is kept.
            type: float
            required: true
          min_count:
            description:
              - How many good ones are kept whatever their age, at least V(1).
            type: int
            required: true
          daily:
            description:
              - On how many days (UTC) that have a good one the newest of it is kept.
            type: int
          weekly:
            description:
              - The same by ISO week.
            type: int
          monthly:
            description:
              - The same by month.
            type: int
      path:
        description:
          - The folder, for V(filesystem). It is made when the one that it lies in exists.
        type: path
      bucket:
        description:
          - The bucket, for V(s3).
        type: str
      prefix:
        description:
          - What the names in the bucket begin with, a folder as it were. None if not set. Clusters must not share one.
        type: str
      region:
        description:
          - Region of the bucket. If not set, boto3 finds it as usual.
        type: str
      vault_region:
        description:
          - Region that Vault runs in, for a remark when the bucket lies there too.
        type: str
      endpoint_url:
        description:
          - Address of the service, where it is not AWS.
        type: str
      addressing_style:
        description:
          - Whether the bucket is part of the host's name or of the path. V(auto) if not set.
        type: str
        choices: [auto, path, virtual]
      ca_cert:
        description:
          - PEM file that vouches for the service's certificate.
        type: path
      proxies:
        description:
          - Proxy URL by scheme. If not set, none is used, whatever the environment says.
        type: dict
      timeout:
        description:
          - Longest silence of the service that is borne, in seconds. V(60) if not set.
        type: int
      retries:
        description:
          - How often a request is repeated. V(3) if not set.
        type: int
      profile:
        description:
          - AWS profile, where no keys are given.
        type: str
      access_key:
        description:
          - Access key ID. If not set, boto3 finds credentials as usual.
        type: str
      secret_key:
        description:
          - Secret access key.
        type: str
      session_token:
        description:
          - Session token, for temporary keys.
        type: str
      server_side_encryption:
        description:
          - How the bucket encrypts what is put there. V(aws:kms) if not set.
        type: str
        choices: ["aws:kms", AES256, none]
      kms_key_id:
        description:
          - Key for V(aws:kms). If not set, AWS's own key for S3, not the bucket's default; for that, see V(none).
        type: str
      storage_class:
        description:
          - Storage class, such as V(STANDARD_IA). If not set, the bucket's default.
        type: str
      tags:
        description:
          - Tags of each object.
        type: dict
      object_lock_mode:
        description:
          - Lock what is put there against deletion, in a bucket that has object lock.
        type: str
        choices: [GOVERNANCE, COMPLIANCE]
      object_lock_days:
        description:
          - For how many days.
        type: int
"""
