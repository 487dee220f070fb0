//! What `info` tells about encryption. QEMU: `qcow2_get_specific_info` (block/qcow2.c), `QCryptoBlockInfoLUKS`.

use qemu_block::types::InfoValue;
use qemu_crypto::cipher::IvGenAlg;
use qemu_crypto::luks::{KeySlot, LuksHeader};

use super::{Encryption, Method};

type Fields = Vec<(&'static str, InfoValue)>;

impl Encryption {
    /// The object `encrypt`, in the reference's order.
    pub(crate) async fn info(&self) -> InfoValue {
        match &self.method {
            Method::Aes => InfoValue::Object(vec![("format", text("aes"))]),
            Method::Luks { header, .. } => InfoValue::Object(luks_fields(&*header.lock().await)),
        }
    }
}

fn luks_fields(header: &LuksHeader) -> Fields {
    let cipher = header.cipher();
    let mut fields = vec![
        ("ivgen-alg", text(cipher.ivgen.name())),
        ("detached-header", InfoValue::Bool(false)),
        ("hash-alg", text(header.hash().name())),
        ("cipher-alg", text(cipher.alg.name())),
        ("uuid", InfoValue::Text(header.uuid())),
    ];
    if let Some(hash) = cipher.ivgen_hash.filter(|_| cipher.ivgen == IvGenAlg::Essiv) {
        fields.push(("ivgen-hash-alg", text(hash.name())));
    }
    fields.extend([
        ("format", text("luks")),
        ("cipher-mode", text(cipher.mode.name())),
        ("slots", InfoValue::List(header.slots().iter().map(slot_object).collect())),
        ("payload-offset", InfoValue::Int(header.payload_offset())),
        ("master-key-iters", InfoValue::Int(u64::from(header.master_key_iterations()))),
    ]);
    fields
}

fn slot_object(slot: &KeySlot) -> InfoValue {
    let mut fields = vec![("active", InfoValue::Bool(slot.active))];
    if slot.active {
        fields.push(("iters", InfoValue::Int(u64::from(slot.iterations))));
    }
    fields.push(("key-offset", InfoValue::Int(slot.material_offset())));
    if slot.active {
        fields.push(("stripes", InfoValue::Int(qemu_crypto::luks::STRIPES as u64)));
    }
    InfoValue::Object(fields)
}

fn text(name: &str) -> InfoValue {
    InfoValue::Text(name.to_owned())
}
