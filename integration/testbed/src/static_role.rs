//! A user of PostgreSQL who exists already, and whose password OpenBao replaces.

use serde_json::{Value, json};

use crate::{
    error::Result,
    openbao::{DB_ROLE, ROLE},
    postgres::ADMIN,
    testbed::Testbed,
};

impl Testbed {
    /// Makes a user who may read, and a static role for it in place of the dynamic one. `when` says when its password is
    /// replaced, such as `{ "rotation_period": 5 }`. Returns the user's name.
    pub async fn make_role_static(&self, when: Value) -> Result<&'static str> {
        self.postgres()
            .execute(&format!(
                "CREATE ROLE {USER} LOGIN PASSWORD 'until it is rotated';
                 GRANT pipeline_reader TO {USER};
                 GRANT {USER} TO {ADMIN} WITH ADMIN OPTION"
            ))
            .await?;
        let openbao = self.openbao();
        openbao.request("DELETE", &format!("database/roles/{DB_ROLE}"), None).await?;
        let mut settings = when;
        settings["db_name"] = "pipeline-db".into();
        settings["username"] = USER.into();
        openbao.request("POST", &format!("database/static-roles/{DB_ROLE}"), Some(settings)).await?;
        let path = format!("sys/policies/acl/{ROLE}");
        let policy = openbao.request("GET", &path, None).await?["data"]["policy"].take();
        let more = format!("path \"database/static-creds/{DB_ROLE}\" {{ capabilities = [\"read\"] }}");
        let policy = format!("{}\n{more}", policy.as_str().unwrap_or_default());
        openbao.request("PUT", &path, Some(json!({ "policy": policy }))).await?;
        Ok(USER)
    }

    /// Replaces the password of the static role's user now, as an operator would.
    pub async fn rotate_static_role(&self) -> Result<()> {
        let path = format!("database/rotate-role/{DB_ROLE}");
        self.openbao().request("POST", &path, None).await.map(drop)
    }

    /// The password that OpenBao hands out for the static role's user.
    pub async fn static_password(&self) -> Result<String> {
        let path = format!("database/static-creds/{DB_ROLE}");
        let answer = self.openbao().request("GET", &path, None).await?;
        Ok(answer["data"]["password"].as_str().unwrap_or_default().to_owned())
    }
}

const USER: &str = "reporter";
