//! The domain model: sandboxes, their holders and states, jobs, principals, audit records, the state of CSP, and
//! statistics of the pool. No I/O.

mod action;
mod audit;
mod breaker;
mod candidate;
mod check;
mod creation;
mod csp_state;
mod extension;
mod forecast;
mod job;
mod leak;
mod lease;
mod lease_terms;
mod niosxaas;
mod pause;
mod percentile;
mod policy;
mod policy_version;
mod pool;
mod pool_state;
mod pool_target;
mod principal;
mod quota;
mod refill;
mod sandbox;
mod status;
mod text;
mod token;

pub use self::{
    action::{ActionOrder, ActionRefusal, SandboxAction},
    audit::{
        AUDIT_RETENTION, AuditAction, AuditRecord, AuditTarget, Author, DONE, Event, EventFilter,
    },
    breaker::{BreakerPhase, BreakerState},
    candidate::Candidate,
    check::{CheckRules, Observation, Verdict},
    creation::{Creation, CreationOutcome, CreationState, LAST_CREATION},
    csp_state::{CspState, ServiceState},
    extension::{ExtensionOrder, ExtensionRefusal},
    forecast::{
        LONGEST_FORECAST, PoolChange, PoolChanges, PoolForecast, PoolOutlook, Shortfall, forecast,
    },
    job::{JobName, JobState, RunId, RunRecord, RunState},
    leak::{Basis, LabHistory, Leak, SeenAllocation, Usual},
    lease::Lease,
    lease_terms::{
        FASTAPI_LAB_DURATION_HOURS, LONGEST_DURATION, LeaseTerms, SHORTEST_DURATION, lab_duration,
        whole_hours,
    },
    niosxaas::{NiosxaasOutcome, NiosxaasRecord, NiosxaasVerdict},
    pause::{Activity, InvalidEnd, LONGEST_PAUSE, Pause, Pauses, check_end},
    policy::{
        AdminUser, LabEntry, LabTerms, MAX_POLICY_BYTES, Policy, PolicyChange, PolicyDocument,
        PolicyFault, PolicyFaults, PoolCreation, PoolEntry, PoolTerms, Replaced, ScheduleEntry,
        ScheduleTime, StatedTerms, ZoneName,
    },
    policy_version::{NO_POLICY, POLICY_VERSIONS, PolicyVersion},
    pool::{
        Flow, PoolCounts, PoolSnapshot, SAMPLE_RETENTION, SAMPLE_SPAN, Sample, UnreadableCount,
    },
    pool_state::{PoolFacts, PoolState, PoolStatus, RefillProgress, Refusal, expected_available},
    pool_target::{PoolSupply, PoolTarget, RefillPace, ScheduledTarget, Urgency},
    principal::{Bounds, IssuedToken, OutOfBounds, Principal, Role, Roles},
    quota::{Held, LabUsage, LabsHeld, OTHER_LABS, permitted_slots},
    refill::{Closing, PoolContents, RefillLimit, RefillPlan, RefillState, RefillStop},
    sandbox::{Account, Holder, Maintenance, Quarantine, Readiness, Sandbox, account_key},
    status::{Status, Transition, UnknownStatus},
    text::{
        CallerId, IdempotencyKey, InvalidText, LabId, MAX_REASON, MAX_TEXT, NamePrefix, Reason,
        SandboxId, is_printable, one_line,
    },
    token::{InvalidGrant, Token, TokenGrant, TokenId},
};
