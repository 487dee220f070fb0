//! What users ask for and are told about LUKS headers; trying and changing key slots.

use std::sync::Arc;

use qemu_crypto::bytes::{SecretBytes, fill_random};
use qemu_crypto::cipher::{IvGenAlg, SectorCipher};
use qemu_crypto::error::CryptoError;
use qemu_crypto::luks::{
    AmendOptions, AmendStep, CreateOptions, KeySlot, LuksHeader, Materials, STRIPES, SlotIndex, SlotState,
};
use qemu_crypto::secret::SecretStore;
use qemu_util::buf::IoBuf;

use crate::aio::Services;
use crate::error::{BlockError, ErrorKind, Result};
use crate::options::Options;
use crate::types::InfoValue;

/// The options that say what a header shall be like.
const HEADER_OPTIONS: [&str; 5] = ["cipher-alg", "cipher-mode", "ivgen-alg", "ivgen-hash-alg", "hash-alg"];

/// The options of a new header: their values, before anybody knows whether they make sense.
#[derive(Clone, Debug)]
pub struct LuksCreateOptions {
    values: [(&'static str, Option<String>); HEADER_OPTIONS.len()],
    iter_time: Option<u64>,
}

impl LuksCreateOptions {
    /// Takes them out of `options`, where they have no prefix; `complaint` is the error for a time that is no number.
    ///
    /// # Errors
    /// That one.
    pub fn take(options: &mut Options, complaint: &str) -> Result<Self> {
        let iter_time = options.take_number("iter-time").map_err(|_| invalid(complaint))?;
        Ok(Self { values: HEADER_OPTIONS.map(|name| (name, options.take_str(name))), iter_time })
    }

    /// The first option that was given.
    pub fn first_given(&self) -> Option<&'static str> {
        let given = self.values.iter().find(|(_, value)| value.is_some()).map(|(name, _)| *name);
        given.or(self.iter_time.map(|_| "iter-time"))
    }

    /// What they mean.
    ///
    /// # Errors
    /// A value is unknown, or stands for what there is not here.
    pub fn parse(&self) -> Result<CreateOptions> {
        let value = |name: &str| {
            let found = self.values.iter().find(|(known, _)| *known == name);
            found.and_then(|(_, value)| value.as_deref())
        };
        Ok(CreateOptions::parse(self.iter_time, value)?)
    }
}

type Fields = Vec<(&'static str, InfoValue)>;

/// What `info` tells about a header, in the reference's order. Inside another format's facts, it says what it is.
/// QEMU: `QCryptoBlockInfoLUKS`.
pub fn luks_info(header: &LuksHeader, is_detached: bool, inside_another: bool) -> Fields {
    let cipher = header.cipher();
    let mut fields = vec![
        ("ivgen-alg", text(cipher.ivgen.name())),
        ("detached-header", InfoValue::Bool(is_detached)),
        ("hash-alg", text(header.hash().name())),
        ("cipher-alg", text(cipher.alg.name())),
        ("uuid", InfoValue::Text(header.uuid())),
    ];
    if let Some(hash) = cipher.ivgen_hash.filter(|_| cipher.ivgen == IvGenAlg::Essiv) {
        fields.push(("ivgen-hash-alg", text(hash.name())));
    }
    if inside_another {
        fields.push(("format", text("luks")));
    }
    fields.extend([
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
        fields.push(("stripes", InfoValue::Int(u64::try_from(STRIPES).unwrap_or(u64::MAX))));
    }
    InfoValue::Object(fields)
}

fn text(name: &str) -> InfoValue {
    InfoValue::Text(name.to_owned())
}

/// Takes the cipher of the payload out of a slot, if the passphrase is that slot's. This takes long, so it is done on
/// another thread; `lock` are the header and the passphrase.
///
/// # Errors
/// The slot's key material is cut off.
pub async fn try_slot(
    services: &Services,
    lock: &Arc<(LuksHeader, SecretBytes)>,
    slot: SlotIndex,
    material: Vec<u8>,
) -> Result<Option<SectorCipher>> {
    let lock = Arc::clone(lock);
    let unlock = move || -> Result<Option<SectorCipher>, CryptoError> {
        let (header, passphrase) = &*lock;
        let key = header.unlock_slot(slot, &material, passphrase.as_ref())?;
        key.map(|key| header.sector_cipher(&key)).transpose()
    };
    Ok(services.cpu.run(unlock).await?)
}

/// A change of key slots, as the options describe it.
#[derive(Clone, Debug)]
pub struct SlotChange(AmendOptions);

impl SlotChange {
    /// Takes the change out of `options`, where the names have no prefix.
    ///
    /// # Errors
    /// A value is malformed, or the state is missing.
    pub fn take(options: &mut Options) -> Result<Self> {
        let keyslot = options.take_number("keyslot")?.map(|slot| i64::try_from(slot).unwrap_or(i64::MAX));
        let iter_time_ms = options.take_number("iter-time")?;
        let state = options.take_str("state").ok_or_else(|| invalid("Parameter 'state' is missing"))?;
        let change = AmendOptions {
            state: SlotState::from_option(&state)?,
            new_secret: options.take_str("new-secret"),
            old_secret: options.take_str("old-secret"),
            keyslot,
            iter_time_ms,
            secret: None,
        };
        if let Some(key) = options.keys().next() {
            return Err(invalid(format!("Parameter '{key}' is unexpected")));
        }
        Ok(Self(change))
    }

    /// Finds out what `header` becomes and what has to be written. `opened_with` is the secret that the image was opened
    /// with, `force` allows what makes the data inaccessible. Deriving keys takes long.
    ///
    /// # Errors
    /// The change makes no sense, a passphrase is wrong, or the last one would be lost.
    pub async fn plan(
        self,
        services: &Services,
        mut header: LuksHeader,
        materials: Materials,
        secrets: Arc<SecretStore>,
        opened_with: Option<String>,
        force: bool,
    ) -> Result<(LuksHeader, Vec<LuksWrite>)> {
        let plan = move || {
            let steps = header.amend(&materials, &self.0, &secrets, opened_with.as_deref(), force)?;
            Ok::<_, BlockError>((header, steps))
        };
        let (header, steps) = services.cpu.run(plan).await?;
        Ok((header, steps.into_iter().map(LuksWrite).collect()))
    }
}

/// A step of a change.
#[derive(Clone, Debug)]
pub struct LuksWrite(AmendStep);

impl LuksWrite {
    /// Where in the area of the header something is to be written, and what; nothing if all that was written before has
    /// to become durable first.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn bytes(self) -> Result<Option<(u64, IoBuf)>> {
        match self.0 {
            AmendStep::Flush => Ok(None),
            AmendStep::Write { offset, bytes } => Ok(Some((offset, IoBuf::copy_of(&bytes)))),
            AmendStep::Scramble(range) => {
                let mut bytes = IoBuf::zeroed(usize::try_from(range.end - range.start).expect("a slot"));
                fill_random(&mut bytes)?;
                Ok(Some((range.start, bytes)))
            }
        }
    }
}

fn invalid(text: impl Into<String>) -> BlockError {
    BlockError::new(ErrorKind::InvalidArgument, text)
}
