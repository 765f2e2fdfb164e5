//! What `bitsd status` says of uploads that are stuck, and of who has not delivered.

use std::time::Duration;

use bitsd::admin::page_view::{AttentionView, FolderView, NeedView};
use bitsd::wall_clock;

use super::Failed;
use super::conversation::{Conversation, NoConversation, refused};
use super::table::{self, Columns, Side};

/// So many are shown; the page shows more.
const SHOWN: usize = 10;

/// What is stuck, and why; nothing where nothing is.
pub fn ask(conversation: &Conversation) -> Result<String, NoConversation> {
    let (code, body) = conversation.ask("GET", "/v1/attention")?;
    if code != 200 {
        return Err(refused(code, &body));
    }
    Ok(in_words(&read(&body)?))
}

fn read<T: for<'b> serde::Deserialize<'b>>(body: &str) -> Result<T, NoConversation> {
    serde_json::from_str(body).map_err(|error| NoConversation::Foreign(error.to_string()))
}

fn in_words(attention: &AttentionView) -> String {
    if attention.needs.is_empty() {
        return String::new();
    }
    let mut text = "\nSTUCK\n".to_owned();
    for need in attention.needs.iter().take(SHOWN) {
        text.push_str(&one(need));
    }
    let shown = attention.needs.len().min(SHOWN) as u64;
    let quiet_shown = attention.needs.iter().take(SHOWN);
    let quiet_shown = quiet_shown.filter(|need| need.need == "quiet").count() as u64;
    let others = attention.needs.iter().filter(|need| need.need != "quiet");
    let all = others.count() as u64 + attention.quiet.max(quiet_shown);
    if all > shown {
        text.push_str(&format!(
            "and {} more (`bitsd sessions list --idle 20m`)\n",
            all - shown
        ));
    }
    text
}

fn one(need: &NeedView) -> String {
    let client = need.client.as_deref().unwrap_or("-");
    let (path, why) = (table::printable(&need.path), table::printable(&need.why));
    let session = need.session.as_ref();
    let idle = session.map(|session| format!(", quiet for {}", table::time(session.idle_seconds)));
    let id = session.map(|session| format!("  {}", session.id));
    let mut text = format!(
        "{:<11}  {client:<15}  {path}{}\n             {why}{}\n",
        need.need,
        id.unwrap_or_default(),
        idle.unwrap_or_default()
    );
    if let Some(remedy) = &need.remedy {
        text.push_str(&format!("             -> {remedy}\n"));
    }
    text
}

/// What came into each folder; who has waited longest stands first.
pub fn folders(conversation: &Conversation, is_json: bool) -> Result<String, Failed> {
    let (code, body) = conversation.ask("GET", "/v1/folders")?;
    if code != 200 {
        return Err(refused(code, &body).into());
    }
    if is_json {
        return Ok(body);
    }
    let now = wall_clock::since_1970();
    Ok(table_of(&read::<Vec<FolderView>>(&body)?, now))
}

fn table_of(folders: &[FolderView], now: Duration) -> String {
    if folders.is_empty() {
        return "no upload has come since the start\n".to_owned();
    }
    let mut columns = Columns::new(&[
        ("LAST FILE", Side::Right),
        ("FILES", Side::Right),
        ("SIZE", Side::Right),
        ("OPEN", Side::Right),
        ("FOLDER", Side::Left),
    ]);
    for folder in folders {
        let ago = |at_ms| now.saturating_sub(Duration::from_millis(at_ms)).as_secs();
        let last = folder
            .delivered_at_ms
            .map(|at_ms| format!("{} ago", table::time(ago(at_ms))));
        let name = match folder.folder.is_empty() {
            true => "(all further ones)".to_owned(),
            false => folder.folder.clone(),
        };
        columns.row([
            last.unwrap_or_else(|| "not since the start".to_owned()),
            folder.files.to_string(),
            table::bytes(folder.bytes),
            folder.open.to_string(),
            name,
        ]);
    }
    columns.to_text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stuck_is_said_with_its_remedy() {
        let need = NeedView {
            need: "refused".to_owned(),
            why: "the disk is full".to_owned(),
            remedy: Some("free some space".to_owned()),
            then: None,
            at_ms: Some(1),
            times: 3,
            path: "/h/a\u{1b}.zip".to_owned(),
            client: Some("192.0.2.1".to_owned()),
            session: None,
        };
        let mut attention = AttentionView {
            needs: vec![need; SHOWN + 1],
            quiet: 7,
            is_partial: false,
        };
        let text = in_words(&attention);
        assert!(
            text.starts_with("\nSTUCK\nrefused      192.0.2.1        /h/a?.zip\n"),
            "{text}"
        );
        assert!(
            text.contains("-> free some space\n") && text.contains("and 8 more"),
            "{text}"
        );
        attention.needs.clear();
        assert_eq!(in_words(&attention), "");
    }

    #[test]
    fn folders_line_up() {
        let folder = FolderView {
            folder: "/h".to_owned(),
            delivered_at_ms: Some(1_000),
            files: 2,
            bytes: 2_048,
            open: 1,
        };
        let text = table_of(&[FolderView::default(), folder], Duration::from_secs(61));
        assert!(text.contains("not since the start      0"), "{text}");
        assert!(
            text.ends_with("1m ago      2  2.00 KiB     1  /h\n"),
            "{text}"
        );
    }
}
