//! CSP fails, or rejects the user: nothing is recorded against accounts.

use sandbox_broker::{
    csp::simulator::{Call, FaultKind},
    domain::Readiness,
};

use super::{Checked, MINUTE, RESULTS, counts, fault};
use crate::support::warning_codes;

impl Checked {
    /// Checks that no answer was recorded on any sandbox.
    async fn assert_unblamed(&self) {
        for sandbox in self.pool.sandboxes().await {
            let blame = Readiness {
                usable_at: None,
                next_check_at: None,
                ..sandbox.readiness.clone()
            };
            assert_eq!(blame, Readiness::default(), "{sandbox:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outage_of_hours_counts_for_nothing_and_ends_by_itself() {
    let checked = Checked::new("new", 12, &[("PROVISION_TIMEOUT_MINUTES", "5")]).await;
    checked.sync().await;
    for on in [Call::SignIn, Call::Switch, Call::Groups] {
        checked.inject(on, FaultKind::Status { code: 503 }, &[]);
        let mut stopped = 0;
        for _ in 0..20 {
            let report = checked.check().await;
            assert_eq!(
                counts(&report, RESULTS),
                [0, 0, 0, 0, 12],
                "{on:?}: {report}"
            );
            stopped += usize::from(report["stopped"].is_string());
            checked.broker.clock.advance(MINUTE);
        }
        assert!(stopped > 10, "{on:?}: the circuit breaker did not open");
        checked.assert_unblamed().await;
    }
    let calls = checked.simulator.calls();
    assert!(calls.faulty < 80, "{calls:?}");
    checked.mend();
    let mut usable = 0;
    for _ in 0..3 {
        usable += checked.check().await["usable"].as_u64().unwrap();
        checked.broker.clock.advance(MINUTE);
    }
    assert_eq!(usable, 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_user_fails_the_run_and_is_visible_until_it_is_accepted() {
    for code in [401, 403] {
        let checked = Checked::new("new", 3, &[]).await;
        checked.sync().await;
        checked.inject(Call::SignIn, FaultKind::Status { code }, &[]);
        let error = checked.failing_check().await;
        assert!(
            error.contains("NIOSXAAS_EMAIL and NIOSXAAS_PASSWORD"),
            "{error}"
        );
        checked.assert_unblamed().await;
        let overview = checked.broker.client.overview().await;
        assert!(
            warning_codes(&overview).contains(&"credentials_rejected"),
            "{overview}"
        );
        let state = checked.pool.store.csp_state().await.unwrap().state;
        assert!(state.niosxaas.rejected_since.is_some());
        assert_eq!(state.csp.rejected_since, None);
        checked.mend();
        assert_eq!(checked.check().await["usable"], 3);
        let state = checked.pool.store.csp_state().await.unwrap().state;
        assert_eq!(state.niosxaas.rejected_since, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn user_without_access_to_any_account_is_at_fault_and_not_the_accounts() {
    let settings = [("CHECK_MAX_FAILURES", "1"), ("CHECK_BATCH_SIZE", "2")];
    let checked = Checked::new("new", 4, &settings).await;
    checked.sync().await;
    checked.inject(Call::Switch, FaultKind::Status { code: 403 }, &[]);
    let error = checked.failing_check().await;
    assert!(error.contains("NIOSXAAS_EMAIL"), "{error}");
    checked.assert_unblamed().await;
    let state = checked.pool.store.csp_state().await.unwrap().state;
    assert!(state.niosxaas.rejected_since.is_some());
    checked.mend();
    assert_eq!(checked.check().await["usable"], 4);

    // A single denied account is at fault if the user may enter another.
    checked.simulator.add_accounts(1).unwrap();
    checked.sync().await;
    let denied = checked.ids()[4];
    checked.inject(Call::Switch, FaultKind::Status { code: 403 }, &[denied]);
    let report = checked.check().await;
    assert_eq!(counts(&report, RESULTS), [0, 0, 0, 1, 0], "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn user_who_may_list_the_groups_of_no_account_is_at_fault_and_not_the_accounts() {
    let checked = Checked::new("new", 4, &[("CHECK_MAX_FAILURES", "1")]).await;
    checked.sync().await;
    checked.inject(Call::Groups, FaultKind::Status { code: 403 }, &[]);
    let error = checked.failing_check().await;
    assert!(error.contains("NIOSXAAS_EMAIL"), "{error}");
    checked.assert_unblamed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outage_of_the_list_of_groups_sets_no_new_account_aside() {
    let settings = [
        ("PROVISION_TIMEOUT_MINUTES", "2"),
        ("CIRCUIT_BREAKER_THRESHOLD", "1000"),
    ];
    let checked = Checked::new("new", 3, &settings).await;
    checked.sync().await;
    assert_eq!(checked.check().await["usable"], 3);
    checked.simulator.add_accounts(2).unwrap();
    checked.sync().await;
    checked.inject(Call::Groups, FaultKind::Status { code: 500 }, &[]);
    for _ in 0..10 {
        checked.check().await;
        checked.broker.clock.advance(MINUTE);
    }
    assert_eq!(checked.count("quarantined").await, 0);
    checked.mend();
    checked.broker.clock.advance(MINUTE * 2);
    assert_eq!(checked.check().await["usable"], 2);
}

/// CSP answers that no account has groups, as it does to a user who may not see them.
#[tokio::test(flavor = "multi_thread")]
async fn new_accounts_are_not_set_aside_while_known_ones_have_no_groups_either() {
    let checked = Checked::new("new", 3, &[("PROVISION_TIMEOUT_MINUTES", "2")]).await;
    checked.sync().await;
    assert_eq!(checked.check().await["usable"], 3);
    checked.simulator.add_accounts(2).unwrap();
    checked.sync().await;
    checked.inject(Call::Groups, FaultKind::Empty, &[]);
    for _ in 0..6 {
        checked.check().await;
        checked.broker.clock.advance(MINUTE);
    }
    assert_eq!(checked.count("quarantined").await, 0);
    checked.mend();
    assert_eq!(checked.check().await["usable"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn rate_limit_ends_the_run_and_slows_down_the_next() {
    let checked = Checked::new("new", 6, &[("CHECK_BATCH_SIZE", "4")]).await;
    checked.sync().await;
    let limited = |times, retry_after_sec| {
        let kind = FaultKind::RateLimit { retry_after_sec };
        let mut fault = fault(Call::Switch, kind, &[]);
        fault.times = Some(times);
        checked.simulator.inject([fault]);
    };
    limited(1, Some(300));
    let report = checked.check().await;
    assert_eq!(counts(&report, RESULTS), [0, 0, 0, 0, 6], "{report}");
    assert!(report["stopped"].is_string(), "{report}");
    assert_eq!(checked.simulator.calls().switches, 1);
    checked.assert_unblamed().await;
    // Without a time the run goes on, at a slower pace.
    limited(1, None);
    let report = checked.check().await;
    assert_eq!(
        counts(&report, ["due", "usable", "deferred"]),
        [5, 4, 1],
        "{report}"
    );
    let state = checked.pool.store.csp_state().await.unwrap().state;
    assert!(state.pace < 1.0, "{state:?}");
    checked.broker.clock.advance(MINUTE * 5);
    assert_eq!(checked.check().await["usable"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_sync_pauses_checks_too() {
    let checked = Checked::new("new", 2, &[]).await;
    checked.sync().await;
    let client = &checked.broker.client;
    let pause = client
        .request(reqwest::Method::PUT, "/v1/admin/pauses/sync")
        .bearer_auth(crate::support::ADMIN)
        .json(&serde_json::json!({ "reason": "migration of CSP" }));
    assert_eq!(client.send(pause).await.status, 200);
    let report = checked.check().await;
    assert_eq!(report["status"], "paused", "{report}");
    assert_eq!(checked.simulator.calls().sign_ins, 0);
}
