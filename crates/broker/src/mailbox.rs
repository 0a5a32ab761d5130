use std::sync::{Mutex, MutexGuard, PoisonError};

use mqtt::{Command, ShardId};
use tokio::sync::Notify;
use types::QoS;

/// What other threads have left for a shard since it looked last.
pub(crate) struct Mail<A, C> {
    /// Connections that have just been admitted.
    pub(crate) arrivals: Vec<A>,
    /// Commands of other shards, in the order in which each of them gave its own.
    pub(crate) batches: Vec<(ShardId, Vec<Command>)>,
    /// Questions and orders from the outside.
    pub(crate) controls: Vec<C>,
    /// The shards that found this box full and read no client until they are told that it has room.
    pub(crate) waiting: ShardSet,
    /// Some box that was full has room again.
    pub(crate) has_room: bool,
    messages: usize,
    awake: bool,
    closed: bool,
}

impl<A, C> Mail<A, C> {
    fn empty() -> Self {
        Self {
            arrivals: Vec::new(),
            batches: Vec::new(),
            controls: Vec::new(),
            waiting: ShardSet::default(),
            has_room: false,
            messages: 0,
            awake: false,
            closed: false,
        }
    }
}

/// A set of shards in one machine word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ShardSet(u64);

impl ShardSet {
    pub(crate) fn insert(&mut self, shard: ShardId) {
        self.0 |= 1_u64.checked_shl(u32::from(shard)).unwrap_or(0);
    }

    pub(crate) fn clear(&mut self) {
        self.0 = 0;
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = ShardId> {
        (0..mqtt::SHARDS_MAX).filter(move |shard| self.0 >> shard & 1 == 1)
    }
}

/// How a batch was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delivered {
    /// How many messages were dropped for want of room.
    pub(crate) shed: usize,
    /// The box is full: its shard will say when it has room.
    pub(crate) full: bool,
}

/// A shard's letter box: filled by any thread without waiting, emptied in one go by its shard.
pub(crate) struct Mailbox<A, C> {
    mail: Mutex<Mail<A, C>>,
    wake: Notify,
    messages_max: usize,
}

impl<A, C> Mailbox<A, C> {
    pub(crate) fn new(messages_max: usize) -> Self {
        Self { mail: Mutex::new(Mail::empty()), wake: Notify::new(), messages_max }
    }

    pub(crate) fn arrive(&self, arrival: A) {
        self.leave(|mail| mail.arrivals.push(arrival));
    }

    pub(crate) fn order(&self, control: C) {
        self.leave(|mail| mail.controls.push(control));
    }

    /// Leaves one shard's commands as one batch with at most one wake. When the box is full, QoS 0
    /// messages are dropped and counted in the answer. What someone waits to see acknowledged, and
    /// what keeps the shards' indexes equal, is always taken; the sender has to stop reading its
    /// clients instead, until it is told that there is room.
    pub(crate) fn deliver(&self, from: ShardId, commands: &mut Vec<Command>) -> Delivered {
        let mut delivered = Delivered { shed: 0, full: false };
        self.leave(|mail| {
            commands.retain(|command| {
                let Command::Message { qos, seq, .. } = command else { return true };
                let sheddable = *qos == QoS::AtMostOnce && *seq == 0;
                if sheddable && mail.messages >= self.messages_max {
                    delivered.shed += 1;
                    return false;
                }
                mail.messages += 1;
                true
            });
            delivered.full = mail.messages >= self.messages_max;
            if delivered.full {
                mail.waiting.insert(from);
            }
            match mail.batches.last_mut() {
                Some((last, batch)) if *last == from => batch.append(commands),
                _ => mail.batches.push((from, std::mem::take(commands))),
            }
        });
        delivered
    }

    /// Says that a box which was full has room.
    pub(crate) fn say_room(&self) {
        self.leave(|mail| mail.has_room = true);
    }

    /// Waits until there is something to take.
    pub(crate) async fn filled(&self) {
        self.wake.notified().await;
    }

    /// Takes everything.
    pub(crate) fn take(&self) -> Mail<A, C> {
        let mut mail = self.lock();
        let closed = mail.closed;
        std::mem::replace(&mut *mail, Mail { closed, ..Mail::empty() })
    }

    /// Nobody will look any more: what lies here and what comes is dropped, connections with it.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        drop(self.take());
    }

    fn leave(&self, put: impl FnOnce(&mut Mail<A, C>)) {
        let asleep = {
            let mut mail = self.lock();
            if mail.closed {
                return;
            }
            put(&mut mail);
            !std::mem::replace(&mut mail.awake, true)
        };
        if asleep {
            self.wake.notify_one();
        }
    }

    /// Every change under the lock is one push, so a poisoned lock still guards a whole value.
    fn lock(&self) -> MutexGuard<'_, Mail<A, C>> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mqtt::Message;
    use types::Topic;

    use super::*;

    fn message(qos: QoS, seq: u64) -> Command {
        let message = Arc::new(Message::new(Topic::parse("a/b").unwrap(), b"x"));
        Command::Message { seq, message, qos }
    }

    fn count(mail: &Mail<u8, u8>) -> Vec<(ShardId, usize)> {
        mail.batches.iter().map(|(from, batch)| (*from, batch.len())).collect()
    }

    #[test]
    fn a_full_box_sheds_qos_0_and_takes_what_must_not_be_lost() {
        let mailbox: Mailbox<u8, u8> = Mailbox::new(2);
        let mut batch = vec![message(QoS::AtMostOnce, 0)];
        assert_eq!(mailbox.deliver(1, &mut batch), Delivered { shed: 0, full: false });
        assert!(batch.is_empty());
        let mut batch = vec![
            message(QoS::AtMostOnce, 0),
            message(QoS::AtMostOnce, 0),
            message(QoS::AtLeastOnce, 7),
            Command::Applied { seq: 1 },
        ];
        assert_eq!(mailbox.deliver(2, &mut batch), Delivered { shed: 1, full: true });
        let mail = mailbox.take();
        assert_eq!(count(&mail), [(1, 1), (2, 3)]);
        assert_eq!(mail.waiting.iter().collect::<Vec<_>>(), [2]);
        assert!(!mail.has_room);
        assert_eq!(mailbox.deliver(1, &mut vec![message(QoS::AtMostOnce, 0)]).shed, 0);
    }

    #[test]
    fn the_batches_of_one_sender_keep_their_order_between_those_of_others() {
        let mailbox: Mailbox<u8, u8> = Mailbox::new(100);
        for (from, seq) in [(0, 1), (0, 2), (3, 9), (0, 3)] {
            mailbox.deliver(from, &mut vec![Command::Applied { seq }]);
        }
        let seqs: Vec<(ShardId, u64)> = mailbox
            .take()
            .batches
            .into_iter()
            .flat_map(|(from, batch)| batch.into_iter().map(move |command| (from, command)))
            .map(|(from, command)| match command {
                Command::Applied { seq } => (from, seq),
                _ => unreachable!(),
            })
            .collect();
        assert_eq!(seqs, [(0, 1), (0, 2), (3, 9), (0, 3)]);
    }

    #[tokio::test]
    async fn whatever_is_left_wakes_the_shard_once() {
        let mailbox: Mailbox<u8, u8> = Mailbox::new(100);
        mailbox.arrive(1);
        mailbox.order(2);
        mailbox.say_room();
        mailbox.filled().await;
        let mail = mailbox.take();
        assert_eq!((mail.arrivals, mail.controls, mail.has_room), (vec![1], vec![2], true));
        let quiet = tokio::time::timeout(std::time::Duration::from_millis(1), mailbox.filled()).await;
        assert!(quiet.is_err());
        mailbox.arrive(3);
        mailbox.filled().await;
        assert_eq!(mailbox.take().arrivals, [3]);
    }

    #[test]
    fn a_closed_box_drops_what_comes() {
        let mailbox: Mailbox<u8, u8> = Mailbox::new(100);
        mailbox.arrive(1);
        mailbox.close();
        assert!(mailbox.take().arrivals.is_empty());
        mailbox.arrive(2);
        let mut batch = vec![Command::Applied { seq: 1 }];
        assert_eq!(mailbox.deliver(1, &mut batch), Delivered { shed: 0, full: false });
        let mail = mailbox.take();
        assert_eq!((mail.arrivals.len(), mail.batches.len()), (0, 0));
    }

    #[test]
    fn a_set_of_shards_holds_the_first_and_the_last() {
        let mut set = ShardSet::default();
        assert!(set.is_empty());
        set.insert(0);
        set.insert(63);
        set.insert(64);
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 63]);
        set.clear();
        assert!(set.is_empty());
    }
}
