//! Reading AMQP's elementary types from a slice: the only place that indexes received octets.
//!
//! [`Reader`] is a cursor; [`ArgReader`] adds what method arguments need: strings checked for UTF-8,
//! tables checked for soundness, and bits. Consecutive bits share octets, the first in the lowest bit:
//!
//! ```text
//!   exchange.declare … type | passive durable auto-delete internal nowait | arguments
//!                             └──────── one octet: 0b000NIADP ──────────┘
//! ```

use crate::table::{RawTable, TableFault};

/// The octets end before the value does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Truncated;

/// A cursor over received octets. Every method takes from the front or fails with [`Truncated`].
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(octets: &'a [u8]) -> Reader<'a> {
        Reader { rest: octets }
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(crate) fn take(&mut self, size_bytes: usize) -> Result<&'a [u8], Truncated> {
        let (taken, rest) = self.rest.split_at_checked(size_bytes).ok_or(Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Truncated> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    pub(crate) fn octet(&mut self) -> Result<u8, Truncated> {
        self.array::<1>().map(|[octet]| octet)
    }

    #[inline]
    pub(crate) fn short(&mut self) -> Result<u16, Truncated> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn long(&mut self) -> Result<u32, Truncated> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn longlong(&mut self) -> Result<u64, Truncated> {
        self.array().map(u64::from_be_bytes)
    }

    /// Up to 255 octets after a one-octet length.
    #[inline]
    pub(crate) fn short_octets(&mut self) -> Result<&'a [u8], Truncated> {
        let size_bytes = self.octet()?;
        self.take(usize::from(size_bytes))
    }

    /// Octets after a four-octet length.
    #[inline]
    pub(crate) fn long_octets(&mut self) -> Result<&'a [u8], Truncated> {
        let size_bytes = self.long()?;
        self.take(usize::try_from(size_bytes).map_err(|_| Truncated)?)
    }
}

/// What is wrong with the arguments of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ArgFault {
    Truncated,
    Utf8,
    Table(TableFault),
}

impl From<Truncated> for ArgFault {
    fn from(_: Truncated) -> ArgFault {
        ArgFault::Truncated
    }
}

/// Reads the arguments of a method in their order. Named after the specification's types, so that the
/// generated code reads like the specification.
pub(crate) struct ArgReader<'a> {
    reader: Reader<'a>,
    bits: u8,
    bits_left: u8,
}

impl<'a> ArgReader<'a> {
    pub(crate) fn new(octets: &'a [u8]) -> ArgReader<'a> {
        ArgReader { reader: Reader::new(octets), bits: 0, bits_left: 0 }
    }

    /// RabbitMQ refuses arguments that are followed by anything.
    #[inline]
    pub(crate) fn finish(self) -> Result<(), ArgFault> {
        if self.reader.is_at_end() { Ok(()) } else { Err(ArgFault::Truncated) }
    }

    #[inline]
    pub(crate) fn octet(&mut self) -> Result<u8, ArgFault> {
        Ok(self.whole_octets().octet()?)
    }

    #[inline]
    pub(crate) fn short(&mut self) -> Result<u16, ArgFault> {
        Ok(self.whole_octets().short()?)
    }

    #[inline]
    pub(crate) fn long(&mut self) -> Result<u32, ArgFault> {
        Ok(self.whole_octets().long()?)
    }

    #[inline]
    pub(crate) fn longlong(&mut self) -> Result<u64, ArgFault> {
        Ok(self.whole_octets().longlong()?)
    }

    #[inline]
    pub(crate) fn shortstr(&mut self) -> Result<&'a str, ArgFault> {
        let octets = self.whole_octets().short_octets()?;
        std::str::from_utf8(octets).map_err(|_| ArgFault::Utf8)
    }

    #[inline]
    pub(crate) fn longstr(&mut self) -> Result<&'a [u8], ArgFault> {
        Ok(self.whole_octets().long_octets()?)
    }

    #[inline]
    pub(crate) fn table(&mut self) -> Result<RawTable<'a>, ArgFault> {
        let octets = self.whole_octets().long_octets()?;
        RawTable::checked(octets).map_err(ArgFault::Table)
    }

    #[inline]
    pub(crate) fn bit(&mut self) -> Result<bool, ArgFault> {
        if self.bits_left == 0 {
            self.bits = self.reader.octet()?;
            self.bits_left = 8;
        }
        let bit = self.bits & 1 != 0;
        self.bits >>= 1;
        self.bits_left -= 1;
        Ok(bit)
    }

    /// A value of another type ends a run of bits.
    #[inline]
    fn whole_octets(&mut self) -> &mut Reader<'a> {
        self.bits_left = 0;
        &mut self.reader
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_bits_take_two_octets_and_other_types_end_a_run() {
        let mut args = ArgReader::new(&[0b0000_0101, 0b1, 7, 0b1]);
        let bits: Vec<bool> = (0..9).map(|_| args.bit().unwrap()).collect();
        assert_eq!(bits, [true, false, true, false, false, false, false, false, true]);
        assert_eq!(args.octet(), Ok(7));
        assert_eq!(args.bit(), Ok(true));
        assert_eq!(args.octet(), Err(ArgFault::Truncated));
        assert_eq!(args.finish(), Ok(()));
    }

    #[test]
    fn lying_lengths_are_truncation() {
        assert_eq!(Reader::new(&[255, 1]).short_octets(), Err(Truncated));
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 1]).long_octets(), Err(Truncated));
    }
}
