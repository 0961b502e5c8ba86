//! The configuration: what is read, and every refusal with its key and remedy, never a value.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop"
)]

use std::io::Write;
use std::time::Duration;
use unilink::config::{Config, Environment, EraseOn, Invalid, Kafka, Postgres, Profile, PushBody};
use unilink::model::{Api, AppId, Millis, TokenSource};

fn env(vars: &[(&str, &str)]) -> Environment {
    vars.iter().copied().collect()
}

fn read(text: &str) -> Result<Config, Invalid> {
    Config::read(text, "test.toml", &env(&[]))
}

/// The one problem that a text has, as `key: problem`.
fn problem(text: &str) -> String {
    problem_with(text, &[])
}

fn problem_with(text: &str, vars: &[(&str, &str)]) -> String {
    let invalid = Config::read(text, "test.toml", &env(vars)).expect_err("refused");
    assert_eq!(invalid.problems.len(), 1, "{invalid}");
    let (key, problem) = &invalid.problems[0];
    format!("{key}: {problem}")
}

/// The file of the embedded profile.
fn file(config: &Config) -> &str {
    match &config.profile {
        Profile::Embedded { path } => path.to_str().expect("text"),
        Profile::Production { .. } => panic!("not embedded"),
    }
}

fn production(config: Config) -> (Option<Kafka>, Option<Postgres>) {
    match config.profile {
        Profile::Production { kafka, postgres } => (kafka, postgres),
        Profile::Embedded { .. } => panic!("embedded"),
    }
}

#[track_caller]
fn refused(text: &str, want: &[&str]) {
    let got = problem(text);
    for part in want {
        assert!(
            got.contains(part),
            "{text}\n  gives: {got}\n  wanted: {part}"
        );
    }
}

#[test]
fn nothing_at_all_is_the_embedded_profile_on_loopback() {
    let config = read("").expect("valid");
    assert_eq!(file(&config), "unilink.db");
    assert_eq!(config.seal.key_file.to_str(), Some("unilink.keys"));
    assert_eq!(config.intake.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.api.listen.to_string(), "127.0.0.1:8081");
    assert_eq!(config.worker.listen.to_string(), "127.0.0.1:8082");
    assert_eq!((config.worker.name, config.seal.seal_to), (None, None));
    assert_eq!(config.intake.rate, None);
    assert_eq!(config.worker.inline_budget, Duration::from_secs(1));
    assert_eq!(config.topics.linked_logins, None);
    assert_eq!(config.topics.specs().len(), 6);
    assert!(config.identity.namespace.is_none());
}

#[test]
fn the_example_is_valid_and_shows_every_default() {
    let text = include_str!("../unilink.example.toml");
    let vars = env(&[
        ("UNILINK_INTAKE_KEY", "k1"),
        ("UNILINK_API_KEY", "k2"),
        ("WECHAT_APP_SECRET", "s"),
    ]);
    let config = Config::read(text, "example", &vars).expect("valid");
    let defaults = read("").expect("valid");
    let apps = config.apps();
    let moved = AppId::parse("wxfedcba9876543210").expect("valid");
    let since = Millis::parse_rfc3339("2026-01-31T00:00:00+08:00").expect("valid");
    let at = |t| apps.platform_at(&moved, t).map(|p| p.as_str());
    assert_eq!(
        (at(since.plus(-1)), at(since)),
        (Some("games"), Some("main"))
    );
    assert_eq!(config.operators[0].id, "alice");
    for section in [
        "topics", "worker", "wechat", "bus", "profile", "seal", "identity",
    ] {
        let of = |c: &Config| {
            let all = format!("{c:#?}");
            let from = all.find(&format!("\n    {section}: ")).expect(section);
            let to = all[from + 1..].find("\n    },").expect("end");
            all[from..from + to].to_owned()
        };
        assert_eq!(
            of(&config),
            of(&defaults),
            "[{section}] of the example is no default"
        );
    }
}

#[test]
fn variables_override_the_file_key_by_key() {
    let vars = env(&[
        ("UNILINK_INTAKE__MAX_EVENTS", "7"),
        ("UNILINK_INTAKE__KEYS", "env:K, 0123"),
        ("UNILINK_INTAKE__REQUIRE_SEALED", "true"),
        ("UNILINK_WORKER__POLL", "9ms"),
        ("K", "from-k"),
        ("UNILINK_CONFIG", "x"),
        ("UNILINK_LOG", "debug"),
        ("UNILINK_CASES", "1"),
        ("UNILINK_FUZZ", "1"),
        ("UNILINK_BLESS", "1"),
        ("UNILINK_TEST_KAFKA", "127.0.0.1:9092"),
        ("UNILINK_TEST_REQUIRE", "1"),
    ]);
    let text = "[intake]\nmax_events = 5\nmax_body = 2048\n";
    let config = Config::read(text, "test.toml", &vars).expect("valid");
    assert_eq!(
        (config.intake.max_events, config.intake.max_body),
        (7, 2048)
    );
    let keys: Vec<_> = config.intake.keys.iter().map(|k| k.expose()).collect();
    assert_eq!(keys, ["from-k", "0123"]);
    assert!(config.intake.require_sealed);
    assert_eq!(config.worker.poll, Duration::from_millis(9));
}

#[test]
fn every_default_key_can_be_overridden() {
    // Each of these reaches its section: wrong types and bad values name the variable or the key.
    for (name, want) in [
        (
            "UNILINK_INTAKE__MAX_BODY",
            "UNILINK_INTAKE__MAX_BODY: must be a whole number",
        ),
        ("UNILINK_INTAKE__REQUIRE_SEALED", "true or false"),
        ("UNILINK_API__LISTEN", "api.listen: must be an IP address"),
        (
            "UNILINK_IDENTITY__NAMESPACE",
            "identity.namespace: must be a random UUID",
        ),
        ("UNILINK_WECHAT__TIMEOUT", "wechat.timeout: must be a time"),
        ("UNILINK_TOPICS__LOGINS_PARTITIONS", "whole number"),
        ("UNILINK_BUS__URL", "bus.url: must be embedded"),
        (
            "UNILINK_BUS__REPLICATION",
            "UNILINK_BUS__REPLICATION: must be a whole number",
        ),
        ("UNILINK_BUS__KAFKA", "UNILINK_BUS__KAFKA__NAME"),
        ("UNILINK_STORE__URL", "store.url: must be sqlite:PATH"),
        ("UNILINK_STORE__CONNECTIONS", "whole number"),
        ("UNILINK_WORKER__NAME", "worker.name: must be"),
        ("UNILINK_WORKER__LISTEN", "worker.listen: must be an IP"),
    ] {
        let got = problem_with("", &[(name, "no such")]);
        assert!(got.contains(want), "{name}: {got}");
    }
    let config = Config::read("", "t", &env(&[("UNILINK_SEAL__KEY_FILE", "k")])).expect("valid");
    assert_eq!(config.seal.key_file.to_str(), Some("k"));
}

#[test]
fn variables_that_are_no_keys_are_named() {
    for name in [
        "UNILINK_INTAKE__MAX_BODYS",
        "UNILINK_NOSUCH__KEY",
        "UNILINK_INTAKE",
        "UNILINK_X",
    ] {
        let got = problem_with("", &[(name, "hunter2")]);
        assert!(
            got.contains(name) && got.contains("UNILINK_SECTION__KEY"),
            "{got}"
        );
        assert!(!got.contains("hunter2"), "{got}");
    }
    let got = problem_with("", &[("UNILINK_APPS__0__SECRET", "hunter2")]);
    assert!(got.contains("env:NAME"), "{got}");
}

#[test]
fn unknown_keys_and_sections_are_named_with_the_known_ones() {
    refused(
        "[intake]\nmax_bodyy = 1",
        &["intake", "max_bodyy", "max_body,"],
    );
    refused("[intakes]\nmax_body = 1", &["intakes", "no section"]);
    refused("[bus.rabbit]\nx = 1", &["bus", "unknown key `rabbit`"]);
    refused(
        "[[platforms]]\nid = \"p\"\nname = \"x\"",
        &["platforms[0]", "unknown key `name`"],
    );
    let app = "[[apps]]\nappid = \"wx1\"\nkind = \"website\"\n";
    refused(
        &format!("{app}secrets = \"hunter2\""),
        &["apps[0]", "unknown key `secrets`"],
    );
    refused(
        &format!("{app}[[apps.platforms]]\nid = \"p\"\nfrom = 1"),
        &["apps[0]", "`from`"],
    );
    refused(
        "[[operators]]\nid = \"a\"\nkey = \"k\"\nrole = 1",
        &["operators[0]", "`role`"],
    );
    refused("[apps]\nappid = 1", &["apps", "[[apps]]"]);
}

#[test]
fn wrong_types_name_the_key_and_never_the_value() {
    refused(
        "[intake]\nmax_body = \"hunter2\"",
        &["intake.max_body", "wanted"],
    );
    refused("[intake]\nkeys = \"hunter2\"", &["intake.keys", "sequence"]);
    refused("[intake]\nmax_events = -1", &["intake.max_events"]);
    refused("intake = \"hunter2\"", &["intake"]);
    refused(
        "[[apps]]\nappid = \"wx1\"\nkind = \"hunter2\"",
        &["apps[0].kind", "mini_program"],
    );
    refused(
        "[[apps]]\nappid = \"wx1\"\nkind = \"website\"\nsecret = 4711",
        &["apps[0].secret"],
    );
    refused(
        "[[apps]]\nappid = \"wx1\"",
        &["apps[0]", "`kind` is missing"],
    );
    for text in [
        "[intake]\nmax_body = \"hunter2\"",
        "[intake]\nkeys = \"hunter2\"",
        "intake = \"hunter2\"",
        "[[apps]]\nappid = \"wx1\"\nkind = \"hunter2\"",
        "[[apps]]\nappid = \"wx1\"\nkind = \"website\"\nsecret = 4711",
        "[[apps]]\nsecret = \"hunter2",
        "[identity]\nnamespace = \"hunter2\"",
        "[store]\nurl = \"postgres://u:hunter2@h/d\"\n[bus]\nurl = \"embedded\"",
        "[store]\nurl = \"mysql://u:hunter2@h/d\"",
        "[bus]\nurl = \"kafka://u:hunter2@h/\"",
        "[bus]\nurl = \"kafka://h:1\"\nkafka.\"sasl.password\" = [\"hunter2\"]",
        "[wechat]\nbase_url = \"https://u:hunter2@h\"",
    ] {
        let got = problem(text);
        assert!(!got.contains("hunter2") && !got.contains("4711"), "{got}");
    }
}

#[test]
fn a_syntax_error_tells_where_without_the_line() {
    let got = problem("[store]\n\n[[apps]]\nsecret = \"hunter2");
    assert!(got.contains("line 4"), "{got}");
    assert!(!got.contains("hunter2"), "{got}");
    refused("[store]\n[store]", &["duplicate key"]);
}

#[test]
fn urls_say_which_profile_it_is() {
    for url in [
        "unilink.db",
        "sqlite:",
        "sqlite::memory:",
        "sqlite:a.db?mode=ro",
        "mysql://h/d",
    ] {
        refused(
            &format!("[store]\nurl = \"{url}\""),
            &["store.url", "sqlite:PATH", "postgres://"],
        );
    }
    refused("[store]\nurl = \"\"", &["store.url", "empty"]);
    refused("[store]\nurl = \"postgres://\"", &["store.url", "no host"]);
    let config = read("[store]\nurl = \"sqlite:///var/lib/u.db\"").expect("valid");
    assert_eq!(file(&config), "/var/lib/u.db");
    assert_eq!(config.seal.key_file.to_str(), Some("/var/lib/u.keys"));
    for url in [
        "",
        "Embedded",
        "kafka:h:9092",
        "kafka://",
        "kafka://h",
        "kafka://h:x",
        "kafka://h:0",
        "kafka://:9092",
        "kafka://h:9092,",
        "kafka://h:9092/topic",
        "kafka://u@h:9092",
    ] {
        refused(
            &format!("[bus]\nurl = \"{url}\""),
            &["bus.url", "embedded", "kafka://HOST:PORT"],
        );
    }
}

const PRODUCTION: &str = "[store]\nurl = \"env:DB\"\n[bus]\nurl = \"kafka://a:9092,[::1]:9093\"\n";
const DB: (&str, &str) = (
    "DB",
    "postgresql://u:hunter2@h:5432/unilink?sslmode=require",
);

#[test]
fn production_is_kafka_and_postgresql() {
    let text = format!("{PRODUCTION}replication = 3\n[worker]\nname = \"worker-1.eu\"");
    let config = Config::read(&text, "t", &env(&[DB])).expect("valid");
    assert_eq!(config.seal.key_file.to_str(), Some("unilink.keys"));
    assert_eq!(config.worker.name.as_deref(), Some("worker-1.eu"));
    let shown = format!("{config:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    let (kafka, postgres) = production(config);
    let (kafka, postgres) = (kafka.expect("Kafka"), postgres.expect("PostgreSQL"));
    assert_eq!(kafka.brokers, "a:9092,[::1]:9093");
    assert_eq!(kafka.replication, 3);
    assert!(kafka.client.is_empty());
    assert_eq!((postgres.url.expose(), postgres.connections), (DB.1, 8));

    // What a role does not need, it need not be told.
    let intake = read("[bus]\nurl = \"kafka://h:1\"").expect("valid");
    let (kafka, postgres) = production(intake);
    assert_eq!(kafka.expect("Kafka").replication, -1);
    assert!(postgres.is_none());
    let api = read("[store]\nurl = \"postgres://h/d\"\nconnections = 3").expect("valid");
    let (kafka, postgres) = production(api);
    assert!(kafka.is_none());
    assert_eq!(postgres.expect("PostgreSQL").connections, 3);
}

#[test]
fn profiles_do_not_mix() {
    for (store, bus) in [
        ("sqlite:u.db", "kafka://h:1"),
        ("postgres://h/d", "embedded"),
    ] {
        let text = format!("[store]\nurl = \"{store}\"\n[bus]\nurl = \"{bus}\"");
        let wanted = [
            "store.url",
            "bus.url",
            "sqlite:PATH with embedded",
            "postgres://… with kafka://…",
        ];
        refused(&text, &wanted);
    }
    refused(
        "[bus.kafka]\nclient.id = \"x\"",
        &["bus.kafka", "bus.url = kafka://"],
    );
    // One mistake is told once.
    refused(
        "[bus]\nurl = \"kafka://\"\nkafka.client.id = \"x\"",
        &["bus.url"],
    );
    refused(
        "[store]\nurl = \"mysql:\"\n[bus]\nurl = \"kafka://h:1\"\nkafka.client.id = \"x\"",
        &["store.url"],
    );
}

#[test]
fn settings_for_librdkafka_are_passed_on_as_text() {
    let table = "[bus.kafka]\nsecurity.protocol = \"sasl_ssl\"\n\"sasl.username\" = \"u\"\n\
                 sasl.password = \"env:PW\"\nlinger.ms = 3\nsocket.keepalive.enable = true\n\
                 retry.ratio = 0.5\n";
    let vars = env(&[
        DB,
        ("PW", "hunter2"),
        ("UNILINK_BUS__KAFKA__SASL_USERNAME", "v"),
        ("UNILINK_BUS__KAFKA__SECURITY_PROTOCOL", "ssl"),
        ("UNILINK_BUS__KAFKA__CLIENT_ID", "env:ID"),
        ("ID", "me"),
    ]);
    let config = Config::read(&format!("{PRODUCTION}{table}"), "t", &vars).expect("valid");
    let shown = format!("{config:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    let client = production(config).0.expect("Kafka").client;
    let told: Vec<_> = client
        .iter()
        .map(|(k, v)| (k.as_str(), v.expose()))
        .collect();
    let wanted = [
        ("client.id", "me"),
        ("linger.ms", "3"),
        ("retry.ratio", "0.5"),
        ("sasl.password", "hunter2"),
        ("sasl.username", "v"),
        ("security.protocol", "ssl"),
        ("socket.keepalive.enable", "true"),
    ];
    assert_eq!(told, wanted);
    let kafka = "[bus]\nurl = \"kafka://h:1\"\n[bus.kafka]\n";
    refused(
        &format!("{kafka}debug = [\"all\"]"),
        &["bus.kafka.debug", "a text, a number"],
    );
    refused(
        &format!("{kafka}sasl.password = \"env:NOT_SET\""),
        &["bus.kafka.sasl.password", "NOT_SET"],
    );
}

#[test]
fn numbers_and_times_have_limits() {
    for key in ["max_body", "max_events", "max_in_flight"] {
        refused(
            &format!("[intake]\n{key} = 0"),
            &[&format!("intake.{key}"), "must be from"],
        );
    }
    for key in [
        "batch",
        "in_flight",
        "deferred_per_app",
        "http_per_app",
        "http_total",
    ] {
        let got = Config::read(&format!("[worker]\n{key} = 0"), "t", &env(&[])).expect_err("zero");
        assert!(
            got.to_string()
                .contains(&format!("worker.{key}: must be from")),
            "{got}"
        );
    }
    for key in [
        "logins_partitions",
        "logins_days",
        "dlq_days",
        "link_conflicts_days",
        "linked_logins_days",
    ] {
        refused(
            &format!("[topics]\n{key} = 0"),
            &[&format!("topics.{key}"), "must be from"],
        );
    }
    refused("[api]\nmax_in_flight = 0", &["api.max_in_flight"]);
    refused("[store]\nconnections = 1", &["store.connections"]);
    for replication in ["0", "-2", "101", "3000000000"] {
        refused(
            &format!("[bus]\nreplication = {replication}"),
            &["bus.replication", "-1"],
        );
    }
    for name in ["", "a b", "ä"] {
        refused(&format!("[worker]\nname = \"{name}\""), &["worker.name"]);
    }
    for bad in ["5", "", "soon", "999d", "-1s"] {
        refused(
            &format!("[worker]\npoll = \"{bad}\""),
            &["worker.poll", "250ms"],
        );
    }
    for bad in ["9s", "241s", "0ms"] {
        refused(
            &format!("[worker]\nstuck_after = \"{bad}\""),
            &["worker.stuck_after", "10s to 4m"],
        );
    }
    refused(
        "[worker]\nhttp_per_app = 65",
        &["worker.http_per_app", "worker.http_total"],
    );
    refused(
        "[wechat]\nconnect_timeout = \"6s\"",
        &["wechat.connect_timeout", "wechat.timeout"],
    );
    refused(
        "[topics]\ntombstone_days = 13",
        &["topics.tombstone_days", "topics.logins_days"],
    );
}

#[test]
fn topics_need_names_of_their_own() {
    refused(
        "[topics]\nlogins = \"has space\"",
        &["topics.logins", "letters"],
    );
    refused("[topics]\ndlq = \"\"", &["topics.dlq", "letters"]);
    refused(
        "[topics]\ndlq = \"wechat.logins\"",
        &["topics.dlq", "another topic"],
    );
    refused(
        "[topics]\nlinked_logins = \"wechat.logins\"",
        &["topics.linked_logins", "another"],
    );
    let config = read("[topics]\nlinked_logins = \"out\"").expect("valid");
    assert_eq!(config.topics.specs().len(), 7);
    refused("[bus]\ngroup = \"\"", &["bus.group"]);
}

#[test]
fn whoever_listens_beyond_loopback_needs_keys() {
    for section in ["intake", "api"] {
        let open = format!("[{section}]\nlisten = \"0.0.0.0:1\"\n");
        refused(
            &open,
            &[&format!("{section}.listen"), &format!("set {section}.keys")],
        );
        assert!(read(&format!("{open}keys = [\"k\"]")).is_ok());
        assert!(read(&format!("[{section}]\nlisten = \"[::1]:1\"")).is_ok());
        refused(
            &format!("[{section}]\nlisten = \"localhost\""),
            &["127.0.0.1:8080"],
        );
        refused(
            &format!("[{section}]\nkeys = [\"\"]"),
            &[&format!("{section}.keys[0]"), "empty"],
        );
        refused(
            &format!("[{section}]\nkeys = [\"a b\"]"),
            &["visible ASCII"],
        );
        refused(
            &format!("[{section}]\nkeys = [\"a\", \"a\"]"),
            &["keys[1]", "twice"],
        );
    }
}

#[test]
fn secrets_come_from_variables_and_files_and_are_named_when_missing() {
    let mut file = tempfile::NamedTempFile::new().expect("file");
    writeln!(file, "from-file").expect("written");
    let path = file.path().display();
    let app = |secret: &str| {
        format!("[[apps]]\nappid = \"wx1\"\nkind = \"website\"\nsecret = \"{secret}\"")
    };
    let secret = |written: &str| {
        let config = Config::read(&app(written), "t", &env(&[("S", "from-env\n")])).expect("valid");
        let id = AppId::parse("wx1").expect("valid");
        let secret = config.apps().get(&id).and_then(|a| a.secret.clone());
        secret.expect("set").expose().to_owned()
    };
    assert_eq!(secret("plain"), "plain");
    assert_eq!(secret("env:S"), "from-env");
    assert_eq!(secret(&format!("file:{path}")), "from-file");
    refused(
        &app("env:NOT_SET"),
        &["apps[0] (wx1).secret", "NOT_SET", "not set"],
    );
    refused(
        &app("file:/no/such"),
        &["apps[0] (wx1).secret", "/no/such", "cannot be read"],
    );
    refused(&app(""), &["apps[0] (wx1).secret", "empty"]);
    refused(&app(&"x".repeat(5_000)), &["longer than"]);
    // A variable of ours is none of the overrides when a secret names it.
    let named = Config::read(
        &app("env:UNILINK_SECRET"),
        "t",
        &env(&[("UNILINK_SECRET", "s")]),
    );
    assert!(named.is_ok());
}

#[test]
fn apps_platforms_and_bindings_must_fit_together() {
    let base = "[[platforms]]\nid = \"p\"\n[[platforms]]\nid = \"q\"\n[[apps]]\nappid = \"wx1\"\nkind = \"website\"\n";
    let bind =
        |id: &str, since: &str| format!("[[apps.platforms]]\nid = \"{id}\"\nsince = {since}\n");
    let two = |a: &str, b: &str| format!("{base}{}{}", bind("p", a), bind("q", b));
    refused(
        "[[platforms]]\nid = \"p\"\n[[platforms]]\nid = \"p\"",
        &["platforms[1].id", "twice"],
    );
    refused("[[platforms]]\nid = \"\"", &["platforms[0].id", "is empty"]);
    let app = "[[apps]]\nappid = \"wx1\"\nkind = \"website\"\n";
    refused(&format!("{app}{app}"), &["apps[1].appid", "wx1", "twice"]);
    refused(
        "[[apps]]\nappid = \"a b\"\nkind = \"website\"",
        &["apps[0].appid", "visible ASCII"],
    );
    let unknown = format!("{base}{}", bind("r", "\"2026-01-01T00:00:00Z\""));
    refused(
        &unknown,
        &["apps[0] (wx1).platforms[0].id", "[[platforms]]"],
    );
    let (early, late) = ("\"2026-01-01T00:00:00Z\"", "\"2026-02-01T00:00:00Z\"");
    assert!(read(&two(early, late)).is_ok());
    assert!(
        read(&two("2026-01-01T00:00:00Z", "2026-02-01T00:00:00+08:00")).is_ok(),
        "bare TOML times"
    );
    for (a, b) in [(late, early), (early, early)] {
        refused(&two(a, b), &["platforms[1].since", "oldest first"]);
    }
    let none_first = format!("{base}{}[[apps.platforms]]\nid = \"q\"", bind("p", early));
    refused(&none_first, &["platforms[1].since", "oldest first"]);
    for bad in ["\"yesterday\"", "2026-01-01", "\"2026-01-01T00:00:00\""] {
        refused(
            &format!("{base}{}", bind("p", bad)),
            &["platforms[0].since", "2026-01-31T00:00:00Z"],
        );
    }
    refused(
        &format!("{base}{}", bind("p", "5")),
        &["apps[0].platforms", "time"],
    );
}

#[test]
fn tokens_and_components_come_from_where_the_file_says() {
    let config = read(
        r#"
        [wechat.per_minute]
        user_info = 600
        [[components]]
        appid = "wxc"
        access_token_file = "/run/component"
        [[apps]]
        appid = "wx1"
        kind = "official_account"
        component = "wxc"
        token = "file:/run/wx1"
        [[apps]]
        appid = "wx2"
        kind = "mini_program"
        secret = "s"
        token = "plain"
        [[apps]]
        appid = "wx3"
        kind = "website"
        "#,
    )
    .expect("valid");
    assert_eq!(config.wechat.per_minute.get(&Api::UserInfo), Some(&600));
    let apps = config.apps();
    let app = |id| apps.get(&AppId::parse(id).expect("valid")).expect("there");
    assert_eq!(app("wx1").token, TokenSource::File("/run/wx1".into()));
    let component = app("wx1").component.as_ref().expect("a component");
    assert_eq!(component.token_file.to_str(), Some("/run/component"));
    assert_eq!(app("wx2").token, TokenSource::Plain);
    assert_eq!(app("wx3").token, TokenSource::Stable);
    assert!(app("wx1").has_token() && app("wx2").has_token() && !app("wx3").has_token());
}

#[test]
fn tokens_and_components_that_cannot_work_are_refused() {
    let app = |more: &str| format!("[[apps]]\nappid = \"wx1\"\nkind = \"website\"\n{more}");
    for (text, want) in [
        (app("token = \"plain\""), "no secret"),
        (app("token = \"file:\""), "stable, plain, or file:PATH"),
        (app("token = \"forced\""), "stable, plain, or file:PATH"),
        (
            app("component = \"wxc\"").replace("website", "mini_program"),
            "[[components]]",
        ),
        (
            app("component = \"wxc\""),
            "official accounts and mini programs",
        ),
        (
            "[[components]]\nappid = \"wxc\"\naccess_token_file = \" \"".into(),
            "is empty",
        ),
        ("[wechat.per_minute]\nuserinfo = 1".into(), "sns_userinfo"),
        (
            "[wechat.per_minute]\nuser_info = 0".into(),
            "must be from 1",
        ),
    ] {
        let told = problem(&text);
        assert!(told.contains(want), "{text}: {told}");
    }
}

#[test]
fn wechat_is_reached_over_https() {
    for good in [
        "https://api.weixin.qq.com/",
        "http://127.0.0.1:9",
        "http://localhost:9",
        "http://[::1]:9",
    ] {
        let config = read(&format!("[wechat]\nbase_url = \"{good}\"")).expect(good);
        assert_eq!(config.wechat.base_url, good.trim_end_matches('/'));
    }
    refused(
        "[wechat]\nbase_url = \"http://api.weixin.qq.com\"",
        &["wechat.base_url", "https"],
    );
    for bad in [
        "",
        "api.weixin.qq.com",
        "https://h/path",
        "https://h/?q=1",
        "ftp://h",
        "https://u@h",
    ] {
        refused(
            &format!("[wechat]\nbase_url = \"{bad}\""),
            &["wechat.base_url", "https://HOST"],
        );
    }
}

#[test]
fn the_rest_is_checked_too() {
    for bad in ["not-a-uuid", "00000000-0000-0000-0000-000000000000"] {
        refused(
            &format!("[identity]\nnamespace = \"{bad}\""),
            &["identity.namespace", "random UUID"],
        );
    }
    refused("[seal]\nkey_file = \"\"", &["seal.key_file", "empty"]);
    refused("[seal]\nseal_to = \" \"", &["seal.seal_to", "keys show"]);
    refused(
        "[seal]\nkey_file = \"unilink.db\"",
        &["seal.key_file", "another"],
    );
    let key = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    let operator = |id: &str, key: &str| format!("[[operators]]\nid = \"{id}\"\nkey = \"{key}\"\n");
    refused(&operator("", key), &["operators[0].id"]);
    refused(
        &format!("{}{}", operator("a", key), operator("a", key)),
        &["operators[1].id", "twice"],
    );
    let weak = format!("{}=", "A".repeat(43));
    for bad in ["", "c2hvcnQ=", weak.as_str()] {
        refused(&operator("a", bad), &["operators[0].key", "ed25519"]);
    }
}

const AES_KEY: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";

fn push_of(settings: &str) -> String {
    format!("[[apps]]\nappid = \"wx1\"\nkind = \"official_account\"\n[apps.push]\n{settings}")
}

#[test]
fn pushes_come_in_the_mode_that_the_console_shows() {
    let one = |settings: &str| {
        let config = read(&push_of(settings)).expect("valid");
        let [push] = &config.pushes[..] else {
            panic!("one app pushes");
        };
        push.clone()
    };
    let plain = one("token = \"t\"");
    assert_eq!((plain.app.as_str(), plain.token.expose()), ("wx1", "t"));
    assert!(matches!(plain.body, PushBody::Plain));
    let both = [EraseOn::Cancellation, EraseOn::Revoke];
    assert_eq!(plain.erase_on, both.into());
    let key = format!("token = \"t\"\nencoding_aes_key = \"{AES_KEY}\"\n");
    // The last two bits of 43 characters mean nothing, and the console draws them all the same.
    let PushBody::Encrypted(decoded) = one(&key).body else {
        panic!("encrypted by default");
    };
    assert_eq!((decoded.0[0], decoded.0[31]), (0x69, 0x51));
    assert!(!format!("{decoded:?}").contains("69"));
    let compatible = one(&format!("{key}mode = \"compatible\"\nerase_on = []"));
    assert!(matches!(compatible.body, PushBody::Compatible(_)));
    assert!(compatible.erase_on.is_empty());
    let all = one("token = \"t\"\nerase_on = [\"cancellation\", \"unsubscribe\"]");
    assert!(all.erase_on.contains(&EraseOn::Unsubscribe));
    assert!(read("").expect("valid").pushes.is_empty());
}

#[test]
fn pushes_that_cannot_work_are_refused() {
    let name = "apps[0] (wx1).push";
    refused(&push_of("token = \"\""), &[name, ".token", "empty"]);
    refused(&push_of("token = \"env:NOPE\""), &[name, ".token", "NOPE"]);
    refused(
        &push_of("mode = \"plain\""),
        &["apps[0].push", "token", "missing"],
    );
    let with = |more: &str| push_of(&format!("token = \"t\"\n{more}"));
    for mode in ["encrypted", "compatible"] {
        let text = with(&format!("mode = \"{mode}\""));
        refused(&text, &[name, ".encoding_aes_key", "missing"]);
    }
    for bad in [
        &AES_KEY[1..],
        &format!("{AES_KEY}="),
        &format!("{AES_KEY}A"),
        &AES_KEY.replace('a', "-"),
    ] {
        let text = with(&format!("encoding_aes_key = \"{bad}\""));
        refused(&text, &[name, ".encoding_aes_key", "43"]);
        assert!(!problem(&text).contains(bad), "the value is shown");
    }
    let unused = with(&format!(
        "mode = \"plain\"\nencoding_aes_key = \"{AES_KEY}\""
    ));
    refused(&unused, &[name, ".encoding_aes_key", "plain"]);
    refused(
        &with("mode = \"none\""),
        &["apps[0].push.mode", "compatible"],
    );
    refused(
        &with("erase_on = [\"scan\"]"),
        &["apps[0].push.erase_on", "unsubscribe"],
    );
    refused(
        &with("aes_key = \"\""),
        &["apps[0].push", "encoding_aes_key"],
    );
}

#[test]
fn the_intakes_signer_is_an_operator() {
    // The seed and public key of RFC 8032's first test.
    let seed = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
    let public = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    let signer = |id: &str, key: &str| format!("[intake.signer]\nid = \"{id}\"\nkey = \"{key}\"\n");
    let operator = |id: &str| format!("[[operators]]\nid = \"{id}\"\nkey = \"{public}\"\n");
    let good = read(&format!("{}{}", signer("a", seed), operator("a"))).expect("valid");
    let key = good.intake.signer.expect("a signer");
    assert_eq!((key.id.as_str(), key.seed[0]), ("a", 0x9d));
    assert_eq!(format!("{key:?}"), "SignerKey(a)");
    // An intake that runs alone need not know the operators.
    assert!(
        read(&signer("a", seed))
            .expect("valid")
            .intake
            .signer
            .is_some()
    );
    assert!(read("").expect("valid").intake.signer.is_none());
    let vars = [
        ("UNILINK_INTAKE__SIGNER__ID", "a"),
        ("UNILINK_INTAKE__SIGNER__KEY", seed),
    ];
    let config = Config::read("", "t", &env(&vars)).expect("valid");
    assert_eq!(config.intake.signer.expect("a signer").id, "a");

    let name = "intake.signer.key";
    let other = format!("{}{}", signer("a", seed), operator("b"));
    refused(&other, &[name, "[[operators]]"]);
    let wrong = format!("{}{}", signer("a", &seed.replace('n', "o")), operator("a"));
    refused(&wrong, &[name, "[[operators]]"]);
    for bad in [
        "c2hvcnQ=",
        "no base64",
        public.trim_end_matches('='),
        &format!("AAAA{seed}"),
    ] {
        refused(&signer("a", bad), &[name, "unilink keys operator"]);
    }
    refused("[intake.signer]\nid = \"a\"", &[name, "empty"]);
    refused(&signer("", seed), &["intake.signer.id", "missing"]);
    refused(
        "[intake.signer]\nseed = \"a\"",
        &["intake.signer", "known are id, key"],
    );
}

#[test]
fn several_problems_are_shown_at_once() {
    let text = "[intake]\nmax_events = 0\nlisten = \"0.0.0.0:1\"\n[worker]\nbatchs = 1\n[nope]\n\
                [[apps]]\nappid = \"wx1\"\nkind = \"app\"\n[[apps]]\nappid = \"\"\nkind = \"website\"";
    let invalid = Config::read(text, "test.toml", &env(&[("UNILINK_X__Y", "1")])).expect_err("no");
    let shown = invalid.to_string();
    let keys = [
        "intake.max_events",
        "intake.listen",
        "worker",
        "nope",
        "apps[0].kind",
        "apps",
        "UNILINK_X__Y",
    ];
    for key in keys {
        assert!(
            shown.contains(&format!("\n  {key}")),
            "{key} is not in: {shown}"
        );
    }
    assert!(
        shown.starts_with("configuration (test.toml): 7 problems"),
        "{shown}"
    );
}

#[test]
fn debug_shows_no_secret() {
    let text = "[intake]\nkeys = [\"hunter2\"]\n[api]\nkeys = [\"hunter2\"]\n\
                [identity]\nnamespace = \"7b0f4a86-3b1e-4ad4-9d35-0f0e4a9f1c11\"\n\
                [[apps]]\nappid = \"wx1\"\nkind = \"website\"\nsecret = \"hunter2\"\n\
                push = { token = \"hunter2\" }";
    let shown = format!("{:#?}", read(text).expect("valid"));
    assert!(
        !shown.contains("hunter2") && !shown.contains("7b0f4a86"),
        "{shown}"
    );
    assert!(shown.contains("wx1"), "{shown}");
}

#[test]
fn a_file_that_is_named_must_be_there() {
    let missing = std::path::Path::new("/no/such/unilink.toml");
    let error = Config::load(Some(missing), &env(&[]))
        .expect_err("refused")
        .to_string();
    assert!(
        error.contains("/no/such/unilink.toml") && error.contains("--config"),
        "{error}"
    );
    let mut file = tempfile::NamedTempFile::new().expect("file");
    writeln!(file, "[bus]\ngroup = \"g\"").expect("written");
    let config = Config::load(Some(file.path()), &env(&[])).expect("valid");
    assert_eq!(config.bus.group, "g");
}
