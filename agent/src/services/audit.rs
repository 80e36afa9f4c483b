//! Are the tables what they should be? Somebody else may have written into them.

use super::Services;
use crate::events::{EventLog, NODE};
use orlop_datapath::{Error, TableCursor, TableElement};
use orlop_lb::{Audit, AuditReport, LbPlan};
use orlop_model::EventKind;

/// Elements that are looked at while changes wait: some milliseconds.
const AT_ONCE: usize = 4_096;
/// A walk that is disturbed may begin anew; past so many elements the next audit does.
const ELEMENTS_MAX: usize = 4_000_000;
/// Operations that an event names.
const TOLD_MAX: usize = 5;

impl Services {
    /// Looks at every element of the service tables and repairs what is wrong; gives what was found, `None` while
    /// nobody knows what the tables should be. Takes about a second a million elements, mostly without holding
    /// up changes.
    ///
    /// # Errors
    /// A map that cannot be read.
    pub fn audit(&self, events: &EventLog) -> Result<Option<AuditReport>, Error> {
        let Some(report) = self.look()? else { return Ok(None) };
        if !report.is_good() {
            self.put_right(events)?;
        }
        let restored = self.datapath.restore_followed()?;
        if restored > 0 {
            let message = format!("{restored} elements of NODE_PORTS and CLUSTER_IPS were changed by somebody else");
            events.record(NODE, EventKind::Warning, "ServiceTablesRepaired", message);
        }
        Ok(Some(report))
    }

    fn look(&self) -> Result<Option<AuditReport>, Error> {
        let (mut audit, mut next) = (Audit::new(), Some(TableCursor::default()));
        for _ in 0..ELEMENTS_MAX / AT_ONCE {
            let inner = self.lock();
            // While a repair is under way that one sees to it.
            if !inner.open || self.table_health().is_pending() {
                return Ok(None);
            }
            let Some(from) = next else { return Ok(Some(audit.finish(&inner.compiler))) };
            next = self.datapath.walk_tables(from, AT_ONCE, |element| {
                match element {
                    TableElement::Backend(id, value) => audit.backend(&inner.compiler, id, &value),
                    TableElement::Slots(key, value) => audit.slots(&inner.compiler, &key, &value),
                    TableElement::SourceRange(key) => audit.source_range(&inner.compiler, &key),
                    TableElement::Frontend(key, value) => audit.frontend(&inner.compiler, &key, &value),
                };
            })?;
        }
        Ok(None)
    }

    fn put_right(&self, events: &EventLog) -> Result<(), Error> {
        let mut inner = self.lock();
        let plan = inner.compiler.resync(self.datapath.dump()?);
        // A change that was under way looks wrong, and is right by now.
        if plan.is_empty() {
            return Ok(());
        }
        events.record(NODE, EventKind::Warning, "ServiceTablesRepaired", words(&plan));
        self.write(&plan, events);
        Ok(())
    }
}

fn words(plan: &LbPlan) -> String {
    let first: Vec<String> = plan.0.iter().take(TOLD_MAX).map(ToString::to_string).collect();
    let more = match plan.len().saturating_sub(TOLD_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "somebody else changed the service tables; {} of their elements are put right: {}{more}",
        plan.len(),
        first.join(", ")
    )
}
