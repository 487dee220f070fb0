//! Changing key slots. QEMU: `block_crypto_amend_options_luks` (block/crypto.c).

use qemu_block::crypt::{LuksWrite, SlotChange};
use qemu_block::driver::IoFuture;
use qemu_block::error::{BlockError, Result, errno_text};
use qemu_block::manage::{AmendOps, AmendRequest, BackingLink};
use std::sync::Arc;

use crate::area;
use crate::image::LuksImage;

impl LuksImage {
    /// Changes key slots. A change given up halfway leaves a slot that may not work, and all others as they were.
    async fn amend_key_slots(&self, request: AmendRequest) -> Result<()> {
        let AmendRequest { mut options, force, progress } = request;
        let change = SlotChange::take(&mut options)?;
        progress.report(0, 1);
        let keys = &self.keys;
        let mut header = keys.header.lock().await;
        let materials = area::read_materials(self.header_node(), &header).await?;
        let (secrets, opened_with) = (Arc::clone(&keys.secrets), keys.key_secret.clone());
        let plan = change.plan(&keys.services, header.clone(), materials, secrets, opened_with, force);
        let (new, steps) = plan.await?;
        let done = self.apply(steps).await;
        // Even if only a part was done, what the slots hold now is what the new header says, or nothing.
        *header = new;
        done?;
        progress.report(1, 1);
        Ok(())
    }

    async fn apply(&self, steps: Vec<LuksWrite>) -> Result<()> {
        for step in steps {
            match step.bytes()? {
                None => self.header_node().flush().await?,
                Some((offset, bytes)) => area::write(self.header_node(), offset, bytes).await?,
            }
        }
        Ok(())
    }
}

impl AmendOps for LuksImage {
    fn amend(&self, request: AmendRequest) -> IoFuture<'_, ()> {
        Box::pin(self.amend_key_slots(request))
    }

    fn change_backing(&self, _backing: Option<BackingLink>) -> IoFuture<'_, ()> {
        unsupported()
    }

    fn make_empty(&self) -> IoFuture<'_, ()> {
        unsupported()
    }
}

fn unsupported() -> IoFuture<'static, ()> {
    let error = BlockError::from_errno(libc::ENOTSUP, errno_text(libc::ENOTSUP));
    Box::pin(std::future::ready(Err(error)))
}
