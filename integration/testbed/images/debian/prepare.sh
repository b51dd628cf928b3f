#!/bin/sh
# Makes a Debian with servers' packages into the layer that their images begin with. It runs inside that Debian (in a chroot, or
# in the image), so that no path of it can be one of the host's.
set -eu

# The public image of PostgreSQL sorts by this locale.
if [ -e /usr/share/i18n/locales/en_US ]; then
  localedef --inputfile=en_US --charmap=UTF-8 en_US.UTF-8
fi

# Clusters and data that packages made for a machine of their own; each container makes its own.
rm -rf /var/lib/postgresql/* /etc/postgresql/* /var/log/postgresql/* /var/lib/redis/* /var/lib/valkey/* /var/lib/mysql /var/lib/rabbitmq/.erlang.cookie

# What no server reads.
rm -rf /var/cache/apt/* /var/lib/apt/lists/* /var/cache/debconf/*-old /var/log/*.log /var/log/apt/*
rm -rf /usr/share/doc/* /usr/share/info/* /usr/share/man/* /usr/share/locale/* /usr/share/i18n/* /usr/share/lintian/*
# A third of the rest: PostgreSQL compiles queries with LLVM where that is there, and does without where it is not.
rm -rf /usr/lib/postgresql/*/lib/llvmjit* /usr/lib/postgresql/*/lib/bitcode
rm -f /usr/lib/*/libLLVM* /usr/lib/*/libz3.so*

mkdir -p /docker-entrypoint-initdb.d
# The host's name and servers for names are none of a container's.
: >/etc/hostname
: >/etc/resolv.conf
