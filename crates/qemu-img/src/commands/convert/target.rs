//! The target of a conversion: created, opened, closed, and removed again when it must not be left behind.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::pin::pin;

use futures_util::future::{Either, select};
use nix::sys::signal::Signal;
use qcow2::format::header::CompressionType;
use qemu_block::backend::BlockBackend;
use qemu_block::driver::FileIdentity;
use qemu_block::error::BlockError;
use qemu_block::node::{ChildRole, Node};
use qemu_block::options::{CreateOption, Options, check_create_options};
use qemu_block::registry::path_has_protocol;
use qemu_block::types::OpenFlags;

use super::atomic::Replacement;
use super::options::TargetArguments;
use crate::cli::common::ImageArg;
use crate::failure::{Code, Failure};
use crate::session::Session;
use crate::signals::Signals;

/// How the image will be created, after all checks that need no file.
#[derive(Debug)]
pub(super) struct CreatePlan {
    format: String,
    options: Options,
}

impl CreatePlan {
    /// Checks the options for a target of `size` bytes; it has no name if it is a stream.
    ///
    /// # Errors
    /// The reference's complaints about formats and options that do not exist or do not go together.
    pub(super) fn new(
        session: &Session,
        name: Option<&str>,
        arguments: &TargetArguments,
        size: u64,
    ) -> Result<Self, Failure> {
        let format = arguments.format.clone().unwrap_or_else(|| "raw".to_owned());
        let plain = |error: BlockError| Failure::new(error.chain());
        let schema = session.context().create_schema(&format, name).map_err(plain)?;
        let given = arguments.options.parse();
        let mut options = given.and_then(|given| check_create_options(&schema, &given)).map_err(plain)?;
        options.set("size", size);
        let backing =
            [("backing_file", "file", &arguments.backing), ("backing_fmt", "file format", &arguments.backing_format)];
        for (key, what, value) in backing {
            let Some(value) = value else { continue };
            if !has_option(&schema, key) {
                return Err(Failure::new(format!("Backing {what} not supported for file format '{format}'")));
            }
            options.set(key, value.as_str());
        }
        let plan = Self { format, options };
        if plan.backing_file().is_some() && plan.options.get_str("backing_fmt").is_none() {
            return Err(Failure::new("Use of backing file requires explicit backing format"));
        }
        if arguments.compress {
            plan.check_compression(&schema)?;
        }
        if let Some(level) = arguments.compression_level {
            plan.check_level(level)?;
        }
        if arguments.atomic && plan.options.contains("data_file") {
            let text = "--atomic cannot be used with an external data file, which is a second file to replace";
            return Err(Failure::new(text).with_code(Code::InvalidArgument));
        }
        Ok(plan)
    }

    /// Checks the level before anything is touched; opening the target for writing would be too late.
    fn check_level(&self, level: u64) -> Result<(), Failure> {
        let zstd = self.options.get_str("compression_type").is_some_and(|name| name == "zstd");
        let kind = if zstd { CompressionType::Zstd } else { CompressionType::Zlib };
        let levels = kind.levels();
        if levels.contains(&level) {
            return Ok(());
        }
        let (name, min, max) = (kind.name(), levels.start(), levels.end());
        let text = format!("--compression-level must be between {min} and {max} for compression type {name}");
        Err(Failure::new(text).with_code(Code::InvalidArgument))
    }

    /// The format of the image.
    pub(super) fn format(&self) -> &str {
        &self.format
    }

    /// The options, for whoever creates the image in another way.
    pub(super) fn into_options(self) -> Options {
        self.options
    }

    /// Whether space is to be allocated in advance.
    pub(super) fn preallocates(&self) -> bool {
        self.options.get_str("preallocation").is_some_and(|mode| mode != "off")
    }

    /// The backing file that the target will have.
    pub(super) fn backing_file(&self) -> Option<String> {
        self.options.get_str("backing_file")
    }

    /// The options by which the target is unlocked once it is there: the secrets that it is made with.
    pub(super) fn key_secrets(&self) -> Options {
        let mut secrets = Options::new();
        for name in ["key-secret", "encrypt.key-secret"] {
            if let Some(id) = self.options.get_str(name) {
                secrets.set(name, id);
            }
        }
        secrets
    }

    fn check_compression(&self, schema: &[CreateOption]) -> Result<(), Failure> {
        let encryption = self.options.get_str("encryption").is_some_and(|value| value == "on");
        let message = if !can_compress(schema) {
            "Compression not supported for this file format"
        } else if encryption || self.options.contains("encrypt.format") {
            "Compression and encryption not supported at the same time"
        } else if self.preallocates() {
            "Compression and preallocation not supported at the same time"
        } else {
            return Ok(());
        };
        Err(Failure::new(message))
    }

    /// Creates the image, as a `replacement` if it is to be one. What is returned removes it again unless told to keep it.
    ///
    /// # Errors
    /// What the driver says, or the signal that came meanwhile.
    pub(super) async fn create(
        self,
        session: &Session,
        name: &str,
        replacement: Option<&Replacement>,
    ) -> Result<CreatedFile, Failure> {
        // A temporary file is there, but it is ours.
        let file = replacement.map_or(name, Replacement::temporary);
        let (format, ours) = (self.format, replacement.is_some());
        create_removable(session, &format, file, self.options, ours).await.map_err(|failed| match failed {
            NotCreated::Interrupted(signal) => Failure::Interrupted(signal),
            NotCreated::Failed(error) => {
                Failure::block(format!("{name}: error while converting {format}"), &error).about(name)
            }
        })
    }
}

/// Why an image was not created.
#[derive(Debug)]
pub(in crate::commands) enum NotCreated {
    /// The driver says so.
    Failed(BlockError),
    /// A signal came.
    Interrupted(Signal),
}

/// Creates an image in `file`. What is returned removes it again unless told to keep it; a signal that comes meanwhile
/// removes it, too, if there was nothing before, or if what there was `is_ours`.
///
/// # Errors
/// See [`NotCreated`].
pub(in crate::commands) async fn create_removable(
    session: &Session,
    format: &str,
    file: &str,
    options: Options,
    is_ours: bool,
) -> Result<CreatedFile, NotCreated> {
    let path = local_path(file);
    let existed = !is_ours && path.as_ref().is_some_and(|path| fs::symlink_metadata(path).is_ok());
    if let Some(path) = path.clone().filter(|_| !existed) {
        session.signals().set_last_resort(move || drop(CreatedFile::find(Some(path), &Signals::none())));
    }
    let creating = pin!(session.context().create(format, file, options));
    let stopping = pin!(session.signals().stopped());
    match select(creating, stopping).await {
        Either::Left((Ok(()), _)) => Ok(CreatedFile::find(path, session.signals())),
        Either::Left((Err(error), _)) => {
            session.signals().clear_last_resort();
            if is_ours {
                drop(CreatedFile::find(path, session.signals()));
            }
            Err(NotCreated::Failed(error))
        }
        Either::Right((signal, _)) => {
            // What existed before may not have been touched yet, so it is left alone.
            if !existed {
                drop(CreatedFile::find(path, session.signals()));
            }
            Err(NotCreated::Interrupted(signal))
        }
    }
}

/// A file that goes away when this is dropped, or when a signal ends the process, unless it is kept: half an image must
/// not look like a whole one.
///
/// Only a regular file is removed, and only while its name still leads to the file that was created.
#[derive(Debug)]
pub(in crate::commands) struct CreatedFile {
    found: Option<(PathBuf, FileIdentity)>,
    signals: Signals,
}

impl CreatedFile {
    /// Nothing that would have to be removed.
    pub(in crate::commands) fn none() -> Self {
        Self { found: None, signals: Signals::none() }
    }

    /// The file that was created at `path`, if it is a regular one; a signal that ends the process removes it, too.
    pub(in crate::commands) fn find(path: Option<PathBuf>, signals: &Signals) -> Self {
        let found = path.and_then(|path| {
            // Removing a link would leave the file it leads to.
            let path = fs::canonicalize(path).ok()?;
            let identity = regular_file(&path)?;
            Some((path, identity))
        });
        if let Some((path, identity)) = found.clone() {
            signals.set_last_resort(move || remove(&path, identity));
        }
        Self { found, signals: signals.clone() }
    }

    /// The image is complete.
    pub(in crate::commands) fn keep(mut self) {
        self.signals.clear_last_resort();
        self.found = None;
    }
}

impl Drop for CreatedFile {
    fn drop(&mut self) {
        if let Some((path, identity)) = self.found.take() {
            remove(&path, identity);
            self.signals.clear_last_resort();
        }
    }
}

fn remove(path: &PathBuf, identity: FileIdentity) {
    if regular_file(path) == Some(identity) {
        // The failure that led here is the one to report.
        drop(fs::remove_file(path));
    }
}

/// An opened target.
#[derive(Debug)]
pub(super) struct Target {
    /// The image.
    pub(super) backend: BlockBackend,
    /// Its file, if it was created.
    file: CreatedFile,
    /// Whose place it takes, if it is to appear only when it is complete.
    replacement: Option<Replacement>,
}

impl Target {
    /// Opens the target, which was created as `file` if it did not exist, with `secrets` as further options and `flags`
    /// besides those that follow from the arguments.
    ///
    /// # Errors
    /// `Could not open 'name': …`
    pub(super) async fn open(
        session: &Session,
        name: &str,
        arguments: &TargetArguments,
        flags: OpenFlags,
        secrets: Options,
        (file, replacement): (CreatedFile, Option<Replacement>),
    ) -> Result<Self, Failure> {
        let image = ImageArg {
            name: replacement.as_ref().map_or(name, Replacement::temporary).to_owned(),
            format: arguments.format.clone(),
            image_opts: arguments.image_opts,
            force_share: false,
            cache: Some(arguments.cache),
        };
        let mut flags = flags | OpenFlags::WRITE;
        // The last request may reach beyond the end of the file when all of them are aligned to sectors of the disk.
        if arguments.cache.direct {
            flags |= OpenFlags::RESIZE;
        }
        let mut spec = image.open_spec(flags)?;
        spec.options.merge(secrets);
        if let Some(level) = arguments.compression_level {
            spec.options.set("compression-level", level);
        }
        let node = session.open_spec(name, spec).await?;
        Ok(Self { backend: BlockBackend::new(node), file, replacement })
    }

    /// Writes everything back, flushes as the cache mode wants it, and closes: only then the image is there to stay.
    ///
    /// # Errors
    /// What fails on the way; the image is removed then, if it was created.
    pub(super) async fn finish(self, name: &str) -> Result<(), Failure> {
        let closed = self.backend.close().await;
        closed.map_err(|error| Failure::block(format!("error while closing '{name}'"), &error).about(name))?;
        if let Some(replacement) = self.replacement {
            replacement.finish().await?;
        }
        self.file.keep();
        Ok(())
    }

    /// Closes an image that is not complete, and removes it if it was created.
    pub(super) async fn abandon(self) {
        // The error that led here is the one to report.
        drop(self.backend.close().await);
        if let Some(replacement) = self.replacement {
            replacement.abandon().await;
        }
    }
}

/// Whether a format with these creation options stores compressed clusters: those that do let the user choose how.
pub(super) fn can_compress(schema: &[CreateOption]) -> bool {
    has_option(schema, "compression_type")
}

fn has_option(schema: &[CreateOption], name: &str) -> bool {
    schema.iter().any(|option| option.name == name)
}

/// Refuses to overwrite what is read, by whatever name: the reference fails to get the lock then.
///
/// # Errors
/// The reference's message about the lock.
pub(super) fn check_not_a_source(
    name: &str,
    format: &str,
    sources: &[FileIdentity],
    create: bool,
) -> Result<(), Failure> {
    if !is_stored_in(name, sources) {
        return Ok(());
    }
    let doing =
        if create { format!("{name}: error while converting {format}") } else { format!("Could not open '{name}'") };
    Err(Failure::new(format!("{doing}: Failed to get \"write\" lock\nIs another process using the image [{name}]?")))
}

/// Whether the image called `name` is one of these files, by whatever name.
pub(in crate::commands) fn is_stored_in(name: &str, files: &[FileIdentity]) -> bool {
    let identity = local_path(name).and_then(|path| identity(&path));
    identity.is_some_and(|identity| files.contains(&identity))
}

/// The files that `node` and everything below it are stored in.
pub(in crate::commands) fn files_of(node: &Node, files: &mut Vec<FileIdentity>) {
    files.extend(node.identity());
    node.children().iter().for_each(|edge| files_of(&edge.node, files));
}

/// The files that `node` itself is stored in, without those of its backing file.
pub(super) fn own_files_of(node: &Node, files: &mut Vec<FileIdentity>) {
    files.extend(node.identity());
    if let Some(storage) = node.child(ChildRole::Storage) {
        own_files_of(&storage, files);
    }
}

/// The path of an image that is a file of this machine.
pub(in crate::commands) fn local_path(name: &str) -> Option<PathBuf> {
    match name.strip_prefix("file:") {
        Some(path) => Some(PathBuf::from(path)),
        None => (!path_has_protocol(name)).then(|| PathBuf::from(name)),
    }
}

fn identity(path: &PathBuf) -> Option<FileIdentity> {
    fs::metadata(path).ok().map(|data| FileIdentity { device: data.dev(), inode: data.ino() })
}

fn regular_file(path: &PathBuf) -> Option<FileIdentity> {
    let data = fs::symlink_metadata(path).ok()?;
    data.file_type().is_file().then(|| FileIdentity { device: data.dev(), inode: data.ino() })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn found(path: &Path) -> CreatedFile {
        CreatedFile::find(Some(path.to_owned()), &Signals::none())
    }

    #[test]
    fn a_created_file_is_removed_unless_kept() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("image");
        fs::write(&path, b"half").expect("written");
        found(&path).keep();
        assert!(path.exists());
        drop(found(&path));
        assert!(!path.exists());
    }

    #[test]
    fn a_target_that_cannot_be_flushed_is_a_failure_and_goes_away() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("image");
        let session = Session::new().expect("a session");
        for fails in [true, false] {
            fs::write(&path, b"all").expect("written");
            let disk = qemu_block::mem::MemDisk::new(512);
            if fails {
                disk.control().fail(qemu_block::mem::MemOp::Flush, qemu_block::mem::When::From(1), 5);
            }
            let target = Target {
                backend: BlockBackend::new(disk.node(OpenFlags::WRITE)),
                file: found(&path),
                replacement: None,
            };
            let finished = session.block_on(target.finish("image"));
            assert_eq!((finished.is_err(), path.exists()), (fails, !fails));
        }
    }

    #[test]
    fn only_the_file_that_was_created_is_removed() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let (path, link) = (folder.path().join("image"), folder.path().join("link"));
        fs::write(&path, b"half").expect("written");
        let created = found(&path);
        fs::rename(&path, folder.path().join("moved")).expect("moved away");
        fs::write(&path, b"somebody else's").expect("written");
        drop(created);
        assert!(path.exists());
        // A link stays, what it leads to goes.
        std::os::unix::fs::symlink(&path, &link).expect("linked");
        drop(found(&link));
        assert!(!path.exists() && fs::symlink_metadata(&link).is_ok());
        // A folder stands for whatever is no regular file.
        drop(found(folder.path()));
        assert!(folder.path().exists());
    }

    #[test]
    fn a_source_is_found_by_any_of_its_names() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let (path, link) = (folder.path().join("image"), folder.path().join("hard"));
        fs::write(&path, b"data").expect("written");
        fs::hard_link(&path, &link).expect("linked");
        let sources: Vec<_> = identity(&path).into_iter().collect();
        let name = link.to_string_lossy();
        for name in [name.to_string(), format!("file:{name}")] {
            let text = check_not_a_source(&name, "raw", &sources, true).expect_err(&name).into_text();
            assert!(text.contains("error while converting raw: Failed to get \"write\" lock\n"), "{text}");
        }
        check_not_a_source("nbd://host/x", "raw", &sources, true).expect("not a file");
    }
}
