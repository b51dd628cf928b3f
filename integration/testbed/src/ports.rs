//! Free ports that stay ours.

use std::{
    fs::{self, File},
    net::TcpListener,
};

use crate::{
    error::{Error, Result},
    locate,
};

/// A port of the loopback interface, ours while this lives, whether something listens or not.
///
/// It lies below the range that outgoing connections take theirs from, and its lock keeps other testbeds away: a
/// server that is stopped and started again finds it free.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    pub(crate) fn reserve() -> Result<Self> {
        let folder = locate::cache().join("ports");
        fs::create_dir_all(&folder).map_err(Error::file(&folder))?;
        for _ in 0..200 {
            let number = fastrand::u16(20_000..32_000);
            let path = folder.join(number.to_string());
            let lock = File::create(&path).map_err(Error::file(&path))?;
            if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Ok(Self { number, _lock: lock });
            }
        }
        Err(Error::System { what: "no free port", source: std::io::ErrorKind::AddrInUse.into() })
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}
