//! What the user sees: text, JSON, progress and messages.

pub(crate) mod error_json;
pub(crate) mod human;
pub(crate) mod image_info;
pub(crate) mod json;
pub(crate) mod messages;
pub(crate) mod progress;
