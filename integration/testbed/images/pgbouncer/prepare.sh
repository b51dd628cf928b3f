#!/bin/sh
# What an image of PgBouncer has otherwise than Debian. It runs inside of the image.
set -eu

# A user that may do nothing but run it. Debian's package makes one, or expects PostgreSQL's.
getent passwd postgres >/dev/null || useradd --system --user-group --no-create-home postgres
rm /tmp/prepare.sh
