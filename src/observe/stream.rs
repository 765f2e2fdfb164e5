//! Where stderr and stdout lead: a terminal, the journal of systemd, or anything else.

use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd;

use super::line::Dress;

/// How lines on stderr are to be dressed.
pub fn dress() -> Dress {
    let stderr = io::stderr();
    if leads_to(&stderr, std::env::var("JOURNAL_STREAM").ok().as_deref()) {
        return Dress::Journal;
    }
    // no-color.org: any value but the empty one.
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_none_or(|value| value == "dumb");
    match stderr.is_terminal() && !no_color && !is_dumb {
        true => Dress::Terminal,
        false => Dress::Plain,
    }
}

/// Whether stdout ends where the log does, as in a service, or after `2>&1`.
pub fn is_one() -> bool {
    let identity = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
    let (out, err) = (
        rustix::fs::fstat(io::stdout()),
        rustix::fs::fstat(io::stderr()),
    );
    match (out, err) {
        (Ok(out), Ok(err)) => identity(out) == identity(err) && !io::stdout().is_terminal(),
        _ => false,
    }
}

/// Whether a descriptor is the one that systemd names in `JOURNAL_STREAM`, as `DEVICE:INODE`
/// (systemd.exec(5)). Another one may have been put in its place since.
fn leads_to(descriptor: impl AsFd, journal_stream: Option<&str>) -> bool {
    let Some((device, inode)) = journal_stream.and_then(|value| value.split_once(':')) else {
        return false;
    };
    let Ok(stat) = rustix::fs::fstat(descriptor) else {
        return false;
    };
    device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_known_by_device_and_inode() {
        let file = tempfile::tempfile().unwrap();
        let stat = rustix::fs::fstat(&file).unwrap();
        let (device, inode) = (stat.st_dev, stat.st_ino);
        assert!(leads_to(&file, Some(&format!("{device}:{inode}"))));
        for other in [
            Some(format!("{device}:{}", inode + 1)),
            Some(format!("{}:{inode}", device + 1)),
            Some("x".to_owned()),
            Some(":".to_owned()),
            None,
        ] {
            assert!(!leads_to(&file, other.as_deref()), "{other:?}");
        }
    }
}
