//! By what a message is recognised, on the disk and in a socket: six octets in its body.

const MARK_BYTES: usize = 6;

/// The mark of a message.
pub fn mark(number: u32) -> String {
    format!("#{number:04}#")
}

/// Finds marks in octets that come piece by piece.
#[derive(Default)]
pub struct Marks {
    /// The end of what came, which may be the beginning of a mark.
    rest: Vec<u8>,
}

impl Marks {
    /// The numbers of the marks that are complete with these octets.
    pub fn find(&mut self, octets: &[u8]) -> Vec<u32> {
        self.rest.extend_from_slice(octets);
        let begins = self.rest.iter().enumerate().filter(|(_, octet)| **octet == b'#');
        let numbers = begins.filter_map(|(at, _)| number_in(self.rest.get(at..at + MARK_BYTES)?)).collect();
        self.rest.drain(..self.rest.len().saturating_sub(MARK_BYTES - 1));
        numbers
    }
}

fn number_in(mark: &[u8]) -> Option<u32> {
    let digits = mark.strip_prefix(b"#")?.strip_suffix(b"#")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_in_pieces_is_found_once() {
        let mut marks = Marks::default();
        let pieces = [&b"ab#00"[..], b"17", b"#", b"", b"#0018##12", b"x"];
        let found: Vec<Vec<u32>> = pieces.iter().map(|piece| marks.find(piece)).collect();
        assert_eq!(found, [vec![], vec![], vec![17], vec![], vec![18], vec![]]);
    }
}
