//! What counts until when, step by step.

use super::*;

fn attr(size: u64, truncate_epoch: u64, change: u64) -> Attr {
    Attr { size, truncate_epoch, change, ..Attr::default() }
}

fn at(seconds: i64) -> Time {
    Time { seconds, nanos: 0 }
}

#[test]
fn what_waits_for_room_behind_a_cut_does_not_count_any_more() {
    let mut size = Size::new(&attr(10, 0, 1));
    for (offset, end) in [(10, 20), (20, 30)] {
        size.piece_begins();
        size.gathered(offset, end, at(5));
        size.piece_is_held();
    }
    assert_eq!(size.size(), 30);
    size.truncated(&attr(20, 1, 2));
    size.piece_is_out(true);
    assert_eq!((size.size(), size.is_gathering()), (20, true));
}

#[test]
fn unreported_writes_count_until_the_mrc_has_them() {
    let mut size = Size::new(&attr(10, 0, 1));
    assert!(size.wrote(30, at(5), false));
    assert!(!size.wrote(20, at(6), false));
    assert_eq!(size.size(), 30);
    let report = size.report().unwrap();
    assert_eq!((report.end, report.mtime), (30, at(6)));
    assert_eq!(size.report(), None);
    assert_eq!(size.size(), 30);
    assert!(size.wrote(40, at(7), false));
    size.reported(&attr(30, 0, 2), false);
    assert_eq!(size.size(), 40);
    let mut shown = attr(30, 0, 2);
    size.show(&mut shown);
    assert_eq!((shown.size, shown.mtime), (40, at(7)));
}

#[test]
fn what_is_gathered_counts_until_the_last_piece_is_out() {
    let mut size = Size::new(&attr(10, 0, 1));
    size.piece_begins();
    assert!(size.gathered(10, 100, at(1)), "the file is in nobody's list of dirty ones yet");
    size.piece_begins();
    assert!(!size.gathered(100, 200, at(2)));
    size.wrote(100, at(3), false);
    size.piece_is_out(false);
    assert_eq!((size.size(), size.is_gathering()), (200, true));
    size.wrote(150, at(4), false);
    size.piece_is_out(false);
    assert_eq!((size.size(), size.is_gathering()), (150, false), "what was lost does not count");
}

#[test]
fn attributes_that_were_set_come_after_what_was_written_until_they_are_reported() {
    let set =
        KeptAttributes { mode: Some(0o600), mtime: Some(at(3)), ctime: at(8), ..KeptAttributes::default() };
    let mut size = Size::new(&attr(10, 0, 1));
    assert!(size.wrote(30, at(7), false));
    assert!(!size.keep(set), "it is in the list of dirty ones");
    let mut shown = Attr { mode: 0o100_644, ..attr(10, 0, 1) };
    size.show(&mut shown);
    assert_eq!((shown.size, shown.mtime, shown.ctime, shown.mode), (30, at(3), at(8), 0o100_600));
    size.report().unwrap();
    size.not_reported();
    assert_eq!(size.kept(), Some(set), "tried again");
    // More was written before it and is on its way: that comes first.
    size.piece_begins();
    size.gathered(30, 40, at(7));
    assert_eq!(size.report_kept(), None);
    size.report().unwrap();
    size.reported(&attr(30, 0, 2), false);
    assert_eq!(size.kept(), Some(set));
    size.landed(40, false);
    size.piece_is_out(false);
    size.report().unwrap();
    assert_eq!(size.report_kept(), Some(set));
    size.reported(&attr(40, 0, 3), true);
    assert!(size.kept().is_none() && !size.is_dirty());
    // Alone: that is something to report, and nothing that was written.
    let covered = size.must_force(false).unwrap();
    size.forced(covered);
    assert!(size.keep(set), "nobody knew of it");
    assert!(size.is_dirty() && !size.is_written());
    assert_eq!(size.report(), None);
    size.reported(&attr(40, 0, 4), true);
    assert!(size.must_force(true).is_none(), "rights do not matter to the data");
    assert!(size.must_force(false).is_some());
}

#[test]
fn attributes_do_not_wait_for_what_waits_for_room_and_their_time_stays() {
    let set = KeptAttributes { mtime: Some(at(3)), ctime: at(8), ..KeptAttributes::default() };
    let mut size = Size::new(&attr(10, 0, 1));
    for end in [20, 30] {
        size.piece_begins();
        size.gathered(end - 10, end, at(7));
    }
    size.piece_is_held();
    size.keep(set);
    assert_eq!(size.report_kept(), None, "one is on its way");
    size.landed(30, false);
    size.piece_is_out(false);
    let written = size.report().unwrap();
    assert_eq!((size.report_kept(), written.mtime), (Some(set), at(7)), "told with what was written before");
    size.reported(&Attr { mtime: at(3), ..attr(30, 0, 2) }, true);
    assert!(!size.is_dirty() && size.is_gathering());
    let mut shown = Attr { mtime: at(3), ..attr(30, 0, 2) };
    size.show(&mut shown);
    assert_eq!(shown.mtime, at(3));
    // There is room at last.
    size.landed(20, false);
    size.piece_is_out(true);
    assert_eq!(size.report().unwrap().mtime, at(3), "it was written before the time was set");
    // Likewise when the MRC was asked to set it.
    size.reported(&Attr { mtime: at(3), ..attr(30, 0, 3) }, false);
    size.piece_begins();
    size.gathered(30, 40, at(9));
    size.piece_is_held();
    size.mtime_set(at(4));
    size.landed(40, false);
    size.piece_is_out(true);
    assert_eq!(size.report().unwrap().mtime, at(4));
}

#[test]
fn an_answer_that_the_own_report_overtook_does_not_take_the_size_back() {
    let mut size = Size::new(&attr(0, 0, 1));
    size.wrote(300, at(5), false);
    // A question for attributes is answered before the report, its answer is dealt with after it.
    let mut asked = attr(0, 0, 1);
    size.report().unwrap();
    size.reported(&Attr { mtime: at(5), ..attr(300, 0, 2) }, false);
    size.learn(&asked);
    size.newest(&mut asked);
    assert_eq!((asked.size, asked.mtime, asked.change), (300, at(5), 2));
    let mut later = attr(100, 0, 3);
    size.learn(&later);
    size.newest(&mut later);
    assert_eq!((later.size, later.change), (100, 3));
}

#[test]
fn a_sync_forces_the_log_only_for_what_it_promises() {
    let mut size = Size::new(&attr(10, 0, 1));
    let first = size.must_force(true).expect("nobody knows what came before");
    size.forced(first);
    assert_eq!((size.must_force(true), size.must_force(false)), (None, None));
    // An overwrite changes the time only.
    size.wrote(10, at(5), false);
    assert!(!size.grows());
    size.report().unwrap();
    size.reported(&attr(10, 0, 2), false);
    assert_eq!((size.must_force(true), size.must_force(false)), (None, None));
    // Growth counts, and what comes while the log is being forced counts for the next time.
    size.wrote(20, at(6), false);
    assert!(size.grows());
    size.report().unwrap();
    size.reported(&attr(20, 0, 3), false);
    let growth = size.must_force(true).unwrap();
    size.wrote(30, at(7), false);
    size.report().unwrap();
    size.reported(&attr(30, 0, 4), false);
    size.forced(growth);
    let later = size.must_force(true).expect("the second growth came after");
    size.forced(later);
    // Rights, owner, times: fsync, not fdatasync.
    size.learn(&attr(30, 0, 5));
    assert!(size.must_force(true).is_none() && size.must_force(false).is_some());
    size.truncated(&attr(0, 1, 6));
    assert!(size.must_force(true).is_some());
}

#[test]
fn a_refused_report_is_repeated_with_what_came_after() {
    let mut size = Size::new(&attr(0, 0, 1));
    size.wrote(5, at(1), true);
    size.report().unwrap();
    size.wrote(3, at(2), false);
    size.not_reported();
    let again = size.report().unwrap();
    assert_eq!((again.end, again.mtime, again.clear_setid), (5, at(2), true));
}

#[test]
fn truncation_forgets_writes_and_late_answers_do_not_bring_them_back() {
    let mut size = Size::new(&attr(100, 3, 7));
    size.wrote(200, at(1), false);
    size.truncated(&attr(10, 4, 9));
    assert_eq!(size.size(), 10);
    assert!(!size.is_dirty());
    size.learn(&attr(100, 3, 8));
    assert_eq!(size.size(), 10);
}

#[test]
fn only_writes_that_meet_holes_ask_the_osds() {
    let with_blocks = |size: u64, blocks: u64| Attr { blocks, ..attr(size, 0, 1) };
    let asks = |size: &mut Size, offset: u64, end: u64| {
        size.begins_at(offset);
        size.wrote(end, at(1), false);
        size.take_holes_changed()
    };
    let mut whole = Size::new(&with_blocks(100, 8));
    assert!(!asks(&mut whole, 0, 50) && !asks(&mut whole, 100, 5000) && !asks(&mut whole, 5000, 9000));
    assert!(!asks(&mut whole, 12_288, 12_300), "the rest of the last block is no hole");
    assert!(asks(&mut whole, 1 << 20, 1 << 21));
    whole.punched();
    assert!(whole.holes_changed() && whole.take_holes_changed() && !whole.holes_changed());
    let mut behind = Size::new(&with_blocks(0, 0));
    for offset in [0, 1 << 20] {
        behind.piece_begins();
        behind.gathered(offset, offset + 4096, at(1));
    }
    for offset in [0, 1 << 20] {
        behind.begins_at(offset);
        behind.wrote(offset + 4096, at(1), false);
        behind.piece_is_out(false);
    }
    assert!(behind.take_holes_changed(), "what is written later has left its hole when it was gathered");
    let mut sparse = Size::new(&with_blocks(1 << 20, 8));
    assert!(sparse.has_holes() && asks(&mut sparse, 4096, 8192));
    assert!(!asks(&mut sparse, 1 << 20, 2 << 20), "appending fills no hole");
    let mut shown = with_blocks(1 << 20, 8);
    sparse.show(&mut shown);
    assert_eq!((shown.size, shown.blocks), (2 << 20, 8 + 2048));
}

#[test]
fn a_truncation_by_others_hides_the_end_of_older_writes() {
    let mut size = Size::new(&attr(0, 0, 1));
    size.wrote(50, at(1), false);
    let mut cut = attr(8, 1, 2);
    size.show(&mut cut);
    assert_eq!(cut.size, 8);
}

#[test]
fn what_was_gathered_lands_with_the_time_of_the_latest_write() {
    let mut size = Size::new(&attr(0, 1, 1));
    size.piece_begins();
    size.gathered(0, 10, at(5));
    assert!(size.landed(10, false));
    assert_eq!(size.report().unwrap().mtime, at(5), "not the time at which it landed");
    size.not_reported();
    let mut shown = attr(0, 1, 2);
    size.show(&mut shown);
    assert_eq!((shown.size, shown.mtime), (10, at(5)));
    size.wrote(30, at(7), false);
    assert_eq!(size.report().unwrap().mtime, at(7));
}
