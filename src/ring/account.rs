//! Accounts by name, as far as the machine's own files tell. Messages name them, and some files
//! must belong to one of them alone.

use std::fs;

/// Who the server runs as, such as `user bitsd (uid 998)`.
pub fn us() -> String {
    user(our_id())
}

/// Our effective user id.
pub fn our_id() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A user, such as `user bitsd (uid 998)`.
pub fn user(id: u32) -> String {
    match name(PASSWD, id) {
        Some(name) => format!("user {name} (uid {id})"),
        None => format!("uid {id}"),
    }
}

/// A user as `chown` takes it.
pub fn to_chown(id: u32) -> String {
    name(PASSWD, id).unwrap_or_else(|| id.to_string())
}

/// A group, such as `group staff (gid 50)`.
pub fn group(id: u32) -> String {
    match name(GROUP, id) {
        Some(name) => format!("group {name} (gid {id})"),
        None => format!("gid {id}"),
    }
}

/// Whether a group has no member but us, as where each user has a group of his own.
pub fn is_ours_alone(group: u32) -> bool {
    let passwd = fs::read_to_string(PASSWD).unwrap_or_default();
    let groups = fs::read_to_string(GROUP).unwrap_or_default();
    group == rustix::process::getegid().as_raw()
        && has_one_member(&passwd, &groups, our_id(), group)
}

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// The name in a file of lines such as `NAME:x:ID:..`.
fn name(file: &str, id: u32) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let mut lines = text.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    })
}

fn has_one_member(passwd: &str, groups: &str, user: u32, group: u32) -> bool {
    let field = |line: &str, at| line.split(':').nth(at).unwrap_or_default().to_owned();
    let is = |line: &str, at, id: u32| field(line, at).parse() == Ok(id);
    let ours = passwd
        .lines()
        .find(|line| is(line, 2, user))
        .map(|line| field(line, 0));
    let mut users = passwd.lines().filter(|line| is(line, 3, group));
    // By their first group, and by the lists of members.
    let is_first_group_of_others = users.any(|line| !is(line, 2, user));
    let lists = groups.lines().filter(|line| is(line, 2, group));
    let has_listed_others = lists.map(|line| field(line, 3)).any(|members| {
        let mut members = members.split(',').filter(|member| !member.is_empty());
        members.any(|member| Some(member) != ours.as_deref())
    });
    ours.is_some() && !is_first_group_of_others && !has_listed_others
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/:\nbob:x:1001:1001::/:\ncyd:x:1002:100::/:\ndan:x:1003:100::/:\n";

    #[test]
    fn a_group_is_ours_alone_if_nobody_else_is_in_it() {
        let is_alone = |groups: &str, user, group| has_one_member(USERS, groups, user, group);
        assert!(is_alone("ann:x:1000:\n", 1000, 1000));
        assert!(is_alone("ann:x:1000:ann\n", 1000, 1000));
        assert!(!is_alone("ann:x:1000:bob\n", 1000, 1000));
        assert!(!is_alone("users:x:100:\n", 1002, 100), "dan has it too");
        // Whoever is in no file may share it with anybody.
        assert!(!is_alone("", 4000, 4000));
    }

    #[test]
    fn who_is_in_no_file_is_told_by_number() {
        assert_eq!(user(4_000_000_001), "uid 4000000001");
        assert_eq!(to_chown(4_000_000_001), "4000000001");
        assert_eq!(group(4_000_000_001), "gid 4000000001");
    }
}
