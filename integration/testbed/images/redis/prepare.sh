#!/bin/sh
# What the public image of Redis has otherwise than Debian. It runs inside of the image.
set -eu

# A volume's owner is a number. Another group that has it already owns nothing that is read here.
taken=$(getent group 999 | cut -d: -f1)
if [ -n "$taken" ] && [ "$taken" != redis ]; then groupmod --gid 899 "$taken"; fi
groupmod --gid 999 redis
usermod --uid 999 --gid 999 redis
mkdir -p /data
chown redis:redis /data
rm /tmp/prepare.sh
