#!/bin/sh
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What an administrator would write and start from cron: miners by name, ports that nobody expects, changed cron files,
# and whether Vault and the log store answer. The other side of detect.py.
#
# BASELINE  a file as old as the state that is trusted      ALERTS  where to write what was found
# VAULT, LOKI  their URLs                                   CACERT  of both

alert() { printf '%s %s: %s\n' "$(date -u +%FT%TZ)" "$1" "$2" >>"$ALERTS"; }

# shellcheck disable=SC2009  # so it is written everywhere, and pgrep prints no user
found="$(ps aux | grep -Ei 'xmrig|minerd|cpuminer|cgminer|ethminer|kdevtmpfsi|kinsing|stratum\+tcp' | grep -v grep)"
[ -z "$found" ] || alert miner "$found"

found="$(ss -tlnp | tail -n +2 | grep -vE ':(22|80|443|8080|8443|9090|9100|6443)[[:space:]]')"
[ -z "$found" ] || alert listener "$found"

found="$(find /etc/cron* /var/spool/cron -newer "$BASELINE" -type f 2>/dev/null)"
[ -z "$found" ] || alert cron "$found"

code="$(curl --silent --output /dev/null --write-out '%{http_code}' --max-time 5 --cacert "$CACERT" "$VAULT/v1/sys/health")"
[ "$code" = 200 ] || alert vault "it answers $code"

code="$(curl --silent --output /dev/null --write-out '%{http_code}' --max-time 5 --cacert "$CACERT" "$LOKI/ready")"
[ "$code" = 200 ] || alert loki "it answers $code"
