#!/bin/sh
# What the public image of MySQL has otherwise than Debian. It runs inside of the image.
set -eu

# A volume's owner is a number. Another group that has it already owns nothing that is read here.
taken=$(getent group 999 | cut -d: -f1)
if [ -n "$taken" ] && [ "$taken" != mysql ]; then groupmod --gid 899 "$taken"; fi
# Not every release of the packages makes the user.
if getent passwd mysql >/dev/null; then userdel mysql; fi
if getent group mysql >/dev/null; then groupdel mysql; fi
groupadd --system --gid 999 mysql
useradd --system --uid 999 --gid mysql --home-dir /var/lib/mysql --shell /usr/sbin/nologin mysql
mkdir -p /var/lib/mysql /var/lib/mysql-files /var/lib/mysql-keyring /run/mysqld /etc/mysql/conf.d
chown mysql:mysql /var/lib/mysql /var/lib/mysql-files /var/lib/mysql-keyring /run/mysqld
chmod 750 /var/lib/mysql-files /var/lib/mysql-keyring
chmod 1777 /run/mysqld

# A container knows no names of its clients; asking for them would take seconds. Debian's own file names a log in a folder that
# this image has not.
printf '[mysqld]\nskip-name-resolve\nhost-cache-size=0\ndatadir=/var/lib/mysql\nsocket=/run/mysqld/mysqld.sock\n\n!includedir /etc/mysql/conf.d/\n' >/etc/mysql/my.cnf
rm /tmp/prepare.sh
