//! The files that a command needs.

use confine::{Confinement, Network};
use qemu_block::options::{Options, is_valid_option_list};
use qemu_block::registry::{path_has_protocol, resolve_backing_name};

use super::{Strict, bounds};
use crate::cli::common::{ImageArg, OptionList};
use crate::failure::Failure;
use crate::settings;

/// What a command that is about to begin will open. Every command says so, with `--strict` or not.
#[derive(Debug)]
#[must_use = "nothing is confined before `confine`"]
pub(crate) struct Needs {
    command: &'static str,
    names: Vec<(String, Use)>,
}

/// How a file is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Read,
    Write,
    Create,
    Replace,
}

impl Needs {
    /// Those of `command`.
    pub(crate) fn of(command: &'static str) -> Self {
        Self { command, names: Vec::new() }
    }

    /// It reads an image.
    pub(crate) fn reads(self, image: &ImageArg) -> Self {
        self.uses(image, Use::Read)
    }

    /// It reads several.
    pub(crate) fn reads_all<'a>(self, images: impl IntoIterator<Item = &'a ImageArg>) -> Self {
        images.into_iter().fold(self, Self::reads)
    }

    /// It changes an image, and perhaps those that belong to it.
    pub(crate) fn writes(self, image: &ImageArg) -> Self {
        self.uses(image, Use::Write)
    }

    /// It reads an image, and changes it unless `only_reads`.
    pub(crate) fn reads_or_writes(self, only_reads: bool, image: &ImageArg) -> Self {
        if only_reads { self.reads(image) } else { self.writes(image) }
    }

    /// It reads the image of that name.
    pub(crate) fn reads_name(self, name: &str) -> Self {
        self.add(name, Use::Read)
    }

    /// It reads the backing file that the user names for an image.
    pub(crate) fn reads_backing(self, image: &str, name: &str) -> Self {
        self.add(&resolve_backing_name(image, name), Use::Read)
    }

    /// It creates an image, with these options of the format.
    pub(crate) fn creates(self, name: &str, options: &OptionList) -> Self {
        self.with_options(name, options).add(name, Use::Create)
    }

    /// The same under another name, until it is complete.
    pub(crate) fn replaces(self, name: &str, options: &OptionList) -> Self {
        self.with_options(name, options).add(name, Use::Replace)
    }

    /// The files that `-o` names.
    pub(crate) fn with_options(self, image: &str, options: &OptionList) -> Self {
        // What cannot be parsed is complained about by whoever uses it.
        let Ok(options) = options.parse() else { return self };
        let needs = match options.get_str("backing_file") {
            Some(name) => self.reads_backing(image, &name),
            None => self,
        };
        match options.get_str("data_file") {
            Some(name) => needs.add(&name, Use::Create),
            None => needs,
        }
    }

    fn uses(self, image: &ImageArg, how: Use) -> Self {
        if !image.image_opts {
            return self.add(&image.name, how);
        }
        match Options::parse_keyval(&image.name, Some("file")) {
            Ok(options) if is_valid_option_list(&image.name) => self.add_options(&options, how),
            _ => self,
        }
    }

    /// The files that options of a node name.
    fn add_options(self, options: &Options, how: Use) -> Self {
        let is_path = |key: &str| matches!(key.rsplit('.').next(), Some("filename" | "path" | "config"));
        let named = options.iter().filter(|(key, _)| is_path(key));
        named.fold(self, |needs, (_, value)| needs.add(&value.to_text(), how))
    }

    /// A name as the user wrote it. Where it has a protocol, every part of it may be a path: too much is allowed then,
    /// but nothing that the user did not write.
    fn add(mut self, name: &str, how: Use) -> Self {
        if let Some(text) = name.strip_prefix("json:") {
            return match Options::parse_json(text) {
                Ok(options) => self.add_options(&options, how),
                Err(_) => self,
            };
        }
        match name.split_once(':').filter(|_| path_has_protocol(name)) {
            Some((_, rest)) => {
                self.names.push((rest.to_owned(), how));
                if path_has_protocol(rest) {
                    rest.split(':').fold(self, |needs, part| needs.add(part, how))
                } else {
                    self
                }
            }
            None => {
                self.names.push((name.to_owned(), how));
                self
            }
        }
    }

    /// Confines the process to this, if `--strict` says so. Comes before any thread is started and any image is opened.
    ///
    /// # Errors
    /// A pattern of `--allow` is none, or limits cannot be set. What the kernel does not offer is no error.
    pub(crate) fn confine(self) -> Result<(), Failure> {
        let strict = settings::strict(Strict::clone);
        if !strict.on || strict.confined.is_some() {
            return Ok(());
        }
        let policy = strict.policy()?;
        let changes = self.names.iter().any(|(_, how)| *how != Use::Read);
        let mut confinement = Confinement::new().limits(bounds::limits(self.command, &strict));
        for (name, how) in self.names.iter().filter(|(name, _)| !name.is_empty()) {
            confinement = match how {
                Use::Read => confinement.reads(name),
                Use::Write => confinement.writes(name),
                Use::Create => confinement.creates(name),
                Use::Replace => confinement.replaces(name),
            };
        }
        for (path, _) in policy.paths() {
            // What belongs to an image that changes may have to change with it: a data file, a backing file.
            confinement = if changes { confinement.writes(path) } else { confinement.reads(path) };
        }
        if policy.has_network() {
            confinement = confinement.network(Network::Allowed);
        }
        let report = confinement.apply().map_err(|error| Failure::new(error.to_string()))?;
        settings::change_strict(|strict| strict.confined = Some(report));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(needs: Needs) -> Vec<String> {
        needs.names.into_iter().map(|(name, how)| format!("{how:?} {name}")).collect()
    }

    fn image(name: &str, image_opts: bool) -> ImageArg {
        ImageArg { name: name.to_owned(), image_opts, ..ImageArg::default() }
    }

    #[test]
    fn paths_are_found_in_every_form_of_a_name() {
        let needs = Needs::of("info").reads(&image("a", false)).reads(&image("file:b:c", false));
        assert_eq!(names(needs), ["Read a", "Read b:c", "Read b", "Read c"]);
        let needs = Needs::of("info").writes(&image("driver=qcow2,file.filename=x,backing.file.filename=y", true));
        assert_eq!(names(needs), ["Write y", "Write x"]);
        let needs = Needs::of("info").reads(&image(r#"json:{"file":{"filename":"z"}}"#, false));
        assert_eq!(names(needs), ["Read z"]);
        assert_eq!(names(Needs::of("info").reads(&image("json:nonsense", false))), Vec::<String>::new());
    }

    #[test]
    fn options_name_files_too() {
        let mut options = OptionList::default();
        options.add("data_file=d,backing_file=base").expect("valid");
        let needs = Needs::of("create").creates("dir/new", &options);
        assert_eq!(names(needs), ["Read dir/base", "Create d", "Create dir/new"]);
    }
}
