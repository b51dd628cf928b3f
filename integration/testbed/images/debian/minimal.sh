#!/bin/sh
# Makes a Debian that debootstrap has just filled into the layer that all images of a suite share. It runs inside that Debian
# (chroot), so that no path of it can be one of the host's.
set -eu

rm -rf /var/cache/apt/* /var/lib/apt/lists/* /var/cache/debconf/*-old /var/log/*.log /var/log/apt/*
rm -rf /usr/share/doc/* /usr/share/info/* /usr/share/man/* /usr/share/locale/* /usr/share/lintian/*
# The host's name and servers for names are none of a container's.
: >/etc/hostname
: >/etc/resolv.conf
