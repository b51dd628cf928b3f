//! Certificates that change on disk: cert-manager and projected volumes replace them while we run.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use leasehold_core::Result;
use tracing::{info, warn};

use crate::{Builder, wire::Wire};

/// The way to the server with the certificates as they are on disk now.
pub(crate) struct Reloading {
    settings: Builder,
    state: Mutex<State>,
}

struct State {
    wire: Arc<Wire>,
    seen: Fingerprint,
}

/// When each file was changed, and how long it is: enough to notice a replacement, also through a link.
type Fingerprint = Vec<(PathBuf, Option<(SystemTime, u64)>)>;

impl Reloading {
    pub(crate) fn new(settings: &Builder) -> Result<Self> {
        let seen = fingerprint(settings);
        let wire = Arc::new(Wire::new(settings)?);
        Ok(Self { settings: settings.clone(), state: Mutex::new(State { wire, seen }) })
    }

    /// Looks at the files, of which there are few, before each request, of which there are few too. What cannot be used
    /// is left alone, with a warning: a file that is being written must not stop what works.
    pub(crate) fn wire(&self) -> Arc<Wire> {
        let seen = fingerprint(&self.settings);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if seen != state.seen {
            state.seen = seen;
            match Wire::new(&self.settings) {
                Ok(wire) => {
                    info!("certificates have changed on disk; used from now on");
                    state.wire = Arc::new(wire);
                }
                Err(error) => {
                    warn!(%error, "certificates have changed on disk and cannot be used; the old ones stay")
                }
            }
        }
        Arc::clone(&state.wire)
    }
}

fn fingerprint(settings: &Builder) -> Fingerprint {
    let look = |path: PathBuf| {
        let metadata = std::fs::metadata(&path).ok();
        let seen = metadata.and_then(|metadata| Some((metadata.modified().ok()?, metadata.len())));
        (path, seen)
    };
    settings.tls.files().into_iter().map(look).collect()
}
