//! When revocation lists are made, and what they hold.

mod common;

use std::time::Duration;

use ca::{CaError, CrlDecision, CrlSchedule, CrlState, CrlWhy, crl_plan, finish_crl, prepare_crl};
use common::{T0, at, days, made, serial};
use signer::RawSigner as _;
use types::{Epoch, Now, Wall};
use x509::{Crl, CrlEntry, CrlReason};

const END: Wall = Wall(i64::MAX);

fn hours(count: u64) -> Duration {
    Duration::from_secs(count * 3600)
}

fn epoch(counter: u64) -> Epoch {
    Epoch { incarnation: 0, counter }
}

fn last() -> CrlState {
    let this_update = Wall::from_secs(T0);
    CrlState { this_update, next_update: this_update.plus(days(7)), epoch: epoch(4) }
}

fn plan(epoch_now: u64, now: Now) -> CrlDecision {
    crl_plan(Some(&last()), epoch(epoch_now), END, &CrlSchedule::default(), now)
}

fn publish(why: CrlWhy, now: Now) -> CrlDecision {
    let this_update = Wall::from_secs(now.wall.secs());
    CrlDecision::Publish { why, this_update, next_update: this_update.plus(days(7)) }
}

fn millis(after: i64) -> Now {
    Now { wall: Wall(T0 * 1000 + after), ..Now::default() }
}

#[test]
fn the_first_list_is_made_at_once() {
    let answer = crl_plan(None, epoch(0), END, &CrlSchedule::default(), at(T0));
    assert_eq!(answer, publish(CrlWhy::First, at(T0)));
}

#[test]
fn a_change_is_published_at_once_but_at_most_once_a_second() {
    assert_eq!(plan(5, millis(999)), CrlDecision::Wait { until: Wall(T0 * 1000 + 1000) });
    assert_eq!(plan(5, millis(1000)), publish(CrlWhy::Changed, millis(1000)));
    assert_eq!(plan(500, millis(1500)), publish(CrlWhy::Changed, millis(1500)));
}

#[test]
fn without_a_change_the_schedule_holds() {
    let due = Wall::from_secs(T0).plus(days(1));
    assert_eq!(plan(4, millis(1000)), CrlDecision::Wait { until: due });
    assert_eq!(plan(4, Now { wall: Wall(due.0 - 1), ..Now::default() }), CrlDecision::Wait { until: due });
    let now = Now { wall: due, ..Now::default() };
    assert_eq!(plan(4, now), publish(CrlWhy::Scheduled, now));
}

#[test]
fn an_older_epoch_is_no_change() {
    assert!(matches!(plan(3, millis(5000)), CrlDecision::Wait { .. }));
}

#[test]
fn a_restored_incarnation_is_a_change() {
    let epoch = Epoch { incarnation: 1, counter: 0 };
    let answer = crl_plan(Some(&last()), epoch, END, &CrlSchedule::default(), millis(2000));
    assert_eq!(answer, publish(CrlWhy::Changed, millis(2000)));
}

#[test]
fn a_clock_that_went_back_holds_back_no_revocation() {
    let earlier = at(T0 - 3600);
    assert_eq!(plan(5, earlier), publish(CrlWhy::Changed, earlier));
    assert!(matches!(plan(4, earlier), CrlDecision::Wait { .. }));
}

#[test]
fn a_list_that_would_expire_before_its_period_is_replaced_in_time() {
    let short = CrlState { next_update: Wall::from_secs(T0 + 60), ..last() };
    let ask = |now| crl_plan(Some(&short), epoch(4), END, &CrlSchedule::default(), now);
    assert_eq!(ask(at(T0 + 59)), CrlDecision::Wait { until: Wall::from_secs(T0 + 60) });
    assert_eq!(ask(at(T0 + 60)), publish(CrlWhy::Scheduled, at(T0 + 60)));
}

#[test]
fn a_list_never_outlives_its_issuer_and_ends_with_it() {
    let end = Wall::from_secs(T0 + 3600);
    let answer = crl_plan(None, epoch(0), end, &CrlSchedule::default(), at(T0));
    let this_update = Wall::from_secs(T0);
    assert_eq!(answer, CrlDecision::Publish { why: CrlWhy::First, this_update, next_update: end });
    for now in [at(T0 + 3600), at(T0 + 3601)] {
        assert_eq!(crl_plan(None, epoch(9), end, &CrlSchedule::default(), now), CrlDecision::Ended);
    }
}

#[test]
fn a_schedule_leaves_room_for_one_missed_list() {
    assert!(CrlSchedule::new(hours(35), hours(72)).is_ok());
    let error = CrlSchedule::new(hours(36), hours(72)).unwrap_err();
    assert_eq!(error, CaError::CrlSchedule { period_s: 129_600, half_s: 129_600 });
    let error = CrlSchedule::new(hours(48), hours(72)).unwrap_err();
    assert_eq!(error.to_string(), "crl.period 172800 s !< crl.validity / 2 (129600 s)");
    assert!(CrlSchedule::new(Duration::ZERO, hours(72)).is_err());
}

#[test]
fn a_list_is_signed_by_its_issuer_and_carries_its_entries() {
    let made = made();
    let revoked_at = Wall::from_secs(T0 - 60);
    let entries = [(3, CrlReason::KeyCompromise), (4, CrlReason::CertificateHold)]
        .map(|(first, reason)| CrlEntry { serial: serial(first), revoked_at, reason });
    let (this, next) = (Wall::from_secs(T0), Wall::from_secs(T0).plus(days(7)));
    let ticket = prepare_crl(&made.issuer, 42, this, next, entries.into_iter()).unwrap();
    let signature = made.key.sign(ticket.tbs()).unwrap();
    let crl = Crl::parse_der(&finish_crl(ticket, &signature).unwrap()).unwrap();
    assert_eq!((crl.number(), crl.this_update(), crl.next_update()), (42, this, next));
    assert_eq!(
        crl.serials(),
        [(serial(3), CrlReason::KeyCompromise), (serial(4), CrlReason::CertificateHold)]
    );
    assert_eq!(crl.verify(&made.issuer.certificate), Ok(()));
    assert!(crl.verify(&made.root).is_err());
}

#[test]
fn a_list_with_a_wrong_signature_is_not_made() {
    let made = made();
    let ticket =
        prepare_crl(&made.issuer, 1, at(T0).wall, at(T0 + 60).wall, std::iter::empty::<CrlEntry>()).unwrap();
    let signature = made.root_key.sign(ticket.tbs()).unwrap();
    assert_eq!(finish_crl(ticket, &signature).unwrap_err().code(), "ca.signature");
}

#[test]
fn a_ca_out_of_its_dates_makes_no_list() {
    let made = made();
    let end = made.issuer.certificate.not_after();
    let answer = prepare_crl(&made.issuer, 1, end, end.plus(days(1)), std::iter::empty::<CrlEntry>());
    assert_eq!(answer.err().map(|error| error.code()), Some("ca.issuer_expired"));
}
