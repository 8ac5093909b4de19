#!/usr/bin/env bash
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Makes .venv fit for every layer of the tests, and does nothing when it already is.
# It is keyed by its inputs: a change of tests/requirements.lock, of the Python or of the folder rebuilds it.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
venv="$root/.venv"
stamp="$venv/.made-from"
lock="$root/tests/requirements.lock"
bytecode="$root/tests/lab/bytecode/sitecustomize.py"

# Packages go into .venv, whatever pip.conf says of the user's own folder.
export PIP_USER=0
# Ansible does not start under a locale that this system lacks.
export LC_ALL=C.UTF-8

say() { printf 'setup: %s\n' "$*" >&2; }
die() { printf 'setup: %s\n' "$@" >&2; exit 1; }

[ "$(uname -s)" = Linux ] ||
    die "Cannot set up the tests on $(uname -s): the lab's servers and hosts need Linux. Use a virtual machine or a container with Linux."

# Two makes in one checkout must not build the same folder: the second waits and then finds it ready.
if command -v flock >/dev/null; then
    exec 9>"$root/.venv.lock"
    flock -n 9 || { say "another make is at work on .venv, waiting for it"; flock 9; }
fi

hash_of() { "$1" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())'; }
wanted() { { cat "$lock" "$bytecode"; printf '%s\n' "$root" "$("$1" -VV)"; } | hash_of "$1"; }

if [ -x "$venv/bin/python" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(wanted "$venv/bin/python" 2>/dev/null)" ]; then
    exit 0
fi

# ansible-core 2.19 runs on Python 3.11 to 3.13. A name on PATH proves nothing (version managers leave stubs there), so each is run.
# What it answers is the interpreter behind it: with .venv activated, the name leads to the one that is about to be removed.
find_python() {
    local candidate
    for candidate in python3.13 python3.12 python3.11 python3; do
        "$candidate" -c '
import sys, ensurepip, venv
if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    sys.exit(1)
print(getattr(sys, "_base_executable", sys.executable))' 2>/dev/null && return
    done
    return 1
}

missing=()
command -v git >/dev/null || missing+=(git)
python="$(find_python)" || missing+=(python3 python3-venv)

if [ "${#missing[@]}" -gt 0 ]; then
    # Without apt, or where apt has no other Python than the one that is there, a list of packages would not help.
    if ! command -v apt-get >/dev/null || { [ -z "$python" ] && python3 -c 'import ensurepip, venv' 2>/dev/null; }; then
        die "missing here: ${missing[*]/python3-venv/}." \
            "This system's python3 is $(python3 -V 2>&1 || true). ansible-core needs a Python of 3.11 to 3.13, with its venv and" \
            "ensurepip modules. Install one as python3.11, python3.12 or python3.13 on PATH, then run make again."
    fi
    [ "$(id -u)" -eq 0 ] ||
        die "missing here: ${missing[*]}. Run this line, then make again:" \
            "    sudo apt-get update && sudo apt-get install --yes --no-install-recommends ca-certificates ${missing[*]}"
    say "installing from Debian: ca-certificates ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >&2
    apt-get install --yes -qq --no-install-recommends --no-upgrade ca-certificates "${missing[@]}" >&2
    python="$(find_python)" ||
        die "no Python of 3.11 to 3.13 with the venv module, and this system's python3 is $(python3 -V 2>&1)." \
            "Install one as python3.11, python3.12 or python3.13 on PATH, then run make again."
fi

say "creating .venv with $("$python" -V) ($python)"
rm -rf "$venv"
"$python" -m venv "$venv"
# What pip compiles at installation, Python compiles at the first import, and then only what is imported.
# Hashes cover no requirement of a build, so nothing is built.
locked=(--require-hashes --only-binary=:all:)
pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile "${locked[@]}")

# The uv of the lock, installed by pip. Where uv cannot be had, or cannot reach the package index that pip is configured
# for, pip installs the same lock. uv must not take settings from the files of folders above the checkout.
install_with_uv() {
    local problem
    # pip must name the file that it is given: a process substitution has none on some systems.
    awk '/^[^ ]/ { ours = /^uv==/ } ours' "$lock" >"$venv/uv.lock"
    problem="$("${pip[@]}" --no-deps --requirement "$venv/uv.lock" 2>&1)" &&
        problem="$("$venv/bin/uv" pip install --no-config --quiet --python "$venv/bin/python" "${locked[@]}" --requirement "$lock" 2>&1)" &&
        return
    say "uv cannot install the packages:"
    printf '    %s\n' "$problem" >&2
    return 1
}

say "installing $(grep -c '^[^ #]' "$lock") packages from tests/requirements.lock with uv (about 10 seconds)"
if ! install_with_uv; then
    say "installing the same packages with pip instead (about 90 seconds)"
    "${pip[@]}" --requirement "$lock" >&2
fi

# Ansible and Python find the checkout under its collection name: Ansible through ansible.cfg, Python through the .pth file.
mkdir -p "$venv/collections/ansible_collections/custodes"
ln -s ../../../.. "$venv/collections/ansible_collections/custodes/security_dr"
packages="$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
cp "$bytecode" "$packages/custodes_zip_bytecode.py"
mkdir -m 0700 "$venv/zip-bytecode"
printf '%s\n' "$venv/collections" 'import custodes_zip_bytecode' >"$packages/custodes_checkout.pth"

# Proves that ansible-core runs, before .venv counts as complete.
version="$(ANSIBLE_HOME="$venv/ansible-home" "$venv/bin/ansible" --version)"
wanted "$venv/bin/python" >"$stamp"
say "ready: ${version%%$'\n'*}"
