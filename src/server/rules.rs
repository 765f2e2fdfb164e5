//! What the settings of a location mean to the state machine of a session.

use crate::bits::session::{Keeper, Rules, State};
use crate::config::{EmptyFile, Location, Publish, StoreAck};

/// The part of a location's settings that the state machine decides by.
pub fn rules(location: &Location) -> Rules {
    let policy = &location.policy;
    Rules {
        fragment_bytes_max: policy.fragment_bytes_max,
        upload_bytes_max: policy.upload_bytes_max.unwrap_or(u64::MAX),
        publish_with_last_fragment: policy.publish == Publish::LastFragment,
        close_creates_empty_file: policy.empty_file == EmptyFile::Create,
        notifies: location.notification.is_some(),
        keeper: match location.objects.as_ref().map(|objects| objects.ack) {
            None => Keeper::Folder,
            Some(StoreAck::Object) => Keeper::Store,
            Some(StoreAck::Staged) => Keeper::StoreLater,
        },
    }
}

/// Of a session that stands there. Whatever the settings say by now, a file that is being published
/// has its name (`has_name`), in a folder or already in a store, or a store is to have it.
pub fn of_session(location: &Location, state: State, has_name: bool) -> Rules {
    let mut rules = rules(location);
    if let State::Closing { .. } = state {
        rules.keeper = match (has_name, rules.keeper) {
            (true, _) => Keeper::Folder,
            (false, Keeper::Folder) => Keeper::Store,
            (false, keeper) => keeper,
        };
    }
    rules
}
