//! `-l`: which internal snapshot of the source is meant.
//!
//! QEMU: `internal_snapshot_opts` (block/snapshot.c), `bdrv_snapshot_load_tmp_by_param`.

use std::sync::Arc;

use qemu_block::manage::SnapshotSelector;
use qemu_block::node::Node;

use crate::failure::Failure;
use crate::output::messages;

/// What a value begins with that is a list of parameters, not a name.
const PARAMETERS_BEGIN: &str = "snapshot.";

/// The values of `-l` so far. A list of parameters counts more than a name; of each the last one counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct SnapshotArg {
    parameters: Option<SnapshotSelector>,
    name: Option<String>,
}

impl SnapshotArg {
    /// Takes one more value.
    ///
    /// # Errors
    /// A parameter is unknown.
    pub(crate) fn add(&mut self, value: &str) -> Result<(), Failure> {
        if value.starts_with(PARAMETERS_BEGIN) {
            self.parameters = Some(parse_parameters(value)?);
        } else {
            self.name = Some(value.to_owned());
        }
        Ok(())
    }

    /// Whether a snapshot is meant at all.
    pub(crate) fn is_given(&self) -> bool {
        self.parameters.is_some() || self.name.is_some()
    }

    /// Lets the sources, of which there is at least one, show the snapshot that is meant, if any.
    ///
    /// # Errors
    /// `Failed to load snapshot: …`; a name and several sources do not go together.
    pub(crate) async fn load(&self, sources: &[Arc<Node>]) -> Result<(), Failure> {
        let selector = match (&self.parameters, &self.name) {
            (Some(parameters), _) => parameters.clone(),
            (None, Some(_)) if sources.len() > 1 => {
                return Err(Failure::new("No support for concatenating multiple snapshot"));
            }
            (None, Some(name)) => SnapshotSelector::Any(name.clone()),
            (None, None) => return Ok(()),
        };
        match sources.first() {
            Some(node) => load_snapshot(node, &selector).await,
            None => Ok(()),
        }
    }
}

/// Lets `node` show a snapshot.
///
/// # Errors
/// `Failed to load snapshot: …`
pub(crate) async fn load_snapshot(node: &Node, which: &SnapshotSelector) -> Result<(), Failure> {
    let Some(snapshots) = node.snapshots() else {
        return Err(Failure::new(format!(
            "Failed to load snapshot: Block format '{}' used by device '' does not support temporarily loading internal \
             snapshots",
            node.driver().name()
        )));
    };
    snapshots.load(which).await.map_err(|error| Failure::block("Failed to load snapshot", &error))
}

/// Parses `snapshot.id=…,snapshot.name=…`; a comma within a value is doubled.
fn parse_parameters(text: &str) -> Result<SnapshotSelector, Failure> {
    let (mut id, mut name) = (None, None);
    for parameter in split_at_commas(text) {
        let (key, value) = match parameter.split_once('=') {
            Some((key, value)) => (key, value.to_owned()),
            None => {
                messages::warn(&format!(
                    "short-form boolean option '{parameter}' deprecated\nPlease use {parameter}=on instead"
                ));
                (parameter.as_str(), "on".to_owned())
            }
        };
        match key {
            "snapshot.id" => id = Some(value),
            "snapshot.name" => name = Some(value),
            _ => {
                let failed = format!("qemu-img: Failed in parsing snapshot param '{text}'");
                return Err(Failure::new(format!("Invalid parameter '{key}'\n{failed}")));
            }
        }
    }
    Ok(SnapshotSelector::Exact { id, name })
}

/// The parts of a list; a doubled comma stands for one, and an empty last part is none.
fn split_at_commas(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == ',' && chars.next_if_eq(&',').is_none() {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    if parts.last().is_some_and(String::is_empty) {
        parts.pop();
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_and_names() {
        let parse = |text: &str| parse_parameters(text).map_err(|failure| format!("{failure:?}"));
        let exact = |id: Option<&str>, name: Option<&str>| {
            Ok(SnapshotSelector::Exact { id: id.map(str::to_owned), name: name.map(str::to_owned) })
        };
        assert_eq!(parse("snapshot.id=1"), exact(Some("1"), None));
        assert_eq!(parse("snapshot.id=1,"), exact(Some("1"), None));
        assert_eq!(parse("snapshot.name=a,,b,snapshot.id="), exact(Some(""), Some("a,b")));
        assert!(parse("snapshot.foo=1").is_err_and(|text| text.contains("Invalid parameter 'snapshot.foo'")));
        let mut argument = SnapshotArg::default();
        argument.add("snapshot.id=7").expect("valid");
        argument.add("snapshots").expect("a name");
        assert!(argument.parameters.is_some() && argument.name.as_deref() == Some("snapshots"));
    }
}
