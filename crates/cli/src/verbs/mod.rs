//! What each noun and verb does.

pub(crate) mod ca;
pub(crate) mod client;
pub(crate) mod device;
pub(crate) mod handover;
pub(crate) mod init;
pub(crate) mod log;
pub(crate) mod people;
pub(crate) mod policy;
pub(crate) mod serve;
pub(crate) mod settings;
pub(crate) mod status;
pub(crate) mod store;
pub(crate) mod token;
