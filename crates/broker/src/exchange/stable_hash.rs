//! A hash that is the same in every process and every version: what a message hashes to decides where it goes, also
//! after a restart. FNV-1a over the octets, then the last step of SplitMix64, so that every bit depends on every octet.

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// Hashes octets.
pub(super) fn hash(octets: &[u8]) -> u64 {
    mix(octets.iter().fold(FNV_OFFSET, |hash, octet| (hash ^ u64::from(*octet)).wrapping_mul(FNV_PRIME)))
}

/// Spreads a number over all 64 bits, one to one.
pub(super) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Changing one of these moves messages of existing exchanges to other queues.
    #[test]
    fn hashes_never_change() {
        assert_eq!(hash(b""), 0xf52a_15e9_a9b5_e89b);
        assert_eq!(hash(b"news.ohio"), 0xb9f2_89b1_a79a_b542);
    }
}
