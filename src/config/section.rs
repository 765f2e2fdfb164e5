//! The tables of the settings file, and which of them a key may stand in.

/// Where a key may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Only at the top: it holds for the whole server.
    Server,
    /// In `[limits]`: it holds for the whole server.
    Limits,
    /// In `[events]`: it holds for the whole server.
    Events,
    /// At the top, and in every `[[location]]`.
    Both,
    /// Only in a `[[location]]`.
    Location,
    /// Only in a `[[listener]]`.
    Listener,
    /// Only in a `[[certificate]]`.
    Certificate,
}

/// A table of the file that begins with its name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub scope: Scope,
    pub name: &'static str,
    /// How it begins: in two brackets where there may be several of it.
    pub header: &'static str,
    /// The keys without which it means nothing.
    pub needs: &'static [&'static str],
}

/// All of them, in the order in which they are printed.
pub(super) static SECTIONS: [Section; 5] = [
    Section::of(Scope::Limits, "limits", "[limits]", &[]),
    Section::of(Scope::Events, "events", "[events]", &[]),
    Section::of(Scope::Listener, "listener", "[[listener]]", &["address"]),
    Section::of(
        Scope::Certificate,
        "certificate",
        "[[certificate]]",
        &["chain", "key"],
    ),
    Section::of(Scope::Location, "location", "[[location]]", &["prefix"]),
];

impl Section {
    const fn of(
        scope: Scope,
        name: &'static str,
        header: &'static str,
        needs: &'static [&'static str],
    ) -> Self {
        Self {
            scope,
            name,
            header,
            needs,
        }
    }

    /// The one of a name.
    pub fn named(name: &str) -> Option<&'static Self> {
        SECTIONS.iter().find(|section| section.name == name)
    }

    /// Whether there may be several of it.
    pub fn is_list(&self) -> bool {
        self.header.starts_with("[[")
    }
}

impl Scope {
    /// Whether a key of this scope may stand in a table; [`Self::Server`] is the top.
    pub(super) fn takes_in(self, table: Self) -> bool {
        self == table || (self == Self::Both && matches!(table, Self::Server | Self::Location))
    }
}
