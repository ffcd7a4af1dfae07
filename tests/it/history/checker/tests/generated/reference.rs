//! A broker that does one thing after another, seen through answers that overlap, come late or get lost.

use std::{collections::BTreeMap, time::Duration};

use rand::{RngExt, SeedableRng, rngs::SmallRng, seq::IndexedRandom};

use super::super::super::super::event::{
    Allocated, ClaimRow, Event, Got, Grant, Released, Row, What,
};

const T0: i64 = 1_795_000_000;
const DURATION: i64 = 4 * 3600;
const GRACE: i64 = 1800;
const CALLERS: [&str; 4] = ["ann", "bob", "cyd", "dan"];
const KEYS: [&str; 2] = ["k", "l"];

#[derive(Clone)]
struct Item {
    row: Row,
    deletion_requested_at: i64,
    /// CSP lists it.
    is_listed: bool,
}

/// A call whose effect comes after its client has given up.
struct Late {
    caller: String,
    key: String,
    /// The sandbox to give back; without one, one is asked for.
    sandbox: Option<String>,
}

pub(super) struct Reference {
    rng: SmallRng,
    now: Duration,
    ahead: i64,
    items: BTreeMap<String, Item>,
    claims: BTreeMap<(String, String), (String, i64)>,
    tombstones: BTreeMap<String, Row>,
    made: usize,
    late: Vec<Late>,
    is_calm: bool,
    events: Vec<Event>,
}

impl Reference {
    /// The history of so many steps, and of a calm after them.
    pub(super) fn history(seed: u64, steps: usize) -> Vec<Event> {
        let mut reference = Self {
            rng: SmallRng::seed_from_u64(seed),
            now: Duration::from_secs(10),
            ahead: 0,
            items: BTreeMap::new(),
            claims: BTreeMap::new(),
            tombstones: BTreeMap::new(),
            made: 0,
            late: Vec::new(),
            is_calm: false,
            events: Vec::new(),
        };
        for _ in 0..10 {
            reference.make();
        }
        for _ in 0..steps {
            reference.step();
        }
        reference.calm_down();
        reference.events
    }

    fn calm_down(&mut self) {
        while let Some(late) = self.late.pop() {
            self.land(&late);
        }
        for _ in 0..10 {
            self.make();
        }
        self.now += Duration::from_secs(20);
        self.is_calm = true;
        self.note(What::Calm);
        self.now += Duration::from_secs(5);
        self.table();
        self.now += Duration::from_secs(20);
        for n in 0..4 {
            let caller = format!("late-{n}");
            self.ask(&caller, "k", None);
        }
        self.now += Duration::from_secs(5);
        self.table();
        self.now += Duration::from_secs(5);
    }

    fn clock(&self) -> i64 {
        T0 + self.ahead + i64::try_from(self.now.as_secs()).unwrap()
    }

    /// What happens now is seen to happen at some time about now.
    fn note(&mut self, what: What) {
        let before = Duration::from_millis(self.rng.random_range(0..1500));
        let after = Duration::from_millis(self.rng.random_range(0..1500));
        self.events.push(Event {
            began: self.now.saturating_sub(before),
            ended: self.now + after,
            what,
        });
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(self.rng.random_range(50..900));
        if !self.late.is_empty() && self.rng.random_ratio(1, 3) {
            let at = self.rng.random_range(0..self.late.len());
            let late = self.late.swap_remove(at);
            self.land(&late);
        }
        let caller = *CALLERS.choose(&mut self.rng).unwrap();
        let key = *KEYS.choose(&mut self.rng).unwrap();
        match self.rng.random_range(0..40) {
            0..12 => {
                let prefix = ["a-", "b-"].choose(&mut self.rng).copied();
                let prefix = prefix.filter(|_| self.rng.random_ratio(1, 3));
                self.ask(caller, key, prefix);
            }
            12..20 => self.give_back(caller),
            20..25 => self.look(caller),
            25..28 => self.make(),
            28 => self.hide(),
            29 => self.rename(),
            30..32 => self.expire_all(),
            32..35 => self.clean_up(),
            35 => self.reinstate(),
            36 => {
                let (from, step) = (self.clock(), self.rng.random_range(60..3 * 3600));
                self.note(What::Clock {
                    from,
                    to: from + step,
                });
                self.ahead += step;
            }
            37 => self.note(What::Killed { broker: 0 }),
            _ => self.table(),
        }
    }

    fn held_by(&self, caller: &str, key: &str) -> Option<String> {
        let has = |item: &&Item| {
            item.row.status == "allocated"
                && item.row.caller.as_deref() == Some(caller)
                && item.row.key.as_deref() == Some(key)
        };
        let item = self.items.values().find(has)?;
        Some(item.row.sandbox.clone())
    }

    fn expire(&mut self, sandbox: &str) -> bool {
        let now = self.clock();
        let item = self.items.get_mut(sandbox).unwrap();
        let is_over =
            item.row.status == "allocated" && now > item.row.allocated_at + DURATION + GRACE;
        if is_over {
            item.row.status = "pending_deletion".into();
            item.deletion_requested_at = now;
        }
        is_over
    }

    fn allocate(&mut self, caller: &str, key: &str, prefix: Option<&str>) -> Allocated {
        if let Some(held) = self.held_by(caller, key)
            && !self.expire(&held)
        {
            return Allocated::Again(granted(&self.items[&held].row));
        }
        let now = self.clock();
        let matches = |item: &&Item| {
            item.row.status == "available" && item.row.name.starts_with(prefix.unwrap_or(""))
        };
        let free: Vec<_> = self.items.values().filter(matches).collect();
        let Some(free) = free.choose(&mut self.rng) else {
            return Allocated::NoneLeft;
        };
        let sandbox = free.row.sandbox.clone();
        let row = &mut self.items.get_mut(&sandbox).unwrap().row;
        row.status = "allocated".into();
        row.caller = Some(caller.into());
        row.key = Some(key.into());
        row.allocated_at = now;
        let grant = granted(row);
        let pair = (caller.to_owned(), key.to_owned());
        self.claims.insert(pair, (sandbox, now));
        Allocated::New(grant)
    }

    fn release(&mut self, caller: &str, sandbox: &str) -> Released {
        let now = self.clock();
        let Some(item) = self.items.get_mut(sandbox) else {
            return Released::NotFound;
        };
        if item.row.caller.as_deref() != Some(caller) {
            return Released::NotOwner;
        }
        if item.row.status == "allocated" {
            if now > item.row.allocated_at + DURATION + GRACE {
                return Released::Expired;
            }
            item.row.status = "pending_deletion".into();
            item.deletion_requested_at = now;
        }
        Released::Done {
            deletion_requested_at: item.deletion_requested_at,
        }
    }

    fn land(&mut self, late: &Late) {
        match &late.sandbox {
            Some(sandbox) => {
                self.release(&late.caller, sandbox);
            }
            None => {
                self.allocate(&late.caller, &late.key, None);
            }
        }
    }

    /// Whether a call gets no answer; it may take effect now, later or never.
    fn is_lost(&mut self, late: Late) -> (bool, bool) {
        let is_lost = !self.is_calm && self.rng.random_ratio(1, 8);
        let is_late = is_lost && self.rng.random_ratio(1, 2);
        if is_late && self.rng.random_ratio(2, 3) {
            self.late.push(late);
        }
        (is_lost, is_late)
    }

    fn ask(&mut self, caller: &str, key: &str, prefix: Option<&str>) {
        let (is_lost, is_late) = self.is_lost(Late {
            caller: caller.into(),
            key: key.into(),
            sandbox: None,
        });
        let lost = || Allocated::Unknown("lost".into());
        let mut answer = if is_late {
            lost()
        } else {
            self.allocate(caller, key, prefix)
        };
        if is_lost {
            answer = lost();
        }
        self.note(What::Allocate {
            caller: caller.into(),
            key: key.into(),
            prefix: prefix.map(Into::into),
            answer,
        });
    }

    /// Mostly one of the caller's own.
    fn some_sandbox(&mut self, caller: &str) -> Option<String> {
        let own: Vec<_> = self
            .items
            .values()
            .map(|item| &item.row)
            .chain(self.tombstones.values())
            .filter(|row| row.caller.as_deref() == Some(caller))
            .map(|row| row.sandbox.clone())
            .collect();
        let own = own.choose(&mut self.rng).cloned();
        if self.rng.random_ratio(1, 6) || own.is_none() {
            let all: Vec<_> = self.items.keys().cloned().collect();
            return all.choose(&mut self.rng).cloned();
        }
        own
    }

    fn give_back(&mut self, caller: &str) {
        let Some(sandbox) = self.some_sandbox(caller) else {
            return;
        };
        let (is_lost, is_late) = self.is_lost(Late {
            caller: caller.into(),
            key: String::new(),
            sandbox: Some(sandbox.clone()),
        });
        let lost = || Released::Unknown("lost".into());
        let mut answer = if is_late {
            lost()
        } else {
            self.release(caller, &sandbox)
        };
        if is_lost {
            answer = lost();
        }
        self.note(What::Release {
            caller: caller.into(),
            sandbox,
            answer,
        });
    }

    fn look(&mut self, caller: &str) {
        let Some(sandbox) = self.some_sandbox(caller) else {
            return;
        };
        let answer = match self.items.get(&sandbox) {
            None => Got::NotFound,
            Some(Item { row, .. }) if row.caller.as_deref() == Some(caller) => Got::Is {
                status: row.status.clone(),
                allocated_at: row.allocated_at,
                expires_at: row.allocated_at + DURATION,
            },
            Some(_) => Got::NotOwner,
        };
        self.note(What::Get {
            caller: caller.into(),
            sandbox,
            answer,
        });
    }

    fn make(&mut self) {
        self.made += 1;
        let sandbox = format!("s{}", self.made);
        let name = format!("{}-{sandbox}", ["a", "b"].choose(&mut self.rng).unwrap());
        let external_id = format!("identity/accounts/{sandbox}");
        self.note(What::AccountMade {
            sandbox: sandbox.clone(),
            name: name.clone(),
            external_id: external_id.clone(),
        });
        let row = Row {
            sandbox: sandbox.clone(),
            name,
            external_id,
            status: "available".into(),
            caller: None,
            key: None,
            allocated_at: 0,
            deletion_retry_count: 0,
        };
        let item = Item {
            row,
            deletion_requested_at: 0,
            is_listed: true,
        };
        self.items.insert(sandbox, item);
    }

    fn some_unused(&mut self) -> Option<String> {
        let unused = |item: &&Item| matches!(item.row.status.as_str(), "available" | "stale");
        let unused: Vec<_> = self.items.values().filter(unused).collect();
        Some(unused.choose(&mut self.rng)?.row.sandbox.clone())
    }

    /// CSP hides it and a sync sees it, or it is back.
    fn hide(&mut self) {
        let Some(sandbox) = self.some_unused() else {
            return;
        };
        let item = self.items.get_mut(&sandbox).unwrap();
        item.is_listed = !item.is_listed;
        let (status, what) = if item.is_listed {
            ("available", What::AccountShown { sandbox })
        } else {
            ("stale", What::AccountHidden { sandbox })
        };
        item.row.status = status.into();
        self.note(what);
    }

    fn rename(&mut self) {
        let Some(sandbox) = self.some_unused() else {
            return;
        };
        let prefix = ["a", "b"].choose(&mut self.rng).unwrap();
        let name = format!("{prefix}-renamed-{}", self.made);
        let item = self.items.get_mut(&sandbox).unwrap();
        item.row.name.clone_from(&name);
        self.note(What::AccountRenamed { sandbox, name });
    }

    fn expire_all(&mut self) {
        let all: Vec<_> = self.items.keys().cloned().collect();
        for sandbox in all {
            self.expire(&sandbox);
        }
        self.job("auto-expire");
    }

    fn job(&mut self, name: &str) {
        self.note(What::Job {
            name: name.into(),
            report: None,
        });
    }

    fn clean_up(&mut self) {
        let due = |item: &&Item| item.row.status == "pending_deletion";
        let due: Vec<_> = self.items.values().filter(due).cloned().collect();
        for Item { row, .. } in due {
            if self.rng.random_ratio(1, 4) {
                let item = self.items.get_mut(&row.sandbox).unwrap();
                item.row.deletion_retry_count += 1;
                continue;
            }
            self.note(What::AccountDeleted {
                external_id: row.external_id.clone(),
            });
            // A run may end before it writes what it did.
            if self.rng.random_ratio(3, 4) {
                self.items.remove(&row.sandbox);
                self.tombstones.insert(row.sandbox.clone(), row);
            }
        }
        self.job("cleanup");
    }

    /// CSP still lists what it was told to delete.
    fn reinstate(&mut self) {
        if let Some((sandbox, mut row)) = self.tombstones.pop_first() {
            row.deletion_retry_count = 0;
            let item = Item {
                row,
                deletion_requested_at: self.clock(),
                is_listed: true,
            };
            self.items.insert(sandbox, item);
            self.job("sync");
        }
    }

    /// Item by item, while other things happen.
    fn table(&mut self) {
        let began = self.now;
        let mut first: Vec<_> = self.items.values().map(|item| item.row.clone()).collect();
        let claims = self.claim_rows();
        let tombstones = self.tombstones.keys().cloned().collect();
        if !self.is_calm {
            for _ in 0..self.rng.random_range(0..3) {
                self.step();
            }
            for row in &mut first {
                let now = self.items.get(&row.sandbox);
                if let Some(now) = now.filter(|_| self.rng.random_ratio(1, 2)) {
                    *row = now.row.clone();
                }
            }
        }
        self.events.push(Event {
            began,
            ended: self.now,
            what: What::Table {
                sandboxes: first,
                claims,
                tombstones,
            },
        });
    }

    fn claim_rows(&self) -> Vec<ClaimRow> {
        let row = |((caller, key), (sandbox, at)): (&(String, String), &(String, i64))| ClaimRow {
            caller: caller.clone(),
            key: key.clone(),
            sandbox: sandbox.clone(),
            allocated_at: *at,
        };
        self.claims.iter().map(row).collect()
    }
}

fn granted(row: &Row) -> Grant {
    Grant {
        sandbox: row.sandbox.clone(),
        name: row.name.clone(),
        external_id: row.external_id.clone(),
        allocated_at: row.allocated_at,
        expires_at: row.allocated_at + DURATION,
    }
}
