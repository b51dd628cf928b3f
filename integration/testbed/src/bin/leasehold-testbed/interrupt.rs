//! Ctrl-C and SIGTERM.

use std::process;

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Whether somebody asked us to stop. The first time everything is given back; the second time we just end, and the
/// servers, whose parents notice, with us.
#[derive(Clone)]
pub(crate) struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    pub(crate) fn listen() -> Self {
        let (asked, interrupt) = watch::channel(false);
        tokio::spawn(async move {
            let (Ok(mut interrupted), Ok(mut terminated)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            loop {
                tokio::select! {
                    _ = interrupted.recv() => {}
                    _ = terminated.recv() => {}
                }
                if asked.send_replace(true) {
                    process::exit(130);
                }
            }
        });
        Self(interrupt)
    }

    /// Completes when somebody has asked.
    pub(crate) async fn asked(&self) {
        let mut interrupt = self.0.clone();
        if interrupt.wait_for(|asked| *asked).await.is_err() {
            std::future::pending().await
        }
    }

    pub(crate) fn was_asked(&self) -> bool {
        *self.0.borrow()
    }
}
