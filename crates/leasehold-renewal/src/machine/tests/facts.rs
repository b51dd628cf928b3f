//! The facts that the commands and the events so far establish.

use std::collections::{BTreeMap, BTreeSet};

use leasehold_core::Generation;

use super::{
    super::{Command, Event, Id, Moment},
    world::World,
};

/// The sum of the commands so far.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) bounds: BTreeMap<u32, Moment>,
    /// When the last grant was set aside.
    pub(super) set_aside_at: Option<Moment>,
    pub(super) let_go: BTreeSet<Generation>,
    pub(super) set_aside: BTreeSet<Generation>,
    pub(super) forgotten: BTreeSet<Generation>,
    pub(super) published: BTreeSet<Generation>,
    pub(super) last_request: Option<Moment>,
    pub(super) last_id: u32,
    /// Until when users may let go by themselves, once it ends.
    pub(super) users_until: Option<Moment>,
    /// When it is to be over.
    pub(super) deadline: Option<Moment>,
}

impl Facts {
    pub(super) fn new() -> Self {
        Self {
            bounds: BTreeMap::new(),
            set_aside_at: None,
            let_go: BTreeSet::new(),
            set_aside: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            published: BTreeSet::new(),
            last_request: None,
            last_id: 0,
            users_until: None,
            deadline: None,
        }
    }
}

impl World {
    pub(super) fn note(&mut self, event: &Event, commands: &[Command]) {
        let facts = &mut self.seen;
        match event {
            Event::LetGo(generation) => _ = facts.let_go.insert(*generation),
            Event::Stop { deadline } if facts.users_until.is_none() => {
                facts.users_until = Some(self.now + self.now.until(*deadline).mul_f64(0.7));
                facts.deadline = Some(*deadline);
            }
            Event::Unread | Event::WaiterGone if facts.users_until.is_none() => {
                facts.users_until = Some(self.now);
            }
            _ => {}
        }
        for command in commands {
            match command {
                Command::Publish { generation, .. } => _ = facts.published.insert(*generation),
                Command::SetAside { generation, .. } => {
                    facts.set_aside_at = Some(self.now);
                    facts.set_aside.insert(*generation);
                }
                Command::Forget(generation) => _ = facts.forgotten.insert(*generation),
                Command::Issue(Id(id)) => (facts.last_request, facts.last_id) = (Some(self.now), *id),
                Command::Renew { id, bound, .. } => {
                    (facts.last_request, facts.last_id) = (Some(self.now), id.0);
                    facts.bounds.insert(id.0, self.now + *bound);
                }
                Command::Revoke { id, bound, .. } => {
                    facts.last_id = id.0;
                    facts.bounds.insert(id.0, self.now + *bound);
                }
                _ => {}
            }
        }
    }
}
