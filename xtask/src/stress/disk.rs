//! The image that is converted, and whether the outputs hold the same.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use test_support::cloud::{self, Makers};
use test_support::programs::Program;
use test_support::{files, sample};

use super::options::Options;
use super::subject::Subject;
use crate::process::{find, say};

/// The source, and how outputs are compared with it.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) source: PathBuf,
    judge: Judge,
}

/// Who says whether two images hold the same.
#[derive(Debug)]
enum Judge {
    /// The reference's `compare`.
    Reference(PathBuf),
    /// The guest's data of the source as a raw file, to be compared byte by byte.
    Raw(PathBuf),
}

impl Disk {
    /// Takes the image that the user names, or makes one in `dir`: like a cloud image if the reference is there, else one
    /// that needs no tools.
    ///
    /// # Errors
    /// If the image cannot be made or read.
    pub(super) fn prepare(options: &Options, dir: &Path, subject: &Subject) -> io::Result<Self> {
        let reference = find("qemu-img");
        let source = match (&options.image, &reference, find("qemu-io"), find("mke2fs")) {
            (Some(image), ..) => image.clone(),
            (None, Some(qemu_img), Some(qemu_io), Some(_)) => make_cloud(options, dir, qemu_img, qemu_io)?,
            _ => make_sample(options, dir, subject)?,
        };
        let judge = match reference {
            Some(reference) => Judge::Reference(reference),
            None => {
                let raw = dir.join("source.raw");
                subject.run(&["convert", "-f", "qcow2", "-O", "raw", text(&source)?, text(&raw)?])?;
                Judge::Raw(raw)
            }
        };
        Ok(Self { source, judge })
    }

    /// What is wrong with `target`; none if it holds what the source holds.
    ///
    /// # Errors
    /// If they cannot be compared.
    pub(super) fn difference(&self, target: &Path, subject: &Subject) -> io::Result<Option<String>> {
        match &self.judge {
            Judge::Reference(reference) => {
                let mut compare = Command::new(reference);
                let output =
                    compare.args(["compare", "-f", "qcow2", "-F", "qcow2"]).arg(&self.source).arg(target).output()?;
                if output.status.success() {
                    return Ok(None);
                }
                let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
                Ok(Some(said.trim_end().to_owned()))
            }
            Judge::Raw(raw) => {
                let theirs = target.with_extension("raw");
                if let Err(error) = subject.run(&["convert", "-f", "qcow2", "-O", "raw", text(target)?, text(&theirs)?])
                {
                    return Ok(Some(error.to_string()));
                }
                let difference = files::first_difference(raw, &theirs)?;
                fs::remove_file(&theirs)?;
                Ok(difference.map(|offset| format!("the data differs from offset {offset} on")))
            }
        }
    }
}

fn text(path: &Path) -> io::Result<&str> {
    path.to_str().ok_or_else(|| io::Error::other(format!("{} is no text", path.display())))
}

fn make_cloud(options: &Options, dir: &Path, qemu_img: &Path, qemu_io: PathBuf) -> io::Result<PathBuf> {
    let spec = options.spec;
    say(&format!("Making an image: {} MiB of files on a disk of {} MiB.", spec.content_mib, spec.disk_mib));
    let images = dir.join("images");
    let (qemu_img, qemu_io) = (Program::at(qemu_img), Program::at(qemu_io));
    cloud::make(&images, spec, Makers { qemu_img: &qemu_img, qemu_io: &qemu_io })?;
    Ok(images.join("cloud.qcow2"))
}

fn make_sample(options: &Options, dir: &Path, subject: &Subject) -> io::Result<PathBuf> {
    say(&format!("Making a plain image of {} MiB: qemu-io or mke2fs is not installed.", options.spec.disk_mib));
    let (raw, image) = (dir.join("sample.raw"), dir.join("sample.qcow2"));
    sample::write_raw(&raw, options.spec.disk_mib)?;
    subject.run(&["convert", "-f", "raw", "-O", "qcow2", text(&raw)?, text(&image)?])?;
    Ok(image)
}
