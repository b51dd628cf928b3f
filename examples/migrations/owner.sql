-- Once, as a superuser: who owns what the migrations make. `vault_admin`, which has CREATEROLE, is whom Vault logs in as.
CREATE ROLE app_owner NOLOGIN;
GRANT USAGE, CREATE ON SCHEMA public TO app_owner;
GRANT app_owner TO vault_admin WITH ADMIN OPTION;
