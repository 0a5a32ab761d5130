use std::hash::{Hash, Hasher};
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHasher};
use types::{Clipped, DeviceId, Now, SpkiHash, Topic, Wall};

use crate::ring::{Counter, Verdict};
use crate::rule::{Mode, OnMissing, ReplayKind, ReplayRefusal, ReplayRule, Scope, Stamp, TimeUnit};
use crate::stamps::{Stamps, remembered};

/// The most topics that have a sequence of their own under one rule, for one device and key.
pub const STREAMS_MAX: usize = 8;
/// A device has state under at most two keys: the one in use and the one that it replaces.
const KEYS_MAX: usize = 2;

/// How much state is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most devices with state; a further one is refused, since forgetting another's would let its replays in.
    pub devices_max: usize,
    /// The most connections with state of their own.
    pub connections_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { devices_max: 1_000_000, connections_max: 1_000_000 }
    }
}

/// Whose message it is, over which connection, on which topic.
#[derive(Clone, Copy, Debug)]
pub struct StreamKey<'a> {
    /// The device, from its certificate.
    pub device: &'a DeviceId,
    /// Its key: a new key begins anew, a renewal with the same key goes on.
    pub spki: SpkiHash,
    /// The connection; never used again for another one.
    pub conn: u64,
    /// The resolved topic.
    pub topic: Topic<'a>,
}

/// That a message is fresh, or that its rule does not refuse it: made by [`Windows::check`] only,
/// used up by [`Windows::commit`] once the message was routed. Dropping it leaves no trace, so
/// that a publish that failed may be sent again.
///
/// ```compile_fail,E0451
/// let forged = guard::Fresh { observed: None, ..todo!() };
/// ```
/// ```compile_fail,E0599
/// fn twice(windows: &mut guard::Windows, fresh: guard::Fresh) {
///     windows.commit(fresh.clone());
///     windows.commit(fresh);
/// }
/// ```
#[derive(Debug)]
#[must_use = "a fresh message has to be committed, or it can be replayed"]
pub struct Fresh {
    place: Option<Place>,
    observed: Option<ReplayRefusal>,
}

impl Fresh {
    /// What a rule in observe mode would have refused it for.
    #[must_use]
    pub fn observed(&self) -> Option<ReplayKind> {
        self.observed.as_ref().map(|refusal| refusal.kind)
    }

    /// The whole refusal that a rule in observe mode would have given.
    #[must_use]
    pub fn observed_refusal(&self) -> Option<&ReplayRefusal> {
        self.observed.as_ref()
    }

    fn unmarked() -> Self {
        Self { place: None, observed: None }
    }
}

/// Where a fresh message will leave its mark.
#[derive(Debug)]
struct Place {
    owner: Owner,
    stream: StreamId,
    mark: Mark,
    limits: MarkLimits,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Owner {
    Device(DeviceId),
    Connection(u64),
}

/// Hashes name key, rule and topic. Two that collided would share a window, which can only refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StreamId {
    key: u64,
    rule: u64,
    topic: u64,
}

#[derive(Clone, Copy, Debug)]
enum Mark {
    Sequence { epoch: u64, seq: u64 },
    Time { time: i64, digest: u64 },
}

#[derive(Clone, Copy, Debug)]
struct MarkLimits {
    max_forward: u64,
    max_age_ms: i64,
    remembered: usize,
}

#[derive(Clone, Debug)]
enum State {
    Sequence(Counter),
    Time(Stamps),
}

#[derive(Clone, Debug)]
struct Stream {
    id: StreamId,
    state: State,
}

/// The replay state of one shard.
#[derive(Debug, Default)]
pub struct Windows {
    limits: Limits,
    owners: FxHashMap<Owner, Vec<Stream>>,
    devices: usize,
}

impl Windows {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, owners: FxHashMap::default(), devices: 0 }
    }

    /// Whether the message is fresh under `rule`. Leaves no trace: [`Windows::commit`] does, and it
    /// is to be called before the next message of this device is checked.
    ///
    /// # Errors
    /// Under a rule that is enforced, why the message is not fresh.
    pub fn check(
        &self,
        key: StreamKey<'_>,
        rule: &ReplayRule,
        stamp: Stamp,
        now: Now,
    ) -> Result<Fresh, ReplayRefusal> {
        if rule.mode == Mode::Off {
            return Ok(Fresh::unmarked());
        }
        match self.place(key, rule, stamp, now.wall) {
            Ok(place) => Ok(Fresh { place, observed: None }),
            Err((kind, detail)) => {
                let device = key.device;
                let refusal = ReplayRefusal { kind, detail: format!("message of \"{device}\": {detail}") };
                match rule.mode {
                    Mode::Enforce => Err(refusal),
                    Mode::Observe | Mode::Off => Ok(Fresh { place: None, observed: Some(refusal) }),
                }
            }
        }
    }

    /// Takes the message in, so that it is a duplicate from now on. False if it had stopped being
    /// fresh since its check, which only another commit in between can cause; nothing changes then.
    pub fn commit(&mut self, fresh: Fresh) -> bool {
        let Some(Place { owner, stream: id, mark, limits }) = fresh.place else { return true };
        if self.verdict(&owner, id, mark, limits).is_err() {
            return false;
        }
        let is_device = matches!(owner, Owner::Device(_));
        let streams = match self.owners.entry(owner) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                self.devices += usize::from(is_device);
                entry.insert(Vec::new())
            }
        };
        let Some(stream) = streams.iter_mut().find(|stream| stream.id == id) else {
            keep_newest_keys(streams, id.key);
            streams.reserve_exact(1);
            streams.push(Stream { id, state: State::starting_at(mark) });
            return true;
        };
        match (&mut stream.state, mark) {
            (State::Sequence(counter), Mark::Sequence { epoch, seq }) => counter.insert(epoch, seq),
            (State::Time(stamps), Mark::Time { time, digest }) => {
                stamps.insert(time, digest, limits.remembered);
            }
            // The rule changed from one to the other, and its id with it; see `stream_id`.
            (state, mark) => *state = State::starting_at(mark),
        }
        true
    }

    /// Forgets a connection that is over.
    pub fn forget_connection(&mut self, conn: u64) {
        self.owners.remove(&Owner::Connection(conn));
    }

    /// Forgets a device: an operator's act, or its decommissioning. Says how many streams it had.
    pub fn reset(&mut self, device: &DeviceId) -> usize {
        let removed = self.owners.remove(&Owner::Device(device.clone()));
        self.devices -= usize::from(removed.is_some());
        removed.map_or(0, |streams| streams.len())
    }

    /// How many devices have state.
    #[must_use]
    pub fn devices(&self) -> usize {
        self.devices
    }

    /// How many connections have state of their own.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.owners.len() - self.devices
    }

    /// Where the message would leave its mark; `None` if it leaves none.
    fn place(
        &self,
        key: StreamKey<'_>,
        rule: &ReplayRule,
        stamp: Stamp,
        now: Wall,
    ) -> Result<Option<Place>, (ReplayKind, String)> {
        // 1. Every field that the rule names is there.
        if let Some(detail) = missing(rule, stamp) {
            return match rule.on_missing {
                OnMissing::Accept => Ok(None),
                OnMissing::Reject => Err((ReplayKind::Missing, detail)),
            };
        }
        // 2. The timestamp is near our clock; after a loss of state this bounds what can be replayed.
        if let (Some(_), Some(time)) = (&rule.time, stamp.time_ms) {
            near(time, now, rule)?;
        }
        // 3. The message's place in the order was not taken.
        let mark = match (&rule.seq, stamp.seq, stamp.time_ms) {
            (Some(_), Some(seq), _) => {
                let epoch = if rule.epoch.is_some() { stamp.epoch.unwrap_or(0) } else { 0 };
                Mark::Sequence { epoch, seq }
            }
            (_, _, Some(time)) => Mark::Time { time, digest: stamp.digest },
            _ => return Err((ReplayKind::Missing, "no sequence number and no timestamp".to_owned())),
        };
        let unit = rule.time.as_ref().map_or(TimeUnit::Millis, |(_, unit)| *unit);
        let limits = MarkLimits {
            max_forward: rule.max_forward,
            max_age_ms: millis(rule.max_age),
            remembered: remembered(unit),
        };
        let owner = match rule.scope {
            Scope::Device => Owner::Device(key.device.clone()),
            Scope::Connection => Owner::Connection(key.conn),
        };
        let stream = stream_id(&key, rule);
        self.verdict(&owner, stream, mark, limits)?;
        // 4. There is room to remember it.
        self.room(&owner, stream, key.topic)?;
        Ok(Some(Place { owner, stream, mark, limits }))
    }

    fn verdict(&self, owner: &Owner, id: StreamId, mark: Mark, limits: MarkLimits) -> Verdict {
        let streams = self.owners.get(owner);
        let Some(stream) = streams.and_then(|streams| streams.iter().find(|stream| stream.id == id)) else {
            return Ok(());
        };
        match (&stream.state, mark) {
            (State::Sequence(counter), Mark::Sequence { epoch, seq }) => {
                counter.verdict(epoch, seq, limits.max_forward)
            }
            (State::Time(stamps), Mark::Time { time, digest }) => {
                stamps.verdict(time, digest, limits.max_age_ms)
            }
            _ => Ok(()),
        }
    }

    fn room(&self, owner: &Owner, id: StreamId, topic: Topic<'_>) -> Verdict {
        let full = |what: &str, limit: usize| {
            Err((ReplayKind::Stale, format!("no room to remember it; limit {limit} {what}")))
        };
        let Some(streams) = self.owners.get(owner) else {
            return match owner {
                Owner::Device(_) if self.devices >= self.limits.devices_max => {
                    full("devices", self.limits.devices_max)
                }
                Owner::Connection(_) if self.connections() >= self.limits.connections_max => {
                    full("connections", self.limits.connections_max)
                }
                _ => Ok(()),
            };
        };
        let same_rule = |stream: &&Stream| stream.id.key == id.key && stream.id.rule == id.rule;
        if streams.iter().any(|stream| stream.id == id)
            || streams.iter().filter(same_rule).count() < STREAMS_MAX
        {
            return Ok(());
        }
        let topic = Clipped(topic.as_str());
        let detail = format!("topic \"{topic}\" would be one more stream; limit {STREAMS_MAX}");
        Err((ReplayKind::Stale, detail))
    }
}

impl State {
    fn starting_at(mark: Mark) -> Self {
        match mark {
            Mark::Sequence { epoch, seq } => Self::Sequence(Counter::starting_at(epoch, seq)),
            Mark::Time { time, digest } => Self::Time(Stamps::starting_at(time, digest)),
        }
    }
}

/// Makes room for a stream under `key`: of the keys that the device used before, the latest stays.
fn keep_newest_keys(streams: &mut Vec<Stream>, key: u64) {
    let mut keys: Vec<u64> = Vec::with_capacity(KEYS_MAX + 1);
    for stream in streams.iter().rev() {
        if stream.id.key != key && !keys.contains(&stream.id.key) {
            keys.push(stream.id.key);
        }
    }
    if keys.len() >= KEYS_MAX {
        keys.truncate(KEYS_MAX - 1);
        streams.retain(|stream| stream.id.key == key || keys.contains(&stream.id.key));
    }
}

fn stream_id(key: &StreamKey<'_>, rule: &ReplayRule) -> StreamId {
    let hash = |value: &dyn Fn(&mut FxHasher)| {
        let mut hasher = FxHasher::default();
        value(&mut hasher);
        hasher.finish()
    };
    let topic = if rule.per_topic { Some(key.topic) } else { None };
    StreamId {
        key: hash(&|hasher| key.spki.0.hash(hasher)),
        rule: hash(&|hasher| (rule.filter.as_str(), rule.seq.is_some(), rule.epoch.is_some()).hash(hasher)),
        topic: hash(&|hasher| topic.hash(hasher)),
    }
}

fn missing(rule: &ReplayRule, stamp: Stamp) -> Option<String> {
    let absent = |pointer: Option<&String>, there: bool, what: &str| {
        pointer.filter(|_| !there).map(|pointer| format!("no {what} at \"{}\"", Clipped(pointer)))
    };
    if rule.seq.is_none() && rule.time.is_none() {
        return Some("its rule names no field to check".to_owned());
    }
    absent(rule.seq.as_ref(), stamp.seq.is_some(), "sequence number")
        .or_else(|| absent(rule.epoch.as_ref(), stamp.epoch.is_some(), "boot counter"))
        .or_else(|| absent(rule.time.as_ref().map(|(at, _)| at), stamp.time_ms.is_some(), "timestamp"))
}

fn near(time: i64, now: Wall, rule: &ReplayRule) -> Verdict {
    let shown = Wall(time);
    if time > now.plus(rule.max_skew).0 {
        let limit = rule.max_skew.as_secs();
        return Err((ReplayKind::Skew, format!("timestamp {shown} lies ahead, now {now}; limit {limit} s")));
    }
    if time < now.minus(rule.max_age).0 {
        let limit = rule.max_age.as_secs();
        return Err((ReplayKind::Stale, format!("timestamp {shown} is too old, now {now}; limit {limit} s")));
    }
    Ok(())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_takes_no_more_than_two_boots_need() {
        assert!(size_of::<Stream>() <= 144, "{}", size_of::<Stream>());
    }
}
