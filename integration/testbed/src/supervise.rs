//! A server as a process, with a parent that outlives us by as much as it takes to clean up.

use std::{
    ffi::OsString,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use crate::{
    backstage::{Backstage, poll},
    error::{Error, Result},
};

/// Gives a type with a field `server`, a [`Supervisor`], what can be done to any server.
macro_rules! supervised {
    ($server:ident) => {
        impl $server {
            /// The folder with its data and its log.
            pub fn folder(&self) -> &std::path::Path {
                self.server.folder()
            }

            /// Stops all its processes where they are: connections stay open and new ones are accepted, and nothing
            /// answers.
            pub async fn pause(&self) -> $crate::error::Result<()> {
                self.server.pause().await
            }

            /// Lets a paused server go on.
            pub async fn resume(&self) -> $crate::error::Result<()> {
                self.server.resume().await
            }

            /// Kills all its processes, as a crash of the machine would.
            pub async fn kill(&self) -> $crate::error::Result<()> {
                self.server.kill().await
            }

            /// Shuts it down in an orderly way, without waiting for its clients.
            pub async fn stop(&self) -> $crate::error::Result<()> {
                self.server.stop().await
            }

            /// Begins its end without waiting for it.
            pub(crate) fn release(&self) {
                self.server.release();
            }
        }
    };
}
pub(crate) use supervised;

const SCRIPT: &str = include_str!("supervise.sh");

/// How long a start may take.
const START: Duration = Duration::from_secs(20);

/// A little over what the script may take to end a server and remove its folder.
const FAREWELL: Duration = Duration::from_secs(20);

/// What to run, and how.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The server's name in messages, and in the folder's name.
    pub(crate) name: &'static str,
    /// The program and its arguments, run inside the folder.
    pub(crate) command: Vec<OsString>,
    /// The user to run as, where it is not ours.
    pub(crate) user: Option<User>,
    /// The signal of an orderly stop, without `SIG`.
    pub(crate) stop: &'static str,
    /// The signal that ends the server when its folder goes as well.
    pub(crate) end: &'static str,
}

/// An unprivileged user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// A shell that starts, signals, ends and buries one server, and owns its folder.
///
/// Its stdin is a pipe that only we hold, so it learns of our end whatever that was, `SIGKILL` included. Being the
/// server's parent, it can never signal a process that merely got the same number.
#[derive(Debug)]
pub(crate) struct Supervisor {
    plan: Plan,
    folder: PathBuf,
    shell: Option<Child>,
    remote: Remote,
}

/// Gives a supervisor orders, from any task.
#[derive(Clone, Debug)]
struct Remote {
    orders: Arc<Mutex<Option<Orders>>>,
    backstage: Backstage,
}

#[derive(Debug)]
struct Orders {
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Supervisor {
    /// Starts the shell, which makes the folder; the server starts with [`Supervisor::start`].
    pub(crate) fn new(plan: Plan, backstage: &Backstage) -> Result<Self> {
        let template = std::env::temp_dir().join(format!("leasehold-{}-XXXXXXXX", plan.name.to_lowercase()));
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", SCRIPT, "leasehold-supervisor"])
            .arg(template)
            .args(&plan.command)
            .env("STOP_SIGNAL", plan.stop)
            .env("END_SIGNAL", plan.end)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C in a terminal, and a test runner's signals, go to our group.
            .process_group(0);
        if let Some(user) = plan.user {
            command.uid(user.uid).gid(user.gid);
        }
        let mut shell = command.spawn().map_err(Error::system("could not run /bin/sh"))?;
        let (Some(stdin), Some(stdout)) = (shell.stdin.take(), shell.stdout.take()) else {
            return Err(Error::System {
                what: "no pipe to /bin/sh",
                source: std::io::ErrorKind::Other.into(),
            });
        };
        let mut orders = Orders { stdin, stdout: BufReader::new(stdout) };
        let folder = orders.answer()?;
        let remote = Remote { orders: Arc::new(Mutex::new(Some(orders))), backstage: backstage.clone() };
        Ok(Self { plan, folder: folder.into(), shell: Some(shell), remote })
    }

    /// The server's folder, removed with it.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts the server, which must not be running, and waits until it answers.
    pub(crate) async fn start<F: Future<Output = bool> + Send>(
        &self,
        answers: impl Fn() -> F + Send + Sync + 'static,
    ) -> Result<()> {
        self.remote.order("start").await?;
        let remote = self.remote.clone();
        let answer = self.remote.backstage.run(async move {
            poll(START, || async {
                if !remote.alive().await? {
                    return Ok(Some(false));
                }
                Ok(answers().await.then_some(true))
            })
            .await
        });
        match answer.await? {
            Some(true) => Ok(()),
            Some(false) => Err(self.failed("ended instead of starting")),
            None => Err(self.failed(format!("did not answer within {START:?}"))),
        }
    }

    /// Stops the server in its tracks, its children as well.
    pub(crate) async fn pause(&self) -> Result<()> {
        self.remote.order("pause").await.map(drop)
    }

    /// Lets a paused server go on.
    pub(crate) async fn resume(&self) -> Result<()> {
        self.remote.order("resume").await.map(drop)
    }

    /// Kills the server and its children, and waits until they are gone.
    pub(crate) async fn kill(&self) -> Result<()> {
        self.remote.order("kill").await.map(drop)
    }

    /// Ends the server in an orderly way, and waits until it is gone.
    pub(crate) async fn stop(&self) -> Result<()> {
        self.remote.order("stop").await.map(drop)
    }

    /// An error with the end of the server's log.
    pub(crate) fn failed(&self, reason: impl Into<String>) -> Error {
        let log = std::fs::read(self.folder.join("server.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let log = lines[lines.len().saturating_sub(20)..].join("\n");
        Error::Server { server: self.plan.name, reason: reason.into(), log }
    }

    /// Begins the end without waiting for it, so that several servers end at the same time.
    pub(crate) fn release(&self) {
        self.remote.orders.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Remote {
    /// Whether the server's process is there, paused or not.
    async fn alive(&self) -> Result<bool> {
        Ok(self.order("alive").await? == "yes")
    }

    async fn order(&self, order: &'static str) -> Result<String> {
        let orders = self.orders.clone();
        self.backstage
            .block(move || match &mut *orders.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(orders) => orders.give(order),
                None => Err(Error::System {
                    what: "the server was already taken down",
                    source: std::io::ErrorKind::NotConnected.into(),
                }),
            })
            .await
    }
}

impl Orders {
    fn give(&mut self, order: &str) -> Result<String> {
        self.stdin
            .write_all(format!("{order}\n").as_bytes())
            .map_err(Error::system("the server's supervisor is gone"))?;
        self.answer()
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        match self.stdout.read_line(&mut line) {
            Ok(1..) => Ok(line.trim_end().into()),
            Ok(0) => Err(Error::System {
                what: "the server's supervisor ended; can its user write to the temporary folder?",
                source: std::io::ErrorKind::UnexpectedEof.into(),
            }),
            Err(source) => Err(Error::System { what: "the server's supervisor is gone", source }),
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.release();
        let Some(mut shell) = self.shell.take() else { return };
        // `Child` has no wait with a limit.
        let (gone, wait) = mpsc::channel();
        thread::spawn(move || {
            let _ = shell.wait();
            let _ = gone.send(());
        });
        if wait.recv_timeout(FAREWELL).is_err() {
            tracing::warn!(server = self.plan.name, folder = %self.folder.display(), "still ending");
        }
    }
}
