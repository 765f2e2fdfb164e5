//! Sessions as they are listed, without what goes on by itself: a second may end between two lists.

use serde_json::Value;

/// The sessions of a list in JSON, one a line, without how long each has been idle.
#[track_caller]
pub fn of_json(list: &str) -> Vec<Value> {
    let session = |line| {
        let mut session: Value =
            serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"));
        let fields = session.as_object_mut().expect("a session");
        assert!(fields.remove("idle_seconds").is_some(), "{line}");
        session
    };
    list.lines().map(session).collect()
}

/// The cells of a table's rows, without those of how long each has been idle.
#[track_caller]
pub fn of_table(table: &str) -> Vec<Vec<&str>> {
    let mut rows: Vec<Vec<&str>> = table.lines().map(cells_of).collect();
    let idle = rows[0].iter().position(|name| *name == "IDLE");
    let idle = idle.unwrap_or_else(|| panic!("no table of sessions: {table}"));
    for row in &mut rows {
        // The line below the table has one cell.
        if row.len() > idle {
            row.remove(idle);
        }
    }
    rows
}

/// Two spaces and more stand between cells.
fn cells_of(line: &str) -> Vec<&str> {
    let cells = line.split("  ").map(str::trim);
    cells.filter(|cell| !cell.is_empty()).collect()
}
