//! Which TCP ports this process listens on, as the kernel tells.

use std::collections::BTreeSet;

use server::Addresses;

/// Shows that this process listens on our four listeners and on nothing else.
pub(crate) fn only(addresses: &Addresses) -> Result<String, String> {
    let ours: BTreeSet<u16> = [addresses.mqtt, addresses.devices, addresses.admin, addresses.plain]
        .map(|address| address.port())
        .into();
    let found = ports()?;
    if found.contains(&1883) {
        return Err("port 1883 is open".to_owned());
    }
    let mqtt = addresses.mqtt.port();
    if found != ours {
        return Err(format!("listening on {found:?}, expected {ours:?}"));
    }
    Ok(format!("this process listens on {found:?}; MQTT only on {mqtt}, by TLS"))
}

/// The ports on which a socket of this process listens.
fn ports() -> Result<BTreeSet<u16>, String> {
    let mut inodes = BTreeSet::new();
    for entry in fs_err::read_dir("/proc/self/fd").map_err(|error| error.to_string())? {
        let target = entry.ok().and_then(|entry| fs_err::read_link(entry.path()).ok());
        let target = target.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        if let Some(inode) = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')) {
            inodes.insert(inode.to_owned());
        }
    }
    let mut found = BTreeSet::new();
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let text = fs_err::read_to_string(table).unwrap_or_default();
        found.extend(text.lines().skip(1).filter_map(|line| listener(line, &inodes)));
    }
    Ok(found)
}

/// The port of a line of /proc/net/tcp, if it is a listening socket of ours (state 0A).
fn listener(line: &str, inodes: &BTreeSet<String>) -> Option<u16> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, state, inode) = (*fields.get(1)?, *fields.get(3)?, *fields.get(9)?);
    if state != "0A" || !inodes.contains(inode) {
        return None;
    }
    u16::from_str_radix(local.rsplit(':').next()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_socket_of_this_process_is_found() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(ports().unwrap().contains(&socket.local_addr().unwrap().port()));
    }
}
