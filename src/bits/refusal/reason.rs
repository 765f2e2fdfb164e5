//! Why something was refused, in words that are the same each time.

use super::Refusal;

impl Refusal {
    /// What tells one cause from another where lines are counted: no value stands in it, and
    /// nothing of the client's, so there are only so many.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::FieldRepeated(_) => "a field of BITS was sent more than once",
            Self::TargetInvalid(bad) => bad.words(),
            Self::TotalChanged { .. } => "the size of the file changed",
            Self::Unauthorized(challenges) => challenges.why.words(),
            Self::Obstructed(obstacle) => obstacle.words(),
            Self::FragmentTooLarge { .. } => "the fragment is too large",
            Self::Gap { .. } => "the fragment begins after the next byte expected",
            Self::UploadTooLarge { .. } => "the file is too large",
            Self::Application { .. } => "the server application refused it",
            Self::AsBefore { last, .. } => last.reason(),
            plain => plain.words(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::bits::challenges::{Challenges, NotShown};
    use crate::bits::refusal::Obstacle;
    use crate::http::path::BadTarget;

    #[test]
    fn refusals_that_tell_a_value_have_a_reason_of_their_own() {
        let unauthorized = |why| {
            Refusal::Unauthorized(Box::new(Challenges {
                schemes: Vec::new(),
                realm: "r".into(),
                why,
                token: Vec::new(),
            }))
        };
        let gap = Refusal::Gap { received: 1 };
        let all = [
            Refusal::FieldRepeated("BITS-Session-Id"),
            Refusal::TargetInvalid(BadTarget::Control),
            Refusal::TargetInvalid(BadTarget::NameTooLong),
            Refusal::TotalChanged { was: 1, is: 2 },
            unauthorized(NotShown::Unfinished),
            unauthorized(NotShown::Unbound),
            Refusal::Obstructed(Obstacle::Sticky),
            Refusal::FragmentTooLarge { limit: 1 },
            gap.clone(),
            Refusal::UploadTooLarge { limit: 1 },
            Refusal::Application {
                status: 403,
                received: None,
            },
            Refusal::DiskFull,
        ];
        let reasons: HashSet<_> = all.iter().map(Refusal::reason).collect();
        assert_eq!(reasons.len(), all.len(), "{reasons:?}");
        assert!(!reasons.contains("refused"));
        // Another value is no other reason.
        let before = Refusal::AsBefore {
            last: Box::new(gap),
            retry_after_s: 9,
        };
        assert_eq!(before.reason(), Refusal::Gap { received: 2 }.reason());
    }
}
