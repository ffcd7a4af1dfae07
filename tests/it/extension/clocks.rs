//! Extensions by brokers whose clocks differ, and the expiry of an allocation in the middle of its extension.

use std::time::Duration;

use super::{GRACE, HOUR, MAX_END, MAXIMUM, held, leases, stored};
use crate::support::{Pool, Proxy, START, TestBroker};

async fn broker_at(pool: &Pool, mins: u64) -> TestBroker {
    let broker = pool.broker_with(&[MAXIMUM]).await;
    broker.clock.set(START + Duration::from_mins(mins));
    broker
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_whose_clock_is_behind_moves_no_end_to_an_earlier_time() {
    let (pool, broker, id) = held().await;
    broker.clock.set(START + Duration::from_hours(2));
    let promised = broker.client.extend(&id, "play-1", 120).await.json();
    let behind = broker_at(&pool, 0).await;
    let unchanged = behind.client.extend(&id, "play-1", 120).await;
    assert_eq!(unchanged.json(), promised);
    let later = behind.client.extend(&id, "play-1", 300).await;
    assert_eq!(later.json()["expires_at"], START.0 + 5 * HOUR);
    assert_eq!(stored(&pool, &id).await.lease.extensions, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_whose_clock_is_ahead_grants_no_more_than_the_lab_permits_and_every_broker_keeps_it()
{
    let (pool, broker, id) = held().await;
    let ahead = broker_at(&pool, 149).await;
    let granted = ahead.client.extend(&id, "play-1", 400).await.json();
    assert_eq!(
        (&granted["expires_at"], &granted["max_expires_at"]),
        (&MAX_END.into(), &MAX_END.into())
    );
    broker.clock.set(START + Duration::from_mins(8 * 60 + 30));
    assert_eq!(broker.client.job("auto-expire").await["due"], 0);
    assert_eq!(broker.client.allocate("play-1").await.sandbox_id(), id);
    assert_eq!(broker.client.release(&id, "play-1").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_that_finds_the_allocation_overdue_refuses_and_changes_nothing() {
    let (pool, broker, id) = held().await;
    let before = leases(&pool).await;
    let ahead = broker_at(&pool, 24 * 60).await;
    let refused = ahead.client.extend(&id, "play-1", 60).await;
    assert_eq!(refused.code(), "ALLOCATION_EXPIRED");
    assert_eq!(leases(&pool).await, before);
    let extended = broker.client.extend(&id, "play-1", 180).await;
    assert_eq!(extended.json()["expires_at"], START.0 + 3 * HOUR);
}

/// A replay, a run of the job and a release each find the allocation overdue; it is extended before they write.
#[tokio::test(flavor = "multi_thread")]
async fn expiry_that_was_decided_before_an_extension_retires_nothing() {
    for (writer, operation) in [
        ("replay", "UpdateItem"),
        ("auto-expire", "TransactWriteItems"),
        ("release", "UpdateItem"),
    ] {
        let (pool, broker, id) = held().await;
        broker.clock.set(START + Duration::from_mins(150));
        let proxy = Proxy::to(pool.engine.endpoint()).await;
        let endpoint = proxy.endpoint();
        let variables = [("DDB_ENDPOINT_URL", endpoint.as_str()), MAXIMUM];
        let ahead = pool.broker_with(&variables).await;
        ahead.clock.set(START + Duration::from_mins(151));
        let sandbox = format!("SBX#{id}");
        let gate = proxy.hold(move |call| {
            call.operation == operation && call.json().to_string().contains(&sandbox)
        });
        let late = async {
            match writer {
                "replay" => {
                    let replay = ahead.client.allocate("play-1").await;
                    assert_eq!(
                        (replay.status.as_u16(), replay.sandbox_id()),
                        (200, id.clone())
                    );
                    assert_eq!(replay.json()["expires_at"], START.0 + 150 * 60 + HOUR);
                }
                "release" => {
                    // It is in time now.
                    let released = ahead.client.release(&id, "play-1").await;
                    assert_eq!(released.status, 200, "{released:?}");
                }
                job => assert_eq!(ahead.client.job(job).await["expired"], 0),
            }
        };
        let extension = async {
            gate.wait_for_one().await;
            let answer = broker.client.extend(&id, "play-1", 60).await;
            assert_eq!(answer.json()["expires_at"], START.0 + 150 * 60 + HOUR);
            gate.open();
        };
        tokio::join!(late, extension);
        let sandbox = stored(&pool, &id).await;
        let end = START.0 + 150 * 60 + HOUR;
        assert_eq!(sandbox.expires_at.unwrap().0, end);
        assert_eq!(
            sandbox.deletion_requested_at.is_some(),
            writer == "release",
            "{writer}"
        );
        if writer != "release" {
            // It is kept until its grace period is over, and no longer.
            ahead.clock.set(START + Duration::from_hours(4));
            assert_eq!(ahead.client.job("auto-expire").await["expired"], 0);
            ahead.clock.advance(Duration::from_secs(1));
            assert_eq!(ahead.client.job("auto-expire").await["expired"], 1);
            let ended = stored(&pool, &id).await.deletion_requested_at.unwrap();
            assert_eq!(ended.0, end + GRACE + 1);
        }
    }
}
