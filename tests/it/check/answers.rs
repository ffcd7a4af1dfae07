//! Checks of single accounts, for each answer of CSP.

use sandbox_broker::csp::simulator::{Call, FaultKind, ListForm, Settings, SuccessStatus};
use serde_json::json;

use super::{Checked, MINUTE, RESULTS, counts};

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_a_sound_answer_means_usable() {
    let checked = Checked::new("new", 0, &[]).await;
    for (lists, success) in [
        (ListForm::Results, SuccessStatus::Ok),
        (ListForm::Result, SuccessStatus::Created),
        (ListForm::Bare, SuccessStatus::Alternating),
    ] {
        checked.simulator.configure(Settings {
            lists,
            success,
            ..Settings::default()
        });
        checked.simulator.add_accounts(2).unwrap();
        checked.sync().await;
        let report = checked.check().await;
        assert_eq!(counts(&report, RESULTS), [2, 0, 0, 0, 0], "{lists:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn account_in_a_state_of_its_creation_is_not_usable_yet() {
    let checked = Checked::new("new", 2, &[]).await;
    checked.sync().await;
    let young = checked.ids()[0];
    for (on, code) in [
        (Call::Switch, 404),
        (Call::Switch, 409),
        (Call::Switch, 410),
        (Call::Switch, 423),
        (Call::Groups, 425),
        (Call::Groups, 404),
    ] {
        checked.inject(on, FaultKind::Status { code }, &[young]);
        let report = checked.check().await;
        assert_eq!(report["not_yet"], 1, "{on:?} {code}: {report}");
        checked.broker.clock.advance(MINUTE);
    }
    let sandbox = checked.sandbox(&young.to_string()).await;
    assert_eq!(
        (&sandbox["check_failures"], &sandbox["unusable_seconds"]),
        (&json!(0), &json!(300))
    );
    checked.mend();
    assert_eq!(checked.check().await["usable"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_account_is_set_aside_after_answers_in_a_row_and_delays_no_other() {
    let settings = [("CHECK_MAX_FAILURES", "3"), ("CHECK_BATCH_SIZE", "2")];
    for (on, code, text) in [
        (Call::Switch, 403, "HTTP 403"),
        (Call::Groups, 401, "HTTP 401"),
        (Call::Groups, 422, "HTTP 422"),
    ] {
        let checked = Checked::new("new", 5, &settings).await;
        let broken = checked.ids()[0];
        checked.inject(on, FaultKind::Status { code }, &[broken]);
        checked.sync().await;
        let report = checked.check().await;
        assert_eq!(
            counts(&report, RESULTS),
            [4, 0, 1, 0, 0],
            "{code}: {report}"
        );
        assert_eq!(checked.check().await["due"], 0, "it waits a while");
        let mut quarantined = 0;
        for _ in 0..4 {
            checked.broker.clock.advance(MINUTE);
            quarantined += checked.check().await["quarantined"].as_u64().unwrap();
        }
        assert_eq!(quarantined, 1, "{code}");
        let aside = checked.sandbox(&broken.to_string()).await;
        let reason = aside["quarantine_reason"].as_str().unwrap();
        assert!(
            reason.starts_with("3 checks in a row found the account broken")
                && reason.contains(text),
            "{reason}"
        );
        assert_eq!(checked.count("available").await, 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn account_at_which_only_csp_fails_does_not_delay_the_others_and_ends_in_quarantine() {
    let settings = [
        ("PROVISION_TIMEOUT_MINUTES", "2"),
        ("CIRCUIT_BREAKER_THRESHOLD", "2"),
        ("CHECK_BATCH_SIZE", "3"),
    ];
    for kind in [FaultKind::Status { code: 500 }, FaultKind::Hang] {
        let checked = Checked::new("new", 9, &settings).await;
        let ids = checked.ids();
        checked.inject(Call::Groups, kind.clone(), &ids[..1]);
        checked.sync().await;
        // The circuit breaker may end a run, but the one after it comes to the others first.
        let mut usable = 0;
        for _ in 0..2 {
            usable += checked.check().await["usable"].as_u64().unwrap();
            checked.broker.clock.advance(MINUTE);
        }
        assert_eq!(usable, 8, "{kind:?}");
        let sandbox = checked.sandbox(&ids[0].to_string()).await;
        assert_eq!(sandbox["status"], "provisioning", "{sandbox}");
        // Others are checked beside it, so the account is at fault.
        for _ in 0..4 {
            checked.simulator.add_accounts(1).unwrap();
            checked.sync().await;
            checked.check().await;
            checked.broker.clock.advance(MINUTE);
        }
        let sandbox = checked.sandbox(&ids[0].to_string()).await;
        assert_eq!(sandbox["status"], "quarantined", "{kind:?}: {sandbox}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn last_new_account_at_which_csp_fails_is_set_aside_and_opens_no_breaker() {
    let settings = [
        ("PROVISION_TIMEOUT_MINUTES", "5"),
        ("CIRCUIT_BREAKER_THRESHOLD", "3"),
    ];
    let checked = Checked::new("new", 1, &settings).await;
    checked.sync().await;
    assert_eq!(checked.check().await["usable"], 1);
    checked.simulator.add_accounts(1).unwrap();
    checked.sync().await;
    let failing = checked.ids()[1];
    checked.inject(Call::Groups, FaultKind::Status { code: 500 }, &[failing]);
    let mut quarantined = 0;
    for _ in 0..6 {
        let report = checked.check().await;
        assert_eq!(report["stopped"], serde_json::Value::Null, "{report}");
        quarantined += report["quarantined"].as_u64().unwrap();
        checked.broker.clock.advance(MINUTE);
    }
    assert_eq!(quarantined, 1);
    let aside = checked.sandbox(&failing.to_string()).await;
    let reason = aside["quarantine_reason"].as_str().unwrap();
    assert!(reason.contains("HTTP 500"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn session_that_expires_during_a_run_is_renewed() {
    let checked = Checked::new("new", 4, &[]).await;
    checked.sync().await;
    let ending = async {
        while checked.simulator.calls().groups == 0 {
            tokio::task::yield_now().await;
        }
        checked.simulator.end_sessions();
    };
    let (report, ()) = tokio::join!(checked.check(), ending);
    assert_eq!(counts(&report, RESULTS), [4, 0, 0, 0, 0], "{report}");
    assert_eq!(checked.simulator.calls().sign_ins, 2);
}
