#!/bin/sh
# A machine to throw away: the files of this one under an overlay, with processes, network and systemd of its own.
# Usage: machine.sh DIR   Says "booted PID" and lives until its standard input ends. DIR is its /machine. Where the kernel
# does not allow such a machine, it says "refused" and ends.
#
# Nothing that happens in it is left afterwards: writes go to memory, its network has a loopback interface only, and all
# its processes end with its first one. Needs root.
set -eu

if [ "$1" != inside ]; then
    directory=$1
    name=vms-edge-test-$$
    # A control group of its own, so that its systemd takes its part for the whole.
    hierarchies=
    for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
        if [ -f "$hierarchy/cgroup.procs" ]; then
            hierarchies="$hierarchies $hierarchy"
            mkdir "$hierarchy/$name"
        fi
    done
    (
        read -r self _ </proc/self/stat
        for hierarchy in $hierarchies; do
            echo "$self" >"$hierarchy/$name/cgroup.procs"
        done
        exec unshare --fork --kill-child --pid --mount --net --ipc --uts --cgroup "$0" inside "$directory"
    ) </dev/null &
    machine=$!
    state=R
    looks=0
    while [ ! -e "$directory/booted" ] && [ "$state" != Z ] && [ "$looks" -lt 1200 ]; do
        sleep 0.05
        looks=$((looks + 1))
        # (unshare) has no space in it, so that the third word is the state.
        read -r _ _ state _ <"/proc/$machine/stat"
    done
    if [ "$state" = Z ]; then
        echo refused
    elif [ ! -e "$directory/booted" ]; then
        echo "does not boot within a minute"
        kill -KILL "$machine"
    else
        echo "booted $(cat "/proc/$machine/task/$machine/children")"
        cat >/dev/null
        kill -KILL "$machine"
    fi
    wait "$machine" 2>/dev/null || true
    for hierarchy in $hierarchies; do
        # The last processes may still be on their way out.
        until find "$hierarchy/$name" -depth -type d -exec rmdir {} + 2>/dev/null; do
            [ -d "$hierarchy/$name" ] || break
        done
    done
    exit 0
fi

directory=$2
mount --make-rprivate /
root=$directory/root
mkdir "$root"
mount -t tmpfs tmpfs "$root"
mkdir "$root/upper" "$root/work" "$root/merged"
mount -t overlay overlay -o "lowerdir=/,upperdir=$root/upper,workdir=$root/work" "$root/merged"
root=$root/merged

mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
if [ -d /sys/fs/cgroup/systemd ]; then
    mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
    mkdir "$root/sys/fs/cgroup/systemd" "$root/sys/fs/cgroup/unified"
    mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup/unified"
else
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
fi
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mkdir -p "$root/machine"
mount --bind "$directory" "$root/machine"
ip link set lo up

# Of the services of the machine below none is started: only what a unit of the package asks for by default, empty.
units=$root/usr/lib/systemd/system
rm -rf "$root/etc/systemd/system" "$units" "$root/usr/lib/systemd/system-generators"
mkdir -p "$root/etc/systemd/system" "$units"
for target in sysinit basic multi-user shutdown network-online nss-lookup; do
    printf '[Unit]\nDescription=%s\nDefaultDependencies=no\n' "$target" >"$units/$target.target"
done
printf '[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nExecStart=/bin/sh -c "echo >/machine/booted"\n' \
    >"$units/booted.service"
printf '[Unit]\nDescription=the machine\nWants=multi-user.target booted.service\nAllowIsolate=yes\nDefaultDependencies=no\n' \
    >"$units/machine.target"
printf '[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/usr/bin/vms-edge demo-vms\n' >"$units/vms.service"
# What keeps the machine below from starting services is none of this one's.
rm -f "$root/usr/sbin/policy-rc.d"
# There is no journal.
mkdir "$units/service.d"
printf '[Service]\nStandardOutput=append:/machine/log\nStandardError=append:/machine/log\n' >"$units/service.d/log.conf"

cd "$root"
mkdir -p .below
pivot_root . .below
umount -l /.below
rmdir /.below
export container=test SYSTEMD_UNIT_PATH=/etc/systemd/system:/usr/lib/systemd/system
exec /lib/systemd/systemd --system --unit=machine.target --log-target=console --log-level=info --show-status=no >/machine/systemd.log 2>&1
