//! The terms of every lab and pool, prepared for lookups.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{
    document::{PolicyDocument, PoolEntry, StatedTerms},
    pool_terms::PoolTerms,
    schedule::ScheduleEntry,
    terms::LabTerms,
};
use crate::{
    clock::UnixSeconds,
    domain::{LabId, LeaseTerms, Sandbox, Status, lab_duration},
};

/// The replacements of a holder where no document states them.
const DEFAULT_MAX_REPLACEMENTS: u32 = 3;

/// The terms of every lab and pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    defaults: Arc<LabTerms>,
    labs: HashMap<LabId, Arc<LabTerms>>,
    /// The terms of patterns, by the beginning of the ids that they stand for.
    patterns: HashMap<LabId, Arc<LabTerms>>,
    /// The lengths of these beginnings, in bytes, the longest first. A lookup tries each, so that its cost depends on
    /// their number, not on that of the labs.
    pattern_lengths: Vec<usize>,
    /// By name prefix.
    pools: Vec<PoolTerms>,
}

impl Policy {
    /// Returns the policy of a document. The terms that it does not state are those of the environment.
    #[must_use]
    pub fn new(document: &PolicyDocument, environment: LeaseTerms) -> Self {
        let environment = lab_duration(environment.lab_duration_hours);
        let defaults = resolve(&document.defaults, &StatedTerms::default(), environment);
        let mut labs = HashMap::new();
        let mut patterns = HashMap::new();
        for entry in &document.lab {
            let terms = Arc::new(LabTerms {
                name_prefix: entry.name_prefix.clone(),
                max_held: entry.max_held,
                ..resolve(&entry.terms, &document.defaults, environment)
            });
            match entry.pattern() {
                Some(beginning) => patterns.insert(LabId::stored(beginning), terms),
                None => labs.insert(entry.id.clone(), terms),
            };
        }
        let mut pattern_lengths: Vec<_> = patterns
            .keys()
            .map(|id: &LabId| id.as_str().len())
            .collect();
        pattern_lengths.sort_unstable_by(|a, b| b.cmp(a));
        pattern_lengths.dedup();
        let mut pools: Vec<_> = document.pool.iter().map(pool_terms).collect();
        pools.sort_unstable_by(|a, b| a.name_prefix.cmp(&b.name_prefix));
        Self {
            defaults: Arc::new(defaults),
            labs,
            patterns,
            pattern_lengths,
            pools,
        }
    }

    /// Returns the policy without a document: every lab has the terms of the environment.
    #[must_use]
    pub fn of_environment(terms: LeaseTerms) -> Self {
        Self::new(&PolicyDocument::default(), terms)
    }

    /// Returns the latest end that extensions by its holder can give an allocation, or the end that an operator has set
    /// if that is later; `None` if the sandbox is not allocated.
    #[must_use]
    pub fn latest_end(&self, sandbox: &Sandbox) -> Option<UnixSeconds> {
        let is_allocated = sandbox.status == Status::Allocated;
        let end = sandbox.expires_at.filter(|_| is_allocated)?;
        let longest = self.terms_of(sandbox.lab()).max_duration;
        Some(end.max(sandbox.allocated_at + longest))
    }

    /// Returns the terms of a lab: those of the entry with its id, else of the longest pattern that its id matches, else
    /// the defaults. A play without a lab has the defaults.
    #[must_use]
    pub fn terms_of(&self, lab: Option<&LabId>) -> Arc<LabTerms> {
        let entry = lab.and_then(|lab| self.entry_of(lab));
        Arc::clone(entry.unwrap_or(&self.defaults))
    }

    /// Returns whether an entry of the document stands for a lab: exactly, or as a pattern.
    #[must_use]
    pub fn names(&self, lab: &LabId) -> bool {
        self.entry_of(lab).is_some()
    }

    /// Returns the labs that have a quota in an entry with their id, and the quota. Labs that match a pattern with a quota
    /// are not among them: only [`Policy::terms_of`] knows them.
    pub fn quotas(&self) -> impl Iterator<Item = (&LabId, u32)> {
        let with_quota = |(lab, terms): (_, &Arc<LabTerms>)| Some((lab, terms.max_held?));
        self.labs.iter().filter_map(with_quota)
    }

    /// Returns the terms of the pools, in the order of their name prefixes.
    #[must_use]
    pub fn pools(&self) -> &[PoolTerms] {
        &self.pools
    }

    /// Returns the position in [`pools`](Self::pools) of the pool to which a sandbox of this name belongs. Prefixes do not
    /// overlap, so that no other prefix is between the name and that of its pool.
    #[must_use]
    pub fn pool_of(&self, name: &str) -> Option<usize> {
        let after = self
            .pools
            .partition_point(|pool| pool.name_prefix.as_str() <= name);
        let index = after.checked_sub(1)?;
        let prefix = self.pools[index].name_prefix.as_str();
        name.starts_with(prefix).then_some(index)
    }

    fn entry_of(&self, lab: &LabId) -> Option<&Arc<LabTerms>> {
        let matching = |length: &usize| self.patterns.get(lab.as_str().get(..*length)?);
        let exact = self.labs.get(lab);
        exact.or_else(|| self.pattern_lengths.iter().find_map(matching))
    }
}

fn pool_terms(entry: &PoolEntry) -> PoolTerms {
    let mut schedules: Vec<_> = entry
        .schedule
        .iter()
        .filter_map(ScheduleEntry::resolve)
        .collect();
    schedules.sort_by_key(|schedule| schedule.from);
    PoolTerms {
        name_prefix: entry.name_prefix.clone(),
        target_available: entry.target_available.unwrap_or(0),
        max_total: entry.max_total,
        schedules,
        create: entry.create.clone(),
    }
}

/// Returns the terms in force where `stated` goes before `defaults`, and these before the environment. The maximum caps
/// the duration: the document cannot know that of the environment.
fn resolve(stated: &StatedTerms, defaults: &StatedTerms, environment: Duration) -> LabTerms {
    let minutes = |minutes: u32| Duration::from_mins(minutes.into());
    let duration = stated.duration_minutes.or(defaults.duration_minutes);
    let duration = duration.map_or(environment, minutes);
    let max = stated
        .max_duration_minutes
        .or(defaults.max_duration_minutes);
    let max_duration = max.map_or(duration, minutes);
    let max_replacements = stated.max_replacements.or(defaults.max_replacements);
    LabTerms {
        duration: duration.min(max_duration),
        max_duration,
        max_replacements: max_replacements.unwrap_or(DEFAULT_MAX_REPLACEMENTS),
        replaced: stated.replaced.or(defaults.replaced).unwrap_or_default(),
        name_prefix: None,
        max_held: None,
    }
}
