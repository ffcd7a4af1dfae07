//! The facts that each event shows.

use std::{collections::BTreeMap, time::Duration};

use super::{
    super::super::event::{
        ActAnswer, AllocateAnswer, Event, EventKind, ExtendAnswer, GetAnswer, Grant, ReleaseAnswer,
        ReplaceAnswer, Row,
    },
    Act, Facts, Phase, SandboxFacts, Sighting,
};

impl<'a> Facts<'a> {
    fn known(&mut self, sandbox: &'a str) -> &mut SandboxFacts<'a> {
        self.sandboxes.entry(sandbox).or_default()
    }

    pub(super) fn note(&mut self, at: usize, event: &'a Event) {
        match &event.kind {
            EventKind::Allocate {
                caller,
                key,
                lab,
                answer: answer @ (AllocateAnswer::New(grant) | AllocateAnswer::Replayed(grant)),
                ..
            } => {
                let is_new = matches!(answer, AllocateAnswer::New(_));
                self.note_grant(at, (caller, key), grant, is_new);
                let known = self.known(&grant.sandbox);
                known.lab = known.lab.or(lab.as_deref());
            }
            EventKind::Allocate {
                caller,
                answer: AllocateAnswer::Unknown(_) | AllocateAnswer::Paused,
                ..
            } => {
                self.note_lost(caller, event);
            }
            EventKind::Extend {
                sandbox, answer, ..
            } => self.note_extension(at, sandbox, answer),
            EventKind::Replace {
                caller,
                key,
                sandbox,
                answer,
            } => self.note_replacement(at, (caller, key), sandbox, answer),
            EventKind::PauseOrdered { activity } if activity == "allocations" => {
                let first = self.paused.unwrap_or(Duration::MAX);
                self.paused = Some(first.min(event.began));
            }
            EventKind::Job { name, .. } if name.contains("bulk") => {
                let first = self.removed.unwrap_or(Duration::MAX);
                self.removed = Some(first.min(event.began));
            }
            EventKind::Release {
                caller,
                sandbox,
                answer,
            } => {
                let known = self.known(sandbox);
                match answer {
                    ReleaseAnswer::Done { .. } => known.views.push((Phase::Retired, at)),
                    ReleaseAnswer::Expired => known.views.push((Phase::Held, at)),
                    _ => {}
                }
                if !matches!(answer, ReleaseAnswer::Expired | ReleaseAnswer::NotOwner) {
                    known.releases.push((at, caller));
                }
            }
            EventKind::Get {
                sandbox,
                answer: GetAnswer::Found { status, .. },
                ..
            } => {
                // Only a present or past holder gets this answer.
                let view = Phase::of(status, true).map(|phase| (phase, at));
                self.known(sandbox).views.extend(view);
            }
            EventKind::Act {
                sandbox,
                action,
                answer,
            } => self.note_act(at, sandbox, action, answer),
            EventKind::AccountCreated {
                sandbox,
                name,
                external_id,
            }
            | EventKind::AccountOrdered {
                sandbox,
                name,
                external_id,
                ..
            } => {
                let known = self.known(sandbox);
                known.names.push((at, name));
                known.external_id = Some(external_id);
            }
            EventKind::AccountRenamed { sandbox, name } => {
                let known = self.known(sandbox);
                known.names.push((at, name));
                let first = known.renamed.unwrap_or(Duration::MAX);
                known.renamed = Some(first.min(event.began));
            }
            EventKind::AccountHidden { sandbox } => {
                let known = self.known(sandbox);
                let first = known.hidden.unwrap_or(Duration::MAX);
                known.hidden = Some(first.min(event.began));
            }
            EventKind::Table { sandboxes, .. } => {
                self.tables.push(at);
                for row in sandboxes {
                    self.note_row(at, row);
                }
            }
            _ => {}
        }
    }

    fn note_grant(
        &mut self,
        at: usize,
        (caller, key): (&'a str, &'a str),
        grant: &'a Grant,
        is_new: bool,
    ) {
        let known = self.known(&grant.sandbox);
        known.external_id = known.external_id.or(Some(&grant.external_id));
        if is_new {
            known.views.push((Phase::Pool, at));
        }
        known.views.push((Phase::Held, at));
        known.ends.push((at, grant.expires_at));
        known.sightings.push(Sighting {
            at,
            caller,
            key,
            allocated_at: grant.allocated_at,
            grant: Some(grant),
            is_new,
        });
    }

    fn note_lost(&mut self, caller: &'a str, event: &Event) {
        let first = self.lost.entry(caller).or_insert(Duration::MAX);
        *first = event.began.min(*first);
    }

    fn note_extension(&mut self, at: usize, sandbox: &'a str, answer: &ExtendAnswer) {
        let known = self.known(sandbox);
        let is_done = match answer {
            ExtendAnswer::Done { expires_at, .. } => {
                known.ends.push((at, *expires_at));
                true
            }
            ExtendAnswer::Unknown(_) => false,
            ExtendAnswer::Limit => {
                known.views.push((Phase::Held, at));
                return;
            }
            _ => return,
        };
        if is_done {
            known.views.push((Phase::Held, at));
        }
        known.acts.push(Act {
            at,
            action: "extend",
            is_done,
        });
    }

    fn note_replacement(
        &mut self,
        at: usize,
        (caller, key): (&'a str, &'a str),
        old: &'a str,
        answer: &'a ReplaceAnswer,
    ) {
        match answer {
            ReplaceAnswer::New(grant) => {
                self.note_grant(at, (caller, key), grant, true);
                let known = self.known(&grant.sandbox);
                known.replaces = known.replaces.or(Some((at, old)));
                self.known(old).views.push((Phase::Held, at));
            }
            ReplaceAnswer::Current(grant) => self.note_grant(at, (caller, key), grant, false),
            ReplaceAnswer::Unknown(_) | ReplaceAnswer::Paused => {
                self.note_lost(caller, &self.events[at]);
            }
            ReplaceAnswer::Ended => {}
            ReplaceAnswer::NoneLeft | ReplaceAnswer::Limit => {
                self.known(old).refused.push(at);
                return;
            }
            ReplaceAnswer::NotOwner | ReplaceAnswer::NotFound => return,
        }
        let known = self.known(old);
        known.replacements.push((at, caller));
        if matches!(answer, ReplaceAnswer::New(_) | ReplaceAnswer::Current(_)) {
            known.views.push((Phase::Retired, at));
        }
    }

    fn note_act(&mut self, at: usize, sandbox: &'a str, action: &'a str, answer: &'a ActAnswer) {
        let known = self.known(sandbox);
        let is_done = matches!(answer, ActAnswer::Done { .. });
        if let ActAnswer::Done {
            status,
            caller,
            expires_at,
        } = answer
        {
            let phase = Phase::of(status, caller.is_some());
            known.views.extend(phase.map(|phase| (phase, at)));
            known.ends.extend(expires_at.map(|end| (at, end)));
        }
        if !matches!(answer, ActAnswer::Refused(_)) {
            known.acts.push(Act {
                at,
                action,
                is_done,
            });
        }
    }

    fn note_row(&mut self, at: usize, row: &'a Row) {
        let known = self.known(&row.sandbox);
        known.external_id = known.external_id.or(Some(&row.external_id));
        known.rows.push((at, row));
        known.lab = known.lab.or(row.lab.as_deref());
        let Some(phase) = Phase::of(&row.status, row.caller.is_some()) else {
            return;
        };
        known.views.push((phase, at));
        if let (Some(caller), Some(key), true) = (&row.caller, &row.key, phase > Phase::Pool) {
            known.sightings.push(Sighting {
                at,
                caller,
                key,
                allocated_at: row.allocated_at,
                grant: None,
                is_new: false,
            });
        }
    }

    pub(super) fn note_deletions(&mut self, deleted: &[(usize, &'a str)]) {
        let by_account: BTreeMap<&str, &str> = self
            .sandboxes
            .iter()
            .filter_map(|(sandbox, known)| Some((known.external_id?, *sandbox)))
            .collect();
        for (at, external_id) in deleted {
            if let Some(sandbox) = by_account.get(external_id) {
                self.known(sandbox).deletions.push(*at);
            }
        }
    }
}
