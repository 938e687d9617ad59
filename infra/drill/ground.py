"""What hosts on one machine are made of: the scripts that prepare their namespaces, and commands of `ip`."""

import os
import shutil
import subprocess
import sys
from functools import lru_cache

from infra.settings import ROOT
from models.common.errors import ClusterError

_PROGRAMS = ("ip", "bridge", "unshare", "nsenter", "mount", "sh")
_INSTALL = "apt-get install iproute2 util-linux mount"


@lru_cache
def missing() -> str | None:
    """What this machine lacks for hosts of its own, and what to do about it; None where nothing does."""
    if sys.platform != "linux":
        return "several hosts on one machine need Linux"
    if os.geteuid() != 0:
        return "several hosts on one machine need root\nrun this as root, or in a container with --privileged"
    if absent := [program for program in _PROGRAMS if shutil.which(program) is None]:
        return f"several hosts on one machine need the commands {', '.join(absent)}\non Debian: {_INSTALL}"
    probe = [
        "ip link add probe type bridge",
        "ip link add probe-a type veth peer name probe-b",
        "ip tuntap add probe-c mode tap",
        "mount -t tmpfs tmpfs /dev/shm",
    ]
    tried = subprocess.run(
        ["unshare", *SWITCH_KINDS, "--pid", "--uts", "--ipc", "--fork", "sh", "-ec", "\n".join(probe)],
        capture_output=True,
        text=True,
    )
    if tried.returncode == 0:
        return None
    said = (tried.stderr.strip() or "no reason given").splitlines()[-1]
    return (
        f"this machine does not let root make hosts of its own: {said}\n"
        "they need CAP_SYS_ADMIN and CAP_NET_ADMIN, and veth, bridge and tun in the kernel; "
        "in a container: --privileged --device /dev/net/tun"
    )


SWITCH_KINDS = ("--net", "--mount")

# The hosts' mounts are copies of the switch's, where the machine's files can be read and not written. The code is kept
# in sight: the checkout may lie in a folder that each host has one of its own of.
SWITCH = """
while read -r _ _ _ _ point _; do
    case $point in
        /proc | /proc/* | /sys | /sys/* | /dev | /dev/*) ;;
        *) mount -o remount,bind,ro "$(printf %b "$point")" 2>/dev/null || true ;;
    esac
done </proc/self/mountinfo
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/disks /run/names /run/code /run/disk /run/home /run/scratch
number=0
for folder; do
    number=$((number + 1))
    mkdir /run/code/$number
    mount --rbind "$folder" /run/code/$number
done
ip link add switch type bridge
ip link set switch up
"""

# A host's own name leads to the loopback, as on Debian: what is right on several hosts does not look for an address
# there. Where its disk is, that of another host is not to be seen.
HOST = """
name=$1; tmp=$2; shm=$3; scratch=$4; home=$5; shift 5
echo "$name" >/proc/sys/kernel/hostname
echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6 || true
mount --bind "/run/disks/$name" /run/disk
mount -t tmpfs -o size=4k tmpfs /run/disks
mount -t tmpfs -o "size=$scratch,mode=755" tmpfs /run/scratch
mount -t tmpfs -o "size=$home,mode=700" tmpfs /run/home
printf '127.0.0.1 localhost\\n127.0.1.1 %s\\n' "$name" >"/run/names/$name"
mount --bind "/run/names/$name" /etc/hosts
mount -o remount,bind,ro /run
mount -t tmpfs -o "size=$tmp,mode=1777" tmpfs /tmp
mount -t tmpfs -o "size=$shm,mode=1777" tmpfs /dev/shm
mount -t sysfs -o ro sysfs /sys
number=0
for folder; do
    number=$((number + 1))
    if [ ! -d "$folder" ]; then
        mkdir -p "$folder"
        mount --rbind /run/code/$number "$folder"
    fi
done
"""


def code() -> list[str]:
    """Folders of programs, which a host sees wherever they are."""
    return sorted({str(ROOT), sys.prefix, sys.base_prefix})


def ip(
    arguments: list[str], stdin: str | None = None, enter: list[str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*(enter or []), "ip", *arguments], input=stdin, capture_output=True, text=True)


def ip_batch(enter: list[str], *lines: str) -> None:
    """Each line is one command of `ip`."""
    done = ip(["-batch", "-"], "\n".join(lines), enter)
    if done.returncode:
        raise ClusterError(f"the network of hosts cannot be changed\n{done.stderr.strip()}")
