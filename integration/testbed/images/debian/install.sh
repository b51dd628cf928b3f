#!/bin/sh
# Installs a server's packages, and starts no service. It runs inside of the image.
set -eu

printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
mkdir -p /etc/postgresql-common/createcluster.d
echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/none.conf

export DEBIAN_FRONTEND=noninteractive
# A mirror that lags behind says so by a date that has passed. Its lists are still signed.
apt-get -o Acquire::Check-Valid-Until=false update
apt-get install --yes --no-install-recommends "$@"
rm /usr/sbin/policy-rc.d
