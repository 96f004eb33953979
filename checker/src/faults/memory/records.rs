//! Logs of the file system in memory.

use super::{Bug, Memory, Thing};
use crate::history::{Call, Cell, LogOp, Outcome, Value};

impl Memory {
    fn records(&mut self, call: &Call) -> &mut Vec<Cell> {
        let thing = self.things.entry(call.object).or_insert_with(|| super::empty(call.object));
        match thing {
            Thing::Log(records) => records,
            // Objects keep their kind: `perform` made this one from the object's own.
            _ => unreachable!("a log holds records"),
        }
    }

    pub(super) fn log_call(&mut self, call: &Call, op: &LogOp) -> Outcome {
        let LogOp::Append { tag } = *op else {
            let mut records = self.records(call).clone();
            if let Some(Thing::Log(known)) = self.views.get(&(call.client, call.object)).cloned()
                && self.strikes(Bug::LogReadStale)
            {
                records = known;
            }
            return Outcome::Ok(Value::Cells(records));
        };
        let (record, object, last) = (Cell::Tag(tag), call.object, self.records(call).len());
        if self.strikes(Bug::LogLoses) {
            return Outcome::Ok(Value::Nothing);
        }
        if last > 0 && self.strikes(Bug::LogOverwrites) {
            self.records(call)[last - 1] = record;
        } else if last > 0 && self.strikes(Bug::LogReorders) {
            self.records(call).insert(last - 1, record);
        } else if last > 0 && self.strikes(Bug::LogTears) {
            if let Cell::Tag(before) = self.records(call)[last - 1] {
                self.records(call)[last - 1] = Cell::Torn(vec![before, tag]);
            }
            self.records(call).push(record);
        } else if self.strikes(Bug::LogLate) {
            self.late(move |memory| {
                if let Some(Thing::Log(records)) = memory.things.get_mut(&object) {
                    records.push(record);
                }
            });
        } else {
            self.records(call).push(record.clone());
            if self.strikes(Bug::LogTwice) {
                self.records(call).push(record);
            }
            if self.strikes(Bug::LogFailedApplies) {
                return Outcome::Failed(libc::ENOSPC);
            }
        }
        Outcome::Ok(Value::Nothing)
    }
}
