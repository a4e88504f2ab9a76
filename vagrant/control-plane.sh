#!/usr/bin/env bash
# The first machine: the cluster, its pod network, and Warren.   control-plane.sh ADDRESS
set -euo pipefail
address=$1
token=abcdef.0123456789abcdef # of a cluster that only these two machines can reach
export KUBECONFIG=/etc/kubernetes/admin.conf

if [ ! -e "$KUBECONFIG" ]; then
    kubeadm init --apiserver-advertise-address "$address" --pod-network-cidr 10.244.0.0/16 --token "$token" \
        --skip-token-print >/dev/null
fi
install -D -m 600 "$KUBECONFIG" /root/.kube/config
kubectl taint nodes --all node-role.kubernetes.io/control-plane- 2>/dev/null || true

# The machines' first link leads to the internet, the second one to each other.
link=$(ip -o -4 address show to "$address" | awk '{ print $2 }')
curl -fsSL https://github.com/flannel-io/flannel/releases/latest/download/kube-flannel.yml |
    sed "s/--kube-subnet-mgr/&\n        - --iface=$link/" | kubectl apply -f - >/dev/null
kubectl apply -k /warren/deploy/daemonset
