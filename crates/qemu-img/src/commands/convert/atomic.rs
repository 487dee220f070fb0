//! `convert --atomic`: the target appears under its name only when it is complete and durable.
//!
//! The image is made under another name in the same folder. Once it is closed and on the disk, it takes the place of
//! what had the name before, in one step that a power cut cannot halve.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use qemu_block::error::{BlockError, errno_text};
use qemu_block::node::Node;
use qemu_block::registry::OpenSpec;
use qemu_block::types::OpenFlags;

use super::target::local_path;
use crate::failure::{Code, Failure};
use crate::session::Session;

/// How much of the target's name the temporary one repeats, in bytes: names have 255 at most.
const NAME_BYTES_MAX: usize = 200;

/// An image that takes the place of another one when it is complete.
#[derive(Debug)]
pub(super) struct Replacement {
    /// As the user calls it.
    name: String,
    /// Where the image goes, links followed.
    target: PathBuf,
    temporary: String,
    /// What is there now, if anything: open, so that nobody else uses it meanwhile.
    present: Option<Arc<Node>>,
}

impl Replacement {
    /// Reserves a temporary name for a target that is a file, or will be one.
    ///
    /// # Errors
    /// The target is something else, somebody uses it, or nothing can be created in its folder.
    pub(super) async fn reserve(session: &Session, name: &str) -> Result<Self, Failure> {
        let target = place(name)?;
        let present = match fs::metadata(&target) {
            Ok(data) if !data.is_file() => return Err(refused(name, "is not a regular file")),
            Ok(_) => Some(session.open_spec(name, spec_of(&target, name)?).await?),
            Err(_) => None,
        };
        match reserve_name(&target) {
            Ok(temporary) => Ok(Self { name: name.to_owned(), target, temporary, present }),
            Err(error) => {
                if let Some(node) = present {
                    // Nothing was written to it.
                    drop(node.close().await);
                }
                Err(failed(&format!("Could not create a temporary file for '{name}'"), name, &error))
            }
        }
    }

    /// The name under which the image is made. There is an empty file of that name.
    pub(super) fn temporary(&self) -> &str {
        &self.temporary
    }

    /// Makes the image durable and gives it its name.
    ///
    /// # Errors
    /// What fails on the way. If it is the last step, the image has its name, but a power cut may take it away.
    pub(super) async fn finish(self) -> Result<(), Failure> {
        let placed = self.place();
        if let Some(node) = self.present {
            // Nothing was written to it, and it has no name any more.
            drop(node.close().await);
        }
        placed.map_err(|error| {
            failed(&format!("Could not put the image in the place of '{}'", self.name), &self.name, &error)
        })
    }

    fn place(&self) -> io::Result<()> {
        let file = File::open(&self.temporary)?;
        if let Ok(before) = fs::metadata(&self.target) {
            file.set_permissions(before.permissions())?;
            // Only the superuser gives files away; for others the image stays theirs, as any file that they make.
            drop(fchown(&file, Some(before.uid()), Some(before.gid())));
        }
        file.sync_all()?;
        fs::rename(&self.temporary, &self.target)?;
        File::open(folder_of(&self.target))?.sync_all()
    }

    /// Gives up: what is there stays. The temporary file is removed by whoever created the image in it.
    pub(super) async fn abandon(self) {
        if let Some(node) = self.present {
            // Nothing was written to it.
            drop(node.close().await);
        }
    }
}

/// Where a target of that name is, links followed.
fn place(name: &str) -> Result<PathBuf, Failure> {
    let path = local_path(name).ok_or_else(|| refused(name, "is not a file"))?;
    match fs::canonicalize(&path) {
        Ok(target) => return Ok(target),
        Err(_) if fs::symlink_metadata(&path).is_ok() => return Err(refused(name, "is a link that leads nowhere")),
        Err(_) => {}
    }
    let file_name = path.file_name().ok_or_else(|| refused(name, "is not the name of a file"))?;
    let folder = fs::canonicalize(folder_of(&path));
    let folder = folder.map_err(|error| failed(&format!("Could not find the folder of '{name}'"), name, &error))?;
    Ok(folder.join(file_name))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Opens the present target as its bytes, for writing: it must be possible to write to what is replaced.
fn spec_of(target: &Path, name: &str) -> Result<OpenSpec, Failure> {
    let path = target.to_str().ok_or_else(|| refused(name, "leads to a name that is not UTF-8"))?;
    Ok(OpenSpec::file(path).with_driver(Some("raw")).with_flags(OpenFlags::WRITE))
}

/// Creates an empty file next to the target that nobody else has.
fn reserve_name(target: &Path) -> io::Result<String> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let end = name.floor_char_boundary(NAME_BYTES_MAX);
    loop {
        // Nobody can guess the name and put something in its place.
        let number = RandomState::new().build_hasher().finish();
        let temporary = folder_of(target).join(format!(".{}.{number:016x}.part", &name[..end]));
        let text = temporary.to_str().ok_or(io::ErrorKind::InvalidFilename)?.to_owned();
        match OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary) {
            Ok(_) => return Ok(text),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

fn refused(name: &str, why: &str) -> Failure {
    Failure::new(format!("--atomic cannot be used: '{name}' {why}")).with_code(Code::InvalidArgument).about(name)
}

fn failed(doing: &str, name: &str, error: &io::Error) -> Failure {
    let errno = error.raw_os_error().unwrap_or(nix::errno::Errno::EIO as i32);
    Failure::block(doing, &BlockError::from_errno(errno, errno_text(errno))).about(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_names_are_short_enough_and_all_different() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let long = folder.path().join("ä".repeat(127));
        let (first, second) = (reserve_name(&long).expect("reserved"), reserve_name(&long).expect("reserved"));
        assert_ne!(first, second);
        assert!(Path::new(&first).exists() && first.ends_with(".part"));
    }

    #[test]
    fn only_files_are_replaced() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let text = |name: &str| place(name).expect_err(name).into_text();
        assert!(text("nbd://host/x").contains("is not a file"));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path().join("nowhere"), &link).expect("linked");
        assert!(text(link.to_str().expect("plain")).contains("leads nowhere"));
        let link = folder.path().join("good");
        fs::write(folder.path().join("image"), b"x").expect("written");
        std::os::unix::fs::symlink("image", &link).expect("linked");
        let real = fs::canonicalize(folder.path()).expect("there").join("image");
        assert_eq!(place(link.to_str().expect("plain")).expect("a file"), real);
    }
}
