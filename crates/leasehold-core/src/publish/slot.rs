//! The place of the latest value: one keeper writes it, and many handles read it.

use std::sync::{
    Arc, PoisonError, RwLock, RwLockReadGuard,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use tokio::sync::Notify;

use crate::Issued;

/// The latest value, or why there is none.
#[derive(Debug)]
pub(crate) enum Slot<S> {
    Waiting,
    Value(Arc<Issued<S>>),
    Closed,
}

/// The writer's end. tokio's `watch` would do, but it wakes its readers in an order that it draws from the operating system,
/// so that no two runs of a simulation would be alike. It is also twice as large.
pub(crate) struct Writer<S>(Arc<Shared<S>>);

/// A reader's end, which knows the version that it saw last.
pub(crate) struct Reader<S> {
    shared: Arc<Shared<S>>,
    seen: u64,
}

/// The writer has gone, and with it the keeper's task.
pub(crate) struct WriterGone;

struct Shared<S> {
    slot: RwLock<Slot<S>>,
    /// Grows with each value. It is odd once the writer has gone.
    version: AtomicU64,
    readers: AtomicUsize,
    changed: Notify,
    unread: Notify,
}

/// An empty place, with its two ends.
pub(crate) fn slot<S>() -> (Writer<S>, Reader<S>) {
    let shared = Arc::new(Shared {
        slot: RwLock::new(Slot::Waiting),
        version: AtomicU64::new(0),
        readers: AtomicUsize::new(1),
        changed: Notify::new(),
        unread: Notify::new(),
    });
    (Writer(Arc::clone(&shared)), Reader { shared, seen: 0 })
}

impl<S> Writer<S> {
    /// Replaces the value. The one before is dropped outside of the lock, because its `Drop` may run anybody's code.
    pub(crate) fn put(&self, next: Slot<S>) {
        let mut slot = self.0.slot.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *slot, next);
        self.0.version.fetch_add(2, Ordering::Release);
        drop(slot);
        drop(before);
        self.0.changed.notify_waiters();
    }

    pub(crate) fn look(&self) -> RwLockReadGuard<'_, Slot<S>> {
        self.0.look()
    }

    /// Waits until no reader is left. A writer makes no readers, so none comes after that.
    pub(crate) async fn unread(&self) {
        loop {
            let told = self.0.unread.notified();
            if self.0.readers.load(Ordering::Acquire) == 0 {
                return;
            }
            told.await;
        }
    }
}

impl<S> Drop for Writer<S> {
    fn drop(&mut self) {
        self.0.version.fetch_or(1, Ordering::Release);
        self.0.changed.notify_waiters();
    }
}

impl<S> Reader<S> {
    pub(crate) fn look(&self) -> RwLockReadGuard<'_, Slot<S>> {
        self.shared.look()
    }

    /// Waits for a version that this reader has not seen, and sees it.
    pub(crate) async fn changed(&mut self) -> Result<(), WriterGone> {
        loop {
            // Made before the look: a `Notified` hears of what happens after it was made.
            let told = self.shared.changed.notified();
            let version = self.shared.version.load(Ordering::Acquire);
            if version & !1 != self.seen {
                self.seen = version & !1;
                return Ok(());
            }
            if self.is_writer_gone() {
                return Err(WriterGone);
            }
            told.await;
        }
    }

    /// Looks, and takes the version that it looks at for seen: the version grows under the lock.
    pub(crate) fn look_anew(&mut self) -> RwLockReadGuard<'_, Slot<S>> {
        let slot = self.shared.look();
        self.seen = self.shared.version.load(Ordering::Acquire) & !1;
        slot
    }

    pub(crate) fn is_writer_gone(&self) -> bool {
        self.shared.version.load(Ordering::Acquire) & 1 == 1
    }
}

impl<S> Clone for Reader<S> {
    fn clone(&self) -> Self {
        self.shared.readers.fetch_add(1, Ordering::Relaxed);
        Self { shared: Arc::clone(&self.shared), seen: self.seen }
    }
}

impl<S> Drop for Reader<S> {
    fn drop(&mut self) {
        if self.shared.readers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.unread.notify_waiters();
        }
    }
}

impl<S> Shared<S> {
    fn look(&self) -> RwLockReadGuard<'_, Slot<S>> {
        // Nothing that holds the lock can leave the slot half-written.
        self.slot.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_sees_each_version_once_and_the_end() {
        let (writer, mut reader) = slot::<&str>();
        assert!(timeout(Duration::from_secs(1), reader.changed()).await.is_err(), "nothing has happened");
        writer.put(Slot::Closed);
        let mut other = reader.clone();
        assert!(reader.changed().await.is_ok() && other.changed().await.is_ok());
        assert!(timeout(Duration::from_secs(1), reader.changed()).await.is_err(), "it was seen");
        writer.put(Slot::Closed);
        drop(writer);
        assert!(reader.is_writer_gone());
        assert!(reader.changed().await.is_ok(), "the last value comes before the end");
        assert!(reader.changed().await.is_err());
        drop(other.look_anew());
        assert!(other.changed().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_writer_learns_that_nobody_reads_any_more() {
        let (writer, reader) = slot::<&str>();
        let other = reader.clone();
        drop(reader);
        assert!(timeout(Duration::from_secs(1), writer.unread()).await.is_err(), "one is left");
        tokio::join!(writer.unread(), async { drop(other) });
    }
}
