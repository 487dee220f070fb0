//! The error of every block operation: a kind to match on, an errno, a message of its own level, and a source.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use qemu_crypto::error::{CryptoError, ErrorClass};

/// `Result` with a [`BlockError`].
pub type Result<T, E = BlockError> = std::result::Result<T, E>;

/// What went wrong, as far as control flow cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system or a lower layer failed a request.
    Io,
    /// The named file, node or object does not exist.
    NotFound,
    /// Access was refused.
    PermissionDenied,
    /// There is no space left, or a quota or file size limit was hit.
    NoSpace,
    /// Another process uses the image in a way that excludes ours.
    Locked,
    /// The driver, host or format version cannot do this.
    Unsupported,
    /// A parameter is wrong: an option, a size, a combination of both.
    InvalidArgument,
    /// The image does not belong to the format it was opened with.
    NotThisFormat,
    /// The metadata of an image contradicts itself or the format.
    Corrupt,
    /// The image is shorter than its metadata says.
    Truncated,
    /// A request lies outside the device, or would write to a read-only one.
    BadRequest,
    /// The operation was given up before it completed.
    Cancelled,
}

struct Inner {
    kind: ErrorKind,
    errno: i32,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// The error of a block operation.
///
/// `Display` states this level only; [`Error::source`] has the cause. [`BlockError::errno`] is what QEMU would return
/// (as a positive number): some of them steer control flow, and the command prints their text.
pub struct BlockError(Box<Inner>);

impl BlockError {
    /// An error of `kind` with the errno that is usual for it.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let errno = match kind {
            ErrorKind::Io | ErrorKind::Corrupt | ErrorKind::Truncated | ErrorKind::BadRequest => libc::EIO,
            ErrorKind::NotFound => libc::ENOENT,
            ErrorKind::PermissionDenied => libc::EACCES,
            ErrorKind::NoSpace => libc::ENOSPC,
            ErrorKind::Locked => libc::EAGAIN,
            ErrorKind::Unsupported => libc::ENOTSUP,
            ErrorKind::InvalidArgument | ErrorKind::NotThisFormat => libc::EINVAL,
            ErrorKind::Cancelled => libc::ECANCELED,
        };
        Self(Box::new(Inner { kind, errno, message: message.into(), source: None }))
    }

    /// An error from the operating system; the kind follows from `errno`.
    pub fn from_errno(errno: i32, message: impl Into<String>) -> Self {
        let kind = match errno {
            libc::ENOENT => ErrorKind::NotFound,
            libc::EACCES | libc::EPERM | libc::EROFS => ErrorKind::PermissionDenied,
            libc::ENOSPC | libc::EDQUOT | libc::EFBIG => ErrorKind::NoSpace,
            libc::EOPNOTSUPP | libc::ENOSYS => ErrorKind::Unsupported,
            libc::EINVAL => ErrorKind::InvalidArgument,
            libc::ECANCELED => ErrorKind::Cancelled,
            _ => ErrorKind::Io,
        };
        Self::new(kind, message).with_errno(errno)
    }

    /// The same error with another errno.
    #[must_use]
    pub fn with_errno(mut self, errno: i32) -> Self {
        self.0.errno = errno;
        self
    }

    /// The same error with a cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// An error of the next level up: same kind and errno, `message` in front, this one as its source.
    #[must_use]
    pub fn context(self, message: impl Into<String>) -> Self {
        Self::new(self.kind(), message).with_errno(self.errno()).with_source(self)
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The errno, positive.
    pub fn errno(&self) -> i32 {
        self.0.errno
    }

    /// This level's message, without its source.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The C library's text for the errno, as QEMU prints it.
    pub fn errno_text(&self) -> String {
        errno_text(self.errno())
    }

    /// This level and all its sources, joined by `": "`.
    pub fn chain(&self) -> String {
        let mut text = self.message().to_owned();
        let mut next = self.source();
        while let Some(error) = next {
            text.push_str(": ");
            text.push_str(&error.to_string());
            next = error.source();
        }
        text
    }
}

/// Characters of a name that messages show. Paths that people choose are shorter; the rest is counted.
const SHOWN_CHARS_MAX: usize = 300;

/// A name as messages show it: control characters, which may come from an image, are made visible, and what is very long
/// is cut (rule R5). A newline in a name must not begin a line of its own.
pub fn shown(name: &str) -> Cow<'_, str> {
    if name.len() <= SHOWN_CHARS_MAX && !name.contains(is_harmful) {
        return Cow::Borrowed(name);
    }
    let escape = |c: char| match c {
        c if !is_harmful(c) => c.to_string(),
        c if c.is_ascii() => format!("\\x{:02x}", u32::from(c)),
        c => format!("\\u{{{:x}}}", u32::from(c)),
    };
    let mut text: String = name.chars().take(SHOWN_CHARS_MAX).map(escape).collect();
    let more = name.chars().count().saturating_sub(SHOWN_CHARS_MAX);
    if more > 0 {
        text.push_str(&format!("... ({more} more characters)"));
    }
    Cow::Owned(text)
}

/// Characters that change how a terminal shows others: controls, and those that turn the direction of writing.
fn is_harmful(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The C library's text for `errno`.
pub fn errno_text(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    let cut = text.rfind(" (os error").unwrap_or(text.len());
    text[..cut].to_owned()
}

impl fmt::Display for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl fmt::Debug for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockError")
            .field("kind", &self.0.kind)
            .field("errno", &self.0.errno)
            .field("message", &self.0.message)
            .field("source", &self.0.source)
            .finish()
    }
}

impl Error for BlockError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

impl From<std::io::Error> for BlockError {
    fn from(error: std::io::Error) -> Self {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        Self::from_errno(errno, errno_text(errno))
    }
}

impl From<CryptoError> for BlockError {
    fn from(error: CryptoError) -> Self {
        let kind = match error.class() {
            ErrorClass::Argument => ErrorKind::InvalidArgument,
            ErrorClass::Unsupported => ErrorKind::Unsupported,
            ErrorClass::Damaged => ErrorKind::Corrupt,
            ErrorClass::Refused => ErrorKind::PermissionDenied,
            ErrorClass::System => ErrorKind::Io,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<nix::errno::Errno> for BlockError {
    fn from(errno: nix::errno::Errno) -> Self {
        Self::from_errno(errno as i32, errno_text(errno as i32))
    }
}

#[cfg(all(test, not(qemu_loom)))]
mod tests {
    use super::*;

    #[test]
    fn texts_are_the_c_librarys() {
        assert_eq!(errno_text(libc::EIO), "Input/output error");
        assert_eq!(errno_text(libc::ENOSPC), "No space left on device");
    }

    #[test]
    fn context_keeps_kind_and_errno() {
        let error = BlockError::from_errno(libc::EDQUOT, "write failed").context("Could not resize");
        assert_eq!((error.kind(), error.errno()), (ErrorKind::NoSpace, libc::EDQUOT));
        assert_eq!(error.chain(), "Could not resize: write failed");
    }
}
