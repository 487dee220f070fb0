//! The modes: how a sector is encrypted with a block cipher and an initialization vector.
//!
//! All work on as many blocks at a time as there are, because processors encrypt several as fast as one.

use aes::Block;
use aes::cipher::Array;

use super::aes::Aes;
use super::sectors::{BATCH_SECTORS, SECTOR_BYTES};

/// Blocks of a sector.
const SECTOR_BLOCKS: usize = SECTOR_BYTES / 16;

/// The bytes as blocks; those after the last whole block are left out.
fn blocks_of(data: &mut [u8]) -> &mut [Block] {
    Array::slice_as_chunks_mut(data).0
}

fn xor(to: &mut Block, from: &Block) {
    let both = u128::from_le_bytes((*to).into()) ^ u128::from_le_bytes((*from).into());
    *to = both.to_le_bytes().into();
}

/// Encrypts blocks that depend on nothing.
pub(super) fn ecb_encrypt(aes: &Aes, data: &mut [u8]) {
    aes.encrypt(blocks_of(data));
}

/// The opposite of [`ecb_encrypt`].
pub(super) fn ecb_decrypt(aes: &Aes, data: &mut [u8]) {
    aes.decrypt(blocks_of(data));
}

/// Encrypts up to [`BATCH_SECTORS`] sectors side by side: in one sector each block waits for the one before.
pub(super) fn cbc_encrypt(aes: &Aes, ivs: &[Block], data: &mut [u8]) {
    let blocks = blocks_of(data);
    let mut chain = [Block::default(); BATCH_SECTORS];
    let chain = &mut chain[..ivs.len()];
    chain.copy_from_slice(ivs);
    for index in 0..SECTOR_BLOCKS {
        for (sector, chained) in chain.iter_mut().enumerate() {
            xor(chained, &blocks[sector * SECTOR_BLOCKS + index]);
        }
        aes.encrypt(chain);
        for (sector, chained) in chain.iter().enumerate() {
            blocks[sector * SECTOR_BLOCKS + index] = *chained;
        }
    }
}

/// Decrypts one chain of blocks, of any length.
pub(super) fn cbc_decrypt(aes: &Aes, iv: Block, data: &mut [u8]) {
    let mut previous = iv;
    for blocks in blocks_of(data).chunks_mut(SECTOR_BLOCKS) {
        let mut stored = [Block::default(); SECTOR_BLOCKS];
        let stored = &mut stored[..blocks.len()];
        stored.copy_from_slice(blocks);
        aes.decrypt(blocks);
        for (block, stored) in blocks.iter_mut().zip(stored) {
            xor(block, &previous);
            previous = *stored;
        }
    }
}

/// Encrypts or decrypts one sector with a counter that starts at `iv`.
pub(super) fn ctr_apply(aes: &Aes, iv: Block, data: &mut [u8]) {
    let mut counter = u128::from_be_bytes(iv.into());
    for blocks in blocks_of(data).chunks_mut(SECTOR_BLOCKS) {
        let mut stream = [Block::default(); SECTOR_BLOCKS];
        let stream = &mut stream[..blocks.len()];
        for block in &mut *stream {
            *block = counter.to_be_bytes().into();
            counter = counter.wrapping_add(1);
        }
        aes.encrypt(stream);
        for (block, stream) in blocks.iter_mut().zip(stream) {
            xor(block, stream);
        }
    }
}

/// Encrypts or decrypts one sector with `apply`; `tweak` is its encrypted initialization vector.
pub(super) fn xts_apply(tweak: Block, data: &mut [u8], apply: impl FnOnce(&mut [Block])) {
    let mut tweak = u128::from_le_bytes(tweak.into());
    let mut tweaks = [Block::default(); SECTOR_BLOCKS];
    for slot in &mut tweaks {
        *slot = tweak.to_le_bytes().into();
        // Times x in the field of 2^128 elements.
        tweak = (tweak << 1) ^ if tweak >> 127 == 1 { 0x87 } else { 0 };
    }
    let blocks = blocks_of(data);
    for (block, tweak) in blocks.iter_mut().zip(&tweaks) {
        xor(block, tweak);
    }
    apply(blocks);
    for (block, tweak) in blocks.iter_mut().zip(&tweaks) {
        xor(block, tweak);
    }
}
