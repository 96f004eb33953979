//! A listing has no name twice. (What it must and must not have is the tree model's business.)

use crate::check::Finding;
use crate::history::{Outcome, Value};
use crate::model::Part;

pub(crate) fn check(parts: &[Part<'_>]) -> Option<Finding> {
    for part in parts {
        let (Some(source), Some(call)) = (part.source, part.call) else { continue };
        let Outcome::Ok(Value::Names(names)) = &call.outcome else { continue };
        let mut sorted: Vec<&String> = names.iter().collect();
        sorted.sort();
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            let state = format!("`{}` was listed twice", twice[0]);
            return Some(Finding { rule: "a listing has a name twice", call: source, state });
        }
    }
    None
}
