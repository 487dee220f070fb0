//! What makes two images differ, as it is told to people and to programs.

use crate::output::json::Json;

/// The first difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Difference {
    /// The disks have other bytes from this offset on.
    Content(u64),
    /// What is allocated at this offset differs, which counts in strict mode.
    Status(u64),
    /// The sizes differ, which counts in strict mode.
    Size,
}

impl Difference {
    /// The reference's sentence.
    pub(super) fn text(self) -> String {
        match self {
            Self::Content(offset) => format!("Content mismatch at offset {offset}!"),
            Self::Status(offset) => format!("Strict mode: Offset {offset} block status mismatch!"),
            Self::Size => "Strict mode: Image size mismatch!".to_owned(),
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Content(_) => "content",
            Self::Status(_) => "block-status",
            Self::Size => "size",
        }
    }

    fn offset(self) -> Option<u64> {
        match self {
            Self::Content(offset) | Self::Status(offset) => Some(offset),
            Self::Size => None,
        }
    }
}

/// The result for programs; `sizes_differ` is worth knowing although it need not be a difference.
pub(super) fn json(difference: Option<Difference>, sizes_differ: bool) -> Json {
    let result = if difference.is_some() { "different" } else { "identical" };
    let mut members = vec![("result", Json::text(result))];
    if let Some(difference) = difference {
        members.push(("kind", Json::text(difference.kind())));
        members.extend(difference.offset().map(|offset| ("offset", Json::Int(offset))));
    }
    members.push(("size-mismatch", Json::Bool(sizes_differ)));
    Json::Object(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_get_members() {
        let same = json(None, true).pretty();
        assert_eq!(same, "{\n    \"result\": \"identical\",\n    \"size-mismatch\": true\n}\n");
        let different = json(Some(Difference::Content(512)), false).pretty();
        assert!(different.contains("\"kind\": \"content\",\n    \"offset\": 512,\n"), "{different}");
        assert!(!json(Some(Difference::Size), true).pretty().contains("offset"));
    }
}
