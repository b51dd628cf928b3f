#!/bin/sh
# What the public image of MariaDB has otherwise than Debian. It runs inside of the image.
set -eu

# A volume's owner is a number.
groupadd --system --gid 999 mysql
useradd --system --uid 999 --gid mysql --home-dir /var/lib/mysql --shell /usr/sbin/nologin mysql
mkdir -p /var/lib/mysql /run/mysqld /etc/mysql/conf.d
chown mysql:mysql /var/lib/mysql /run/mysqld
chmod 1777 /run/mysqld

# A container knows no names of its clients; asking for them would take seconds.
printf '[mariadbd]\nskip-name-resolve\nhost-cache-size=0\n' >/etc/mysql/conf.d/docker.cnf
rm /tmp/prepare.sh
