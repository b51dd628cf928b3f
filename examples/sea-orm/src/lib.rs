//! SeaORM over a pool whose credentials rotate: it takes a genuine `sqlx::PgPool`, so there is nothing to adapt.
//!
//! `SqlxMySqlConnector::from_sqlx_mysql_pool` does the same for MySQL and MariaDB.

use leasehold_core::{Credentials, Current, Result};
use sea_orm::{DatabaseConnection, SqlxPostgresConnector};

/// Connects to `url`, which holds no credentials. They come from `current`, and change underneath.
///
/// # Errors
/// As [`leasehold_sqlx::Builder::connect`].
pub async fn connect(url: &str, current: Current<Credentials>) -> Result<DatabaseConnection> {
    let pool = leasehold_sqlx::Postgres::from_url(url)?.max_connections(8).connect(current).await?;
    Ok(SqlxPostgresConnector::from_sqlx_postgres_pool(pool))
}

/// The table that the testbed's role may read.
pub mod measurement {
    #![expect(missing_docs, reason = "what the derive makes of it")]

    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "measurements")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        pub value: f64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
