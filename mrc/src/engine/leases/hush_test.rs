//! While a snapshot is being made nobody is given the right to write in its volume.

use std::time::Duration;

use proto::mrc::{LEASE_ATTR, LEASE_NAMES, LEASE_READ, LEASE_WRITE};

use super::{Acquired, Begun, Claim, Claims, Leases, Opening, Standing, Times};

const T0: Duration = Duration::from_secs(100);
const F: (u64, u64) = (7, 5);
const ELSEWHERE: (u64, u64) = (8, 5);

fn leading() -> Leases {
    let second = Duration::from_secs(1);
    let mut leases =
        Leases::new(Times { ttl: 6 * second, margin: second, cool: second / 10, per_session: 10 });
    leases.lead(Duration::ZERO, 1000, []);
    for session in [1, 2] {
        leases.open_session(T0, session, Opening { number: 0, epoch: 5, part: true, told: &[] }).unwrap();
    }
    leases
}

#[test]
fn who_asks_to_write_waits_for_the_end_of_the_hush() {
    let mut leases = leading();
    let generation = leases.hush(F.0);
    let bits = LEASE_ATTR | LEASE_READ | LEASE_WRITE;
    let given = leases.grant(T0, 1, F, bits).expect("all but the right to write");
    assert_eq!(given.bits, LEASE_ATTR | LEASE_READ);
    assert_eq!(leases.grant(T0, 1, ELSEWHERE, bits).unwrap().bits, bits, "another volume");
    let Acquired::Waits(ticket) = leases.acquire(T0, 1, F, LEASE_WRITE) else { panic!("given in the hush") };
    leases.invariants();
    assert_eq!(leases.standing(ticket), Standing::Waits);
    leases.unhush(T0, F.0, generation);
    leases.invariants();
    assert!(matches!(leases.standing(ticket), Standing::Given(Some(grant)) if grant.bits & LEASE_WRITE != 0));
}

#[test]
fn who_made_a_directory_may_make_names_in_it_and_whoever_hushes_waits_for_that() {
    let mut leases = leading();
    let (parent, made) = ((F.0, 2), F);
    let makes = LEASE_ATTR | LEASE_NAMES | LEASE_WRITE;
    assert!(leases.grant(T0, 1, parent, makes).is_some());
    let generation = leases.hush(F.0);
    // As it is told: nobody else is given anything of it meanwhile.
    let claim = Claim { new: true, ..Claim::change(made, LEASE_ATTR | LEASE_NAMES) };
    let Begun::Free(pass) = leases.begin_as_maker(1, Claims::default().with(claim)) else {
        panic!("it waits")
    };
    assert_eq!(leases.grant(T0, 2, made, makes), None);
    assert_eq!(leases.grant(T0, 1, made, makes).unwrap().bits, LEASE_ATTR | LEASE_NAMES);
    assert_eq!(leases.grant_made(1, made, makes).unwrap().bits, makes);
    leases.finish(T0, &pass, true);
    leases.invariants();
    assert_eq!(leases.writers(F.0, 10), [parent, made]);
    let later = T0 + Duration::from_secs(1);
    assert!(matches!(leases.acquire(later, 2, made, LEASE_ATTR), Acquired::Waits(_)));
    assert_eq!(leases.grant_made(1, made, makes).unwrap().bits & LEASE_WRITE, 0, "it was recalled since");
    assert_eq!(leases.grant_made(3, made, makes), None, "not a session");
    leases.unhush(later, F.0, generation);
    leases.invariants();
}

#[test]
fn two_snapshots_hush_until_both_are_made() {
    let mut leases = leading();
    let (first, second) = (leases.hush(F.0), leases.hush(F.0));
    leases.unhush(T0, F.0, first);
    assert!(leases.is_hushed(F.0, second));
    assert!(matches!(leases.acquire(T0, 1, F, LEASE_WRITE), Acquired::Waits(_)));
    leases.unhush(T0, F.0, second);
    assert!(!leases.is_hushed(F.0, second));
}

#[test]
fn the_hush_of_an_earlier_leadership_ends_nothing_and_is_void() {
    let mut leases = leading();
    let old = leases.hush(F.0);
    leases.lead(T0, 2000, []);
    assert!(!leases.is_hushed(F.0, old));
    let new = leases.hush(F.0);
    leases.unhush(T0, F.0, old);
    assert!(leases.is_hushed(F.0, new));
}

#[test]
fn who_writes_is_told_of_and_asked_to_stop() {
    let mut leases = leading();
    leases.grant(T0, 1, F, LEASE_WRITE).unwrap();
    leases.grant(T0, 2, (F.0, 6), LEASE_READ).unwrap();
    leases.grant(T0, 2, (F.0, 9), LEASE_WRITE).unwrap();
    leases.grant(T0, 2, ELSEWHERE, LEASE_WRITE).unwrap();
    leases.hush(F.0);
    assert_eq!(leases.writers(F.0, 10), [F, (F.0, 9)]);
    assert_eq!(leases.writers(F.0, 1), [F]);
    let claims = Claims::default();
    assert!(matches!(leases.begin(T0, 0, claims), super::Begun::Free(_)));
}
