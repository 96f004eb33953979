//! Cutting a file range into objects: nothing missing, nothing twice, everything in order and in its place.

use proptest::prelude::*;
use proto::id::{ObjectNo, OsdId};
use proto::limits::{FILE_BYTES_MAX, REPLICAS_MAX, STRIPE_BYTES_MAX, STRIPE_BYTES_MIN, STRIPE_WIDTH_MAX};
use proto::stripe::{Coding, Column, Layout, Piece, Replication, Striping, pieces};

fn stripe_sizes() -> impl Strategy<Value = u32> {
    (STRIPE_BYTES_MIN.trailing_zeros()..=STRIPE_BYTES_MAX.trailing_zeros()).prop_map(|shift| 1 << shift)
}

fn layout(columns: usize) -> Layout {
    let columns = (0..columns).map(|column| Column { osds: vec![column as u64 + 1, 1] }).collect();
    Layout {
        stripe_bytes: 4096,
        columns,
        replication: Replication::None as i32,
        view: 1,
        ..Layout::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn pieces_cover_the_range_exactly_and_in_order(
        stripe in stripe_sizes(), offset in 0..FILE_BYTES_MAX - (1 << 32), stripes in 0u64..20, odd in 0u64..(1 << 24),
    ) {
        let len = stripes * u64::from(stripe) + odd % u64::from(stripe);
        let cut: Vec<Piece> = pieces(stripe, offset, len).collect();
        let mut next = 0;
        for piece in &cut {
            prop_assert_eq!(piece.at, next, "a gap or an overlap");
            prop_assert!(piece.len > 0);
            prop_assert!(u64::from(piece.offset) + u64::from(piece.len) <= u64::from(stripe));
            prop_assert_eq!(piece.object.0 * u64::from(stripe) + u64::from(piece.offset), offset + piece.at);
            next += u64::from(piece.len);
        }
        prop_assert_eq!(next, len);
        prop_assert!(cut.windows(2).all(|pair| pair[1].object.0 == pair[0].object.0 + 1), "one piece per object");
    }

    #[test]
    fn objects_of_a_file_hold_its_last_byte_and_no_more(stripe in stripe_sizes(), size in 0..FILE_BYTES_MAX) {
        let mut layout = layout(1);
        layout.stripe_bytes = stripe;
        let count = layout.objects_of(size);
        prop_assert!(u128::from(count) * u128::from(stripe) >= u128::from(size));
        prop_assert!(count == 0 || (count - 1) * u64::from(stripe) < size);
    }

    #[test]
    fn objects_go_round_the_columns(columns in 1..=STRIPE_WIDTH_MAX as usize, object: u64) {
        let layout = layout(columns);
        let column = object % columns as u64;
        prop_assert_eq!(layout.osds_of(ObjectNo(object)), vec![OsdId(column + 1), OsdId(1)]);
    }
}

#[test]
fn an_empty_range_has_no_pieces() {
    assert_eq!(pieces(4096, 4095, 0).count(), 0);
}

#[test]
fn a_layout_without_columns_places_nothing() {
    assert!(layout(0).osds_of(ObjectNo(9)).is_empty());
    assert!(layout(0).all_osds().is_empty());
}

#[test]
fn all_osds_names_each_once() {
    assert_eq!(layout(3).all_osds(), [OsdId(1), OsdId(2), OsdId(3)]);
}

#[test]
fn striping_beyond_the_limits_is_refused_with_the_limit() {
    let good = Striping { stripe_bytes: 1 << 20, width: 4, replicas: 1, replication: 0, coding: None };
    assert_eq!(good.check(), Ok(good));
    for (bad, word) in [
        (Striping { stripe_bytes: STRIPE_BYTES_MIN / 2, ..good }, "power of two"),
        (Striping { stripe_bytes: STRIPE_BYTES_MAX * 2, ..good }, "power of two"),
        (Striping { stripe_bytes: 12_288, ..good }, "power of two"),
        (Striping { width: 0, ..good }, "width"),
        (Striping { width: STRIPE_WIDTH_MAX + 1, ..good }, "width"),
        (Striping { replicas: 0, ..good }, "replicas"),
        (Striping { replicas: REPLICAS_MAX + 1, ..good }, "replicas"),
    ] {
        let text = bad.check().unwrap_err();
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn coded_stripes_lie_where_the_page_says() {
    let coding = Coding { data: 3, parity: 2 };
    let layout = Layout {
        stripe_bytes: 4096,
        columns: (1..=5).map(|osd| Column { osds: vec![osd] }).collect(),
        coding: Some(coding),
        coded_bytes: 40_000,
        ..Layout::default()
    };
    let pieces: Vec<_> = layout.shape().pieces(4000, 20_000).collect();
    let objects: Vec<u64> = pieces.iter().map(|piece| piece.object.0).collect();
    assert_eq!(objects, [0, 1, 2, 5, 6, 7], "two parity objects behind every three stripes");
    assert_eq!(pieces.iter().map(|piece| u64::from(piece.len)).sum::<u64>(), 20_000);
    assert_eq!((pieces[0].offset, pieces[0].len, pieces[1].at), (4000, 96, 96));
    let on: Vec<u64> = objects.iter().map(|object| layout.osds_of(ObjectNo(*object))[0].0).collect();
    assert_eq!(on, [1, 2, 3, 1, 2, 3]);
    assert_eq!(layout.objects_of(40_000), 20, "ten stripes are four groups of five");
    assert_eq!(layout.digest(), 0);
}

#[test]
fn codes_are_read_bounded_and_fill_a_group() {
    assert_eq!("4+2".parse::<Coding>().unwrap(), Coding { data: 4, parity: 2 });
    for bad in ["", "4", "4+", "0+1", "17+1", "4+0", "4+5", "a+b"] {
        assert!(bad.parse::<Coding>().is_err(), "{bad}");
    }
    let coding = Coding { data: 4, parity: 2 };
    assert_eq!(coding.stripe_bytes(64 << 10, 1 << 20), 16 << 10);
    assert_eq!(coding.stripe_bytes((64 << 10) + 1, 1 << 20), 20 << 10);
    assert_eq!(coding.stripe_bytes(5 << 20, 1 << 20), 640 << 10);
    assert_eq!((coding.stripe_bytes(1, 1 << 20), coding.stripe_bytes(1 << 40, 1 << 20)), (4096, 1 << 20));
    let good =
        Striping { stripe_bytes: 1 << 20, width: 4, replicas: 1, replication: 0, coding: Some(coding) };
    assert_eq!(good.check(), Ok(good));
    let bad = Striping { coding: Some(Coding { data: 17, parity: 1 }), ..good };
    assert!(bad.check().unwrap_err().contains("from 1 to 16"));
}
