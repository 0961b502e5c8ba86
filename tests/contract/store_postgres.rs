//! A PostgreSQL home: a fresh database for each.

use crate::contract::Home;
use crate::contract::fixtures::mac;
use crate::services;
use async_trait::async_trait;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row};
use std::sync::Arc;
use unilink::store::postgres::{PostgresOptions, PostgresStore, migrate};
use unilink::store::{Birth, Operate, Rebuild, Store, StoreError};
use uuid::Uuid;

pub struct PostgresHome {
    admin: String,
    name: String,
}

/// An empty database in the server that the environment names, or nothing.
pub async fn home() -> Option<PostgresHome> {
    let home = PostgresHome {
        admin: services::postgres()?.to_owned(),
        name: format!("unilink_test_{}", Uuid::new_v4().simple()),
    };
    home.admin_runs(format!("CREATE DATABASE {}", home.name))
        .await;
    migrate(&home.options()).await.expect("migrates");
    Some(home)
}

impl PostgresHome {
    pub fn options(&self) -> PostgresOptions {
        PostgresOptions::new(self.url(), 4)
    }

    fn connect(&self) -> PgConnectOptions {
        let admin: PgConnectOptions = self.admin.parse().expect("a URL");
        admin.database(&self.name).disable_statement_logging()
    }

    fn url(&self) -> String {
        self.connect().to_url_lossy().to_string()
    }

    async fn admin_runs(&self, sql: String) {
        let admin: PgConnectOptions = self.admin.parse().expect("a URL");
        let mut conn = admin.connect().await.expect("the server is there");
        conn.execute(AssertSqlSafe(sql)).await.expect("runs");
        conn.close().await.expect("closes");
    }

    pub async fn raw(&self) -> PgConnection {
        self.connect().connect().await.expect("connects")
    }
}

#[async_trait]
impl Home for PostgresHome {
    async fn open_in(&self, birth: Birth, ns: Uuid) -> Result<Arc<dyn Store>, StoreError> {
        let store = PostgresStore::connect(self.options(), birth, ns, Arc::new(mac)).await?;
        Ok(Arc::new(store))
    }

    async fn operate_in(&self, birth: Birth, ns: Uuid) -> Result<Arc<dyn Operate>, StoreError> {
        let mac = Arc::new(mac);
        let store = PostgresStore::connect_to_operate(self.options(), birth, ns, mac).await?;
        Ok(Arc::new(store))
    }

    async fn rebuild_in(&self, birth: Birth, ns: Uuid) -> Result<Arc<dyn Rebuild>, StoreError> {
        let mac = Arc::new(mac);
        let store = PostgresStore::connect_to_rebuild(self.options(), birth, ns, mac).await?;
        Ok(Arc::new(store))
    }

    /// All columns of all tables. Old versions of rows that no vacuum has taken yet are not looked at.
    async fn raw_bytes(&self) -> Vec<u8> {
        let mut conn = self.raw().await;
        conn.execute("SET bytea_output = 'escape'")
            .await
            .expect("runs");
        let tables =
            sqlx::query("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'")
                .fetch_all(&mut conn)
                .await
                .expect("reads");
        let mut bytes = Vec::new();
        for table in tables {
            let table: String = table.get(0);
            let rows = sqlx::query(AssertSqlSafe(format!("SELECT t::text FROM {table} t")));
            for row in rows.fetch_all(&mut conn).await.expect("reads") {
                bytes.extend(row.get::<String, _>(0).into_bytes());
            }
        }
        bytes
    }

    async fn close(self) {
        self.admin_runs(format!("DROP DATABASE {} WITH (FORCE)", self.name))
            .await;
    }
}
