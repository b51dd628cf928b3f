#!/bin/sh
# What the public image of Valkey has otherwise than Debian. It runs inside of the image.
set -eu

# A volume's owner is a number. Another group that has it already owns nothing that is read here.
taken=$(getent group 999 | cut -d: -f1)
if [ -n "$taken" ] && [ "$taken" != valkey ]; then groupmod --gid 899 "$taken"; fi
groupmod --gid 999 valkey
usermod --uid 999 --gid 999 valkey
mkdir -p /data
chown valkey:valkey /data
rm /tmp/prepare.sh
