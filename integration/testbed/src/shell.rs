//! A shell that outlives us by as much as it takes to clean up.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use tokio::time::timeout;

use crate::{
    backstage::Backstage,
    error::{Error, Result},
    process::User,
};

/// How long an order may take; a server that is asked to stop has six seconds, an engine's client may need more.
const ORDER: Duration = Duration::from_secs(60);

/// A little over what a script may take to clean up.
const FAREWELL: Duration = Duration::from_secs(20);

/// What a shell is told at its start.
#[derive(Debug)]
pub(crate) struct Script<'a> {
    /// Its text. It makes a folder from the template in its first argument, and prints the folder's name; it answers each
    /// line of its standard input with a line; at the end of its input it cleans up.
    pub(crate) text: &'static str,
    /// For whom it works, in messages and in the folder's name.
    pub(crate) name: &'static str,
    /// Its further arguments.
    pub(crate) arguments: Vec<&'a OsStr>,
    /// Variables for it.
    pub(crate) environment: Vec<(&'static str, &'a str)>,
    /// The user to run as, where it is not ours.
    pub(crate) user: Option<User>,
}

/// A shell that runs a script and owns a folder.
///
/// Its stdin is a pipe that only we hold, so it learns of our end whatever that was, `SIGKILL` included.
#[derive(Debug)]
pub(crate) struct Shell {
    name: &'static str,
    folder: PathBuf,
    child: Option<Child>,
    orders: Arc<Mutex<Option<Orders>>>,
    backstage: Backstage,
}

#[derive(Debug)]
struct Orders {
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Shell {
    /// Starts it; blocks until it has made its folder.
    pub(crate) fn start(script: Script<'_>, backstage: &Backstage) -> Result<Self> {
        let name = script.name;
        let template = std::env::temp_dir().join(format!("leasehold-{}-XXXXXXXX", name.to_lowercase()));
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", script.text, "leasehold-testbed"])
            .arg(template)
            .args(script.arguments)
            .envs(script.environment)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C in a terminal, and a test runner's signals, go to our group.
            .process_group(0);
        if let Some(user) = script.user {
            command.uid(user.uid).gid(user.gid);
        }
        let mut child = command.spawn().map_err(Error::system("could not run /bin/sh"))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::System {
                what: "no pipe to /bin/sh",
                source: std::io::ErrorKind::Other.into(),
            });
        };
        let mut orders = Orders { stdin, stdout: BufReader::new(stdout) };
        let folder = orders.answer()?;
        let orders = Arc::new(Mutex::new(Some(orders)));
        Ok(Self { name, folder: folder.into(), child: Some(child), orders, backstage: backstage.clone() })
    }

    /// Its folder, which it removes at its end.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Gives an order and returns the answer.
    pub(crate) async fn order(&self, order: &'static str) -> Result<String> {
        let (orders, threads) = (self.orders.clone(), self.backstage.clone());
        let give = move || match &mut *orders.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(orders) => orders.give(order),
            None => Err(Error::System {
                what: "the server was already taken down",
                source: std::io::ErrorKind::NotConnected.into(),
            }),
        };
        let request = format!("{order}, of what runs {}", self.name);
        let reason = format!("silence for {ORDER:?}");
        let bounded = async move {
            let given = timeout(ORDER, threads.block(give)).await;
            given.unwrap_or(Err(Error::Unanswered { request, reason }))
        };
        self.backstage.run(bounded).await
    }

    /// Begins its end without waiting for it; dropping waits.
    pub(crate) fn release(&self) {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Orders {
    fn give(&mut self, order: &str) -> Result<String> {
        self.stdin
            .write_all(format!("{order}\n").as_bytes())
            .map_err(Error::system("the shell that runs it is gone"))?;
        self.answer()
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        match self.stdout.read_line(&mut line) {
            Ok(1..) => Ok(line.trim_end().into()),
            Ok(0) => Err(Error::System {
                what: "the shell that runs it ended; can its user write to the temporary folder?",
                source: std::io::ErrorKind::UnexpectedEof.into(),
            }),
            Err(source) => Err(Error::System { what: "the shell that runs it is gone", source }),
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.release();
        let Some(mut child) = self.child.take() else { return };
        // `Child` has no wait with a limit.
        let (gone, wait) = mpsc::channel();
        thread::spawn(move || {
            let _ = child.wait();
            let _ = gone.send(());
        });
        if wait.recv_timeout(FAREWELL).is_err() {
            tracing::warn!(server = self.name, folder = %self.folder.display(), "still ending");
        }
    }
}
