//! From a data directory to a broker, and back at a clean stop.

use std::collections::VecDeque;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use leveret_store::{
    CommitError, Damage, Disk, MessageId, OpenError, Options, QueueId, RecoveredMessage, RecoveredQueue,
    Recovery, Store,
};

use crate::broker::{Broker, Limits};
use crate::dedup::Deduplicator;
use crate::error::Refusal;
use crate::message::ResidentBytes;
use crate::parameters::{Parameter, Parameters, decode_global};
use crate::policies;
use crate::queue::{
    Attempts, Content, DelayState, Entry, Level, Levels, QueueState, Ready, Rule, SeenBefore, Stored,
    StreamState, number_of, pos_at,
};
use crate::quotas::{AllUserQuotas, UserLimits, VHostLimits};
use crate::records::{
    BindingKey, Key, SeenKey, attempts_of, decode_arguments, decode_damage, decode_exchange, decode_queue,
    decode_seen,
};
use crate::settings::{QueueKind, Settings};
use crate::stamp::Stamp;
use crate::users::Users;
use crate::vhost::{Destination, Life, Queue, VHost};
use crate::vhost_metadata::VHostMetadata;

/// A broker and what its data directory was found to be like.
#[derive(Debug)]
pub struct Opened {
    /// The broker.
    pub broker: Arc<Broker>,
    /// Places that could not be read. Their queues are offline, everything else is served.
    pub damage: Vec<Damage>,
    /// Whether the last stop was a clean one; otherwise every recovered message is marked redelivered (P4).
    pub clean: bool,
    /// Octets at the end of the log that were never promised to anybody and were cut off.
    pub torn_bytes: u64,
}

/// A data directory that cannot be served. It was left as it is.
#[derive(Debug)]
pub enum OpenFailed {
    /// The store says why.
    Store(OpenError),
    /// A record of the topology that this version does not know, shown in hexadecimal.
    UnknownRecord(String),
    /// What a fresh directory needs could not be made.
    Setup(Refusal),
}

impl fmt::Display for OpenFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::UnknownRecord(key) => {
                write!(f, "the data directory holds a record that this version does not know: {key}")
            }
            Self::Setup(refusal) => refusal.fmt(f),
        }
    }
}

impl std::error::Error for OpenFailed {}

impl Broker {
    /// Opens a data directory. A new one gets the virtual host `/` and the user `guest`, who may only log in
    /// from this machine.
    pub fn open(disk: Arc<dyn Disk>, options: Options, limits: Limits) -> Result<Opened, OpenFailed> {
        let (store, recovery) = Store::open(disk, options).map_err(OpenFailed::Store)?;
        let is_new = recovery.meta.is_empty() && recovery.damage.is_empty();
        let clean = recovery.clean.is_some();
        let (damage, torn_bytes) = (recovery.damage.clone(), recovery.torn_bytes);
        let broker = Arc::new(Rebuild::new(Arc::new(store), recovery, limits)?.finish());
        if is_new {
            broker.set_up().map_err(OpenFailed::Setup)?;
        }
        Ok(Opened { broker, damage, clean, torn_bytes })
    }

    fn set_up(&self) -> Result<(), Refusal> {
        self.add_vhost("/")?;
        self.users.add_guest().map_err(|error| Refusal::internal(error.to_string()))?;
        self.save_user("guest")
    }

    /// Ends the store's life in order: everything is synced, and the next start knows which messages were
    /// delivered before. Nothing may be published or settled afterwards.
    pub fn close(&self) -> Result<(), CommitError> {
        let _everything_has_arrived = self.in_flight.write();
        let mut notes = Vec::new();
        for queue in self.vhosts().iter().flat_map(|vhost| vhost.queues()) {
            if let (true, Some(state)) = (queue.spec.durable, queue.lock().content()) {
                let note = |level| (queue.store_id(level), encode_note(&state.seen_before(level)));
                notes.extend(state.levels().into_iter().map(note));
            }
        }
        self.store.close(&notes)
    }
}

/// What of a level is in the log, in order; `next_number` is the number of its first message.
fn logged(
    messages: &[RecoveredMessage],
    (level, next_number): (Level, &mut u64),
    seen: &SeenBefore,
    queue_ttl_ms: Option<u64>,
) -> VecDeque<Entry> {
    let entry = |message: &RecoveredMessage| {
        let RecoveredMessage { id, place, len, attributes } = *message;
        let pos = pos_at(level, *next_number);
        *next_number += 1;
        Entry {
            pos,
            content: Content::Stored(Stored { id, place, durable: true, cached: None }),
            size_bytes: len,
            expires_at_ms: Stamp::decode(&attributes).expires_at_ms(queue_ttl_ms),
            redelivered: seen.contains(id),
            may_name_caller: true,
        }
    };
    messages.iter().map(entry).collect()
}

/// A topology half read.
struct Rebuild {
    store: Arc<Store>,
    limits: Limits,
    users: Users,
    user_quotas: AllUserQuotas,
    parameters: Parameters,
    vhosts: HashMap<String, Arc<VHost>>,
    content: HashMap<QueueId, RecoveredQueue>,
    notes: Option<HashMap<QueueId, SeenBefore>>,
    damaged: HashMap<QueueId, String>,
    attempts: HashMap<QueueId, HashMap<MessageId, Attempts>>,
    paused: HashSet<QueueId>,
    next_id: MessageId,
    next_queue_id: u64,
}

impl Rebuild {
    fn new(store: Arc<Store>, recovery: Recovery, limits: Limits) -> Result<Self, OpenFailed> {
        let mut damaged = HashMap::new();
        for damage in &recovery.damage {
            let what = format!("{} at {}: {}", damage.file, damage.offset, damage.what);
            damaged.extend(damage.queues.iter().map(|id| (*id, what.clone())));
        }
        let keep_orphans = !recovery.damage.is_empty();
        let notes = recovery.clean.map(|notes| {
            notes.into_iter().filter_map(|(id, note)| Some((id, decode_note(&note)?))).collect()
        });
        let mut rebuild = Self {
            store,
            limits,
            users: Users::default(),
            user_quotas: AllUserQuotas::default(),
            parameters: Parameters::default(),
            vhosts: HashMap::new(),
            content: recovery.queues.into_iter().map(|queue| (queue.id, queue)).collect(),
            notes,
            damaged,
            attempts: HashMap::new(),
            paused: HashSet::new(),
            next_id: recovery.next_id,
            // Durable queues are made faster in log octets than in numbers, so a position never names an old one.
            next_queue_id: recovery.next_id.0.max(1),
        };
        rebuild.read(&recovery.meta.into_iter().collect::<Vec<_>>())?;
        if !keep_orphans {
            rebuild.drop_orphans();
        }
        Ok(rebuild)
    }

    fn read(&mut self, meta: &[(Vec<u8>, Vec<u8>)]) -> Result<(), OpenFailed> {
        let mut keys = Vec::with_capacity(meta.len());
        for (bytes, value) in meta {
            let key = Key::decode(bytes).ok_or_else(|| unknown(bytes))?;
            match &key {
                Key::VHost(name) => {
                    let vhost = VHost::new(name);
                    vhost.set_metadata(VHostMetadata::decode(value).ok_or_else(|| unknown(bytes))?);
                    self.vhosts.insert(name.clone(), vhost);
                }
                Key::Attempts(queue, id) => {
                    let attempts = Attempts::decode(value).ok_or_else(|| unknown(bytes))?;
                    self.attempts.entry(*queue).or_default().insert(*id, attempts);
                }
                Key::Paused(queue) => drop(self.paused.insert(*queue)),
                Key::Damaged(queue) => {
                    let what = decode_damage(value).ok_or_else(|| unknown(bytes))?;
                    self.damaged.entry(*queue).or_insert(what);
                }
                _ => {}
            }
            keys.push((key, bytes, value));
        }
        for (key, bytes, value) in &keys {
            self.read_policy(key, value).ok_or_else(|| unknown(bytes))?;
        }
        self.vhosts.values().for_each(|vhost| vhost.recover_policies());
        for (key, bytes, value) in &keys {
            self.read_one(key, value).ok_or_else(|| unknown(bytes))?;
        }
        for (key, bytes, _) in &keys {
            if let Key::Binding(binding) = key {
                self.bind(binding).ok_or_else(|| unknown(bytes))?;
            }
        }
        self.recover_windows(&keys)
    }

    /// Gives each window against duplicates what it remembered.
    fn recover_windows(&self, keys: &[(Key, &Vec<u8>, &Vec<u8>)]) -> Result<(), OpenFailed> {
        let mut seen = Vec::new();
        for (key, bytes, value) in keys {
            if let Key::Seen(key) = key {
                seen.push((key, decode_seen(key.slot, value).ok_or_else(|| unknown(bytes))?));
            }
        }
        for notes in seen.chunk_by(|(a, _), (b, _)| a.is_of_same_window(b)) {
            if let Some(deduplicator) = self.deduplicator(notes[0].0) {
                deduplicator.recover(notes.iter().map(|(_, noted)| noted.clone()).collect());
            }
        }
        Ok(())
    }

    fn deduplicator(&self, key: &SeenKey) -> Option<Arc<Deduplicator>> {
        let vhost = self.vhosts.get(&key.vhost)?;
        match key.of_queue {
            true => vhost.queue(&key.name)?.deduplicator.clone(),
            false => vhost.exchange(&key.name)?.deduplicator.clone(),
        }
    }

    /// Before the queues and declared exchanges that it may be in force for.
    fn read_policy(&self, key: &Key, value: &[u8]) -> Option<()> {
        if let Key::Policy(author, vhost, name) = key {
            let policy = policies::decode(*author, name, value)?;
            self.vhosts.get(vhost)?.policies.write().put(*author, Arc::new(policy));
        }
        Some(())
    }

    fn read_one(&mut self, key: &Key, value: &[u8]) -> Option<()> {
        match key {
            Key::VHost(_) | Key::Binding(_) | Key::Attempts(..) => {}
            Key::Seen(_) | Key::Policy(..) | Key::Paused(_) | Key::Damaged(_) => {}
            Key::VHostLimits(vhost) => self.vhosts.get(vhost)?.set_limits(VHostLimits::decode(value)?),
            Key::UserLimits(user) => self.user_quotas.of(user).set(UserLimits::decode(value)?),
            Key::Parameter(component, vhost, name) => {
                self.parameters.put(Parameter::decode(component, vhost, name, value)?.into());
            }
            Key::GlobalParameter(name) => self.parameters.put_global(name, decode_global(value)?),
            Key::User(name) => self.users.restore(name, value)?,
            Key::Exchange(vhost, name) => {
                self.vhosts.get(vhost)?.add_exchange(name, decode_exchange(value)?);
            }
            Key::Queue(vhost, name) => {
                let (id, spec) = decode_queue(value)?;
                let kind = QueueKind::of(&spec.arguments);
                let ids = id.0..=id.0 + u64::from(kind.max_level(&spec.arguments));
                self.next_queue_id = self.next_queue_id.max(ids.end() + 1);
                let vhost = self.vhosts.get(vhost)?.clone();
                let policies = vhost.policies_for(name, &spec);
                let settings = Arc::new(self.limits.settings(kind, &spec.arguments, &policies));
                let life = match kind {
                    QueueKind::Stream => self.stream(id, settings.clone()),
                    QueueKind::Delays => self.delays(id),
                    QueueKind::Classic | QueueKind::Quorum | QueueKind::Delayed => {
                        self.life(ids, settings.clone())
                    }
                };
                let queue = Queue::new(id, name.as_str().into(), vhost.name.clone(), spec, life);
                queue.put_in_force(policies, settings);
                vhost.add_queue(queue);
            }
        }
        Some(())
    }

    /// The queue with these ids, one for each level.
    fn life(&mut self, ids: RangeInclusive<u64>, settings: Arc<Settings>) -> Life {
        let damage = ids.clone().find_map(|id| self.damaged.get(&QueueId(id)).cloned());
        let is_paused = self.paused.contains(&QueueId(*ids.start()));
        let found: Vec<_> = (0..=Level::MAX)
            .zip(ids.clone())
            .filter_map(|(level, id)| Some((level, self.content.remove(&QueueId(id))?)))
            .collect();
        let attempts = ids.filter_map(|id| self.attempts.remove(&QueueId(id))).flatten().collect();
        let last = found.iter().map(|(_, content)| number_of(content.last_pos)).max();
        let mut next_number = last.unwrap_or(0) + 1;
        let mut levels = Vec::with_capacity(found.len());
        for (level, content) in found {
            let seen = self.seen_before(content.id);
            let tail = logged(&content.log, (level, &mut next_number), &seen, settings.message_ttl_ms);
            levels.push((level, Ready::recovered(Some(content.segments), tail, seen)));
        }
        let mut state = QueueState::recovered(settings, Levels::recovered(levels), next_number);
        state.set_paused(is_paused);
        let mut life = Life::Alive(Rule::Work(state.with_attempts(attempts)));
        if let Some(what) = damage {
            life.take_offline(what);
        }
        life
    }

    fn stream(&mut self, id: QueueId, settings: Arc<Settings>) -> Life {
        let mut damage = self.damaged.get(&id).cloned();
        let (segments, logged) = match self.content.remove(&id) {
            Some(found) => (Some(found.segments).filter(|segments| !segments.is_empty()), found.log),
            None => (None, Vec::new()),
        };
        let first = match segments.as_ref().map_or(Ok(None), |segments| segments.first_head(&self.store)) {
            Ok(head) => head.map_or(0, |head| head.pos),
            Err(error) => {
                damage.get_or_insert(error.to_string());
                0
            }
        };
        let mut life = Life::Alive(Rule::Stream(StreamState::recovered(settings, segments, first, &logged)));
        if let Some(what) = damage {
            life.take_offline(what);
        }
        life
    }

    /// The delay queue with this id.
    fn delays(&mut self, id: QueueId) -> Life {
        let content = self.content.remove(&id);
        let (state, unreadable) =
            content.map(|content| DelayState::recovered(content, &self.store)).unwrap_or_default();
        let mut life = Life::Alive(Rule::Delays(state));
        let unreadable = unreadable.map(|damage| damage.to_string());
        if let Some(what) = self.damaged.get(&id).cloned().or(unreadable) {
            life.take_offline(what);
        }
        life
    }

    fn seen_before(&self, id: QueueId) -> SeenBefore {
        match &self.notes {
            Some(notes) => notes.get(&id).cloned().unwrap_or_default(),
            None => SeenBefore { below: self.next_id, also: Vec::new() },
        }
    }

    fn bind(&self, key: &BindingKey) -> Option<()> {
        let vhost = self.vhosts.get(&key.vhost)?;
        let destination = match key.to_queue {
            true => Destination::Queue(vhost.queue(&key.destination)?),
            false => Destination::Exchange(vhost.exchange(&key.destination)?),
        };
        let arguments = decode_arguments(&key.arguments)?;
        vhost.exchange(&key.source)?.bindings.write().add(destination, &key.routing_key, &arguments);
        Some(())
    }

    /// A queue whose deletion was logged, but whose files were not removed any more.
    fn drop_orphans(&mut self) {
        let queues = self.vhosts.values().flat_map(|vhost| vhost.queues());
        let known: HashSet<u64> = queues.flat_map(|queue| queue.store_ids()).collect();
        for id in self.attempts.keys().filter(|id| !known.contains(&id.0)) {
            if let Err(failed) = self.store.forget_notes(&attempts_of(*id), |_| false) {
                tracing::warn!(%failed, ?id, "notes of a deleted queue could not be removed");
            }
        }
        for (id, _) in self.content.drain().filter(|(id, _)| !known.contains(&id.0)) {
            if let Err(failed) = self.store.drop_queue(id, false) {
                tracing::warn!(%failed, ?id, "files of a deleted queue could not be removed");
            }
        }
    }

    fn finish(self) -> Broker {
        let resident = ResidentBytes::default();
        let users = (self.users, self.user_quotas);
        let mut broker =
            Broker::assemble(self.store, users, self.limits, resident, self.vhosts, self.next_queue_id);
        broker.parameters = self.parameters;
        for queue in broker.vhosts().iter().flat_map(|vhost| vhost.queues()) {
            broker.deadlines.add(0, &queue); // what expired meanwhile
        }
        broker
    }
}

fn unknown(key: &[u8]) -> OpenFailed {
    OpenFailed::UnknownRecord(key.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn encode_note(seen: &SeenBefore) -> Vec<u8> {
    let ids = std::iter::once(&seen.below).chain(&seen.also);
    ids.flat_map(|id| id.0.to_le_bytes()).collect()
}

fn decode_note(note: &[u8]) -> Option<SeenBefore> {
    let mut ids = note.chunks_exact(8).map(|id| Some(MessageId(u64::from_le_bytes(id.try_into().ok()?))));
    let below = ids.next()??;
    Some(SeenBefore { below, also: ids.collect::<Option<_>>()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_stop_remembers_what_was_delivered() {
        let seen = SeenBefore { below: MessageId(5), also: vec![MessageId(8), MessageId(13)] };
        let back = decode_note(&encode_note(&seen)).unwrap();
        assert_eq!((back.below, &back.also), (seen.below, &seen.also));
        assert!(back.contains(MessageId(4)) && back.contains(MessageId(13)) && !back.contains(MessageId(5)));
    }
}
