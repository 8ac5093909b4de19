#!/usr/bin/env bash
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What an operator with the vault CLI would write: the other side of benchmarks/recover.py. `vault` may be OpenBao's bao.
#
# NODES, CANARIES  lists, separated by spaces     SNAPSHOT  the file to restore     WORK  a private folder
# ROLE_ID, SECRET_ID_FILE  of the login that reads the canaries after the restore
# RESTART  a command that stops Vault on all nodes, then starts it on all nodes
set -euo pipefail

read -ra addresses <<<"$NODES"
read -ra paths <<<"$CANARIES"
export VAULT_ADDR=${addresses[0]}
umask 077

# wait_until SECONDS WHAT COMMAND: try the command every second; give up with its last output.
wait_until() {
  local limit=$1 what=$2 last deadline=$((SECONDS + $1))
  shift 2
  until last=$("$@" 2>&1); do
    if ((SECONDS >= deadline)); then
      printf 'Waited %s s in vain until %s. The last answer was:\n%s\n' "$limit" "$what" "$last"
      return 1
    fi
    sleep 1
  done
}

joined() {
  local peers
  peers=$(vault operator raft list-peers) || return 1
  echo "$peers"
  [ "$(grep -cE 'leader|follower' <<<"$peers")" -eq ${#addresses[@]} ]
}

# A token that is issued while the node reloads may be invalid a moment later: log in again at each try.
read_canaries() {
  local VAULT_TOKEN
  VAULT_TOKEN=$(vault write -field=token auth/approle/login role_id="$ROLE_ID" secret_id=@"$SECRET_ID_FILE") || return 1
  export VAULT_TOKEN
  for path in "${paths[@]}"; do
    vault kv get "$path" || return 1
  done
}

# read_everywhere SECONDS: for each node
read_everywhere() {
  for VAULT_ADDR in "${addresses[@]}"; do
    wait_until "$1" "$VAULT_ADDR answers the canaries" read_canaries || return 1
  done
}

# Not `snapshot inspect`: OpenBao has none.
mkdir "$WORK/snapshot"
tar -xzf "$SNAPSHOT" -C "$WORK/snapshot"
(cd "$WORK/snapshot" && sha256sum --quiet --check SHA256SUMS)

vault operator init -format=json -recovery-shares=1 -recovery-threshold=1 >"$WORK/init.json"
VAULT_TOKEN=$(sed -n 's/.*"root_token": "\(.*\)".*/\1/p' "$WORK/init.json")
export VAULT_TOKEN

wait_until 120 "every node is a Raft peer" joined

vault operator raft snapshot restore -force "$SNAPSHOT" >/dev/null
unset VAULT_TOKEN

# By a race in Vault a node can miss the restore's change of keys. It answers "decryption failed" until a restart.
if ! read_everywhere 20; then
  echo "Restarting Vault on every node."
  bash -c "$RESTART"
  read_everywhere 120
fi
