#!/bin/sh
# What the public image of PostgreSQL has otherwise than Debian. It runs inside of the image.
set -eu

# A volume's owner is a number. Another group that has it already owns nothing that is read here.
taken=$(getent group 999 | cut -d: -f1)
if [ -n "$taken" ] && [ "$taken" != postgres ]; then groupmod --gid 899 "$taken"; fi
groupmod --gid 999 postgres
usermod --uid 999 --gid 999 postgres
mkdir -p /var/lib/postgresql/data /var/run/postgresql
chown -R postgres:postgres /var/lib/postgresql /var/log/postgresql /var/run/postgresql
chmod 1777 /var/lib/postgresql/data
chmod 3775 /var/run/postgresql

# Debian has the server's programs in a folder of its version, and puts scripts before the client's that want Debian's
# own configuration.
ln -s /usr/lib/postgresql/*/bin/* /usr/local/bin/
sed -i "s/^#\?listen_addresses = .*/listen_addresses = '*'/" /usr/share/postgresql/*/postgresql.conf.sample
rm /tmp/prepare.sh
