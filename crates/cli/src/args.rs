//! The command line: nouns, verbs and their options; what they mean is in `verbs`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// A security stack for fleets of MQTT devices: certificate authority, enrolment, broker, revocation.
#[derive(Parser)]
#[command(name = "bailiwick", version, propagate_version = true)]
pub(crate) struct Cli {
    /// The data folder of the installation [env: BAILIWICK_DIR]
    #[arg(long, short = 'd', global = true, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Print data as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) noun: Noun,
}

#[derive(Subcommand)]
pub(crate) enum Noun {
    /// Make an installation: hierarchy, keys, configuration, rules, the first operator
    Init(Init),
    /// Serve devices, services and operators until stopped
    Serve(Serve),
    /// Show the whole job, the four attacks and a revocation, on this machine
    Demo(Demo),
    /// The devices of the fleet
    #[command(subcommand)]
    Device(Device),
    /// Provisioning tokens
    #[command(subcommand)]
    Token(Token),
    /// Backend services
    #[command(subcommand)]
    Service(Service),
    /// People who run the installation
    #[command(subcommand)]
    Operator(Operator),
    /// Live connections, and refused ones
    #[command(subcommand)]
    Client(Client),
    /// Topic rules
    #[command(subcommand)]
    Policy(Policy),
    /// The certificate hierarchy
    #[command(subcommand)]
    Ca(Ca),
    /// The chained log of what changed trust
    #[command(subcommand)]
    Log(Log),
    /// How the installation stands
    Status,
    /// Have a running server read rules, limits, certificates and log level again
    Reload,
    /// Take in a restored backup
    #[command(subcommand)]
    Store(Store),
}

#[derive(Args)]
pub(crate) struct Init {
    /// A name or address of this machine; the first is the one that devices use (repeat for more)
    #[arg(long = "host", required = true, value_name = "NAME")]
    pub(crate) hosts: Vec<String>,
    /// Base of the CRL and CA addresses in certificates; they carry it for years [default: http://HOST:8080]
    #[arg(long, value_name = "URL")]
    pub(crate) public_url: Option<String>,
    /// The organization in the subjects of the CAs
    #[arg(long, default_value = "Bailiwick", value_name = "NAME")]
    pub(crate) organization: String,
    /// The root's key
    #[arg(long, default_value = "p256", value_name = "KIND")]
    pub(crate) root_key: RootKey,
    /// A file with the passphrase of the root key [env: BAILIWICK_ROOT_PASSPHRASE, else asked for]
    #[arg(long, value_name = "FILE")]
    pub(crate) root_passphrase_file: Option<PathBuf>,
    /// Where the MQTT listener stands [default: 0.0.0.0:8883]
    #[arg(long, value_name = "ADDR")]
    pub(crate) mqtt: Option<SocketAddr>,
    /// Where the devices' HTTPS stands [default: 0.0.0.0:8443]
    #[arg(long, value_name = "ADDR")]
    pub(crate) devices: Option<SocketAddr>,
    /// Where the operators' HTTPS stands [default: 127.0.0.1:9443]
    #[arg(long, value_name = "ADDR")]
    pub(crate) admin: Option<SocketAddr>,
    /// Where plain HTTP for CRLs stands [default: 0.0.0.0:8080]
    #[arg(long, value_name = "ADDR")]
    pub(crate) plain: Option<SocketAddr>,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum RootKey {
    P256,
    P384,
    Rsa4096,
}

#[derive(Args)]
pub(crate) struct Serve {
    /// Check configuration, rules and keys, then stop without opening a port
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Args)]
pub(crate) struct Demo {
    /// Take free ports instead of 8883, 8443, 9443 and 8080
    #[arg(long)]
    pub(crate) any_port: bool,
    /// Go on serving at the end, and print what to try from another terminal
    #[arg(long)]
    pub(crate) keep: bool,
}

#[derive(Subcommand)]
pub(crate) enum Device {
    /// Register a device; with --out also make its key and certificate here
    Add {
        id: String,
        #[arg(long)]
        project: Option<String>,
        #[arg(long)]
        fleet: Option<String>,
        #[arg(long)]
        label: Option<String>,
        /// Write ID.key, ID.crt and ca.crt into this folder
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// List the registered devices
    List {
        /// Only devices after this id
        #[arg(long)]
        after: Option<String>,
        /// At most so many, 1 to 1000; without it all
        #[arg(long)]
        limit: Option<u32>,
    },
    /// Show a device, or working settings for its client
    Show {
        id: String,
        #[arg(long = "for", value_name = "CLIENT")]
        client: Option<ClientKind>,
        /// Where ID.key, ID.crt and ca.crt are
        #[arg(long, default_value = ".", value_name = "DIR")]
        files: PathBuf,
    },
    /// Revoke a device for good: its certificates, its live sessions, its tokens
    Revoke {
        id: String,
        /// key-compromise, cessation-of-operation, … in the words of RFC 5280
        #[arg(long)]
        reason: Option<String>,
    },
    /// Put a device on hold
    Suspend { id: String },
    /// Let a suspended device in again
    Restore { id: String },
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum ClientKind {
    Mosquitto,
    Mqttjs,
    Paho,
    EspIdf,
    Arduino,
    Curl,
}

#[derive(Subcommand)]
pub(crate) enum Token {
    /// Make a one-time token for a device and print its bundle
    Create {
        device: String,
        /// How long it can be used, such as 24h
        #[arg(long)]
        ttl: Option<String>,
        /// The device has a live certificate, and this token replaces it
        #[arg(long)]
        replace: bool,
    },
    /// List a device's tokens
    List { device: String },
    /// Kill a token
    Revoke { id: String },
}

#[derive(Subcommand)]
pub(crate) enum Service {
    /// Register a service and make its key and certificate here
    Add {
        name: String,
        /// Write NAME.key, NAME.crt and ca.crt into this folder
        #[arg(long, default_value = ".", value_name = "DIR")]
        out: PathBuf,
    },
}

#[derive(Subcommand)]
pub(crate) enum Operator {
    /// Register an operator and make the key and certificate here
    Add {
        name: String,
        /// Write NAME.key, NAME.crt and ca.crt into this folder
        #[arg(long, default_value = ".", value_name = "DIR")]
        out: PathBuf,
    },
    /// List services and operators
    List,
}

#[derive(Subcommand)]
pub(crate) enum Client {
    /// List the live connections
    List,
    /// List the newest refusals, each with its reason
    Refused {
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
}

#[derive(Subcommand)]
pub(crate) enum Policy {
    /// Check rule files: every mistake as file:line:column
    Check { files: Vec<PathBuf> },
    /// Name the rule that decides
    Explain {
        /// The principal's name
        principal: String,
        /// publish, subscribe or receive
        action: String,
        /// The topic, or the filter of a subscription
        topic: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum Ca {
    /// Show the hierarchy
    Status,
    /// Write the tree that people know: root/, intermediate/, server/, devices/
    Export { out: PathBuf },
    /// The root's key
    #[command(subcommand)]
    Root(CaRoot),
}

#[derive(Subcommand)]
pub(crate) enum CaRoot {
    /// Move the root's key off this machine, onto a medium
    Detach { to: PathBuf },
}

#[derive(Subcommand)]
pub(crate) enum Log {
    /// Check the chain and its checkpoints
    Verify,
    /// Print the events
    Show {
        /// Only lines after this one
        #[arg(long, default_value_t = 0)]
        after: u64,
        /// At most so many, 1 to 1000; without it all
        #[arg(long)]
        limit: Option<u32>,
    },
}

#[derive(Subcommand)]
pub(crate) enum Store {
    /// After a restored backup: raise the incarnation, kill the tokens that were unused
    Recover {
        /// Do it; without this only what would be done is printed
        #[arg(long)]
        yes: bool,
    },
    /// Believe this machine's clock again after it was wrong: forget the later dates that were seen
    AcceptClock {
        /// Do it; without this only what would be done is printed
        #[arg(long)]
        yes: bool,
    },
}
