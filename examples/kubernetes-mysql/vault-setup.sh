#!/bin/sh
# What the pipeline needs in Vault or OpenBao. Run it as an operator, with VAULT_ADDR and VAULT_TOKEN,
# after database.sql. It can be run again, until the administrator's password has been rotated.
#
# Without variables it is right for the manifests, with Vault in the same cluster, and MariaDB. For MySQL it is
# DATABASE_KIND=mysql, whose role MariaDB takes as well; MySQL answers the other role's statement with 1064, a syntax error.
set -eu

# OpenBao's client has another name.
command -v vault >/dev/null || vault() { bao "$@"; }

NAMESPACE=${NAMESPACE:-default}
SERVICE_ACCOUNT=${SERVICE_ACCOUNT:-pipeline}
AUDIENCE=${AUDIENCE:-vault}
KUBERNETES_HOST=${KUBERNETES_HOST:-https://kubernetes.default.svc}
# For a Vault outside the cluster: its authority's certificate, and a token of the account that may review tokens.
KUBERNETES_CA=${KUBERNETES_CA:-}
REVIEWER_JWT=${REVIEWER_JWT:-}
DATABASE_KIND=${DATABASE_KIND:-mariadb}
DATABASE_ADDRESS=${DATABASE_ADDRESS:-mysql.default.svc:3306}
DATABASE_ADMIN=${DATABASE_ADMIN:-vault}
DATABASE_ADMIN_PASSWORD=${DATABASE_ADMIN_PASSWORD:-until-it-is-rotated}
TOKEN_PERIOD=${TOKEN_PERIOD:-2h}
LEASE_TTL=${LEASE_TTL:-1h}
LEASE_MAX_TTL=${LEASE_MAX_TTL:-24h}

case $DATABASE_KIND in
mariadb)
    create="GRANT ALL ON pipeline.* TO '{{name}}'@'%' IDENTIFIED BY '{{password}}'"
    ;;
mysql)
    # MySQL has no GRANT that makes users, since 8.0.
    create="CREATE USER '{{name}}'@'%' IDENTIFIED BY '{{password}}'; GRANT ALL ON pipeline.* TO '{{name}}'@'%'"
    ;;
*)
    echo "DATABASE_KIND is $DATABASE_KIND, and should be mariadb or mysql" >&2
    exit 1
    ;;
esac

# Who may log in.
vault read sys/auth/kubernetes >/dev/null 2>&1 || vault auth enable kubernetes

if [ -n "$REVIEWER_JWT" ]; then
    vault write auth/kubernetes/config \
        kubernetes_host="$KUBERNETES_HOST" \
        kubernetes_ca_cert="$KUBERNETES_CA" \
        token_reviewer_jwt="$REVIEWER_JWT" \
        disable_local_ca_jwt=true
else
    # With the service account of Vault's own pod, whose token it reads anew.
    vault write auth/kubernetes/config kubernetes_host="$KUBERNETES_HOST"
fi

vault write auth/kubernetes/role/pipeline \
    bound_service_account_names="$SERVICE_ACCOUNT" \
    bound_service_account_namespaces="$NAMESPACE" \
    audience="$AUDIENCE" \
    token_policies=pipeline \
    token_period="$TOKEN_PERIOD"

# As a value and not from standard input, which a client in a container may not have.
vault write sys/policies/acl/pipeline policy='
path "database/creds/pipeline" { capabilities = ["read"] }
path "sys/leases/renew"        { capabilities = ["update"] }
path "sys/leases/revoke"       { capabilities = ["update"] }'

# What they get.
vault read sys/mounts/database >/dev/null 2>&1 || vault secrets enable database

vault write database/config/pipeline \
    plugin_name=mysql-database-plugin \
    allowed_roles=pipeline \
    connection_url="{{username}}:{{password}}@tcp($DATABASE_ADDRESS)/" \
    username="$DATABASE_ADMIN" \
    password="$DATABASE_ADMIN_PASSWORD"

vault write database/roles/pipeline \
    db_name=pipeline \
    default_ttl="$LEASE_TTL" \
    max_ttl="$LEASE_MAX_TTL" \
    creation_statements="$create" \
    revocation_statements="DROP USER IF EXISTS '{{name}}'@'%'"
