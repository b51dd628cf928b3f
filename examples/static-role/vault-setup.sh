#!/bin/sh
# What Vault or OpenBao must know, run once by whoever may. The database must have the user `reporter`, whose password the
# user that Vault connects as may change (PostgreSQL 16: with ADMIN OPTION), and there must be a connection to it, whose
# `allowed_roles` name `reporter`.
set -eu
: "${CONNECTION:=pipeline-db}" "${ROTATION_PERIOD:=24h}"

# From here on nobody but Vault knows the password: it is replaced at once.
vault write database/static-roles/reporter \
  db_name="$CONNECTION" username=reporter rotation_period="$ROTATION_PERIOD"

# There is no lease to renew or to revoke.
vault write sys/policies/acl/reporter policy='
  path "database/static-creds/reporter" { capabilities = ["read"] }'
