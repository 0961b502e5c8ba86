//! Test: each statement of the hot paths reaches its rows through an index, one probe per key,
//! planned as the connections plan it: on new tables, on tables known to be empty, on full ones.

#[cfg(test)]
mod tests {
    use crate::store::postgres::{
        PostgresOptions, columns, deferred, due, erase, find, ledger, lock, migrate, operate,
        outbox, registers, sends, tokens, view, write,
    };
    use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, Row};

    const HOT: [&str; 46] = [
        view::ACCOUNTS,
        view::UNIONIDS,
        view::REJECTED,
        view::TOMBSTONES,
        view::RULINGS,
        view::PAIRS,
        lock::MAKE_UNIONIDS,
        lock::LOCK_UNIONIDS,
        lock::LOCK_ACCOUNTS,
        columns::MAKE_ACCOUNTS,
        columns::PUT_ACCOUNTS,
        write::PUT_CLAIMS,
        write::PUT_SESSION_KEYS,
        write::TRIM_SESSION_KEYS,
        write::DROP_SESSION_KEYS,
        write::PUT_TRACKED,
        erase::EMPTY_ACCOUNTS,
        erase::DELETE_CLAIMS,
        erase::DELETE_KEYS,
        erase::FORGET_ANSWERS,
        registers::MARK,
        deferred::FINISHED,
        deferred::LOCK_FINISHED,
        deferred::ADD,
        deferred::DONE,
        deferred::AGAIN,
        deferred::WAITING,
        deferred::WAKE,
        deferred::READY,
        deferred::AWAITED,
        due::DUE_CODES,
        due::DUE_OTHERS,
        due::TAKE,
        due::NEXT,
        due::LATER,
        due::HASTEN,
        ledger::READ,
        ledger::WRITE,
        ledger::ERASED,
        ledger::HELD,
        sends::CLAIM,
        sends::READ,
        sends::RELEASE,
        find::BY_ID,
        find::LINKED,
        find::OWNER,
    ];
    const MORE: [&str; 14] = [
        find::BY_OWN,
        find::BY_UNIONID,
        operate::ANY,
        operate::UNRESOLVED,
        operate::CONTESTED,
        outbox::READ,
        outbox::PRUNE,
        tokens::READ,
        tokens::PLACE,
        tokens::LEASE,
        tokens::PUT,
        tokens::RELEASE,
        tokens::NOTE,
        tokens::NOTE_OTHER,
    ];

    /// Some thousand rows where plans could go wrong, and what PostgreSQL then knows of them.
    const FILL: &str = "INSERT INTO accounts (own, user_id) SELECT gen_random_uuid(), \
         gen_random_uuid() FROM generate_series(1, 20000); \
         INSERT INTO unionids (tag) SELECT gen_random_uuid() FROM generate_series(1, 20000); \
         INSERT INTO claims SELECT n, n, 0, 1, false, 'p', 'u', 'm', 'c', NULL \
         FROM generate_series(1, 20000) n; \
         INSERT INTO deferred (partition, \"offset\", attempts, next_at, expires_at, since, silent, \
         has_code, waits_key, app, event, record) SELECT 0, n, 1, n, n, n, false, false, false, \
         'a', 'e', '' FROM generate_series(1, 20000) n; ANALYZE";

    async fn explained(conn: &mut PgConnection, sql: &str) -> Vec<String> {
        let run = |sql: String| AssertSqlSafe(sql);
        conn.execute(run(format!("PREPARE hot AS {sql}")))
            .await
            .expect("prepares");
        let count =
            "SELECT cardinality(parameter_types) FROM pg_prepared_statements WHERE name = 'hot'";
        let row = conn.fetch_one(count).await.expect("knows");
        let nulls = vec!["NULL"; usize::try_from(row.get::<i32, _>(0)).expect("some")];
        let args = match nulls.len() {
            0 => String::new(),
            _ => format!("({})", nulls.join(",")),
        };
        let rows = conn
            .fetch_all(run(format!("EXPLAIN EXECUTE hot{args}")))
            .await
            .expect("explains");
        conn.execute("DEALLOCATE hot").await.expect("forgets");
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// A scan of a table, or an index read from end to end.
    fn faults<'p>(sql: &str, plan: &'p [String]) -> Vec<&'p String> {
        // These read the first app, or the first due row, of an index that holds open work only.
        let first = [due::DUE_CODES, due::DUE_OTHERS, due::NEXT].contains(&sql);
        let mut faults = Vec::new();
        for (n, line) in plan.iter().enumerate() {
            let step = line.trim_start().trim_start_matches("->").trim_start();
            if step.starts_with("Seq Scan")
                || step.contains("Hash Join")
                || step.contains("Merge Join")
            {
                faults.push(line);
            }
            let reads = ["Index Scan", "Index Only Scan", "Bitmap Index Scan"];
            let reads = reads.iter().any(|r| step.starts_with(r));
            let bound = plan.get(n + 1).is_some_and(|l| l.contains("Index Cond"));
            if reads && !bound && !first {
                faults.push(line);
            }
        }
        faults
    }

    #[tokio::test]
    async fn no_hot_statement_scans_a_table() {
        let Ok(url) = std::env::var("UNILINK_TEST_POSTGRES") else {
            eprintln!("left out: no PostgreSQL to run on");
            return;
        };
        let options = |url: &str| PostgresOptions::new(url.to_owned(), 1);
        let admin = options(&url).connect().expect("a URL");
        let name = format!("unilink_plans_{}", uuid::Uuid::new_v4().simple());
        let mut server = admin.connect().await.expect("connects");
        let run = |sql: String| AssertSqlSafe(sql);
        server
            .execute(run(format!("CREATE DATABASE {name}")))
            .await
            .expect("creates");
        let own = admin.clone().database(&name);
        let own_url = own.to_url_lossy().to_string();
        migrate(&options(&own_url)).await.expect("migrates");
        let mut wrong = Vec::new();
        for before in ["", "VACUUM ANALYZE", FILL] {
            let mut conn = own.connect().await.expect("connects");
            conn.execute(before).await.expect("runs");
            for sql in HOT.iter().chain(&MORE) {
                let plan = explained(&mut conn, sql).await;
                if !faults(sql, &plan).is_empty() {
                    wrong.push(format!("after {before:?}\n{sql}\n{}", plan.join("\n")));
                }
            }
            conn.close().await.expect("closes");
        }
        server
            .execute(run(format!("DROP DATABASE {name} WITH (FORCE)")))
            .await
            .expect("drops");
        assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    }
}
