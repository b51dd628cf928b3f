//! Who made a connection.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Which of these folders the process works in that made a connection on this machine, from one port to another; `None` if it
/// is gone, or works in none of them.
pub(super) fn of(from: u16, to: u16, folders: &[PathBuf]) -> Option<usize> {
    let connections = fs::read_to_string("/proc/net/tcp").ok()?;
    let socket = format!("socket:[{}]", inode(&connections, from, to)?);
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let place = fs::read_link(process.path().join("cwd")).ok()?;
        let index = folders.iter().position(|folder| *folder == place)?;
        holds(&process.path(), &socket).then_some(index)
    })
}

/// The number of the socket that has these ports, in the kernel's table of connections.
fn inode(table: &str, from: u16, to: u16) -> Option<&str> {
    let port = |address: &str| u16::from_str_radix(address.split_once(':')?.1, 16).ok();
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_whitespace();
        let (local, remote) = (columns.nth(1)?, columns.next()?);
        // One that is only left in the table for a while belongs to nobody any more.
        let inode = columns.nth(6).filter(|&inode| inode != "0")?;
        (port(local)? == from && port(remote)? == to).then_some(inode)
    })
}

fn holds(process: &Path, socket: &str) -> bool {
    let files = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    files.into_iter().any(|file| fs::read_link(file.path()).is_ok_and(|target| target == Path::new(socket)))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const TABLE: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:5208 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 90 1 0 100 0 0 10 0
   1: 0100007F:E1F0 0100007F:5208 06 00000000:00000000 03:00000A00 00000000     0        0 0 3 0
   2: 0100007F:E1F0 0100007F:5208 01 00000000:00000000 02:00000A00 00000000     0        0 91 2 0 20 4 0 10 -1
   3: 0100007F:5208 0100007F:E1F0 01 00000000:00000000 00:00000000 00000000     0        0 92 1 0 20 4 0 10 -1
";

    #[test]
    fn the_end_that_was_made_is_found_and_not_the_other() {
        assert_eq!(inode(TABLE, 0xE1F0, 0x5208), Some("91"));
        assert_eq!(inode(TABLE, 0x5208, 0xE1F0), Some("92"));
        assert_eq!(inode(TABLE, 0xE1F1, 0x5208), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn our_own_connection_is_ours_and_nobody_elses() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap().port();
        let made = TcpStream::connect(("127.0.0.1", to)).unwrap();
        let from = made.local_addr().unwrap().port();
        let here = std::env::current_dir().unwrap();
        assert_eq!(of(from, to, &["/nowhere".into(), here.clone()]), Some(1));
        assert_eq!(of(from, to, &["/nowhere".into()]), None);
        assert_eq!(of(to, 1, &[here]), None);
    }
}
