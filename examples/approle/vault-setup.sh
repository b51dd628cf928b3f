#!/bin/sh
# What Vault or OpenBao must know, run once by whoever may; and, at each start of the service, the last two commands.
# Writes what the service is to be handed. There must be a database role `pipeline`.
set -eu

{
  vault auth enable approle
  vault write sys/policies/acl/approle-pipeline policy='
    path "database/creds/pipeline" { capabilities = ["read"] }
    path "sys/leases/revoke"       { capabilities = ["update"] }'
  # The secret id may be used again and again, since each token after the first is another login; it is worth something
  # only to whoever holds it, and only from these addresses if you set secret_id_bound_cidrs.
  vault write auth/approle/role/pipeline \
    token_policies=approle-pipeline token_ttl=1h token_max_ttl=24h secret_id_num_uses=0
} >&2

echo "VAULT_ROLE_ID=$(vault read -field=role_id auth/approle/role/pipeline/role-id)"
echo "WRAPPED_SECRET_ID=$(vault write -force -wrap-ttl=60s -field=wrapping_token auth/approle/role/pipeline/secret-id)"
