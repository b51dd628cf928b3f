#!/bin/sh
# What the public image of RabbitMQ has otherwise than Debian, with its management interface. It runs inside of the image.
set -eu

# A volume's owner is a number. Another group that has it already owns nothing that is read here.
taken=$(getent group 999 | cut -d: -f1)
if [ -n "$taken" ] && [ "$taken" != rabbitmq ]; then groupmod --gid 899 "$taken"; fi
groupmod --gid 999 rabbitmq
usermod --uid 999 --gid 999 rabbitmq
mkdir -p /var/lib/rabbitmq /var/log/rabbitmq /etc/rabbitmq/conf.d
rm -f /etc/rabbitmq/rabbitmq-env.conf

# The public image's `guest` comes in from anywhere: its port is reached only if somebody publishes it.
printf 'loopback_users.guest = false\nlog.console = true\n' >/etc/rabbitmq/conf.d/10-defaults.conf
printf '[rabbitmq_management,rabbitmq_prometheus].\n' >/etc/rabbitmq/enabled_plugins
chown -R rabbitmq:rabbitmq /var/lib/rabbitmq /var/log/rabbitmq /etc/rabbitmq
rm /tmp/prepare.sh
