#!/bin/sh
# What the example needs in Vault or OpenBao. Run it as an operator, with VAULT_ADDR and VAULT_TOKEN,
# after owner.sql. It can be run again.
#
# DATABASE_ADMIN_PASSWORD must be set; the rest is what a cluster with the database in `default` has.
set -eu

# OpenBao's client has another name.
command -v vault >/dev/null || vault() { bao "$@"; }

: "${DATABASE_ADMIN_PASSWORD:?the password of the role that Vault logs in as}"
DATABASE_ADMIN=${DATABASE_ADMIN:-vault_admin}
DATABASE_ADDRESS=${DATABASE_ADDRESS:-postgres.default.svc:5432/app}
DATABASE_SSLMODE=${DATABASE_SSLMODE:-verify-full}
AUDIENCE=${AUDIENCE:-vault}
LEASE_TTL=${LEASE_TTL:-1h}
LEASE_MAX_TTL=${LEASE_MAX_TTL:-24h}

vault read sys/mounts/database >/dev/null 2>&1 || vault secrets enable database

vault write database/config/migrations \
    plugin_name=postgresql-database-plugin \
    allowed_roles=migrations \
    connection_url="postgresql://{{username}}:{{password}}@$DATABASE_ADDRESS?sslmode=$DATABASE_SSLMODE" \
    username="$DATABASE_ADMIN" \
    password="$DATABASE_ADMIN_PASSWORD" \
    password_authentication=scram-sha-256

# The last statement is what the example is about: every session of the user begins as the owner, so what it makes is
# the owner's. Without it the user owns its tables, `DROP ROLE` fails, and so does every attempt to revoke the lease.
vault write database/roles/migrations \
    db_name=migrations \
    default_ttl="$LEASE_TTL" \
    max_ttl="$LEASE_MAX_TTL" \
    creation_statements="CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}' IN ROLE app_owner" \
    creation_statements="ALTER ROLE \"{{name}}\" SET role = 'app_owner'" \
    revocation_statements="DROP ROLE IF EXISTS \"{{name}}\""

# As a value and not from standard input, which a client in a container may not have.
vault write sys/policies/acl/migrations policy='
path "database/creds/migrations" { capabilities = ["read"] }
path "sys/leases/renew"          { capabilities = ["update"] }
path "sys/leases/revoke"         { capabilities = ["update"] }'

# Who may log in; how Vault asks the cluster is set up once for all (examples/kubernetes-mysql does).
vault write auth/kubernetes/role/migrations \
    bound_service_account_names=migrations \
    bound_service_account_namespaces=default \
    audience="$AUDIENCE" \
    token_policies=migrations \
    token_period=1h
