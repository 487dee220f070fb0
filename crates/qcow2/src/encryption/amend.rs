//! Changing key slots: `amend -o encrypt.state=…`. QEMU: `qcow2_amend_options` (block/qcow2.c), which leaves this to
//! crypto/block-luks.c.

use std::sync::Arc;

use qemu_block::crypt::{LuksWrite, SlotChange};
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::node::Node;
use qemu_block::options::Options;
use qemu_block::types::WriteFlags;
use qemu_crypto::luks::{LuksHeader, Materials};

use super::{Encryption, Method, area};
use crate::alloc::overlap_error;
use crate::format::encryption::LuksPlace;
use crate::image::Image;
use crate::overlap::Region;
use crate::units::HostOffset;

/// Takes the options `encrypt.*` out of `options`; nothing if there are none.
///
/// # Errors
/// A value is malformed, or the state is missing.
pub(crate) fn take_slot_change(options: &mut Options) -> Result<Option<SlotChange>> {
    let mut ours = options.take_sub("encrypt");
    if ours.is_empty() { Ok(None) } else { SlotChange::take(&mut ours).map(Some) }
}

impl Image {
    /// Changes key slots; `force` allows what makes the data inaccessible. The change is durable when this completes.
    ///
    /// # Errors
    /// The image has no key slots, the passphrases are wrong, the last one would be lost, or I/O fails. A change given
    /// up halfway leaves a slot that may not work, and all others as they were.
    pub(crate) async fn amend_key_slots(&self, change: SlotChange, force: bool) -> Result<()> {
        self.check_writable()?;
        let absent = || invalid("Can't amend encryption options - encryption not present");
        let encryption = self.encryption.as_ref().ok_or_else(absent)?;
        let Method::Luks { place, header } = &encryption.method else {
            return Err(invalid("Only LUKS encryption options can be amended"));
        };
        self.check_place(*place).await?;
        let mut header = header.lock().await;
        let (new, steps) = encryption.plan(&self.storage, *place, &header, change, force).await?;
        let done = apply(&self.storage, *place, steps).await;
        // Even if only a part was done, what the slots hold now is what the new header says, or nothing.
        *header = new;
        done
    }

    /// Fails if the header of LUKS lies where other metadata is: writing one would destroy the other.
    async fn check_place(&self, place: LuksPlace) -> Result<()> {
        let mut meta = self.meta.lock().await;
        meta.know_metadata().await?;
        match meta.regions.hit(place.offset, place.len, Some(Region::EncryptionHeader)) {
            None => Ok(()),
            Some(region) => Err(overlap_error(region.name(), place.offset)),
        }
    }
}

impl Encryption {
    /// Reads what the slots hold, and finds out what to write. Deriving keys takes long.
    async fn plan(
        &self,
        storage: &Node,
        place: LuksPlace,
        header: &LuksHeader,
        change: SlotChange,
        force: bool,
    ) -> Result<(LuksHeader, Vec<LuksWrite>)> {
        let mut materials = Materials::new();
        for slot in header.active_slots() {
            materials.insert(slot, area::read_material(storage, place, header, slot).await?);
        }
        let (secrets, opened_with) = (Arc::clone(&self.secrets), self.key_secret.clone());
        change.plan(&self.services, header.clone(), materials, secrets, opened_with, force).await
    }
}

async fn apply(storage: &Node, place: LuksPlace, steps: Vec<LuksWrite>) -> Result<()> {
    for step in steps {
        match step.bytes()? {
            None => storage.flush().await?,
            Some((offset, bytes)) => {
                let range = offset..offset + bytes.len() as u64;
                let offset = HostOffset::new(area::host_offset(place, &range)?);
                storage.write(offset.get(), bytes.into(), WriteFlags::empty()).await?;
            }
        }
    }
    Ok(())
}

fn invalid(text: impl Into<String>) -> BlockError {
    BlockError::new(ErrorKind::InvalidArgument, text)
}
