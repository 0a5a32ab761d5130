//! The product from outside: the real `bailiwick`, real TLS, real files, every listener on port 0.

#[cfg(test)]
mod config;
#[cfg(test)]
mod devices;
#[cfg(test)]
mod init;
#[cfg(test)]
mod live;
#[cfg(test)]
mod outputs;
#[cfg(test)]
mod restore;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod serving;
#[cfg(test)]
mod site;
#[cfg(test)]
mod tokens;
#[cfg(test)]
#[path = "../../../server/tests/common/wire.rs"]
mod wire;
