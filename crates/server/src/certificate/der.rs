//! As much of DER as a name in a certificate needs: tag, length, value, one behind the other.

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// The tag of a constructed, context-specific value.
pub(super) const fn context(number: u8) -> u8 {
    0xA0 | number
}

/// Values that have not been read yet. What does not follow the rules stays unread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Der<'a>(pub(super) &'a [u8]);

impl<'a> Der<'a> {
    /// The next tag and its value; `None` at the end, or before something broken.
    pub(super) fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        let (len, rest) = match first {
            0..=0x7F => (usize::from(first), rest),
            // No certificate that a handshake carries is longer than three octets can say.
            0x81..=0x83 => {
                let (octets, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
                (octets.iter().fold(0, |len, octet| len << 8 | usize::from(*octet)), rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((tag, value))
    }

    /// The next value, which has to have this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Option<Der<'a>> {
        let mut ahead = *self;
        let (found, value) = ahead.next()?;
        if found != tag {
            return None;
        }
        *self = ahead;
        Some(Der(value))
    }

    /// The next value, if it has this tag. `Err`: there is something broken.
    pub(super) fn optional(&mut self, tag: u8) -> Result<Option<Der<'a>>, ()> {
        match self.0.first() {
            Some(found) if *found == tag => self.expect(tag).map(Some).ok_or(()),
            _ => Ok(None),
        }
    }

    /// The one value there is, which has to have this tag.
    pub(super) fn only(mut self, tag: u8) -> Option<Der<'a>> {
        let value = self.expect(tag)?;
        self.is_empty().then_some(value)
    }

    /// Whether everything has been read.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_follow_each_other() {
        let check = |octets: &[u8], expected: Option<(u8, usize)>| {
            let found = Der(octets).next().map(|(tag, value)| (tag, value.len()));
            assert_eq!(found, expected, "{octets:?}");
        };
        check(&[2, 1, 9], Some((2, 1)));
        check(&[2, 0], Some((2, 0)));
        check(&[4, 0x81, 2, 0, 0, 7], Some((4, 2)));
        check(&[4, 0x82, 0, 1, 0], Some((4, 1)));
        check(&[2], None);
        check(&[2, 2, 9], None);
        check(&[2, 0x80, 0, 0], None);
        check(&[2, 0x84, 0, 0, 0, 0], None);
        check(&[2, 0x83, 0xFF, 0xFF, 0xFF], None);
    }
}
