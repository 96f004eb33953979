//! The closed list of wire errors: numbers, answers to "again?" and "did it happen?", and the words for people.

use proto::error::{Code, ErrorMessage, WireError};

#[test]
fn numbers_are_unique_ascending_and_survive_the_wire() {
    for pair in Code::ALL.windows(2) {
        assert!((pair[0] as u16) < pair[1] as u16, "{:?} and {:?}", pair[0], pair[1]);
    }
    for code in Code::ALL {
        assert_eq!(Code::from_wire(code as u16), code);
        let error = WireError::new(code, "text").with_hint("hint");
        assert_eq!(WireError::from(ErrorMessage::from(error.clone())), error);
    }
}

#[test]
fn every_number_that_is_not_ours_becomes_internal() {
    for value in 0..=u16::MAX {
        let code = Code::from_wire(value);
        assert!(code as u16 == value || code == Code::Internal);
    }
    let beyond = ErrorMessage { code: 1 << 16, text: String::new(), hint: String::new() };
    assert_eq!(WireError::from(beyond).code, Code::Internal);
}

#[test]
fn every_code_says_something_else_to_people() {
    let mut seen = std::collections::BTreeMap::new();
    for code in Code::ALL {
        let text = code.meaning();
        assert!(text.len() > 10, "{code:?}");
        if let Some(other) = seen.insert(text, code) {
            panic!("{code:?} and {other:?} say the same");
        }
    }
}

/// What a retry loop may rely on: a refusal that says "ask again" either changed nothing, or is one of the two
/// after which only the same (session, sequence) may be sent.
#[test]
fn what_may_be_repeated_is_safe_or_unknown() {
    let unknown: Vec<Code> =
        Code::ALL.into_iter().filter(|code| code.is_retryable() && !code.has_no_side_effects()).collect();
    assert_eq!(unknown, [Code::Unavailable, Code::DeadlineExceeded, Code::ReplicaDown]);
}

/// Damage, bugs and giving up are never answered by trying again blindly.
#[test]
fn damage_is_not_repeated() {
    for code in [Code::Io, Code::Corrupt, Code::Internal, Code::Cancelled] {
        assert!(!code.is_retryable() && !code.has_no_side_effects(), "{code:?}");
    }
}

/// Answers of POSIX (1..=23) are final and changed nothing, but for "busy".
#[test]
fn answers_of_posix_are_final() {
    for code in Code::ALL.into_iter().filter(|code| (*code as u16) < 40) {
        assert!(code.has_no_side_effects(), "{code:?}");
        assert_eq!(code.is_retryable(), code == Code::Busy, "{code:?}");
    }
}
