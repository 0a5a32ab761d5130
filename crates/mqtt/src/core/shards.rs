use types::Now;

use super::Core;
use crate::api::{Command, ShardId, Sink};
use crate::deliver::Outgoing;
use crate::retained::Version;

impl Core {
    /// Applies another shard's commands in their order, and acknowledges the last of them that
    /// wants it once all that they wrote is durable.
    pub(super) fn remote(
        &mut self,
        now: Now,
        from: ShardId,
        commands: &mut Vec<Command>,
        sink: &mut dyn Sink,
    ) {
        let (mut last, mut lsn, mut heard) = (0, 0, false);
        for command in commands.drain(..) {
            match command {
                Command::AddFilter { seq, filter, durable } => {
                    self.router.add_remote(from, &filter, durable);
                    last = seq.max(last);
                }
                Command::DropFilter { filter, durable } => self.router.drop_remote(from, &filter, durable),
                Command::Message { seq, message, qos } => {
                    // The other shard permitted it and found it fresh; whether each subscriber may
                    // have it is decided here.
                    if let Ok(topic) = message.topic() {
                        let mut out = Outgoing::shared(topic, &message, qos, false);
                        lsn = self.deliver_all(now, &mut out, sink).max(lsn);
                        out.give_back(&mut self.hub.pool);
                    } else {
                        Self::bug("a message of another shard has no topic", sink);
                    }
                    self.hub.pool.give_back(message);
                    last = seq.max(last);
                }
                Command::Retain { seq, clock, message, qos } => {
                    self.retained.apply(&message, qos, Version { clock, shard: from }, now.mono, None);
                    last = seq.max(last);
                }
                Command::Applied { seq } => {
                    self.gates.applied(from, seq);
                    heard = true;
                }
            }
        }
        if last > 0 {
            self.gates.acknowledge(from, last, lsn, sink);
        }
        if heard {
            self.open_gates(now, sink);
        }
    }
}
