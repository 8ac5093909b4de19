# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The names of the kernel's own threads, behind which programs hide: ps shows those in brackets, and nobody looks."""

from __future__ import annotations

import re

# Compiled when a name needs it: that takes a fiftieth of a scan.
_KERNEL = (
    r"\[?(?:kworker(?:/[\w:.+-]*)?|(?:ksoftirqd|migration|cpuhp|watchdog|idle_inject|posixcputmr|ktimers|rcuc|"
    r"rcuop|rcuog|rcuos|stopper|irq|jbd2|scsi_eh|card\d)/[\w:.+-]*|kthreadd|kswapd\d*|kcompactd\d*|khugepaged|kdevtmpfs|"
    r"kauditd|kblockd|khungtaskd|kintegrityd|ksmd|oom_reaper|oom_kill|rcu_(?:sched|bh|preempt|gp|par_gp|tasks\w*|exp\w*)|"
    r"(?:scsi_eh|scsi_tmf|nfsd|xfsaild|xfs-\w+|ext4-rsv\w*|md)_\d+|netns|writeback|kthrotld|mm_percpu_wq|watchdogd|"
    r"pool_workqueue\w*|inet_frag_wq|kpsmoused|ipv6_addrconf|kstrp|zswap\w*|charger_manager|devfreq_wq|edac-poller)\]?|"
    # As a title in brackets only: without them a person might choose some of these as well.
    r"\[(?:loop\d+|md\d+_\w+|ata_sff|psimon|hwrng|cryptd|bioset|mld|kdmflush(?:/[\d:]*)?|dmcrypt_write(?:/[\d:]*)?|"
    r"kcryptd\w*(?:/[\w:]*)?|acpi_thermal_pm|tpm_dev_wq|blkcg_punt_bio|nvme-[\w-]+|napi/[\w-]*|usb-storage|"
    r"ecryptfs-kthrea\w*|btrfs-[\w-]+|xfs\w*(?:[/-][\w-]*)?|kvm-[\w-]+|vhost-\d+|lockd|nfsiod|rpciod|xprtiod|khubd|"
    r"events/\d+|pdflush|bdi-default|flush-[\d:]+|z_wr_\w+|txg_\w+|arc_\w+|spl_\w+|zvol\w*|drbd_\w+|ttm\w*|"
    r"card\d-crtc\d|rcu\w*|perf|aio(?:/\d+)?|ksgxd|kgdbd)\]?"
)
# fmt: off
_BEGINNINGS = (
    "[", "k", "migration/", "cpuhp/", "watchdog", "idle_inject/", "posixcputmr/", "rcu", "stopper/", "irq/", "jbd2/",
    "scsi_", "card", "oom_", "nfsd_", "xfs", "ext4-rsv", "md_", "netns", "writeback", "mm_percpu_wq", "pool_workqueue",
    "inet_frag_wq", "ipv6_addrconf", "zswap", "charger_manager", "devfreq_wq", "edac-poller",
)
# fmt: on
_COMMON_WORDS = frozenset(("netns", "writeback"))
"""Names of the kernel's that a person might choose as well: an imitation in brackets only."""


def named_so(name: str) -> bool:
    """Whether a thread of the kernel could have this name, as it is or in brackets."""
    name = name.strip()
    return name.startswith(_BEGINNINGS) and name not in _COMMON_WORDS and bool(re.fullmatch(_KERNEL, name))
