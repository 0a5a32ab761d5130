//! The x509 crate from outside: requests, certificates, chains and lists, with openssl as a judge.

#[cfg(test)]
mod build;
#[cfg(test)]
mod chain;
#[cfg(test)]
mod crl;
#[cfg(test)]
mod csr;
#[cfg(test)]
mod openssl;
#[cfg(test)]
mod support;
