//! House rules that are worth a test: who may import whom, where `unsafe` stands, and what every
//! file begins with.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Who may import whom; `ring`, the binary and its `cli` are not here, because they may import all.
const ARROWS: &[(&str, &[&str])] = &[
    ("http", &[]),
    ("auth", &["http"]),
    // The ledger of uploads that ended, and the thread that writes it.
    (
        "custody",
        &[
            "bits",
            "coarse_clock",
            "http",
            "metrics",
            "named_file",
            "processors",
            "shell",
            "unseen",
            "version",
            "wall_clock",
        ],
    ),
    // The threads that try passwords.
    ("verify", &["auth", "http", "processors"]),
    ("bits", &["http"]),
    (
        "server",
        &[
            "vault",
            "bits",
            "http",
            "auth",
            "custody",
            "event",
            "diagnosis",
            "config",
            "metrics",
        ],
    ),
    // The administrator's interface, on threads of its own.
    (
        "admin",
        &[
            "server",
            "config",
            "metrics",
            "bits",
            "http",
            "event",
            "diagnosis",
            "unseen",
            "version",
            "wall_clock",
        ],
    ),
    // Counts events; the states and refusals that they name are its labels.
    ("metrics", &["event", "bits"]),
    (
        "vault",
        &["bits", "http", "custody", "event", "diagnosis", "config"],
    ),
    // Plain data, which names refusals and bad heads; it decides nothing.
    ("event", &["bits", "http"]),
    // A prefix among the settings is read as a request target is.
    ("config", &["auth", "http", "named_file", "unseen"]),
    // The table of what the disk says: pure, for the flow and for the log.
    ("diagnosis", &["bits", "http", "event"]),
    ("begun", &[]),
    ("processors", &[]),
    ("named_file", &["pem_lines", "shell", "vigil"]),
    ("pem_lines", &[]),
    ("shell", &[]),
    ("unseen", &[]),
    ("version", &[]),
    ("wall_clock", &[]),
    ("coarse_clock", &[]),
    // Who waits for a file system, and the thread that says so.
    ("vigil", &["shell"]),
    // The HTTP client of `World::notify`, on threads of its own.
    (
        "notify",
        &[
            "named_file",
            "processors",
            "server",
            "vault",
            "bits",
            "config",
            "tls_words",
            "wall_clock",
        ],
    ),
    // What carries events to their targets, likewise.
    (
        "courier",
        &[
            "custody",
            "named_file",
            "notify",
            "processors",
            "server",
            "vault",
            "bits",
            "http",
            "config",
            "wall_clock",
        ],
    ),
    // Files into an object store, on a thread of its own.
    (
        "objects",
        &[
            "begun",
            "coarse_clock",
            "custody",
            "diagnosis",
            "named_file",
            "processors",
            "server",
            "vault",
            "bits",
            "http",
            "config",
            "metrics",
        ],
    ),
    (
        "observe",
        &[
            "coarse_clock",
            "event",
            "diagnosis",
            "config",
            "bits",
            "http",
            "reasoned",
            "unseen",
        ],
    ),
    ("reasoned", &[]),
    // What rustls says, in words: for the server and for its client.
    ("tls_words", &[]),
    ("client", &["named_file", "tls_words", "unseen"]),
    ("bench", &["client", "bits", "config", "named_file"]),
];
const FREE: [&str; 4] = ["ring", "cli", "main", "lib"];

/// What the pure layers and the flow must not name: clock, disk, sockets, threads, a runtime,
/// random order.
const BANNED: &[(&str, &[&str])] = &[
    ("http", PURE),
    ("bits", PURE),
    ("metrics", PURE),
    ("auth", PURE),
    ("vault", FLOW),
    ("server", FLOW),
];
const FLOW: &[&str] = &[
    "tokio",
    "std::fs",
    "TcpStream",
    "TcpListener",
    "Instant::now",
    "SystemTime",
    "std::thread",
    "HashMap",
    "HashSet",
];
const PURE: &[&str] = &[
    "tokio",
    "async ",
    "std::io",
    "std::fs",
    "std::net",
    "std::time",
    "std::thread",
    "HashMap",
    "HashSet",
];

struct Source {
    /// From the top of the repository, with slashes.
    path: String,
    text: String,
}

impl Source {
    /// The layer of a file in `src`: its folder, or its own name.
    fn layer(&self) -> &str {
        let below = self.path.strip_prefix("src/").expect("a file of src");
        below.split(['/', '.']).next().expect("a name")
    }

    /// Number (from 1) and text of the lines before the unit tests; none for a file of tests. Unit
    /// tests end a file; a single item that is there for tests is code like any other.
    fn lines_of_code(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_tests = self.path.ends_with("/tests.rs");
        let lines: Vec<&str> = self.text.lines().collect();
        let end = (0..lines.len()).find(|at| begins_tests(&lines[*at..]));
        let end = end.unwrap_or(lines.len());
        let lines = lines.into_iter().take(end).enumerate();
        lines
            .map(|(at, line)| (at + 1, line))
            .filter(move |_| !is_tests)
    }
}

/// Whether these lines begin with `#[cfg(test)]` of a module of tests. Other attributes of it may
/// stand between the two.
fn begins_tests(lines: &[&str]) -> bool {
    let is_item = |line: &&&str| line.starts_with(char::is_alphabetic);
    let is_tests = |item: &&str| item.contains("mod tests");
    lines[0] == "#[cfg(test)]" && lines.iter().find(is_item).is_some_and(is_tests)
}

#[test]
fn code_ends_where_a_module_of_tests_begins() {
    let code_of = |path: &str, text: &str| -> Vec<(usize, String)> {
        let (path, text) = (path.to_owned(), text.to_owned());
        let source = Source { path, text };
        let lines = source.lines_of_code();
        lines.map(|(at, line)| (at, line.to_owned())).collect()
    };
    let code = "//! A file.\n#[cfg(test)]\n#[path = \"b.rs\"]\nmod b;\n\n#[cfg(test)]\nfn c() {}\n";
    let tests = [
        "#[cfg(test)]\nmod tests;\n",
        "#[cfg(test)]\nmod tests {\n    fn d() {}\n}\n",
        "#[cfg(test)]\n#[allow(\n    e,\n)]\npub(super) mod tests {\n}\n",
        "",
    ];
    for tests in tests {
        let found = code_of("src/a.rs", &format!("{code}{tests}"));
        let expected = code.lines().map(str::to_owned);
        let expected: Vec<_> = (1..).zip(expected).collect();
        assert_eq!(found, expected, "{tests}");
    }
    assert_eq!(code_of("src/a/tests.rs", code), []);
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below a folder, in a fixed order.
fn sources(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![top().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(top()).unwrap();
                let path = path.to_str().unwrap().to_owned();
                found.push(Source { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "no files in {folder}");
    found
}

fn everything() -> Vec<Source> {
    ["src", "tests", "benches", "examples"]
        .into_iter()
        .flat_map(sources)
        .collect()
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

/// The modules of this crate that a line names.
fn modules_named<'l>(line: &'l str, prefix: &str) -> Vec<&'l str> {
    let names = line.split(prefix).skip(1);
    names
        .map(|rest| {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            &rest[..end.unwrap_or(rest.len())]
        })
        .collect()
}

#[test]
fn layers_import_only_what_stands_below_them() {
    for source in sources("src") {
        let layer = source.layer();
        let may_import = ARROWS.iter().find(|(name, _)| *name == layer);
        if may_import.is_none() {
            assert!(
                FREE.contains(&layer),
                "{}: a layer without arrows",
                source.path
            );
        }
        for (number, line) in source.lines_of_code().filter(|(_, line)| !is_comment(line)) {
            for named in modules_named(line, "crate::") {
                let is_allowed = may_import.is_none_or(|(_, all)| all.contains(&named));
                assert!(
                    named == layer || is_allowed,
                    "{}:{number}: {layer} may not import {named}",
                    source.path
                );
            }
        }
    }
}

#[test]
fn nobody_but_the_binary_imports_the_ring() {
    for source in sources("src") {
        let may = matches!(source.layer(), "ring" | "main");
        for (number, line) in source.text.lines().enumerate() {
            let named = [
                modules_named(line, "crate::"),
                modules_named(line, "bitsd::"),
            ]
            .concat();
            let is_import = named.contains(&"ring") && !is_comment(line);
            assert!(
                may || !is_import,
                "{}:{}: imports the ring",
                source.path,
                number + 1
            );
        }
    }
}

/// It is not maintained: these would change with it, and nothing else. The head of the ring names
/// them.
#[test]
fn five_files_name_tokio_uring() {
    let mut naming = Vec::new();
    for source in sources("src") {
        let mut code = source.text.lines().filter(|line| !is_comment(line));
        if code.any(|line| line.contains("tokio_uring::")) {
            naming.push(source.path);
        }
    }
    let expected = ["blocks/body", "blocks/pages", "mod", "op", "queue"];
    let expected = expected.map(|name| format!("src/ring/{name}.rs"));
    assert_eq!(naming, expected);
}

#[test]
fn the_pure_layers_name_no_clock_disk_socket_or_runtime() {
    for source in sources("src") {
        let banned = BANNED.iter().find(|(name, _)| *name == source.layer());
        let banned = banned.map_or(&[][..], |(_, words)| words);
        for (number, line) in source.lines_of_code().filter(|(_, line)| !is_comment(line)) {
            let word = banned.iter().find(|word| line.contains(**word));
            assert_eq!(word, None, "{}:{number}", source.path);
        }
    }
}

#[test]
fn every_file_begins_by_saying_what_it_is_for() {
    for source in everything() {
        assert!(source.text.starts_with("//! "), "{} does not", source.path);
    }
}

#[test]
fn unsafe_stands_only_in_the_ring_and_says_why_it_is_safe() {
    let opening = [concat!("unsafe", " {"), concat!("unsafe", " impl")];
    let function = concat!("unsafe", " fn");
    for source in everything() {
        let lines: Vec<&str> = source.text.lines().collect();
        for (at, line) in lines
            .iter()
            .enumerate()
            .filter(|(_, line)| !is_comment(line))
        {
            let is_opening = opening.iter().any(|words| line.contains(words));
            if !is_opening && !line.contains(function) {
                continue;
            }
            let here = format!("{}:{}", source.path, at + 1);
            // The soak cuts the power of a file system, for which there is no safe call.
            // The system's Kerberos is a library in C.
            let others = ["tests/soak/mount.rs", "src/verify/gssapi.rs"];
            let may = source.path.starts_with("src/ring/") || others.contains(&&*source.path);
            assert!(may, "{here}: only in the ring");
            // Attributes and the beginning of the statement may stand between comment and block.
            let above = lines[..at].iter().rev().skip_while(|line| {
                let line = line.trim();
                line.starts_with("#[") || line.ends_with('=') || line.ends_with('(')
            });
            let mut comment = above.take_while(|line| is_comment(line));
            let is_explained = comment.any(|line| line.contains("SAFETY: "));
            assert!(
                !is_opening || is_explained,
                "{here}: no SAFETY comment above"
            );
        }
    }
}

/// Whoever reads the log by a program goes by that word, and never by a sentence.
#[test]
fn every_line_of_the_log_has_a_word_for_its_kind() {
    let mut calls = 0;
    for source in sources("src") {
        let code: Vec<&str> = source.lines_of_code().map(|(_, line)| line).collect();
        let code = code.join("\n");
        for level in ["error", "warn", "info", "debug"] {
            let call = format!("{level}!(");
            for (at, _) in code.match_indices(&call) {
                // The sentence of the call ends what is looked at.
                let fields = code[at + call.len()..].split('"');
                let fields: String = fields.take(2).collect();
                calls += 1;
                assert!(
                    fields.trim_start().starts_with("event"),
                    "{}: {call}{fields}",
                    source.path
                );
            }
        }
    }
    assert!(calls > 30, "{calls} calls");
}

#[test]
fn every_word_of_the_log_is_explained() {
    let page = fs::read_to_string(top().join("docs/logging.md")).unwrap();
    let mut words = BTreeSet::new();
    for source in sources("src") {
        for (_, line) in source.lines_of_code().filter(|(_, line)| !is_comment(line)) {
            let rest = line.split("event = \"").nth(1);
            words.extend(
                rest.and_then(|rest| rest.split('"').next())
                    .map(str::to_owned),
            );
        }
    }
    assert!(words.len() > 30, "{words:?}");
    let is_missing = |word: &&String| !page.contains(&format!("`{word}`"));
    let missing: Vec<_> = words.iter().filter(is_missing).collect();
    assert!(missing.is_empty(), "not in docs/logging.md: {missing:?}");
}

/// Some file systems cannot sync a folder and say EINVAL. One function knows what to make of that.
#[test]
fn folders_are_synced_by_who_knows_what_cannot_be() {
    // Here it is a file of the server's own.
    let of_a_file = "src/ring/freeing.rs";
    for source in sources("src") {
        let may = source.path == "src/named_file.rs" || source.path == of_a_file;
        for (number, line) in source.lines_of_code().filter(|(_, line)| !is_comment(line)) {
            assert!(
                may || !line.contains("fs::fsync("),
                "{}:{number}: named_file::sync_names_in of a folder, sync_all of a file",
                source.path
            );
        }
    }
}

#[test]
fn no_unwrap_outside_tests() {
    for source in sources("src") {
        for (number, line) in source.lines_of_code().filter(|(_, line)| !is_comment(line)) {
            assert!(
                !line.contains(".unwrap()"),
                "{}:{number}: say why it cannot fail",
                source.path
            );
        }
    }
}

/// Lines of a function, from its first to its closing brace. One that is longer has two subjects.
const FUNCTION_LINES_MAX: usize = 80;
/// Lines of code of a file, unit tests aside.
const FILE_LINES_MAX: usize = 500;
/// Files that are longer; each says at its head why.
const LONG: &[&str] = &["src/config/keys.rs"];
const REASON: &str = "//! It is long on purpose: ";

/// The name of the function that begins with this line, whoever may see it and whatever else it is.
fn function_begun(code: &str) -> Option<&str> {
    let code = match code.strip_prefix("pub(") {
        Some(limited) => limited.split_once(')')?.1,
        None => code.strip_prefix("pub ").unwrap_or(code),
    };
    let (before, rest) = code.split_once("fn ")?;
    let is_kind = |word| ["const", "async", "unsafe", "extern", "\"C\""].contains(&word);
    let end = rest.find(|char: char| !char.is_alphanumeric() && char != '_');
    let name = &rest[..end.unwrap_or(rest.len())];
    before.split_whitespace().all(is_kind).then_some(name)
}

#[test]
fn no_function_and_no_file_has_too_many_lines() {
    for source in sources("src") {
        let is_excused = LONG.contains(&source.path.as_str());
        assert!(
            !is_excused || source.text.contains(REASON),
            "{} does not say why it is long",
            source.path
        );
        let lines: Vec<&str> = source.lines_of_code().map(|(_, line)| line).collect();
        assert!(
            is_excused || lines.len() <= FILE_LINES_MAX,
            "{} has {} lines of code",
            source.path,
            lines.len()
        );
        for (at, line) in lines.iter().enumerate() {
            let code = line.trim_start();
            let indent = &line[..line.len() - code.len()];
            let Some(name) = function_begun(code) else {
                continue;
            };
            // As rustfmt puts it: the brace stands beneath the first word.
            let end = format!("{indent}}}");
            let len = lines[at..].iter().position(|line| *line == end);
            let len = len.map_or(1, |len| len + 1);
            assert!(
                code.ends_with(';') || len <= FUNCTION_LINES_MAX,
                "{}:{}: {name} has {len} lines",
                source.path,
                at + 1
            );
        }
    }
}

#[test]
fn a_function_is_one_whoever_may_see_it() {
    for (line, name) in [
        ("fn a() {", Some("a")),
        ("pub fn b_2<W: World>(", Some("b_2")),
        ("pub(super) async fn c(&self) {", Some("c")),
        (concat!("pub(crate) const unsafe", " fn d("), Some("d")),
        ("pub(in crate::ring) extern \"C\" fn e(", Some("e")),
        ("let f: fn (u8) = g;", None),
        ("pub(super) struct Fn {", None),
        ("// That fn has a comment", None),
        ("call: extern \"C\" fn(u8),", None),
    ] {
        assert_eq!(function_begun(line), name, "{line}");
    }
}

/// `scripts/sim --planted` begins like this; here it is told at once.
#[test]
fn every_planted_bug_can_still_be_planted() {
    let folder = top().join("tests/sim/planted");
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let patch = entry.unwrap().path();
        if patch.extension().is_none_or(|ending| ending != "patch") {
            continue;
        }
        count += 1;
        let mut apply = Command::new("git");
        apply.args(["apply", "--check", "-C1"]).arg(&patch);
        let applied = apply.current_dir(top()).output().unwrap();
        let why = String::from_utf8_lossy(&applied.stderr);
        let renew = "see the head of scripts/sim";
        assert!(
            applied.status.success(),
            "{}: {why}{renew}",
            patch.display()
        );
    }
    assert!(count > 25, "{count} bugs");
}

#[test]
fn nothing_is_put_off_without_the_condition_that_ends_it() {
    for source in everything() {
        for (number, line) in source.text.lines().enumerate() {
            for mark in [
                concat!("TO", "DO"),
                concat!("FIX", "ME"),
                concat!("XX", "X"),
            ] {
                let put_off = line.split(mark).nth(1);
                let has_condition = put_off.is_none_or(|rest| {
                    ["when", "once", "until"]
                        .iter()
                        .any(|word| rest.contains(word))
                });
                assert!(has_condition, "{}:{}: until when?", source.path, number + 1);
            }
        }
    }
}

/// Adds the paths that a tree of `use` names: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn add_leaves(tree: &str, before: &str, found: &mut Vec<String>) {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let path = tree.split(" as ").next().expect("a part");
        found.push(format!("{before}{path}"));
        return;
    };
    let before = format!("{before}{}", &tree[..open]);
    let inner = tree[open + 1..].trim_end_matches('}');
    let (mut depth, mut begin) = (0, 0);
    for (at, char) in inner.char_indices() {
        match char {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                add_leaves(&inner[begin..at], &before, found);
                begin = at + 1;
            }
            _ => {}
        }
    }
    if !inner[begin..].trim().is_empty() {
        // The last of a list ends without a comma, and with the braces of those within.
        let closing = "}".repeat(usize::try_from(depth).unwrap_or(0));
        add_leaves(&format!("{}{closing}", &inner[begin..]), &before, found);
    }
}

impl Source {
    /// The module that a file of `src` is: `server::held`, or nothing for the library itself.
    fn module(&self) -> String {
        let below = self.path.strip_prefix("src/").expect("a file of src");
        let below = below.trim_end_matches(".rs").trim_end_matches("/mod");
        match below {
            "lib" => String::new(),
            other => other.replace('/', "::"),
        }
    }

    /// The code of a file, without its comments and tests.
    fn code(&self) -> String {
        let lines = self.lines_of_code().map(|(_, line)| line);
        let code: Vec<&str> = lines.filter(|line| !is_comment(line)).collect();
        code.join("\n")
    }

    /// All paths that the code names, as far as they may lead to modules of this crate.
    fn paths(&self) -> Vec<String> {
        let code = self.code();
        let mut found = Vec::new();
        for statement in code.split(';') {
            let is_use = |line: &&str| {
                let line = line.trim_start();
                line.starts_with("use ") || (line.starts_with("pub") && line.contains(" use "))
            };
            if let Some(first) = statement.lines().find(is_use) {
                let begin = statement.find(first).expect("a line of it");
                let tree = statement[begin..]
                    .split_once("use ")
                    .expect("found above")
                    .1;
                let tree: Vec<&str> = tree.split_whitespace().collect();
                add_leaves(&tree.join(" "), "", &mut found);
            }
        }
        for root in ["crate::", "super::"] {
            for (at, _) in code.match_indices(root) {
                let is_path = |char: char| char.is_alphanumeric() || char == '_' || char == ':';
                if !code[..at].ends_with(is_path) {
                    let end = code[at..].find(|char| !is_path(char));
                    let path = &code[at..][..end.unwrap_or(code.len() - at)];
                    // That of a list is in its tree.
                    found.extend((!path.ends_with(':')).then(|| path.to_owned()));
                }
            }
        }
        found
    }
}

/// Which modules each module names in its code.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let sources = sources("src");
    let modules: BTreeSet<String> = sources.iter().map(Source::module).collect();
    let mut imports = BTreeMap::new();
    for source in &sources {
        let module = source.module();
        let mut named = BTreeSet::new();
        for path in source.paths() {
            let mut place: Vec<&str> = module.split("::").collect();
            let mut rest: Vec<&str> = path.split("::").collect();
            // A path that begins otherwise is one of a child: the head of a folder names them so.
            if rest[0] == "crate" {
                place.clear();
            }
            rest.retain(|part| *part != "crate" && *part != "self");
            while rest.first() == Some(&"super") {
                rest.remove(0);
                place.pop();
            }
            place.extend(rest);
            let known = (1..=place.len()).rev().map(|len| place[..len].join("::"));
            named.extend(known.into_iter().find(|path| modules.contains(path)));
        }
        named.remove(&module);
        imports.insert(module, named);
    }
    imports
}

/// Some who come back to themselves by going from one to the next, if there are any.
fn circle<'g>(graph: &'g BTreeMap<String, BTreeSet<String>>) -> Option<Vec<&'g str>> {
    let mut left: BTreeSet<&str> = graph.keys().map(String::as_str).collect();
    let next = |from: &str, left: &BTreeSet<&'g str>| {
        let mut all = graph[from].iter().map(String::as_str);
        all.find(|to| left.contains(to))
    };
    // Whoever leads nowhere is in no circle.
    while let Some(end) = left
        .iter()
        .copied()
        .find(|from| next(from, &left).is_none())
    {
        left.remove(end);
    }
    let mut way = vec![*left.first()?];
    loop {
        let here = way.last().expect("it has a beginning");
        let to = next(here, &left).expect("all that are left lead on");
        if let Some(begin) = way.iter().position(|been| *been == to) {
            way.drain(..begin);
            way.push(to);
            return Some(way);
        }
        way.push(to);
    }
}

#[test]
fn no_files_of_a_layer_import_each_other_in_a_circle() {
    let imports = imports();
    let layer = |module: &str| module.split("::").next().map(str::to_owned);
    let within: BTreeMap<String, BTreeSet<String>> = (imports.iter())
        .map(|(from, all)| {
            // A head and the files of its folder are one subject: they may take from their head.
            let is_head = |to: &str| from.starts_with(&format!("{to}::"));
            let same = (all.iter()).filter(|to| layer(to) == layer(from) && !is_head(to));
            (from.clone(), same.cloned().collect())
        })
        .collect();
    let count: usize = within.values().map(BTreeSet::len).sum();
    assert!(count > 300, "only {count} imports found");
    assert_eq!(circle(&within), None);
}

#[test]
fn no_layers_import_each_other_in_a_circle() {
    let arrows: BTreeMap<String, BTreeSet<String>> = (ARROWS.iter())
        .map(|(from, all)| {
            (
                from.to_string(),
                all.iter().map(ToString::to_string).collect(),
            )
        })
        .collect();
    assert_eq!(circle(&arrows), None);
}

#[test]
fn a_circle_is_found_and_a_way_is_none() {
    let graph = |arrows: &[(&str, &str)]| {
        let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in arrows {
            graph.entry(to.to_string()).or_default();
            let all = graph.entry(from.to_string()).or_default();
            all.insert(to.to_string());
        }
        graph
    };
    assert_eq!(circle(&graph(&[("a", "b"), ("a", "c"), ("b", "c")])), None);
    let round = graph(&[("a", "b"), ("b", "c"), ("c", "d"), ("d", "b"), ("c", "e")]);
    assert_eq!(circle(&round), Some(vec!["b", "c", "d", "b"]));
    let mut leaves = Vec::new();
    add_leaves(
        "super::{a::{B, c::D as _}, E, f::{self, G}}",
        "",
        &mut leaves,
    );
    let expected = ["a::B", "a::c::D", "E", "f::self", "f::G"];
    assert_eq!(leaves, expected.map(|leaf| format!("super::{leaf}")));
}

/// Programs beside the server, which have words of their own.
const PROGRAMS: [&str; 3] = ["bench", "cli", "client"];

/// Who talks and who keeps read each other's code: there also a private name means one thing.
const OF_ONE_READER: [&str; 2] = ["server", "vault"];

/// Who may see a type that is declared in this line, and its name.
fn type_declared(line: &str) -> Option<(&str, &str)> {
    let kinds = ["struct ", "enum ", "trait ", "type "];
    let at = |kind: &&str| Some((line.find(kind)?, kind.len()));
    let (begin, len) = kinds.iter().filter_map(at).min()?;
    let visibility = line[..begin].trim_end();
    let may_see = ["", "pub"].contains(&visibility)
        || (visibility.starts_with("pub(") && visibility.ends_with(')'));
    let name = &line[begin + len..];
    let end = name.find(|char: char| !char.is_alphanumeric());
    let is_outside = !line.starts_with(' ');
    (is_outside && may_see).then(|| (visibility, &name[..end.unwrap_or(name.len())]))
}

#[test]
fn a_type_name_means_one_thing() {
    let (mut public, mut of_reader) = (BTreeMap::new(), BTreeMap::new());
    for source in sources("src") {
        if PROGRAMS.contains(&source.layer()) {
            continue;
        }
        let is_of_reader = OF_ONE_READER.contains(&source.layer());
        for (number, line) in source.lines_of_code() {
            let Some((visibility, name)) = type_declared(line) else {
                continue;
            };
            for (known, counts) in [
                (&mut public, visibility == "pub"),
                (&mut of_reader, is_of_reader),
            ] {
                let here = format!("{}:{number}", source.path);
                if counts && let Some(before) = known.insert(name.to_owned(), here.clone()) {
                    panic!("{name} is one thing in {before} and another in {here}");
                }
            }
        }
    }
    assert!(public.len() > 150, "{} types", public.len());
    assert!(of_reader.len() > 150, "{} types", of_reader.len());
}

#[test]
fn a_type_is_declared_whoever_may_see_it() {
    for (line, declared) in [
        ("pub struct A<W: World> {", Some(("pub", "A"))),
        ("pub(super) enum B {", Some(("pub(super)", "B"))),
        (
            "pub(in crate::a) trait C: D {",
            Some(("pub(in crate::a)", "C")),
        ),
        ("type E2<'a> = F;", Some(("", "E2"))),
        ("    type G = H;", None),
        ("/// The type I means", None),
        ("impl<T> J for struct K", None),
    ] {
        assert_eq!(type_declared(line), declared, "{line}");
    }
}

/// A file that a comment sends its reader to is there.
#[test]
fn every_file_that_a_comment_names_exists() {
    let sources = everything();
    let is_path = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '/';
    let exists = |name: &str| {
        let mut paths = sources.iter().map(|source| &source.path);
        paths.any(|path| path == name || path.ends_with(&format!("/{name}")))
            || top().join(name).exists()
    };
    for source in &sources {
        let lines = source.text.lines().enumerate();
        for (number, line) in lines.filter(|(_, line)| is_comment(line)) {
            for (at, _) in line.match_indices(".rs") {
                let begin = line[..at]
                    .rfind(|c: char| !is_path(c))
                    .map_or(0, |before| before + 1);
                let name = &line[begin..at + ".rs".len()];
                let is_known = line[at + 3..].starts_with(is_path) || name == ".rs" || exists(name);
                assert!(is_known, "{}:{}: {name}", source.path, number + 1);
            }
        }
    }
}

/// The rules of docs/protocol.md, such as 4.2, and its sections.
fn rules_of_the_protocol() -> (BTreeSet<String>, BTreeSet<String>) {
    let page = fs::read_to_string(top().join("docs/protocol.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| "));
    let numbers: Vec<_> = rows
        .filter_map(|row| row.split(' ').next())
        .filter(|word| is_number(word) && word.contains('.'))
        .map(str::to_owned)
        .collect();
    let rules: BTreeSet<_> = numbers.iter().cloned().collect();
    assert_eq!(rules.len(), numbers.len(), "a number stands for two rules");
    let headings = page.lines().filter_map(|line| line.strip_prefix("## "));
    let sections: BTreeSet<_> = headings
        .filter_map(|heading| heading.split_once(". "))
        .map(|(number, _)| number.to_owned())
        .collect();
    for rule in &rules {
        let (section, _) = rule.split_once('.').unwrap();
        assert!(sections.contains(section), "{rule} stands in no section");
    }
    (rules, sections)
}

fn is_number(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit())
        && word.chars().all(|c| c.is_ascii_digit() || c == '.')
}

/// Whoever reads "protocol.md 4.2" finds it.
#[test]
fn every_rule_of_the_protocol_that_is_cited_exists() {
    let (rules, sections) = rules_of_the_protocol();
    let mut cited = BTreeSet::new();
    for (path, text) in everything_with_words() {
        // A citation may be broken by the end of a comment line.
        let text = text.replace(['\n', '/', '!', '#', '`'], " ");
        let words: Vec<&str> = text.split_whitespace().collect();
        for at in 0..words.len() {
            if !words[at].ends_with("protocol.md") {
                continue;
            }
            let numbers = words[at + 1..].iter().filter(|word| **word != "and");
            let numbers = numbers.map(|word| word.trim_end_matches([',', ';', ':', ')', '.']));
            for number in numbers.take_while(|word| is_number(word)) {
                let is_known = rules.contains(number) || sections.contains(number);
                assert!(is_known, "{path}: protocol.md {number}");
                cited.insert(number.to_owned());
            }
        }
    }
    assert!(cited.len() > 30, "{cited:?}");
}

/// Documents that were never part of the repository, by the names that they were cited by.
#[test]
fn no_document_is_cited_that_a_reader_cannot_open() {
    for (path, text) in everything_with_words() {
        for (number, line) in text.lines().enumerate() {
            let is_word = |word: &str| {
                let short = word.strip_prefix(['P', 'G']);
                word == "W32" || short.is_some_and(|rest| rest.len() < 6 && is_number(rest))
            };
            let is_remark = is_comment(line) || line.starts_with("# ");
            let words = line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '.'));
            let mut words = words.map(|word| word.trim_end_matches('.'));
            let found = words.find(|word| is_remark && is_word(word));
            assert_eq!(found, None, "{path}:{}", number + 1);
        }
    }
}

/// Path and text of all sources, and of the recorded conversations.
fn everything_with_words() -> Vec<(String, String)> {
    let sources = everything().into_iter();
    let mut all: Vec<_> = sources.map(|source| (source.path, source.text)).collect();
    for entry in fs::read_dir(top().join("tests/transcripts")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let path = path.strip_prefix(top()).unwrap();
        all.push((path.to_str().unwrap().to_owned(), text));
    }
    all
}

#[test]
fn comments_are_within_100_columns() {
    let mut wide = Vec::new();
    for source in everything() {
        for (number, line) in source.text.lines().enumerate() {
            // A row of a table cannot be broken: a wide one is a list that wants to be one.
            if is_comment(line) && line.chars().count() > 100 {
                wide.push(format!("{}:{}", source.path, number + 1));
            }
        }
    }
    assert_eq!(wide, [""; 0], "comments over 100 columns");
}
