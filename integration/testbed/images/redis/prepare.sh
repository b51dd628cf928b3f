#!/bin/sh
# What the public image of Redis has otherwise than Debian. It runs inside of the image.
set -eu

# A volume's owner is a number.
groupmod --gid 999 redis
usermod --uid 999 --gid 999 redis
mkdir -p /data
chown redis:redis /data
rm /tmp/prepare.sh
