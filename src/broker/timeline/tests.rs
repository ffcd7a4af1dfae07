use super::*;

fn life() -> Life {
    Life {
        usable_at: None,
        inserted_at: Some(UnixSeconds(1_774_000_000)),
        allocated_at: Some(UnixSeconds(1_774_000_100)),
        caller: Some("play-1".to_owned()),
        key: Some("play-1".to_owned()),
        lab: Some("lab-1".to_owned()),
        expires_at: Some(UnixSeconds(1_774_014_500)),
        lease: Lease::default(),
        quarantine: Quarantine::default(),
        deletion_requested_at: None,
        released_by: None,
        last: None,
    }
}

fn names(life: Life) -> Vec<&'static str> {
    let grace = Duration::from_mins(10);
    life.events(grace).map(|derived| derived.name).collect()
}

#[test]
fn end_of_an_allocation_is_named_by_its_author_or_else_by_its_time() {
    let grace_ends = 1_774_014_500 + 600;
    for (at, by, name) in [
        (grace_ends, None, "released"),
        (grace_ends + 1, None, "expired"),
        (grace_ends + 1, Some("env-track"), "released"),
        (grace_ends, Some("auto-expire"), "expired"),
        (grace_ends, Some("sync"), "reinstated"),
    ] {
        let life = Life {
            deletion_requested_at: Some(UnixSeconds(at)),
            released_by: by.map(str::to_owned),
            ..life()
        };
        assert_eq!(names(life), ["inserted", "allocated", name]);
    }
}

fn replaced(life: Life) -> Life {
    Life {
        usable_at: None,
        lease: Lease {
            replaced_by: Some(SandboxId::stored("2")),
            replacement_reason: Some("broken".to_owned()),
            ..Lease::default()
        },
        ..life
    }
}

#[test]
fn replacement_ends_an_allocation_by_a_deletion() {
    let at = UnixSeconds(1_774_000_200);
    let life = replaced(Life {
        deletion_requested_at: Some(at),
        released_by: Some("env-track".to_owned()),
        ..life()
    });
    let events: Vec<_> = life.events(Duration::ZERO).collect();
    let [_, _, replaced] = events.as_slice() else {
        panic!("{events:?}");
    };
    assert_eq!((replaced.name, replaced.at), ("replaced", at));
    assert_eq!(replaced.actor.as_deref(), Some("env-track"));
    assert_eq!(replaced.reason.as_deref(), Some("broken"));
    assert_eq!(replaced.after, json!({ "replaced_by": "2" }));
}

#[test]
fn replacement_is_an_event_of_its_own_of_a_sandbox_that_was_set_aside() {
    let life = replaced(Life {
        quarantine: Quarantine {
            by: Some("env-track".to_owned()),
            at: Some(UnixSeconds(1_774_000_200)),
            from: Some(Status::Allocated),
            ..Quarantine::default()
        },
        deletion_requested_at: Some(UnixSeconds(1_774_000_300)),
        released_by: Some("jane".to_owned()),
        ..life()
    });
    assert_eq!(
        names(life),
        ["inserted", "allocated", "replaced", "released"]
    );
}

#[test]
fn reinstated_sandbox_does_not_know_when_it_was_replaced() {
    let life = replaced(Life {
        deletion_requested_at: Some(UnixSeconds(1_774_000_300)),
        released_by: Some("sync".to_owned()),
        ..life()
    });
    assert_eq!(names(life), ["inserted", "allocated", "reinstated"]);
}

#[test]
fn life_that_has_not_happened_has_no_events() {
    let life = Life {
        inserted_at: None,
        allocated_at: None,
        ..life()
    };
    assert!(names(life).is_empty());
}

#[test]
fn events_of_one_second_are_in_the_order_of_a_life() {
    let at = UnixSeconds(1_774_000_000);
    let life = Life {
        inserted_at: Some(at),
        allocated_at: Some(at),
        lease: Lease {
            extensions: 1,
            extended_at: Some(at),
            ..Lease::default()
        },
        deletion_requested_at: Some(at),
        last: Some(Derived::last_in_second("deleted", 4, at)),
        ..life()
    };
    let id = SandboxId::parse("1").unwrap();
    let places: Vec<_> = life
        .events(Duration::ZERO)
        .map(|derived| derived.placed(&id).0)
        .collect();
    assert!(places.is_sorted() && places.len() == 5, "{places:?}");
    // Records of that second, with and without milliseconds, are between the allocation and its end.
    for at_ms in [1_774_000_000_000, 1_774_000_000_999] {
        assert!(places[1] < (at_ms, 0) && (at_ms, 0) < places[2]);
    }
}
