//! A server as a process of this machine.

pub(crate) mod template;

use std::{ffi::OsString, path::Path};

use async_trait::async_trait;

use crate::{
    backstage::Backstage,
    error::Result,
    server::Runner,
    shell::{Script, Shell},
};

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
/// Being the server's parent, it can never signal a process that merely got the same number.
#[derive(Debug)]
pub(crate) struct Supervisor {
    shell: Shell,
}

impl Supervisor {
    /// Starts the shell, which makes the folder; blocks until that is there. The server starts later.
    pub(crate) fn new(plan: &Plan, backstage: &Backstage) -> Result<Self> {
        let script = Script {
            text: include_str!("process/supervisor.sh"),
            name: plan.name,
            arguments: plan.command.iter().map(OsString::as_os_str).collect(),
            environment: vec![("STOP_SIGNAL", plan.stop), ("END_SIGNAL", plan.end)],
            user: plan.user,
        };
        Ok(Self { shell: Shell::start(script, backstage)? })
    }
}

#[async_trait]
impl Runner for Supervisor {
    fn folder(&self) -> &Path {
        self.shell.folder()
    }

    async fn start(&self) -> Result<()> {
        self.shell.order("start").await.map(drop)
    }

    async fn alive(&self) -> Result<bool> {
        Ok(self.shell.order("alive").await? == "yes")
    }

    async fn pause(&self) -> Result<()> {
        self.shell.order("pause").await.map(drop)
    }

    async fn resume(&self) -> Result<()> {
        self.shell.order("resume").await.map(drop)
    }

    async fn kill(&self) -> Result<()> {
        self.shell.order("kill").await.map(drop)
    }

    async fn stop(&self) -> Result<()> {
        self.shell.order("stop").await.map(drop)
    }

    async fn log(&self) -> String {
        let log = std::fs::read(self.folder().join("server.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    fn release(&self) {
        self.shell.release();
    }
}
