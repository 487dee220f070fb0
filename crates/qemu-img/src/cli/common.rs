//! Options that several commands share, and how they become an opened image.

use qemu_block::options::{Options, has_help_option, is_valid_option_list};
use qemu_block::registry::OpenSpec;
use qemu_block::types::{CacheMode, OpenFlags, Perm};

use crate::failure::Failure;

/// An image as a command line names it, with the options that say how to open it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ImageArg {
    /// The name, or with `--image-opts` its options.
    pub(crate) name: String,
    /// `-f`: the format; it is probed if absent.
    pub(crate) format: Option<String>,
    /// `--image-opts`: the name is a list of options.
    pub(crate) image_opts: bool,
    /// `-U`: open it even if another process uses it.
    pub(crate) force_share: bool,
    /// `-t` or `-T`: how the host's page cache is used; as `writeback` if absent.
    pub(crate) cache: Option<CacheMode>,
}

impl ImageArg {
    /// How to open the image, with `flags` besides those that follow from the options.
    ///
    /// The permissions are QEMU's: a consistent state is wanted unless only metadata is read, and everything is shared;
    /// the format driver is stricter about the file below it.
    ///
    /// # Errors
    /// The options of `--image-opts` cannot be parsed.
    pub(crate) fn open_spec(&self, flags: OpenFlags) -> Result<OpenSpec, Failure> {
        let mut flags = flags;
        if let Some(cache) = self.cache {
            flags |= cache.open_flags();
        }
        flags.set(OpenFlags::FORCE_SHARE, self.force_share);
        let spec = if self.image_opts {
            OpenSpec::image_opts(&self.name).map_err(|error| Failure::new(error.chain()))?
        } else {
            OpenSpec::file(self.name.clone())
        };
        let (perm, shared) = permissions(flags);
        Ok(OpenSpec { driver: self.format.clone(), flags, perm, shared, ..spec })
    }

    /// Fails when both `--image-opts` and a format were given. `format_option` is the reference's name of the latter.
    ///
    /// # Errors
    /// See above.
    pub(crate) fn check_exclusive(&self, format_option: &str) -> Result<(), Failure> {
        if self.image_opts && self.format.is_some() {
            return Err(Failure::new(format!("--image-opts and {format_option} are mutually exclusive")));
        }
        Ok(())
    }
}

/// What a command does with an image opened with `flags`, and what others may do meanwhile.
///
/// QEMU: `blk_new_open` (block/block-backend.c)
pub(crate) fn permissions(flags: OpenFlags) -> (Perm, Perm) {
    let mut perm = Perm::empty();
    perm.set(Perm::CONSISTENT_READ, !flags.contains(OpenFlags::NO_IO));
    perm.set(Perm::WRITE, flags.contains(OpenFlags::WRITE));
    perm.set(Perm::RESIZE, flags.contains(OpenFlags::RESIZE));
    (perm, Perm::all())
}

/// Parses the value of `-t` or `-T`; `complaint` makes the error message, which the reference words differently from
/// command to command.
///
/// # Errors
/// The name is unknown.
pub(crate) fn parse_cache(name: &str, complaint: impl FnOnce(&str) -> String) -> Result<CacheMode, Failure> {
    CacheMode::parse(name).ok_or_else(|| Failure::new(complaint(name)))
}

/// Takes the only operand.
///
/// # Errors
/// There are none or several; the complaint points to the help of `command`.
pub(crate) fn one_filename(command: &str, operands: Vec<String>) -> Result<String, Failure> {
    match <[String; 1]>::try_from(operands) {
        Ok([name]) => Ok(name),
        Err(_) => Err(Failure::usage(command, "Expecting one image file name")),
    }
}

/// The form in which a command prints its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OutputFormat {
    /// Text for people.
    #[default]
    Human,
    /// JSON.
    Json,
}

impl OutputFormat {
    /// Parses the value of `--output`.
    ///
    /// # Errors
    /// It is neither `human` nor `json`.
    pub(crate) fn parse(command: &str, name: &str) -> Result<Self, Failure> {
        match name {
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err(Failure::usage(command, format!("--output expects 'human' or 'json' not '{name}'"))),
        }
    }
}

/// The values of `-o`, which may be given several times.
#[derive(Clone, Debug, Default)]
pub(crate) struct OptionList {
    text: Option<String>,
}

impl OptionList {
    /// Adds the value of one more `-o`.
    ///
    /// # Errors
    /// `Invalid option list: …` for an empty list, and for one that begins or ends with a comma.
    ///
    /// QEMU: `accumulate_options` (qemu-img.c)
    pub(crate) fn add(&mut self, list: &str) -> Result<(), Failure> {
        // The list check lets an empty text through, but joining it to another list would make an empty item.
        if list.is_empty() || !is_valid_option_list(list) {
            return Err(Failure::new(format!("Invalid option list: {list}")));
        }
        match &mut self.text {
            None => self.text = Some(list.to_owned()),
            Some(text) => {
                text.push(',');
                text.push_str(list);
            }
        }
        Ok(())
    }

    /// All lists as one, if there is any.
    pub(crate) fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// Whether the user asks which options there are.
    pub(crate) fn asks_for_help(&self) -> bool {
        self.text().is_some_and(has_help_option)
    }

    /// The options.
    ///
    /// # Errors
    /// The text is no list of options; the message is the block layer's.
    pub(crate) fn parse(&self) -> qemu_block::error::Result<Options> {
        self.text().map_or_else(|| Ok(Options::new()), |text| Options::parse_keyval(text, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn option_lists_add_up() {
        let mut list = OptionList::default();
        assert_eq!(list.text(), None);
        list.add("a=b").expect("valid");
        list.add("c=d,,").expect("a literal comma");
        assert_eq!(list.text(), Some("a=b,c=d,,"));
        for bad in ["", ",", "a=b,", ",a=b", "a,,,"] {
            list.add(bad).expect_err(bad);
        }
    }

    #[test]
    fn help_is_an_element_of_its_own() {
        let asks = |text: &str| {
            let mut list = OptionList::default();
            list.add(text).expect("valid");
            list.asks_for_help()
        };
        assert!(asks("help") && asks("?") && asks("a=b,help") && asks("help,a=b"));
        assert!(!asks("helper") && !asks("a=help") && !asks("a=b,,help"));
    }
}
