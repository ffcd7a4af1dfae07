//! A class of 200 students who begin at the same moment.

use std::time::Duration;

use futures_util::future::join_all;
use sandbox_broker::{
    csp::simulator::{Fault, FaultKind},
    domain::Status,
};

use super::world::{World, policy};
use crate::support::{Answer, BrokerClient, TestBroker, run_alone};

const STUDENTS: usize = 200;
const TARGET: usize = 50;
/// The most accounts that a run creates, and the pause between two creations.
const BATCH: usize = 20;
const DELAY: Duration = Duration::from_millis(30);

/// Returns a pool with so many available sandboxes, all of them checked, and a target of 50.
async fn pool_of(available: usize, more: &[(&str, &str)]) -> (World, TestBroker) {
    let world = World::new().await;
    world.add_accounts((0..available).map(|n| format!("lab-{n:04}")));
    let pace = [("REFILL_BATCH", "20"), ("REFILL_DELAY_SEC", "0.03")];
    let broker = world.broker(&[&pace[..], more].concat()).await;
    broker.client.set_policy(0, &policy(TARGET)).await;
    broker.client.job("sync").await;
    assert_eq!(world.in_status(Status::Provisioning).await.len(), available);
    broker.client.job("check").await;
    assert_eq!(world.in_status(Status::Available).await.len(), available);
    (world, broker)
}

/// Lets every student send an allocate request at once. Returns the answers with 201, and the others.
async fn begin_class(client: &BrokerClient) -> (Vec<Answer>, Vec<Answer>) {
    let students = (0..STUDENTS).map(|n| format!("student-{n}"));
    let requests = students.map(|student| client.send(client.allocation(&student)));
    let answers = join_all(requests).await.into_iter();
    answers.partition(|answer| answer.status == 201)
}

/// CSP answers nothing any more when the class begins, and a check waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn class_waits_for_no_check_and_calls_no_csp() {
    let _alone = run_alone().await;
    let (world, broker) = pool_of(TARGET, &[("CSP_TIMEOUT_READ_SEC", "60")]).await;
    world.add_accounts(["lab-new"]);
    broker.client.job("sync").await;
    world.simulator.inject([Fault::always(FaultKind::Hang)]);
    let before = world.simulator.calls();
    let client = broker.client.clone();
    let check = tokio::spawn(async move { client.job("check").await });
    while world.simulator.calls().faulty == before.faulty {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let waiting = world.simulator.calls();
    let (given, refused) = begin_class(&broker.client).await;
    assert!(!check.is_finished());
    assert_eq!(given.len(), TARGET);
    for answer in refused {
        assert_eq!(answer.code(), "NO_SANDBOXES_AVAILABLE");
    }
    assert_eq!(world.simulator.calls(), waiting);
    assert_eq!(world.in_status(Status::Provisioning).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn pool_is_back_at_its_target_after_as_many_runs_as_its_creations_take() {
    let (world, broker) = pool_of(TARGET, &[]).await;
    {
        let _alone = run_alone().await;
        assert_eq!(begin_class(&broker.client).await.0.len(), TARGET);
    }
    let simulator = &world.simulator;
    let _ = simulator.take_creation_requests();
    let mut left = TARGET;
    while left > 0 {
        broker.client.job("refill").await;
        let requests = simulator.take_creation_requests();
        assert_eq!(requests.len(), left.min(BATCH), "{left} are missing");
        for pair in requests.windows(2) {
            let pause = pair[1].0 - pair[0].0;
            assert!(pause >= DELAY, "{pause:?} between {pair:?}");
        }
        left -= requests.len();
    }
    broker.client.job("sync").await;
    broker.client.job("check").await;
    assert_eq!(world.in_status(Status::Available).await.len(), TARGET);
    broker.client.job("refill").await;
    assert_eq!(simulator.take_creation_requests(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn class_that_leaves_the_target_in_the_pool_needs_no_creation() {
    let _alone = run_alone().await;
    let (world, broker) = pool_of(TARGET + STUDENTS, &[]).await;
    let (given, _) = begin_class(&broker.client).await;
    assert_eq!(given.len(), STUDENTS);
    broker.client.job("refill").await;
    let calls = world.simulator.calls();
    assert_eq!((calls.create, calls.find), (0, 0));
    let one_more = broker.client.allocate("late").await;
    assert_eq!(one_more.status, 201);
    broker.client.job("refill").await;
    assert_eq!(world.simulator.calls().create, 1);
}
