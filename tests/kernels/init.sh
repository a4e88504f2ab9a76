#!/bin/sh
# The first process of the virtual machine: the host's files, read only below a tmpfs, and the tests in them.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
while read -r module; do insmod "/modules/$module"; done </modules/order
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,ro,cache=loose host /host
mount -t tmpfs tmpfs /over
mkdir /over/upper /over/work
mount -t overlay -o lowerdir=/host,upperdir=/over/upper,workdir=/over/work overlay /new
mount -t proc proc /new/proc
mount -t sysfs sys /new/sys
mount -t devtmpfs dev /new/dev
mkdir -p /new/dev/shm
for directory in tmp run dev/shm sys/fs/cgroup; do mount -t tmpfs tmpfs "/new/$directory"; done
repository=$(cat /repository)
if [ ! -d "/new$repository" ]; then  # it is below one of the folders that are new here
    mkdir -p "/new$repository" /over/clone /over/clone-work
    mount -t overlay -o "lowerdir=/host$repository,upperdir=/over/clone,workdir=/over/clone-work" overlay "/new$repository"
fi
mkdir /new/sys/fs/cgroup/unified
mount -t cgroup2 cgroup2 /new/sys/fs/cgroup/unified
mkdir /new/sys/fs/cgroup/unified/tests  # as what runs on a node is in one
echo $$ >/new/sys/fs/cgroup/unified/tests/cgroup.procs
mount -t bpf bpf /new/sys/fs/bpf
ip link set lo up
dmesg -n 4  # from now on only errors: what is said here is a test's
uname -r
export HOME=/tmp PATH=/usr/sbin:/usr/bin:/sbin:/bin
chroot /new /bin/sh -c "cd '$repository' && $(cat /command)" </new/dev/null
echo "exit code $?"
poweroff -f
