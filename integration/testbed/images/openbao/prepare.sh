#!/bin/sh
# Makes a busybox and a `bao` into a system that is enough for them. It runs inside of the image.
set -eu

/bin/busybox mkdir -p /etc /home /root /usr/sbin
/bin/busybox --install -s /bin
# As in the public image; a volume's owner is a number.
echo 'root:x:0:0:root:/root:/bin/sh
openbao:x:100:1000:OpenBao:/home/openbao:/sbin/nologin' >/etc/passwd
echo 'root:x:0:
openbao:x:1000:' >/etc/group
echo 'hosts: files dns' >/etc/nsswitch.conf
ln -s bao /usr/bin/vault
mkdir -p /openbao/logs /openbao/file /openbao/config /home/openbao
chown -R openbao:openbao /openbao /home/openbao
rm /tmp/prepare.sh
chmod 1777 /tmp
