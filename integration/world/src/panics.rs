//! A panic in any task is a promise that was not kept, also where tokio catches it and nobody waits for the task.

use std::{cell::RefCell, panic, sync::Once};

thread_local! {
    /// The panics of the world that runs in this thread.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Notes each panic from now on, in whatever thread it happens. It is printed as before, too.
pub(crate) fn note() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            PANICS.with_borrow_mut(|panics| panics.push(panic.to_string()));
            before(panic);
        }));
    });
}

/// The panics of this thread since it was last asked.
pub(crate) fn take() -> Vec<String> {
    PANICS.take()
}
