#!/bin/sh
# A command in the root $1, with what a container runtime mounts there: in namespaces of its own, with which all of it goes.
set -e
root=$1
shift
mount -t proc proc "$root/proc"
mount -t sysfs sys "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t bpf bpf "$root/sys/fs/bpf"
exec chroot "$root" "$@"
