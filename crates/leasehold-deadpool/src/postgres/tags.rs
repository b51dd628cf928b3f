//! Which credentials opened a `ClientWrapper`, whose type has no room for that.

use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use deadpool_postgres::{ClientWrapper, StatementCache};
use leasehold_core::in_place::Tag;

/// Finds the tag of a connection by its statement cache, which is public and its own. The connection's task holds the
/// tag, so what is counted is what is open.
#[derive(Default)]
pub(super) struct Tags(Mutex<HashMap<usize, Entry>>);

struct Entry {
    /// Keeps the address from being used again while the entry is there.
    cache: Weak<StatementCache>,
    tag: Weak<Tag>,
}

thread_local! {
    /// The tag of the connection that this thread's task has just opened. deadpool runs its first `post_create` hook in
    /// the same poll in which `connect` is done, and tells it nothing of that.
    static JUST_OPENED: RefCell<Option<Weak<Tag>>> = const { RefCell::new(None) };
}

/// To be called last in `connect`.
pub(super) fn opened(tag: &Arc<Tag>) {
    JUST_OPENED.set(Some(Arc::downgrade(tag)));
}

impl Tags {
    /// Notes which tag belongs to a connection that [`opened`] was called for in this poll.
    pub(super) fn note(&self, client: &ClientWrapper) {
        let Some(tag) = JUST_OPENED.take() else { return };
        let mut entries = self.entries();
        entries.retain(|_, entry| entry.cache.strong_count() > 0);
        entries.insert(address(client), Entry { cache: Arc::downgrade(&client.statement_cache), tag });
    }

    /// The tag of a connection, while that is open.
    pub(super) fn of(&self, client: &ClientWrapper) -> Option<Arc<Tag>> {
        self.entries().get(&address(client)).and_then(|entry| entry.tag.upgrade())
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<usize, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn address(client: &ClientWrapper) -> usize {
    Arc::as_ptr(&client.statement_cache).addr()
}
