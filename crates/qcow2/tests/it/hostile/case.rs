//! A hostile image with its name, and the other images that it leads to.

use qemu_block::mem::MemDisk;

use super::image::Image;

/// One image of the collection.
pub(crate) struct Case {
    /// What is wrong with it; unique in its structure's file.
    pub(crate) name: String,
    pub(crate) image: Image,
    /// Further images by name: those that a backing file name can lead to.
    pub(crate) others: Vec<(String, Image)>,
}

impl Case {
    /// `image` with something changed.
    pub(crate) fn new(name: impl Into<String>, mut image: Image, change: impl FnOnce(&mut Image)) -> Self {
        change(&mut image);
        Self { name: name.into(), image, others: Vec::new() }
    }

    /// The same with another image beside it.
    pub(crate) fn beside(mut self, name: &str, image: Image) -> Self {
        self.others.push((name.to_owned(), image));
        self
    }

    /// The disks of the case by name; the image itself is `a`.
    pub(crate) fn disks(&self) -> Vec<(String, MemDisk)> {
        let others = self.others.iter().map(|(name, image)| (name.clone(), image.disk()));
        std::iter::once(("a".to_owned(), self.image.disk())).chain(others).collect()
    }
}
