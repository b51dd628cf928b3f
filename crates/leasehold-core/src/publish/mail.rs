//! What users of a secret tell its keeper.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

/// A queue with one reader, whose writers never wait.
///
/// A keeper has two of these for its whole life, and they are empty nearly always. tokio's channels would take 700 bytes
/// and more for each, because they allocate a block of 32 places at once and keep their two ends on cache lines of their own.
pub struct Mail<T>(Arc<Mutex<Queue<T>>>);

struct Queue<T> {
    waiting: VecDeque<T>,
    most: usize,
    reader: Option<Waker>,
}

/// The writers' end of [`Mail`].
pub(crate) struct Post<T>(Arc<Mutex<Queue<T>>>);

/// Opens a queue that keeps so many items at most, and drops what comes beyond.
pub(crate) fn mail<T>(most: usize) -> (Post<T>, Mail<T>) {
    let queue = Arc::new(Mutex::new(Queue { waiting: VecDeque::new(), most, reader: None }));
    (Post(Arc::clone(&queue)), Mail(queue))
}

impl<T> Mail<T> {
    /// The oldest item, once there is one.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn recv(&mut self) -> T {
        poll_fn(|context| {
            let mut queue = lock(&self.0);
            if let Some(item) = queue.take() {
                return Poll::Ready(item);
            }
            match &mut queue.reader {
                Some(reader) => reader.clone_from(context.waker()),
                None => queue.reader = Some(context.waker().clone()),
            }
            Poll::Pending
        })
        .await
    }

    /// The oldest item, if there is one.
    pub fn try_recv(&mut self) -> Option<T> {
        lock(&self.0).take()
    }
}

impl<T> Queue<T> {
    fn take(&mut self) -> Option<T> {
        let item = self.waiting.pop_front();
        if self.waiting.is_empty() {
            // An empty queue keeps no memory: most keepers hear of something once an hour.
            mem::take(&mut self.waiting);
        }
        item
    }
}

impl<T> Post<T> {
    pub(crate) fn send(&self, item: T) {
        let mut queue = lock(&self.0);
        if queue.waiting.len() == queue.most {
            return;
        }
        queue.waiting.push_back(item);
        let reader = queue.reader.take();
        drop(queue);
        // Not under the lock, because waking may run any code.
        reader.inspect(Waker::wake_by_ref);
    }
}

impl<T> Clone for Post<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Mail<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mail").field("waiting", &lock(&self.0).waiting.len()).finish_non_exhaustive()
    }
}

fn lock<T>(queue: &Mutex<Queue<T>>) -> MutexGuard<'_, Queue<T>> {
    // Nothing that holds the lock can leave the queue half-written.
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn items_come_in_order_and_wake_whoever_waits() {
        let (post, mut mail) = mail(usize::MAX);
        let writer = tokio::spawn(async move {
            for item in 0..100 {
                post.send(item);
                tokio::task::yield_now().await;
            }
        });
        for item in 0..100 {
            assert_eq!(mail.recv().await, item);
        }
        writer.await.unwrap();
        assert_eq!(mail.try_recv(), None);
    }

    #[tokio::test]
    async fn a_wait_that_is_dropped_loses_nothing() {
        let (post, mut mail) = mail(usize::MAX);
        tokio::select! {
            biased;
            item = mail.recv() => panic!("{item} was never sent"),
            () = tokio::task::yield_now() => {}
        }
        post.send(1);
        assert_eq!(mail.recv().await, 1);
    }

    #[test]
    fn what_comes_beyond_the_bound_is_dropped() {
        let (post, mut mail) = mail(2);
        (1..=3).for_each(|item| post.send(item));
        assert_eq!([(); 3].map(|()| mail.try_recv()), [Some(1), Some(2), None]);
    }
}
