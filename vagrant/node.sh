#!/usr/bin/env bash
# On each machine: containerd, kubeadm, and the image of Warren.   node.sh ADDRESS
set -euo pipefail
address=$1
release=v1.34
export DEBIAN_FRONTEND=noninteractive

swapoff -a
sed -i '/\sswap\s/d' /etc/fstab
printf 'br_netfilter\noverlay\n' >/etc/modules-load.d/kubernetes.conf
modprobe -a br_netfilter overlay
printf 'net.ipv4.ip_forward = 1\nnet.ipv6.conf.all.forwarding = 1\n' >/etc/sysctl.d/90-kubernetes.conf
sysctl --quiet --system

apt-get update -qq
apt-get install -qq -y buildah containerd containernetworking-plugins curl gpg >/dev/null
mkdir -p /etc/apt/keyrings /opt/cni/bin
curl -fsSL "https://pkgs.k8s.io/core:/stable:/$release/deb/Release.key" | gpg --dearmor --yes -o /etc/apt/keyrings/kubernetes.gpg
echo "deb [signed-by=/etc/apt/keyrings/kubernetes.gpg] https://pkgs.k8s.io/core:/stable:/$release/deb/ /" \
    >/etc/apt/sources.list.d/kubernetes.list
apt-get update -qq
apt-get install -qq -y kubeadm kubectl kubelet >/dev/null
cp -n /usr/lib/cni/* /opt/cni/bin/
echo "KUBELET_EXTRA_ARGS=--node-ip=$address" >/etc/default/kubelet

containerd config default | sed 's/SystemdCgroup = false/SystemdCgroup = true/' >/etc/containerd/config.toml
systemctl restart containerd

if ! ctr -n k8s.io images ls -q | grep -q '/warren:0.1.0$'; then
    buildah build -q -f /warren/deploy/daemonset/Dockerfile -t docker.io/library/warren:0.1.0 /warren >/dev/null
    buildah push -q docker.io/library/warren:0.1.0 oci-archive:/tmp/warren.tar:docker.io/library/warren:0.1.0
    ctr -n k8s.io images import /tmp/warren.tar >/dev/null
    rm /tmp/warren.tar
fi
