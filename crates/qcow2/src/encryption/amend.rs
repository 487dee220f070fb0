//! Changing key slots: `amend -o encrypt.state=…`. QEMU: `qcow2_amend_options` (block/qcow2.c), which leaves this to
//! crypto/block-luks.c.

use std::sync::Arc;

use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::node::Node;
use qemu_block::options::Options;
use qemu_block::types::WriteFlags;
use qemu_crypto::bytes::fill_random;
use qemu_crypto::luks::{AmendOptions, AmendStep, LuksHeader, Materials, SlotState};
use qemu_util::buf::IoBuf;

use super::{Encryption, Method, area};
use crate::alloc::overlap_error;
use crate::format::encryption::LuksPlace;
use crate::image::Image;
use crate::overlap::Region;
use crate::units::HostOffset;

/// A change of key slots, as the options describe it.
#[derive(Clone, Debug)]
pub(crate) struct SlotChange(AmendOptions);

impl SlotChange {
    /// Takes the options `encrypt.*` out of `options`; nothing if there are none.
    ///
    /// # Errors
    /// A value is malformed, or the state is missing.
    pub(crate) fn take(options: &mut Options) -> Result<Option<Self>> {
        let mut ours = options.take_sub("encrypt");
        if ours.is_empty() {
            return Ok(None);
        }
        let keyslot = ours.take_number("keyslot")?.map(|slot| i64::try_from(slot).unwrap_or(i64::MAX));
        let iter_time_ms = ours.take_number("iter-time")?;
        let state = ours.take_str("state").ok_or_else(|| invalid("Parameter 'state' is missing"))?;
        let change = AmendOptions {
            state: SlotState::from_option(&state)?,
            new_secret: ours.take_str("new-secret"),
            old_secret: ours.take_str("old-secret"),
            keyslot,
            iter_time_ms,
            secret: None,
        };
        if let Some(key) = ours.keys().next() {
            return Err(invalid(format!("Parameter '{key}' is unexpected")));
        }
        Ok(Some(Self(change)))
    }
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
    ) -> Result<(LuksHeader, Vec<AmendStep>)> {
        let mut materials = Materials::new();
        for slot in header.active_slots() {
            materials.insert(slot, area::read_material(storage, place, header, slot).await?);
        }
        let mut header = header.clone();
        let secrets = Arc::clone(&self.secrets);
        let opened_with = self.key_secret.clone();
        let plan = move || {
            let steps = header.amend(&materials, &change.0, &secrets, opened_with.as_deref(), force)?;
            Ok::<_, BlockError>((header, steps))
        };
        self.services.cpu.run(plan).await
    }
}

async fn apply(storage: &Node, place: LuksPlace, steps: Vec<AmendStep>) -> Result<()> {
    for step in steps {
        let (range, bytes) = match step {
            AmendStep::Flush => {
                storage.flush().await?;
                continue;
            }
            AmendStep::Write { offset, bytes } => (offset..offset + bytes.len() as u64, IoBuf::copy_of(&bytes)),
            AmendStep::Scramble(range) => {
                let mut bytes = IoBuf::zeroed(usize::try_from(range.end - range.start).expect("a slot"));
                fill_random(&mut bytes)?;
                (range, bytes)
            }
        };
        let offset = HostOffset::new(area::host_offset(place, &range)?);
        storage.write(offset.get(), bytes.into(), WriteFlags::empty()).await?;
    }
    Ok(())
}

fn invalid(text: impl Into<String>) -> BlockError {
    BlockError::new(ErrorKind::InvalidArgument, text)
}
