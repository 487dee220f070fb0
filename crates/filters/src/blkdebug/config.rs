//! The file with rules: groups in brackets, below each of them lines `key = "value"`.
//!
//! QEMU: `qemu_config_foreach` (util/qemu-config.c)

use std::fs;

use qemu_block::error::{BlockError, Result, errno_text};
use qemu_block::options::Options;

use super::rule::{Group, invalid};

/// A file longer than this has no rules in it, whatever it is.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The rules in the file at `path`.
///
/// # Errors
/// With the reference's text, when the file cannot be read or is wrong.
pub(super) fn read_config(path: &str) -> Result<Vec<(Group, Options)>> {
    let failed = |error: std::io::Error| {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        BlockError::from_errno(errno, format!("Could not read blkdebug config file: {}", errno_text(errno)))
    };
    let len = fs::metadata(path).map_err(failed)?.len();
    if len > FILE_BYTES_MAX {
        return Err(invalid("Could not read blkdebug config file: File too large".to_owned()));
    }
    parse(&fs::read_to_string(path).map_err(failed)?)
}

fn parse(text: &str) -> Result<Vec<(Group, Options)>> {
    let mut rules: Vec<(Group, Options)> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(header) = line.strip_prefix('[') {
            rules.push((group_of(header)?, Options::new()));
            continue;
        }
        let Some((group, rule)) = rules.last_mut() else { return Err(invalid("no group defined".to_owned())) };
        let (key, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        if !group.keys().contains(&key) {
            return Err(invalid(format!("Invalid parameter '{key}'")));
        }
        // What is not written so has no value, as in the reference.
        let quoted = rest.trim_start().strip_prefix('=').and_then(|rest| rest.trim_start().strip_prefix('"'));
        let value = quoted.and_then(|rest| rest.split('"').next()).unwrap_or("");
        rule.set(key, value);
    }
    Ok(rules)
}

/// The group of a line `[name]` or `[name "id"]`, without the first bracket.
fn group_of(header: &str) -> Result<Group> {
    let name = header.split([']', ' ', '"']).next().unwrap_or("");
    let known = [Group::InjectError, Group::SetState].into_iter().find(|group| group.name() == name);
    known.ok_or_else(|| invalid(format!("There is no option group '{name}'")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> std::result::Result<Vec<String>, String> {
        let rules = parse(text).map_err(|error| error.message().to_owned())?;
        Ok(rules.iter().map(|(group, rule)| format!("{} {}", group.name(), rule.to_keyval())).collect())
    }

    #[test]
    fn files_are_groups_of_lines() {
        let text = "# rules\n[inject-error]\nevent = \"l2_load\"\n errno = \"28\"\n\n[set-state \"x\"]\nevent=\n";
        assert_eq!(texts(text), Err("Invalid parameter 'event='".to_owned()));
        let text =
            "[inject-error]\nevent = \"l2_load\"\n errno = \"28\"\n\n[set-state \"x\"]\nevent = \"none\"\nstate\n";
        let expected = ["inject-error errno=28,event=l2_load", "set-state event=none,state="];
        assert_eq!(texts(text), Ok(expected.map(str::to_owned).to_vec()));
    }

    #[test]
    fn complaints_are_the_references() {
        assert_eq!(texts("event = \"x\""), Err("no group defined".to_owned()));
        assert_eq!(texts("[nonesuch]"), Err("There is no option group 'nonesuch'".to_owned()));
        assert_eq!(texts("[inject-error]\nfoo=\"1\""), Err("Invalid parameter 'foo=\"1\"'".to_owned()));
    }
}
