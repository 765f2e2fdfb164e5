//! From a run that fails to a smaller one that still does: uploads, then kinds of faults, then
//! mischief are taken out, one by one, and stay out if the run fails without them. What is out has
//! a name, so that one command replays the rest.

use crate::identity::Identities;
use crate::plan::Plan;
use crate::run::run;

/// Something that can be taken out of a plan.
struct Part {
    name: &'static str,
    take_out: fn(&mut Plan),
}

fn with(plan: &mut Plan, change: impl FnOnce(&mut Identities)) {
    plan.identities.as_mut().map(change);
}

/// In the order in which they are tried: what makes a story longest comes first.
const PARTS: &[Part] = &[
    Part {
        name: "old",
        take_out: |plan| plan.old.clear(),
    },
    Part {
        name: "ends",
        take_out: |plan| plan.crash_steps = 0,
    },
    Part {
        name: "ends-in-recovery",
        take_out: |plan| plan.crash_in_recovery = 0,
    },
    Part {
        name: "strikes",
        take_out: |plan| plan.strikes = 0,
    },
    Part {
        name: "kills",
        take_out: |plan| plan.ends[0] = 0,
    },
    Part {
        name: "power-cuts",
        take_out: |plan| plan.ends[1] = 0,
    },
    Part {
        name: "stops",
        take_out: |plan| plan.ends[2] = 0,
    },
    Part {
        name: "restart-at-heal",
        take_out: |plan| plan.restarts_at_heal = false,
    },
    Part {
        name: "shards",
        take_out: |plan| plan.shards_max = 1,
    },
    Part {
        name: "splits",
        take_out: |plan| plan.weather.split = 0,
    },
    Part {
        name: "delays",
        take_out: |plan| plan.weather.delay_ms_max = 0,
    },
    Part {
        name: "inode-reuse",
        take_out: |plan| plan.reuses_inodes = false,
    },
    Part {
        name: "commits-in-order",
        take_out: |plan| plan.commits_in_order = false,
    },
    Part {
        name: "disks",
        take_out: Plan::join_disks,
    },
    Part {
        name: "events",
        take_out: Plan::tell_nobody,
    },
    Part {
        name: "store",
        take_out: Plan::store_nothing,
    },
    Part {
        name: "tls",
        take_out: |plan| plan.is_secure = false,
    },
    Part {
        name: "identities",
        take_out: Plan::ask_nobody,
    },
    Part {
        name: "custody",
        take_out: Plan::keep_no_custody,
    },
    Part {
        name: "thieves",
        take_out: |plan| with(plan, |identities| identities.thieves = 0),
    },
    Part {
        name: "account-changes",
        take_out: |plan| with(plan, |identities| identities.change_ms = 0),
    },
    Part {
        name: "late-verdicts",
        take_out: |plan| {
            with(plan, |identities| {
                (identities.late_ms_max, identities.missing) = (0, 0);
            });
        },
    },
    Part {
        name: "short-writes",
        take_out: |plan| plan.faults.short = 0,
    },
    Part {
        name: "full-disk",
        take_out: |plan| plan.faults.full = false,
    },
    Part {
        name: "write-errors",
        take_out: |plan| plan.faults.write = 0,
    },
    Part {
        name: "sync-errors",
        take_out: |plan| plan.faults.sync = 0,
    },
    Part {
        name: "ailing-disk",
        take_out: |plan| plan.faults.ails_ms = 0,
    },
    Part {
        name: "folder-sync-errors",
        take_out: |plan| plan.faults.sync_folder = 0,
    },
    Part {
        name: "slow-disk",
        take_out: |plan| plan.faults.slow = 0,
    },
    Part {
        name: "damage",
        take_out: |plan| plan.faults.corrupt = 0,
    },
    Part {
        name: "older",
        take_out: |plan| plan.mischief.older = 0,
    },
    Part {
        name: "overlap",
        take_out: |plan| plan.mischief.overlap = 0,
    },
    Part {
        name: "gap",
        take_out: |plan| plan.mischief.gap = 0,
    },
    Part {
        name: "cut",
        take_out: |plan| plan.mischief.cut = 0,
    },
    Part {
        name: "stall",
        take_out: |plan| plan.mischief.stall = 0,
    },
    Part {
        name: "lie",
        take_out: |plan| plan.mischief.lie = 0,
    },
    Part {
        name: "total",
        take_out: |plan| plan.mischief.total = 0,
    },
    Part {
        name: "rival",
        take_out: |plan| plan.mischief.rival = 0,
    },
    Part {
        name: "cancel",
        take_out: |plan| plan.mischief.cancel = 0,
    },
    Part {
        name: "forget",
        take_out: |plan| plan.mischief.forget = 0,
    },
    Part {
        name: "close-early",
        take_out: |plan| plan.mischief.close_early = 0,
    },
    Part {
        name: "garbage",
        take_out: |plan| plan.mischief.garbage = 0,
    },
    Part {
        name: "chunked",
        take_out: |plan| plan.mischief.chunked = 0,
    },
    Part {
        name: "expect",
        take_out: |plan| plan.mischief.expect = 0,
    },
    Part {
        name: "steal",
        take_out: |plan| plan.mischief.steal = 0,
    },
    Part {
        name: "escape",
        take_out: |plan| plan.mischief.escape = 0,
    },
    Part {
        name: "repeat",
        take_out: |plan| plan.mischief.repeat = 0,
    },
];

/// Takes the named parts out of a plan. `upload-N` is the upload that was drawn as the Nth.
///
/// # Errors
/// The name that is none.
pub fn take_out(plan: &mut Plan, names: &[String]) -> Result<(), String> {
    let mut keeps: Vec<bool> = vec![true; plan.uploads.len()];
    for name in names {
        if let Some(part) = PARTS.iter().find(|part| part.name == name) {
            (part.take_out)(plan);
        } else if let Some(keep) = (name.strip_prefix("upload-"))
            .and_then(|number| number.parse::<usize>().ok())
            .and_then(|number| keeps.get_mut(number))
        {
            *keep = false;
        } else {
            return Err(format!("{name} is nothing that a run could be without"));
        }
    }
    let mut keeps = keeps.into_iter();
    plan.uploads.retain(|_| keeps.next().unwrap_or(true));
    // With no way to end left, there is no end.
    if plan.ends == [0, 0, 0] {
        plan.ends = [1, 0, 0];
        plan.crash_steps = 0;
    }
    Ok(())
}

/// The names of all that a failing run does not need to fail, and how the smallest one fails.
pub fn shrink(plan: &Plan) -> (Vec<String>, String) {
    let uploads = (0..plan.uploads.len()).map(|number| format!("upload-{number}"));
    let parts = PARTS.iter().map(|part| part.name.to_owned());
    let mut without = Vec::new();
    let mut how = String::new();
    for name in uploads.chain(parts) {
        without.push(name);
        match failure_without(plan, &without) {
            Some(failure) => how = failure,
            None => {
                without.pop();
            }
        }
    }
    (without, how)
}

fn failure_without(plan: &Plan, names: &[String]) -> Option<String> {
    let mut smaller = plan.clone();
    take_out(&mut smaller, names).expect("names from the list");
    if smaller.uploads.is_empty() {
        return None;
    }
    run(&smaller, false).failure
}
