use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use types::{CertRef, Epoch};

/// How many closed sessions the board remembers; older ones are forgotten first.
pub const CLOSED_KEPT_MAX: usize = 65_536;

/// A follower of the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reader {
    /// New handshakes are checked against the epoch's view.
    Handshakes,
    /// Live sessions were checked again, on every shard.
    Sessions,
    /// A CRL that shows the epoch is published for every issuer.
    CrlWriter,
}

impl Reader {
    /// The word for people: `handshakes`, `sessions`, `crl`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Handshakes => "handshakes",
            Self::Sessions => "sessions",
            Self::CrlWriter => "crl",
        }
    }
}

/// What a reader did to apply an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AckDetail {
    /// Nothing to tell.
    Nothing,
    /// The certificates whose live sessions were closed, one entry for each session.
    Closed(Vec<CertRef>),
    /// The CRLs that were published: the issuer's label and the CRL's number.
    Crl(Vec<(String, u64)>),
}

/// A reader that has not applied an epoch by the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lagging {
    /// Which.
    pub reader: Reader,
    /// What it has applied so far.
    pub applied: Epoch,
}

/// The board on which the readers of the view say how far they are. In memory, level-triggered:
/// an epoch is applied by a reader as soon as the reader has acknowledged it or a later one.
#[derive(Debug)]
pub struct Applied {
    board: Mutex<Board>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Board {
    applied: BTreeMap<Reader, Epoch>,
    closed: VecDeque<(Epoch, CertRef)>,
    crls: BTreeMap<String, (Epoch, u64)>,
}

impl Applied {
    pub(crate) fn new() -> Self {
        Self { board: Mutex::new(Board::default()), changed: watch::Sender::new(0) }
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        // The board holds plain values, so what a panicking thread left behind is still whole.
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that `reader` has applied `epoch` and every earlier one. A reader of several parts
    /// (the sessions of several shards) acknowledges when its slowest part has.
    pub fn ack(&self, reader: Reader, epoch: Epoch, detail: AckDetail) {
        {
            let mut board = self.board();
            let applied = board.applied.entry(reader).or_default();
            *applied = epoch.max(*applied);
            match detail {
                AckDetail::Nothing => {}
                AckDetail::Closed(certs) => {
                    board.closed.extend(certs.into_iter().map(|cert| (epoch, cert)));
                    let excess = board.closed.len().saturating_sub(CLOSED_KEPT_MAX);
                    board.closed.drain(..excess);
                }
                AckDetail::Crl(crls) => {
                    for (label, number) in crls {
                        let last = board.crls.entry(label).or_default();
                        *last = (*last).max((epoch, number));
                    }
                }
            }
        }
        self.changed.send_modify(|version| *version = version.wrapping_add(1));
    }

    /// What `reader` has applied.
    #[must_use]
    pub fn applied(&self, reader: Reader) -> Epoch {
        self.board().applied.get(&reader).copied().unwrap_or_default()
    }

    /// Waits until each of `readers` has applied `epoch`, at most for `deadline`; the answer names
    /// those that have not.
    pub async fn wait(&self, epoch: Epoch, readers: &[Reader], deadline: Duration) -> Vec<Lagging> {
        let mut changes = self.changed.subscribe();
        let all_applied = async {
            while !self.lagging(epoch, readers).is_empty() {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        // The list is read again after the deadline, so that a late acknowledgement still counts.
        let _ = tokio::time::timeout(deadline, all_applied).await;
        self.lagging(epoch, readers)
    }

    /// Which of `readers` have not applied `epoch` yet.
    #[must_use]
    pub fn lagging(&self, epoch: Epoch, readers: &[Reader]) -> Vec<Lagging> {
        let board = self.board();
        readers
            .iter()
            .map(|&reader| Lagging {
                reader,
                applied: board.applied.get(&reader).copied().unwrap_or_default(),
            })
            .filter(|lagging| lagging.applied < epoch)
            .collect()
    }

    /// How many live sessions of these certificates were closed at `epoch` or later.
    #[must_use]
    pub fn sessions_closed(&self, epoch: Epoch, certs: &[CertRef]) -> usize {
        let board = self.board();
        board.closed.iter().filter(|(at, cert)| *at >= epoch && certs.contains(cert)).count()
    }

    /// The CRLs that show `epoch`: the issuer's label and the CRL's number.
    #[must_use]
    pub fn crls(&self, epoch: Epoch) -> Vec<(String, u64)> {
        let board = self.board();
        let shown = board.crls.iter().filter(|(_, (at, _))| *at >= epoch);
        shown.map(|(label, (_, number))| (label.clone(), *number)).collect()
    }
}
