//! Request targets: none leads out of the root, and a path that is taken is taken again however it
//! is spelt.
#![no_main]

use std::path::{Component, Path};

use bitsd::http::path::{self, UploadPath};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|target: &str| {
    let Ok(parsed) = path::resolve_target(target) else {
        return;
    };
    let text = parsed.path.as_str();
    let path = Path::new(text);
    assert!(path.is_relative());
    assert!(
        path.components()
            .all(|part| matches!(part, Component::Normal(_)))
    );
    assert_eq!(path.components().count(), text.split('/').count());
    assert!(text.len() <= 2200 && text.split('/').all(|name| name.len() <= 255));
    assert!(
        !text
            .chars()
            .any(|c| c.is_ascii_control() || "\\:*?\"<>|".contains(c))
    );
    assert!(!text.to_ascii_lowercase().starts_with(".bitsd/"));
    assert_eq!(UploadPath::from_text(text).as_ref(), Ok(&parsed.path));
    // Encoded byte for byte, it is the same path.
    let encode = |byte: u8| match byte {
        b'/' => "/".to_owned(),
        byte => format!("%{byte:02x}"),
    };
    let encoded: String = text.bytes().map(encode).collect();
    let again = path::resolve_target(&format!("/{encoded}")).expect("the same path");
    assert_eq!(again.path, parsed.path);
    // However it is spelt (docs/paths.md): more slashes, a dot, a folder that is left again.
    for between in ["//", "/./", "/x/../", "///%2e/x//%2E%2e/"] {
        let spelt = format!("/{}", encoded.replace('/', between));
        let again = path::resolve_target(&spelt).expect("the same path");
        assert_eq!(again.path, parsed.path, "{spelt}");
    }
    // What settings and records hold has one spelling.
    let is_plain = target.starts_with('/') && path::parse_target(target).is_ok();
    assert!(!is_plain || path::parse_target(target).unwrap().path == parsed.path);
});
