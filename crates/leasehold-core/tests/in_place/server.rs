//! A database server: it counts its sessions.

use std::sync::{Arc, Mutex};

/// Answers as a script says, and otherwise lets in as many as it has room for.
#[derive(Default)]
pub(crate) struct Server(Mutex<Count>);

struct Count {
    open: usize,
    most: usize,
    limit: usize,
}

impl Default for Count {
    fn default() -> Self {
        Self { open: 0, most: 0, limit: usize::MAX }
    }
}

impl Server {
    /// Lets a session in, or not if there is no room for it. One whose handshake is under way counts.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Session> {
        let mut count = self.0.lock().unwrap();
        if count.open >= count.limit {
            return None;
        }
        count.open += 1;
        count.most = count.most.max(count.open);
        Some(Session(Arc::clone(self)))
    }

    pub(crate) fn sessions(&self) -> usize {
        self.0.lock().unwrap().open
    }

    /// The most there were at a time.
    pub(crate) fn most(&self) -> usize {
        self.0.lock().unwrap().most
    }

    pub(crate) fn limit(&self, limit: usize) {
        self.0.lock().unwrap().limit = limit;
    }
}

/// An open session. It ends when it is dropped.
pub(crate) struct Session(Arc<Server>);

impl Drop for Session {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().open -= 1;
    }
}
