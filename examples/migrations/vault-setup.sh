#!/bin/sh
# What Vault or OpenBao must know, run once by whoever may. There must be a connection to the database, whose
# `allowed_roles` name `app`, and the roles of owner.sql.
set -eu
: "${CONNECTION:=pipeline-db}" "${DEFAULT_TTL:=1h}" "${MAX_TTL:=24h}"

# Without the last of these the user owns what it creates, and cannot be dropped.
vault write database/roles/app db_name="$CONNECTION" default_ttl="$DEFAULT_TTL" max_ttl="$MAX_TTL" \
  creation_statements="CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}' IN ROLE app_owner" \
  creation_statements="ALTER ROLE \"{{name}}\" SET role = 'app_owner'" \
  revocation_statements="DROP ROLE IF EXISTS \"{{name}}\"" \
  renew_statements="ALTER ROLE \"{{name}}\" VALID UNTIL '{{expiration}}'"

vault write sys/policies/acl/app policy='
  path "database/creds/app" { capabilities = ["read"] }
  path "sys/leases/revoke"  { capabilities = ["update"] }'
