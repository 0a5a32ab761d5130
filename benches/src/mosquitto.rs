//! Runs Debian's Mosquitto as the peer, with the same certificates and rules.
//! In: the folder with the certificates. Out: a running process.
//! Invariant: revocation is checked for every client and rules for every message, and Nagle's algorithm is off, as in ours.
//! Never: writes a log; that would be counted as work.
//! Spec: mosquitto.conf(5).

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::Failure;
use crate::load::Target;

const BINARY: &str = "/usr/sbin/mosquitto";

/// A child process that is ended when it is dropped.
pub(crate) struct Running {
    child: Child,
    pub(crate) target: Target,
}

impl Running {
    pub(crate) fn new(child: Child, address: SocketAddr) -> Self {
        let target = Target { address, pid: child.id() };
        Self { child, target }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody left to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts Mosquitto on a port that was free a moment ago.
pub(crate) async fn start(dir: &Path) -> Result<Running, Failure> {
    if !Path::new(BINARY).exists() {
        return Err(format!("{BINARY} is missing: apt-get install mosquitto").into());
    }
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let at = |name: &str| dir.join(name).display().to_string();
    let user = if rustix::process::getuid().is_root() { "user root\n" } else { "" };
    let config = format!(
        "{user}per_listener_settings false\n\
         persistence false\n\
         log_dest none\n\
         connection_messages false\n\
         allow_anonymous false\n\
         acl_file {acl}\n\
         set_tcp_nodelay true\n\
         max_inflight_messages 100\n\
         max_queued_messages 10000\n\
         listener {port} 127.0.0.1\n\
         cafile {ca}\n\
         crlfile {crl}\n\
         certfile {cert}\n\
         keyfile {key}\n\
         require_certificate true\n\
         use_identity_as_username true\n",
        acl = at("bench.acl"),
        ca = at("root.crt"),
        crl = at("crl.pem"),
        cert = at("server.crt"),
        key = at("server.key"),
    );
    fs_err::write(dir.join("mosquitto.conf"), config)?;
    let child = Command::new(BINARY)
        .arg("-c")
        .arg(dir.join("mosquitto.conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let running = Running::new(child, SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    for _ in 0..250 {
        if tokio::net::TcpStream::connect(running.target.address).await.is_ok() {
            return Ok(running);
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    Err(format!("mosquitto did not open port {port} within 5 s").into())
}
