//! A pool and a CSP that lose answers, lag and crash, played against the decisions of refill.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// A pool, CSP and their delays, as a run of refill can meet them.
#[derive(Debug, Default)]
struct World {
    open: Vec<Creation>,
    last_number: u64,
    /// The accounts of CSP that no sync has inserted yet, by name.
    unlisted: HashMap<String, u64>,
    sandboxes: Vec<Sandbox>,
    created: u64,
    goal: u32,
}

/// An event between two runs, or during a request.
#[derive(Clone, Copy, Debug)]
enum Event {
    Run {
        budget: usize,
        answers: [Answer; 4],
    },
    /// A sync, which may end before it has recorded what is listed.
    Sync {
        is_interrupted: bool,
    },
    Usable(usize),
    Allocated(usize),
    Deleted(usize),
    /// The policy states another target.
    Target(u32),
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Created,
    CreatedButLost,
    NotCreated,
    Refused,
    CrashBefore,
}

impl World {
    /// Makes a run: a pass, and another one with the creations that the run has looked for.
    fn run(&mut self, pool: (u32, u32), budget: usize, answers: [Answer; 4]) {
        let used = self.pass(pool, budget / 2, answers, &[]);
        let unanswered = self
            .open
            .iter()
            .filter(|it| it.state == CreationState::Attempted);
        let names: Vec<_> = unanswered.map(|it| (it.number, it.name.clone())).collect();
        let mut absent = Vec::new();
        for (number, name) in names.into_iter().take(budget) {
            match self.unlisted.get(&name) {
                Some(&id) => self.note(number, id),
                None => absent.push(number),
            }
        }
        self.pass(pool, budget - used, answers, &absent);
    }

    fn pass(
        &mut self,
        (goal, max): (u32, u32),
        budget: usize,
        answers: [Answer; 4],
        absent: &[u64],
    ) -> usize {
        let plan = {
            let prefix = prefix();
            let mut contents = PoolContents::new(&prefix, &self.open);
            self.sandboxes
                .iter()
                .for_each(|sandbox| contents.add(sandbox));
            let (terms, target) = (terms(goal, Some(max)), target(goal));
            let is_absent = |creation: &Creation| absent.contains(&creation.number);
            let items = (self.last_number, &*self.open);
            RefillPlan::new(&terms, &target, items, &contents, is_absent, NOW)
        };
        let ended = plan.closings.iter().map(|closing| closing.number);
        let ended: Vec<_> = ended.chain(plan.surplus).collect();
        self.open
            .retain(|creation| !ended.contains(&creation.number));
        let mut next = plan.next_number;
        let new = (0..plan.new).map(|_| None);
        let turns = plan.resume.into_iter().map(Some).chain(new);
        let mut used = 0;
        for number in turns.take(budget) {
            let number = number.unwrap_or_else(|| {
                self.open.push(Creation::intended(&prefix(), next, NOW));
                self.last_number = next;
                next += 1;
                next - 1
            });
            self.advance(number, answers[used % answers.len()]);
            used += 1;
        }
        used
    }

    fn find(&mut self, number: u64) -> &mut Creation {
        self.open.iter_mut().find(|it| it.number == number).unwrap()
    }

    fn note(&mut self, number: u64, id: u64) {
        let creation = self.find(number);
        creation.state = CreationState::Created;
        creation.created_at = Some(NOW);
        creation.external_id = Some(format!("identity/accounts/{id}"));
    }

    fn advance(&mut self, number: u64, answer: Answer) {
        let name = self.find(number).name.clone();
        if let Some(&id) = self.unlisted.get(&name) {
            return self.note(number, id);
        }
        if matches!(answer, Answer::CrashBefore) {
            return;
        }
        self.find(number).state = CreationState::Attempted;
        match answer {
            Answer::Created | Answer::CreatedButLost => {
                self.created += 1;
                let id = self.created;
                assert_eq!(
                    self.unlisted.insert(name, id),
                    None,
                    "two accounts of one creation"
                );
                if matches!(answer, Answer::Created) {
                    self.note(number, id);
                }
            }
            Answer::Refused => self.find(number).state = CreationState::Intended,
            Answer::NotCreated | Answer::CrashBefore => {}
        }
    }

    fn happen(&mut self, event: Event, max: u32) {
        match event {
            Event::Run { budget, answers } => {
                let before = self.created;
                let free = self.free();
                self.run((self.goal, max), budget, answers);
                let created = self.created - before;
                assert!(
                    created == 0 || free + created <= u64::from(self.goal),
                    "{self:?}"
                );
            }
            Event::Sync { is_interrupted } => {
                for (name, id) in std::mem::take(&mut self.unlisted) {
                    let number = Creation::number_in(&prefix(), &name).unwrap();
                    if self.open.iter().any(|it| it.number == number) {
                        self.note(number, id);
                        if !is_interrupted {
                            self.find(number).state = CreationState::Listed;
                        }
                    }
                    let id = id.to_string();
                    self.sandboxes
                        .push(sandbox(&name, &id, Status::Provisioning));
                }
            }
            Event::Usable(n) => self.change(n, Status::Provisioning, Status::Available),
            Event::Allocated(n) => self.change(n, Status::Available, Status::Allocated),
            Event::Target(goal) => self.goal = goal,
            Event::Deleted(n) => {
                let mut held = self.sandboxes.iter().enumerate();
                let at = held.find(|(at, it)| *at >= n && it.status == Status::Allocated);
                if let Some((at, _)) = at {
                    self.sandboxes.remove(at);
                }
            }
        }
    }

    fn change(&mut self, from_position: usize, from: Status, to: Status) {
        let later = self.sandboxes.iter_mut().skip(from_position);
        if let Some(sandbox) = later.into_iter().find(|sandbox| sandbox.status == from) {
            sandbox.status = to;
        }
    }

    /// Returns the accounts that can be allocated, now or later.
    fn free(&self) -> u64 {
        let free = |it: &&Sandbox| matches!(it.status, Status::Provisioning | Status::Available);
        (self.sandboxes.iter().filter(free).count() + self.unlisted.len()) as u64
    }

    fn check(&self, max: u32) {
        let total = self.sandboxes.len() + self.unlisted.len();
        assert!(total as u64 <= max.into(), "{total} of {max}: {self:?}");
    }
}

fn event() -> impl Strategy<Value = Event> {
    let answer = prop_oneof![
        3 => Just(Answer::Created),
        2 => Just(Answer::CreatedButLost),
        1 => Just(Answer::NotCreated),
        1 => Just(Answer::Refused),
        1 => Just(Answer::CrashBefore),
    ];
    let answers = prop::array::uniform4(answer);
    prop_oneof![
        4 => (0_usize..8, answers).prop_map(|(budget, answers)| Event::Run { budget, answers }),
        1 => any::<bool>().prop_map(|is_interrupted| Event::Sync { is_interrupted }),
        2 => (0_usize..6).prop_map(Event::Usable),
        2 => (0_usize..6).prop_map(Event::Allocated),
        1 => (0_usize..6).prop_map(Event::Deleted),
        1 => (0_u32..8).prop_map(Event::Target),
    ]
}

proptest! {
    #[test]
    fn no_delay_and_no_lost_answer_creates_more_than_the_pool_wants(
        goal in 0_u32..8, max in 8_u32..14, events in prop::collection::vec(event(), 0..60),
    ) {
        let mut world = World { goal, ..World::default() };
        for event in events {
            world.happen(event, max);
            world.check(max);
        }
        // Once CSP answers, the pool gets full, and no creation stays open.
        let run = Event::Run { budget: 9, answers: [Answer::Created; 4] };
        for _ in 0..20 {
            world.happen(run, max);
            world.happen(Event::Sync { is_interrupted: false }, max);
            for _ in 0..9 {
                world.happen(Event::Usable(0), max);
            }
        }
        world.happen(run, max);
        world.check(max);
        // Only the look-up after an hour, which this world does not have, ends those whose sandboxes were used meanwhile.
        prop_assert!(world.open.iter().all(|it| it.state == CreationState::Created), "{:?}", world);
        let lost = world.open.len() as u64;
        let held = world.sandboxes.iter().filter(|it| it.status == Status::Allocated).count() as u64;
        let least = u64::from(world.goal).min(u64::from(max) - held);
        prop_assert!(world.free() + lost >= least, "{:?}", world);
    }
}
