//! The state machine from outside: fake clients, fake shards, a fake journal, one clock in the hand.

#[cfg(test)]
mod connect;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod malformed;
#[cfg(test)]
mod packets;
#[cfg(test)]
mod pki;
#[cfg(test)]
mod publish;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod retained;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod session;
#[cfg(test)]
mod shards;
#[cfg(test)]
mod subscribe;
#[cfg(test)]
mod will;
