//! `bitsd reload` and `bitsd drain`.

use std::process::ExitCode;

use bitsd::admin::view::OrderOutcome;

use super::conversation::{Conversation, refused};
use super::table;
use super::{Failed, Plain};

/// Gives an order, and says what came of it.
pub fn run(plain: &Plain, target: &str) -> Result<ExitCode, Failed> {
    let message = order(&plain.place.conversation()?, target)?;
    let failed = |error| Failed::new(format!("cannot write: {error}"));
    table::print(&format!("{message}\n")).map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

/// Gives an order; what was done.
pub fn order(conversation: &Conversation, target: &str) -> Result<String, Failed> {
    let (status, body) = conversation.ask("POST", target)?;
    let outcome: Option<OrderOutcome> = serde_json::from_str(&body).ok();
    match outcome {
        Some(outcome) if outcome.ok => Ok(table::printable(&outcome.message)),
        _ => Err(refused(status, &body).into()),
    }
}
