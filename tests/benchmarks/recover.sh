#!/usr/bin/env bash
# What an operator with the vault CLI would write: the other side of benchmarks/recover.py.
set -euo pipefail

read -ra addresses <<<"$NODES"
read -ra paths <<<"$CANARIES"
export VAULT_ADDR=${addresses[0]}
umask 077

vault operator raft snapshot inspect "$SNAPSHOT" >/dev/null

vault operator init -format=json -recovery-shares=1 -recovery-threshold=1 >"$WORK/init.json"
VAULT_TOKEN=$(sed -n 's/.*"root_token": "\(.*\)".*/\1/p' "$WORK/init.json")
export VAULT_TOKEN

until [ "$(vault operator raft list-peers 2>/dev/null | grep -cE 'leader|follower')" -eq ${#addresses[@]} ]; do
  sleep 1
done

vault operator raft snapshot restore -force "$SNAPSHOT" >/dev/null
unset VAULT_TOKEN

# A token that was given out while the node reloads may be worthless a moment later: log in anew at each try.
read_canaries() {
  local VAULT_TOKEN
  VAULT_TOKEN=$(vault write -field=token auth/approle/login role_id="$ROLE_ID" secret_id=@"$SECRET_ID_FILE") || return 1
  for path in "${paths[@]}"; do
    VAULT_TOKEN=$VAULT_TOKEN vault kv get "$path" >/dev/null || return 1
  done
}

for node in "${addresses[@]}"; do
  export VAULT_ADDR=$node
  until read_canaries 2>/dev/null; do sleep 1; done
done
