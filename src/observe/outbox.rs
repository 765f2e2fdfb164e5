//! Lines on events that others are told: one when a target stops taking them, fewer and fewer while
//! it does, and one when it takes them again.

use tracing::{debug, info, warn};

use crate::event::{Event, Relayed};

/// Logs how events go to their targets.
pub fn log_events(shard: usize, event: &Event<'_>) {
    match event {
        Event::Relayed {
            session,
            target,
            how,
        } => match how {
            Relayed::NotTaken { failures, why } if failures.is_power_of_two() => {
                let remedy = "look at the target; what is owed waits in the work directory, and is told again";
                let event = "event_not_taken";
                warn!(event, shard, target, %session, failures, why, remedy, "the target did not take an event");
            }
            Relayed::NotTaken { failures, why } => {
                let event = "event_not_taken";
                debug!(event, shard, target, %session, failures, why, "the target did not take an event");
            }
            Relayed::Taken { failures: 0 } => {
                debug!(event = "event_taken", shard, target, %session, "the target took an event");
            }
            Relayed::Taken { failures } => {
                info!(
                    event = "events_taken_again",
                    shard, target, failures, "the target takes events again"
                );
            }
        },
        Event::NobodyToTell { count } => {
            let remedy =
                "name a target in [events]; one that answers 200 to everything gives them up";
            let event = "events_without_target";
            warn!(
                event,
                shard,
                count,
                remedy,
                "events are owed from before, and no target is named any more"
            );
        }
        _ => {}
    }
}
