//! Rules: what they say, and how they are written in options.
//!
//! `inject-error.N.…` makes requests fail, `set-state.N.…` changes the state; a single rule needs no number.

use std::collections::BTreeMap;

use qemu_block::debug::DebugEvent;
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::options::Options;

use super::config::read_config;

/// The unit of the option `sector`, in bytes.
const SECTOR_BYTES: u64 = 512;

/// What a rule does when its point is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// The point.
    pub(super) event: DebugEvent,
    /// The only state in which it does something; none if it does in all.
    pub(super) state: Option<u64>,
    /// What it does.
    pub(super) action: Action,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Requests that fit fail from then on.
    Inject(Injection),
    /// Another state begins.
    SetState(u64),
    /// The request stops there.
    Suspend {
        /// The name of the request.
        tag: String,
    },
}

/// Which requests fail, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Injection {
    /// Only of this kind; none if of any kind but block status.
    pub(super) kind: Option<IoType>,
    /// Only those that touch this offset, in bytes.
    pub(super) offset: Option<u64>,
    /// The errno; with 0 nothing fails.
    pub(super) errno: i32,
    /// Only one of them; the rule is gone then.
    pub(super) once: bool,
    /// Whether it fails before anything else happens.
    pub(super) immediately: bool,
}

/// Kinds of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IoType {
    Read,
    Write,
    WriteZeroes,
    Discard,
    Flush,
    BlockStatus,
}

impl IoType {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "read" => Self::Read,
            "write" => Self::Write,
            "write-zeroes" => Self::WriteZeroes,
            "discard" => Self::Discard,
            "flush" => Self::Flush,
            "block-status" => Self::BlockStatus,
            _ => return None,
        })
    }
}

impl Injection {
    /// Whether a request is meant.
    pub(super) fn fits(&self, offset: u64, len: u64, kind: IoType) -> bool {
        let is_kind = match self.kind {
            Some(only) => only == kind,
            None => kind != IoType::BlockStatus,
        };
        let touches = |at: u64| offset <= at && at < offset.saturating_add(len);
        is_kind && self.offset.is_none_or(touches)
    }
}

/// Which rules a group of options describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    InjectError,
    SetState,
}

impl Group {
    /// Its name in options and files.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::InjectError => "inject-error",
            Self::SetState => "set-state",
        }
    }

    /// The keys that its rules may have.
    pub(super) fn keys(self) -> &'static [&'static str] {
        match self {
            Self::InjectError => &["event", "state", "iotype", "errno", "sector", "once", "immediately"],
            Self::SetState => &["event", "state", "new_state"],
        }
    }
}

/// Takes the rules out of `options`: those of the file that `config` names, and those that are there themselves. All that
/// inject errors come before those that change the state.
///
/// # Errors
/// With the reference's text, when a rule or the file is wrong.
pub(super) fn read_rules(options: &mut Options) -> Result<Vec<Rule>> {
    let mut described = match options.take_str("config") {
        Some(path) => read_config(&path)?,
        None => Vec::new(),
    };
    for group in [Group::InjectError, Group::SetState] {
        described.extend(take_group(options, group)?.into_iter().map(|rule| (group, rule)));
    }
    let mut rules = Vec::new();
    for group in [Group::InjectError, Group::SetState] {
        for (_, rule) in described.iter_mut().filter(|(of, _)| *of == group) {
            rules.push(rule_of(group, rule)?);
        }
    }
    Ok(rules)
}

/// The rules below one prefix, by their numbers.
fn take_group(options: &mut Options, group: Group) -> Result<Vec<Options>> {
    let mut by_number: BTreeMap<u64, Options> = BTreeMap::new();
    for (key, value) in options.take_sub(group.name()).iter() {
        let numbered = key.split_once('.').and_then(|(number, key)| Some((number.parse::<u64>().ok()?, key)));
        let (number, key) = numbered.unwrap_or((0, key));
        if !group.keys().contains(&key) {
            return Err(invalid(format!("Unused option '{key}' for [{}]", group.name())));
        }
        by_number.entry(number).or_default().set(key, value.clone());
    }
    Ok(by_number.into_values().collect())
}

fn rule_of(group: Group, options: &mut Options) -> Result<Rule> {
    let name = options.take_str("event").ok_or_else(|| invalid("Missing event name for rule".to_owned()))?;
    let event = DebugEvent::parse(&name).ok_or_else(|| invalid(format!("invalid parameter value: {name}")))?;
    let state = options.take_number("state")?.filter(|state| *state != 0);
    let action = match group {
        Group::SetState => Action::SetState(options.take_number("new_state")?.unwrap_or(0)),
        Group::InjectError => {
            let errno = options.take_number("errno")?;
            let errno = errno.map_or(Ok(libc::EIO), i32::try_from);
            Action::Inject(Injection {
                kind: take_kind(options)?,
                offset: options.take_number("sector")?.map(|sector| sector.saturating_mul(SECTOR_BYTES)),
                errno: errno.map_err(|_| invalid("Parameter 'errno' expects a number".to_owned()))?,
                once: options.take_bool("once")?.unwrap_or(false),
                immediately: options.take_bool("immediately")?.unwrap_or(false),
            })
        }
    };
    Ok(Rule { event, state, action })
}

fn take_kind(options: &mut Options) -> Result<Option<IoType>> {
    let Some(name) = options.take_str("iotype") else { return Ok(None) };
    let kind = IoType::parse(&name).ok_or_else(|| invalid(format!("invalid parameter value: {name}")))?;
    Ok(Some(kind))
}

pub(super) fn invalid(message: String) -> BlockError {
    BlockError::new(ErrorKind::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> std::result::Result<Vec<Rule>, String> {
        let mut options = Options::parse_keyval(text, None).expect("options");
        read_rules(&mut options).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn options_become_rules() {
        let found = rules(
            "set-state.0.event=l2_load,set-state.0.new_state=2,inject-error.1.event=write_aio,inject-error.1.state=2,\
             inject-error.1.errno=28,inject-error.0.event=none,inject-error.0.iotype=discard,inject-error.0.sector=3,\
             inject-error.0.once=on",
        );
        let injection = Injection { kind: None, offset: None, errno: libc::EIO, once: false, immediately: false };
        let discard = Injection { kind: Some(IoType::Discard), offset: Some(1536), once: true, ..injection };
        let no_space = Injection { errno: libc::ENOSPC, ..injection };
        let expected = vec![
            Rule { event: DebugEvent::None, state: None, action: Action::Inject(discard) },
            Rule { event: DebugEvent::WriteAio, state: Some(2), action: Action::Inject(no_space) },
            Rule { event: DebugEvent::L2Load, state: None, action: Action::SetState(2) },
        ];
        assert_eq!(found, Ok(expected));
        assert_eq!(rules("inject-error.event=none").map(|rules| rules.len()), Ok(1));
    }

    #[test]
    fn complaints_are_the_references() {
        for (text, complaint) in [
            ("inject-error.0.errno=5", "Missing event name for rule"),
            ("inject-error.0.event=x", "invalid parameter value: x"),
            ("inject-error.0.event=none,inject-error.0.iotype=x", "invalid parameter value: x"),
            ("inject-error.x=1", "Unused option 'x' for [inject-error]"),
        ] {
            assert_eq!(rules(text), Err(complaint.to_owned()), "{text}");
        }
    }

    #[test]
    fn requests_fit_by_kind_and_place() {
        let any = Injection { kind: None, offset: None, errno: 5, once: false, immediately: false };
        assert!(any.fits(0, 0, IoType::Flush) && !any.fits(0, 512, IoType::BlockStatus));
        let there = Injection { offset: Some(512), ..any };
        assert!(there.fits(0, 513, IoType::Read) && there.fits(512, 1, IoType::Write));
        assert!(
            !there.fits(0, 512, IoType::Read) && !there.fits(513, 9, IoType::Read) && !there.fits(0, 0, IoType::Flush)
        );
    }
}
