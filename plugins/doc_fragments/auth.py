# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How to log in to Vault."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of module_utils/module.py, AUTH_SPEC."""

    DOCUMENTATION = r"""
options:
  auth_method:
    description:
      - How to log in. A token that comes from a login is revoked when the module ends.
    type: str
    choices: [token, approle, kubernetes, jwt, userpass, ldap, cert, aws_iam]
    default: token
  mount_point:
    description:
      - Where the auth method is mounted, if not at its usual place.
    type: str
  token:
    description:
      - Vault token for O(auth_method=token).
      - If not set, the file named by O(token_path) and O(token_file), the environment variable E(VAULT_TOKEN) and
        C(~/.vault-token) are tried in this order.
    type: str
  token_path:
    description:
      - Folder of the token file. The home folder if only O(token_file) is set.
    type: path
  token_file:
    description:
      - Name of the token file, C(.vault-token) if only O(token_path) is set.
    type: str
  role_id:
    description:
      - Role ID of AppRole, or the role's name for V(kubernetes), V(jwt), V(cert) and V(aws_iam).
    type: str
  secret_id:
    description:
      - Secret ID of AppRole.
    type: str
  username:
    description:
      - User name for V(userpass) and V(ldap).
    type: str
  password:
    description:
      - Password for V(userpass) and V(ldap).
    type: str
  jwt:
    description:
      - JSON Web Token for V(jwt), and for V(kubernetes) when it is not the pod's own.
    type: str
  cert_auth_public_key:
    description:
      - Client certificate for V(cert), a PEM file.
    type: path
  cert_auth_private_key:
    description:
      - Private key of the client certificate, a PEM file.
    type: path
  aws_profile:
    description:
      - AWS profile for V(aws_iam), where no keys are given.
    type: str
  aws_access_key:
    description:
      - AWS access key ID for V(aws_iam). If not set, boto3 finds credentials as usual.
    type: str
  aws_secret_key:
    description:
      - AWS secret access key.
    type: str
  aws_security_token:
    description:
      - AWS session token, for temporary keys.
    type: str
  aws_iam_server_id:
    description:
      - Value of the C(X-Vault-AWS-IAM-Server-ID) header, where Vault asks for one.
    type: str
  region:
    description:
      - AWS region whose STS endpoint signs for V(aws_iam), C(us-east-1) if not set.
    type: str
"""
