//! Every account is created once, and every sandbox ends in the pool or in quarantine, whatever fails.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use reqwest::Method;
use sandbox_broker::{
    clock::{ManualClock, UnixSeconds},
    csp::simulator::{AccountDelays, Call, Fault, FaultKind, Settings},
    domain::Status,
};
use tokio::task::JoinHandle;

use super::{
    mortal::MortalBroker,
    world::{World, policy, run_until_settled},
};
use crate::support::{
    ADMIN, BrokerClient, Proxy, START, TestBroker,
    proxy::{self, Gate},
};

/// The target of the pool, unless `TRIAL_CREATIONS` names another one. Then the rounds go on until that many accounts exist.
const CREATIONS: usize = 100;
/// About as many writes as a run of refill, of sync and of check make together.
const STEPS: usize = 18;
/// How many accounts are left for the end, when all is well again.
const REST: usize = 20;
/// The time from one round to the next. The leases of the last round are over then.
const ROUND: Duration = Duration::from_mins(5);
/// How far the clock of the broker of a round is ahead, in seconds. Where it is 30, another broker knows its leases to be
/// in force; where it is anything else, another broker takes them over while the first one is at work.
const AHEAD: [i64; 5] = [7_200, 30, -3_600, 100, -86_400];
/// Accounts that CSP never lets anybody use.
const BROKEN: [&str; 3] = ["lab-r000005", "lab-r000012", "lab-r000020"];

/// The end or interruption of a broker at a write of one of its runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is killed, and the write is lost.
    KilledBefore,
    /// It is killed, but the write is made.
    KilledAfter,
    /// It stops for so long that another broker does the work of all jobs, and goes on.
    Overtaken,
}

const FATES: [Fate; 3] = [Fate::KilledBefore, Fate::KilledAfter, Fate::Overtaken];

/// Faults of every call, in turn. `BROKEN` ones are refused for good.
fn faults() -> Vec<Fault> {
    let every = |on, every, kind| Fault {
        on,
        every: Some(every),
        ..Fault::always(kind)
    };
    let status = |code| FaultKind::Status { code };
    let mut faults = broken_accounts();
    faults.extend([
        every(Call::Create, 13, FaultKind::LostAnswer { code: 502 }),
        every(Call::Create, 17, FaultKind::Reset),
        every(Call::Create, 19, status(503)),
        every(Call::Create, 23, status(409)),
        every(Call::Create, 29, status(429)),
        every(Call::Create, 31, status(403)),
        every(Call::Find, 6, FaultKind::Duplicates),
        every(Call::Find, 11, status(500)),
        every(Call::List, 3, FaultKind::Duplicates),
        every(Call::List, 5, status(500)),
        every(Call::SignIn, 5, status(503)),
        every(Call::Switch, 7, status(409)),
        every(Call::Switch, 11, FaultKind::Reset),
        every(Call::Groups, 5, FaultKind::Empty),
        every(Call::Groups, 9, status(500)),
    ]);
    faults
}

fn broken_accounts() -> Vec<Fault> {
    vec![Fault {
        on: Call::Switch,
        names: BROKEN.map(ToOwned::to_owned).into(),
        ..Fault::always(FaultKind::Status { code: 403 })
    }]
}

/// Starts the jobs one after the other, whatever becomes of each.
fn start_jobs(client: BrokerClient) -> JoinHandle<()> {
    tokio::spawn(async move {
        for job in ["refill", "sync", "check"] {
            let path = format!("/v1/admin/{job}");
            let request = client.request(Method::POST, &path).bearer_auth(ADMIN);
            let _ = client.try_send(request).await;
        }
    })
}

/// Holds back the write with this number, from 0 on.
fn hold_write(proxy: &Proxy, number: usize) -> Gate {
    let seen = AtomicUsize::new(0);
    proxy.hold(move |call| {
        let is_write = matches!(call.operation.as_str(), "UpdateItem" | "TransactWriteItems");
        is_write && seen.fetch_add(1, Ordering::SeqCst) == number
    })
}

/// The trial: a pool that is being filled by brokers that end, stop and disagree about the time.
struct Trial {
    world: World,
    target: usize,
    proxy: Proxy,
    /// A broker that lives as long as the trial.
    other: TestBroker,
    now: UnixSeconds,
    /// The name that two accounts had before refill came to it.
    twice: String,
    /// The fates that brokers have met.
    met: Vec<Fate>,
}

impl Trial {
    async fn new(target: usize) -> Self {
        let world = World::new().await;
        world.simulator.configure(Settings {
            listing_delay: ROUND,
            usable_delay: ROUND * 2,
            ..Settings::default()
        });
        world.simulator.inject(faults());
        let other = world.broker(&[("REFILL_BATCH", "3")]).await;
        other.client.set_policy(0, &policy(target)).await;
        Self {
            proxy: Proxy::to(world.pool.engine.endpoint()).await,
            world,
            target,
            other,
            now: START,
            twice: String::new(),
            met: Vec::new(),
        }
    }

    /// Creates two accounts of the name that refill uses next, which no sync lists before.
    async fn add_next_name_twice(&mut self) {
        let items = self.world.refill_items("lab").await;
        self.twice = format!("lab-r{:06}", items.state.last_number + 1);
        let mut settings = self.world.simulator.settings();
        settings.accounts = vec![AccountDelays {
            names: vec![self.twice.clone()],
            listing_delay: Some(ROUND * 6),
            ..AccountDelays::default()
        }];
        self.world.simulator.configure(settings);
        self.world.add_accounts([&self.twice, &self.twice]);
    }

    /// Boots the broker of a round, whose clock is wrong.
    async fn victim(&self, round: usize) -> MortalBroker {
        let endpoint = self.proxy.endpoint();
        let more = [
            ("DDB_ENDPOINT_URL", endpoint.as_str()),
            ("REFILL_BATCH", "3"),
        ];
        let ahead = AHEAD[round % AHEAD.len()];
        let clock = Arc::new(ManualClock::new(UnixSeconds(self.now.0 + ahead)));
        MortalBroker::boot(self.world.variables(&more), clock).await
    }

    /// Lets a broker meet its fate at one of its writes.
    async fn round(&mut self, round: usize, write: usize, fate: Fate) {
        let victim = self.victim(round).await;
        let gate = hold_write(&self.proxy, write);
        let mut jobs = start_jobs(victim.client());
        let is_held = tokio::select! {
            () = gate.wait_for_one() => true,
            _ = &mut jobs => false,
        };
        if is_held {
            self.met.push(fate);
        }
        if is_held && fate == Fate::Overtaken {
            start_jobs(self.other.client.clone()).await.unwrap();
            gate.open();
            jobs.await.unwrap();
        } else if is_held && fate == Fate::KilledBefore {
            for operation in ["UpdateItem", "TransactWriteItems"] {
                self.proxy.inject_once(operation, proxy::Fault::DropRequest);
            }
        }
        victim.kill();
        gate.open();
        self.proxy.until_quiet().await;
        self.proxy.calm();
        self.end_round();
    }

    /// Kills a broker while CSP serves one of its calls, which it never answers.
    async fn round_without_answer(&mut self, round: usize, call: Call) {
        let received = |calls: sandbox_broker::csp::simulator::Calls| match call {
            Call::Create => calls.create,
            Call::Find => calls.find,
            _ => calls.switches,
        };
        let simulator = self.world.simulator.clone();
        let before = received(simulator.calls());
        let mut hanging = vec![Fault {
            on: call,
            ..Fault::always(FaultKind::Hang)
        }];
        hanging.extend(broken_accounts());
        simulator.inject(hanging);
        let victim = self.victim(round).await;
        let mut jobs = start_jobs(victim.client());
        while received(simulator.calls()) == before && !jobs.is_finished() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        victim.kill();
        let _ = (&mut jobs).await;
        self.proxy.until_quiet().await;
        simulator.inject(faults());
        self.end_round();
    }

    fn accounts(&self) -> usize {
        self.world.simulator.accounts().len()
    }

    fn end_round(&mut self) {
        self.now = self.now + ROUND;
        self.other.clock.advance(ROUND);
        self.world.simulator.advance(ROUND).unwrap();
        let accounts = self.world.accounts_by_name();
        let twice: Vec<_> = accounts.iter().filter(|(_, count)| **count > 1).collect();
        assert!(
            twice.iter().all(|(name, _)| **name == self.twice),
            "created more than once: {twice:?}"
        );
        // Each account that can never be used is replaced.
        let existing = self.accounts();
        assert!(
            existing <= self.target + BROKEN.len(),
            "{existing} accounts"
        );
    }

    /// Checks the pool when all faults are over and nothing is left to do.
    async fn verify(&self) {
        let quarantined = self.world.in_status(Status::Quarantined).await;
        let names: BTreeSet<_> = quarantined.iter().map(|it| &it.account.name[..]).collect();
        assert_eq!(names, BTreeSet::from(BROKEN));
        for sandbox in quarantined {
            let reason = sandbox.quarantine.reason.as_deref();
            assert!(reason.is_some_and(|it| it.contains("403")), "{sandbox:?}");
        }
        let available = self.world.in_status(Status::Available).await.len();
        let all = self.world.pool.sandboxes().await.len();
        assert_eq!((available, all), (self.target, self.target + BROKEN.len()));
        let accounts = self.world.accounts_by_name();
        assert_eq!(accounts.values().sum::<usize>(), all, "{accounts:?}");

        assert_eq!(self.world.refill_items("lab").await.creations, []);
        let mut outcomes = self.world.outcomes().await;
        outcomes.retain(|_, outcome| outcome != "dropped");
        let unknown = outcomes.keys().find(|name| !accounts.contains_key(*name));
        assert_eq!(unknown, None, "{outcomes:?} {accounts:?}");
        // A name that a sync has listed is not used.
        let forgotten = accounts
            .keys()
            .find(|name| !outcomes.contains_key(*name) && **name != self.twice);
        assert_eq!(forgotten, None, "{outcomes:?} {accounts:?}");
        for (name, outcome) in outcomes {
            let is_broken = BROKEN.contains(&name.as_str());
            let expected = if is_broken {
                "quarantined"
            } else {
                "available"
            };
            assert_eq!(outcome, expected, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_account_is_created_once_and_ends_available_or_quarantined() {
    let wanted = std::env::var("TRIAL_CREATIONS").ok();
    let target = wanted.as_ref().map_or(CREATIONS, |it| it.parse().unwrap());
    let mut trial = Trial::new(target).await;
    let mut round = 0;
    // Over three times the steps, each step meets each fate.
    while round < 2 * STEPS || wanted.is_some() && trial.accounts() + REST < target {
        let fate = FATES[(round + round / STEPS) % FATES.len()];
        trial.round(round, round % STEPS, fate).await;
        if round == STEPS / 2 {
            trial.add_next_name_twice().await;
        }
        round += 1;
    }
    for (round, call) in [Call::Create, Call::Find, Call::Switch]
        .into_iter()
        .enumerate()
    {
        trial.round_without_answer(round, call).await;
    }
    let created = trial.accounts();
    println!("{created} accounts in {round} rounds, {:?}", trial.met);
    for fate in FATES {
        let times = trial.met.iter().filter(|met| **met == fate).count();
        assert!(times >= 3, "{fate:?} {times} times");
    }
    trial.world.simulator.inject(broken_accounts());
    let clock = Arc::new(ManualClock::new(trial.now));
    let last = trial
        .world
        .broker_at(clock, &[("REFILL_BATCH", "1000")])
        .await;
    run_until_settled(&trial.world, &last, Duration::from_mins(16)).await;
    trial.verify().await;
}
