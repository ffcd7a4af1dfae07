//! The policy: a document that operators write, and the terms of each lab that follow from it.

mod collector;
mod difference;
mod document;
mod fault;
mod lookup;
mod parse;
mod path;
mod pool_terms;
mod schedule;
mod terms;
#[cfg(test)]
mod tests;
mod text;
mod unique;

pub use self::{
    difference::PolicyChange,
    document::{
        AdminUser, LabEntry, MAX_POLICY_BYTES, PolicyDocument, PoolCreation, PoolEntry, StatedTerms,
    },
    fault::{PolicyFault, PolicyFaults},
    lookup::Policy,
    pool_terms::PoolTerms,
    schedule::{ScheduleEntry, ScheduleTime, ZoneName},
    terms::{LabTerms, Replaced},
};
