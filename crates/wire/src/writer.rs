//! Writing AMQP's elementary types: the counterpart of `reader`.

use crate::EncodeError;
use crate::table::RawTable;

/// Appends up to 255 octets with their one-octet length. Refuses more: cutting them off would make
/// the rest of the value part of what follows.
pub(crate) fn write_short_octets(out: &mut Vec<u8>, octets: &[u8]) -> Result<(), EncodeError> {
    let size_bytes = u8::try_from(octets.len())
        .map_err(|_| EncodeError::ShortStringTooLong { size_bytes: octets.len() })?;
    out.push(size_bytes);
    out.extend_from_slice(octets);
    Ok(())
}

/// Appends octets with their four-octet length.
pub(crate) fn write_long_octets(out: &mut Vec<u8>, octets: &[u8]) -> Result<(), EncodeError> {
    out.extend_from_slice(&size_u32(octets.len())?.to_be_bytes());
    out.extend_from_slice(octets);
    Ok(())
}

/// Appends what `write` appends, preceded by its four-octet length.
pub(crate) fn write_sized(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out)?;
    let size = size_u32(out.len() - start - 4)?;
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
    Ok(())
}

/// Runs `write`; if it fails, `out` is as long as before, so a refused value leaves no half frame.
pub(crate) fn all_or_nothing(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.len();
    write(out).inspect_err(|_| out.truncate(start))
}

pub(crate) fn size_u32(size_bytes: usize) -> Result<u32, EncodeError> {
    u32::try_from(size_bytes).map_err(|_| EncodeError::TooLarge { size_bytes })
}

/// Writes the arguments of a method in their order. Consecutive bits share octets.
pub(crate) struct ArgWriter<'o> {
    out: &'o mut Vec<u8>,
    bits_used: u8,
}

impl<'o> ArgWriter<'o> {
    pub(crate) fn new(out: &'o mut Vec<u8>) -> ArgWriter<'o> {
        ArgWriter { out, bits_used: 0 }
    }

    pub(crate) fn octet(&mut self, value: u8) {
        self.whole_octets().push(value);
    }

    pub(crate) fn short(&mut self, value: u16) {
        self.whole_octets().extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn long(&mut self, value: u32) {
        self.whole_octets().extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn longlong(&mut self, value: u64) {
        self.whole_octets().extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn shortstr(&mut self, value: &str) -> Result<(), EncodeError> {
        write_short_octets(self.whole_octets(), value.as_bytes())
    }

    pub(crate) fn longstr(&mut self, value: &[u8]) -> Result<(), EncodeError> {
        write_long_octets(self.whole_octets(), value)
    }

    pub(crate) fn table(&mut self, value: RawTable<'_>) -> Result<(), EncodeError> {
        write_long_octets(self.whole_octets(), value.as_bytes())
    }

    pub(crate) fn bit(&mut self, value: bool) {
        if self.bits_used == 0 {
            self.out.push(0);
        }
        if let Some(octet) = self.out.last_mut() {
            *octet |= u8::from(value) << self.bits_used;
        }
        self.bits_used = (self.bits_used + 1) % 8;
    }

    /// A value of another type ends a run of bits.
    fn whole_octets(&mut self) -> &mut Vec<u8> {
        self.bits_used = 0;
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_bits_take_two_octets_and_other_types_end_a_run() {
        let mut out = Vec::new();
        let mut args = ArgWriter::new(&mut out);
        for index in 0..9 {
            args.bit([0, 2, 8].contains(&index));
        }
        args.octet(7);
        args.bit(true);
        assert_eq!(out, [0b0000_0101, 0b1, 7, 0b1]);
    }

    #[test]
    fn a_short_string_is_refused_not_cut() {
        let mut out = Vec::new();
        assert_eq!(write_short_octets(&mut out, &[b'x'; 255]), Ok(()));
        let refused = write_short_octets(&mut out, &[b'x'; 256]);
        assert_eq!(refused, Err(EncodeError::ShortStringTooLong { size_bytes: 256 }));
        assert_eq!(out.len(), 256);
    }
}
