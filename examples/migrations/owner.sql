-- Who owns what the service creates. Nobody logs in as this.
CREATE ROLE app_owner NOLOGIN;
GRANT CREATE, USAGE ON SCHEMA public TO app_owner;
-- The user that Vault connects as, which makes others members of it.
GRANT app_owner TO vault_admin WITH ADMIN OPTION;
