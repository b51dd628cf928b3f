//! The images of `cargo testbed images`, started as testcontainers starts the public ones: it waits for these lines on
//! these streams. Where an engine or an image is not there, there is nothing to test.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "helpers of tests")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::{Command, Output},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::{Instant, interval};
use tokio_postgres::NoTls;

const READY_POSTGRES: &str = "database system is ready to accept connections";
const READY_MARIADB: [Line<'_>; 2] =
    [Line::Stderr("mariadbd: ready for connections."), Line::Stderr("port: 3306")];
const READY_REDIS: Line<'_> = Line::Stdout("Ready to accept connections");
const READY_RABBITMQ: Line<'_> = Line::Stdout("Server startup complete; 4 plugins started.");

#[tokio::test]
async fn postgres_is_ready_when_testcontainers_thinks_so() {
    let environment = ["POSTGRES_DB=postgres", "POSTGRES_USER=postgres", "POSTGRES_PASSWORD=postgres"];
    let Some(container) = Container::start("postgres", &environment, &["-c", "fsync=off"]) else { return };
    container.says(&[Line::Stderr(READY_POSTGRES), Line::Stdout(READY_POSTGRES)]).await;
    let client = container.postgres("postgres", "postgres", "postgres").await.unwrap();
    assert_eq!(client.query_one("SHOW fsync", &[]).await.unwrap().get::<_, &str>(0), "off");
    let refused = container.postgres("postgres", "wrong", "postgres").await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "28P01");
    container.stops();
}

#[tokio::test]
async fn postgres_keeps_its_data_where_pgdata_says() {
    let environment =
        ["PGDATA=/elsewhere/data", "POSTGRES_USER=app", "POSTGRES_PASSWORD=it's $1", "POSTGRES_DB=own"];
    let Some(container) =
        Container::create("postgres", &environment, &["postgres", "-c", "max_connections=17"])
    else {
        return;
    };
    container.copy("CREATE TABLE t AS SELECT 42 AS answer;", "/docker-entrypoint-initdb.d/init_0.sql");
    container.copy("echo \"as $POSTGRES_USER\" >/tmp/said", "/docker-entrypoint-initdb.d/init_1.sh");
    container.runs();
    container.says(&[Line::Stderr(READY_POSTGRES), Line::Stdout(READY_POSTGRES)]).await;
    let client = container.postgres("app", "it's $1", "own").await.unwrap();
    assert_eq!(client.query_one("SELECT answer FROM t", &[]).await.unwrap().get::<_, i32>(0), 42);
    let limit = client.query_one("SHOW max_connections", &[]).await.unwrap();
    assert_eq!(limit.get::<_, &str>(0), "17");
    assert_eq!(container.inside(&["cat", "/tmp/said"]), "as app\n");
    container.inside(&["test", "-s", "/elsewhere/data/PG_VERSION"]);
    drop(client);

    container.stops();
    container.runs();
    container.says(&[Line::Stdout("Skipping initialization")]).await;
    let client = container.eventually_postgres("app", "it's $1", "own").await;
    assert_eq!(client.query_one("SELECT answer FROM t", &[]).await.unwrap().get::<_, i32>(0), 42);
}

#[tokio::test]
async fn postgres_does_not_start_without_a_password() {
    let Some(container) = Container::start("postgres", &[], &[]) else { return };
    assert_eq!(container.ends().await, 1);
    container.says(&[Line::Stderr("superuser password is not specified")]).await;
}

#[tokio::test]
async fn postgres_lets_everybody_in_if_that_is_asked_for() {
    let Some(container) = Container::start("postgres", &["POSTGRES_HOST_AUTH_METHOD=trust"], &[]) else {
        return;
    };
    container.says(&[Line::Stderr(READY_POSTGRES), Line::Stdout(READY_POSTGRES)]).await;
    container.postgres("postgres", "any", "postgres").await.unwrap();
}

#[tokio::test]
async fn mariadb_is_ready_when_testcontainers_thinks_so() {
    let environment = ["MARIADB_DATABASE=test", "MARIADB_ALLOW_EMPTY_ROOT_PASSWORD=1"];
    let Some(container) = Container::start("mariadb", &environment, &[]) else { return };
    container.says(&READY_MARIADB).await;
    assert_eq!(container.mariadb("root", "", "SELECT DATABASE()", "test").unwrap(), "test\n");
    container.stops();
}

#[tokio::test]
async fn mariadb_keeps_its_data_where_it_is_told() {
    let environment = [
        "MYSQL_ROOT_PASSWORD=it's a \\ $1",
        "MARIADB_DATABASE=my_own",
        "MARIADB_USER=app",
        "MYSQL_PASSWORD=of the app",
    ];
    let command = ["mariadbd", "--datadir=/elsewhere/data", "--max-connections=17"];
    let Some(container) = Container::create("mariadb", &environment, &command) else { return };
    container.copy("CREATE TABLE t AS SELECT 42 AS answer;", "/docker-entrypoint-initdb.d/init_0.sql");
    container.runs();
    container.says(&READY_MARIADB).await;
    let of_root = |sql| container.mariadb("root", "it's a \\ $1", sql, "mysql");
    let users = "SELECT User, Host FROM user WHERE User <> 'mariadb.sys' ORDER BY 1, 2";
    assert_eq!(of_root(users).unwrap(), "app\t%\nroot\t%\nroot\tlocalhost\n");
    assert_eq!(of_root("SELECT @@max_connections, @@datadir").unwrap(), "17\t/elsewhere/data/\n");
    let of_app = |password, sql| container.mariadb("app", password, sql, "my_own");
    assert_eq!(of_app("of the app", "SELECT answer FROM t").unwrap(), "42\n");
    let refused = of_app("wrong", "SELECT 1").unwrap_err();
    assert!(refused.contains("1045"), "{refused}");
    // Through the socket, root is another user, with the same password.
    container.inside(&["mariadb", "-uroot", "-pit's a \\ $1", "-e", "SELECT 1"]);

    container.stops();
    container.runs();
    eventually("answers again", || of_app("of the app", "SELECT answer FROM t").is_ok()).await;
    let initialized = container.log().0.matches("Initializing database files").count();
    assert_eq!(initialized, 1);
}

#[tokio::test]
async fn mariadb_does_not_start_without_a_choice_of_password() {
    let Some(container) = Container::start("mariadb", &[], &[]) else { return };
    assert_eq!(container.ends().await, 1);
    container.says(&[Line::Stderr("password option is not specified")]).await;
}

#[tokio::test]
async fn mariadb_chooses_a_password_if_asked() {
    let Some(container) = Container::start("mariadb", &["MARIADB_RANDOM_ROOT_PASSWORD=yes"], &[]) else {
        return;
    };
    container.says(&READY_MARIADB).await;
    let log = container.log().0;
    let password =
        log.split("GENERATED ROOT PASSWORD: ").nth(1).and_then(|rest| rest.lines().next()).unwrap();
    assert_eq!(container.mariadb("root", password, "SELECT 1", "mysql").unwrap(), "1\n");
}

#[tokio::test]
async fn redis_is_ready_when_testcontainers_thinks_so() {
    let Some(container) = Container::start("redis", &[], &[]) else { return };
    container.says(&[READY_REDIS]).await;
    assert_eq!(container.redis("PING\r\n"), "+PONG\r\n");
    container.stops();
    // It saves when it is told to end, as without options.
    container.says(&[Line::Stdout("DB saved on disk")]).await;
}

#[tokio::test]
async fn redis_takes_options_alone() {
    let Some(container) = Container::start("redis", &[], &["--requirepass", "secret"]) else { return };
    container.says(&[READY_REDIS]).await;
    assert_eq!(container.redis("PING\r\n"), "-NOAUTH Authentication required.\r\n");
    assert_eq!(container.redis("AUTH secret\r\n"), "+OK\r\n");
}

#[tokio::test]
async fn redis_takes_a_file_alone() {
    let Some(container) = Container::create("redis", &[], &["/etc/own.conf"]) else { return };
    container.copy("requirepass of-the-file\n", "/etc/own.conf");
    container.runs();
    container.says(&[READY_REDIS]).await;
    assert_eq!(container.redis("AUTH of-the-file\r\n"), "+OK\r\n");
}

#[tokio::test]
async fn rabbitmq_is_ready_when_testcontainers_thinks_so() {
    let Some(container) = Container::start("rabbitmq", &[], &[]) else { return };
    container.says(&[READY_RABBITMQ]).await;
    // A frame of a method, on the channel of the connection.
    assert_eq!(container.talk(b"AMQP\x00\x00\x09\x01").get(..3), Some(&[1, 0, 0][..]));
    container.inside(&["rabbitmqctl", "authenticate_user", "guest", "guest"]);
}

#[tokio::test]
async fn rabbitmq_makes_the_user_it_is_told() {
    let environment = ["RABBITMQ_DEFAULT_USER=app", "RABBITMQ_DEFAULT_PASS=of the app"];
    let Some(container) = Container::start("rabbitmq", &environment, &["rabbitmq-server"]) else { return };
    container.says(&[READY_RABBITMQ]).await;
    container.inside(&["rabbitmqctl", "authenticate_user", "app", "of the app"]);
    assert_eq!(container.inside(&["stat", "-c", "%u:%g", "/proc/1"]), "999:999\n");
}

#[tokio::test]
async fn openbao_in_dev_mode_has_the_token_it_is_given() {
    let Some(container) = Container::start("openbao", &["BAO_DEV_ROOT_TOKEN_ID=given"], &[]) else { return };
    let token = container.openbao("auth/token/lookup-self", "given").await;
    assert_eq!(token.1["data"]["policies"], json!(["root"]));
    assert_eq!(container.openbao("auth/token/lookup-self", "other").await.0, 403);
    container.stops();
}

#[tokio::test]
async fn openbao_listens_where_it_is_told_in_dev_mode() {
    let environment = ["BAO_DEV_ROOT_TOKEN_ID=given", "BAO_DEV_LISTEN_ADDRESS=127.0.0.1:8207"];
    let Some(container) = Container::start("openbao", &environment, &["server", "-dev"]) else { return };
    container.says(&[Line::Stdout("BAO_ADDR='http://127.0.0.1:8207'")]).await;
}

#[tokio::test]
async fn openbao_takes_its_configuration_from_the_environment() {
    let config = json!({
        "storage": { "raft": { "path": "/openbao/file", "node_id": "one" } },
        "api_addr": "http://127.0.0.1:8200",
        "cluster_addr": "https://127.0.0.1:8201",
        "listener": [{ "tcp": { "address": "0.0.0.0:8200", "tls_disable": true } }],
    });
    for user in ["openbao", "root"] {
        let environment = [format!("BAO_LOCAL_CONFIG={config}")];
        let environment = environment.each_ref().map(String::as_str);
        let Some(container) = Container::create_as(Some(user), "openbao", &environment, &["server"]) else {
            return;
        };
        container.runs();
        let (status, seal) = container.openbao("sys/seal-status", "").await;
        assert_eq!((status, &seal["initialized"]), (200, &json!(false)));
        let processes = container.inside(&["stat", "-c", "%u:%g", "/proc/1"]);
        assert_eq!(processes, "100:1000\n", "started as {user}");
        container.stops();
    }
}

#[tokio::test]
async fn openbao_knows_its_sub_commands() {
    for command in [&["version"][..], &["-version"], &["bao", "version"]] {
        let Some(container) = Container::start("openbao", &[], command) else { return };
        assert_eq!(container.ends().await, 0, "{command:?}");
        container.says(&[Line::Stdout("OpenBao v2.")]).await;
    }
}

#[tokio::test]
async fn any_other_command_is_run_instead() {
    for server in ["openbao", "postgres", "mariadb", "redis", "rabbitmq"] {
        let Some(container) = Container::start(server, &[], &["sleep", "infinity"]) else { continue };
        // The entrypoint asks `bao` first whether it is one of its sub-commands.
        let command = || container.inside(&["cat", "/proc/1/cmdline"]) == "sleep\0infinity\0";
        eventually(&format!("{server} sleeps"), command).await;
    }
}

/// A line that a container writes, by its stream.
#[derive(Debug)]
enum Line<'a> {
    Stdout(&'a str),
    Stderr(&'a str),
}

/// A container that is gone with its volumes when this is dropped, also by a panic.
struct Container {
    id: String,
    server: &'static str,
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = docker(&["rm", "--force", "--volumes", &self.id]);
    }
}

impl Container {
    /// `None` where there is no engine or no image.
    fn start(server: &'static str, environment: &[&str], command: &[&str]) -> Option<Self> {
        let container = Self::create(server, environment, command)?;
        container.runs();
        Some(container)
    }

    fn create(server: &'static str, environment: &[&str], command: &[&str]) -> Option<Self> {
        Self::create_as(None, server, environment, command)
    }

    fn create_as(
        user: Option<&str>,
        server: &'static str,
        environment: &[&str],
        command: &[&str],
    ) -> Option<Self> {
        let image = image(server);
        if !docker(&["image", "inspect", &image]).is_ok_and(|answer| answer.status.success()) {
            eprintln!("skipped: no container engine, or no {image} (`cargo testbed images`)");
            return None;
        }
        let publish = format!("127.0.0.1::{}", port_inside(server));
        let mut arguments = vec!["create", "--label", LABEL, "--publish", &publish];
        arguments.extend(environment.iter().flat_map(|variable| ["--env", variable]));
        arguments.extend(user.iter().flat_map(|user| ["--user", user]));
        arguments.push(&image);
        arguments.extend(command);
        Some(Self { id: succeeds(&arguments).trim().to_owned(), server })
    }

    /// Puts a file into it, as testcontainers does: before it starts.
    fn copy(&self, content: &str, to: &str) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, content).unwrap();
        succeeds(&["cp", file.to_str().unwrap(), &format!("{}:{to}", self.id)]);
    }

    /// Starts it, again if need be.
    fn runs(&self) {
        succeeds(&["start", &self.id]);
    }

    /// Runs a command beside the server.
    fn inside(&self, command: &[&str]) -> String {
        succeeds(&[&["exec", &self.id], command].concat())
    }

    /// What it has written so far to its standard output and to its standard error.
    fn log(&self) -> (String, String) {
        let log = docker(&["logs", &self.id]).unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (text(&log.stdout), text(&log.stderr))
    }

    async fn says(&self, lines: &[Line<'_>]) {
        eventually(&format!("{} says {lines:?}", self.server), || {
            let (stdout, stderr) = self.log();
            let all = lines.iter().all(|line| match line {
                Line::Stdout(text) => stdout.contains(text),
                Line::Stderr(text) => stderr.contains(text),
            });
            assert!(all || self.state("Running") == "true", "{} ended:\n{stdout}\n{stderr}", self.server);
            all
        })
        .await;
    }

    /// Waits until it has ended by itself, and returns its code.
    async fn ends(&self) -> i32 {
        eventually("it ends", || self.state("Running") == "false").await;
        self.state("ExitCode").parse().unwrap()
    }

    /// Stops it, which takes no second; ten seconds later the engine would kill it.
    fn stops(&self) {
        let began = Instant::now();
        succeeds(&["stop", &self.id]);
        let took = began.elapsed();
        assert_eq!(self.state("ExitCode"), "0", "{}", self.server);
        // A machine may be slow; a signal that is ignored takes ten.
        assert!(took < Duration::from_secs(5), "{} took {took:?}", self.server);
    }

    fn state(&self, field: &str) -> String {
        let format = format!("{{{{.State.{field}}}}}");
        succeeds(&["inspect", "--format", &format, &self.id]).trim().to_owned()
    }

    fn port(&self) -> u16 {
        let published = succeeds(&["port", &self.id, &port_inside(self.server).to_string()]);
        published.lines().next().unwrap().rsplit(':').next().unwrap().parse().unwrap()
    }

    async fn postgres(
        &self,
        user: &str,
        password: &str,
        database: &str,
    ) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.port()).user(user).password(password).dbname(database);
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    async fn eventually_postgres(
        &self,
        user: &str,
        password: &str,
        database: &str,
    ) -> tokio_postgres::Client {
        let deadline = Instant::now() + PATIENCE;
        let mut ticks = interval(TICK);
        loop {
            ticks.tick().await;
            match self.postgres(user, password, database).await {
                Ok(client) => return client,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
        }
    }

    /// Runs a statement with a client of the image, which comes through the published port.
    fn mariadb(&self, user: &str, password: &str, sql: &str, database: &str) -> Result<String, String> {
        let (image, port) = (image("mariadb"), self.port().to_string());
        let password = format!("MYSQL_PWD={password}");
        let run = ["run", "--rm", "--label", LABEL, "--network", "host", "--env", &password, &image];
        let client = ["mariadb", "--protocol=tcp", "--host=127.0.0.1", "--port", &port, "--user", user];
        let query = ["--batch", "--skip-column-names", "--execute", sql, database];
        let answer = docker(&[&run[..], &client, &query].concat()).unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        if answer.status.success() { Ok(text(&answer.stdout)) } else { Err(text(&answer.stderr)) }
    }

    fn redis(&self, command: &str) -> String {
        String::from_utf8_lossy(&self.talk(command.as_bytes())).into_owned()
    }

    /// What a server answers to the first bytes of a connection, or the beginning of it.
    fn talk(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port())).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = vec![0; 256];
        let read = stream.read(&mut answer).unwrap();
        answer.truncate(read);
        answer
    }

    /// Asks OpenBao as soon as it answers, and returns the status and what it said.
    async fn openbao(&self, path: &str, token: &str) -> (u16, Value) {
        let url = format!("http://127.0.0.1:{}/v1/{path}", self.port());
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let deadline = Instant::now() + PATIENCE;
        let mut ticks = interval(TICK);
        loop {
            ticks.tick().await;
            match client.get(&url).header("X-Vault-Token", token).send().await {
                // Not unsealed yet, in dev mode.
                Ok(answer) if answer.status() == 503 => {}
                Ok(answer) => return (answer.status().as_u16(), answer.json().await.unwrap()),
                Err(error) => {
                    let waits = Instant::now() < deadline && self.state("Running") == "true";
                    assert!(waits, "{error:?}: {:?}", self.log());
                }
            }
        }
    }
}

fn image(server: &str) -> String {
    format!("localhost/leasehold/{server}:local")
}

fn port_inside(server: &str) -> u16 {
    match server {
        "openbao" => 8200,
        "postgres" => 5432,
        "mariadb" => 3306,
        "rabbitmq" => 5672,
        _ => 6379,
    }
}

/// What a command of the engine wrote, which must not fail.
fn succeeds(arguments: &[&str]) -> String {
    let output = docker(arguments).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn docker(arguments: &[&str]) -> std::io::Result<Output> {
    Command::new("docker").args(arguments).output()
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    let mut ticks = interval(TICK);
    while Instant::now() < deadline {
        ticks.tick().await;
        if condition() {
            return;
        }
    }
    panic!("never: {what}");
}

const LABEL: &str = "com.leasehold.testbed=1";
const PATIENCE: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(100);
