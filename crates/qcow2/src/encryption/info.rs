//! What `info` tells about encryption. QEMU: `qcow2_get_specific_info` (block/qcow2.c), `QCryptoBlockInfoLUKS`.

use qemu_block::crypt::luks_info;
use qemu_block::types::InfoValue;

use super::{Encryption, Method};

impl Encryption {
    /// The object `encrypt`, in the reference's order.
    pub(crate) async fn info(&self) -> InfoValue {
        match &self.method {
            Method::Aes => InfoValue::Object(vec![("format", InfoValue::Text("aes".to_owned()))]),
            Method::Luks { header, .. } => InfoValue::Object(luks_info(&*header.lock().await, false, true)),
        }
    }
}
