//! What is lost, doubled or out of order, from the numbers that one consumer sees.

use crate::{Error, Result};

/// The flows that one consumer reads.
pub(crate) struct Sequences {
    flows: Vec<Sequence>,
    /// Whether nobody else reads the queue: then every number must come.
    alone: bool,
}

#[derive(Clone, Copy, Default)]
struct Sequence {
    next: u64,
    /// Numbers that were skipped and have not come yet.
    missing: u64,
}

/// How a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    InOrder,
    /// A later one was here before it.
    Late,
    /// It was here before.
    Again,
}

impl Sequences {
    pub(crate) fn new(flows: usize, alone: bool) -> Sequences {
        Sequences { flows: vec![Sequence::default(); flows], alone }
    }

    /// # Errors
    /// The message is of no flow of this load.
    pub(crate) fn arrived(&mut self, flow: u16, number: u64) -> Result<Arrival> {
        let unknown = || Error::protocol("a message came that this load did not send");
        let sequence = self.flows.get_mut(usize::from(flow)).ok_or_else(unknown)?;
        if number >= sequence.next {
            sequence.missing += number - sequence.next;
            sequence.next = number + 1;
            return Ok(Arrival::InOrder);
        }
        if !self.alone {
            // Others have the numbers in between; only the last one is known to have been here.
            return Ok(if number + 1 == sequence.next { Arrival::Again } else { Arrival::Late });
        }
        match sequence.missing {
            0 => Ok(Arrival::Again),
            _ => {
                sequence.missing -= 1;
                Ok(Arrival::Late)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Arrival::{Again, InOrder, Late};

    #[test]
    fn arrivals_are_told_apart() {
        let check = |alone: bool, numbers: &[u64], expected: &[Arrival]| {
            let mut sequences = Sequences::new(1, alone);
            let seen: Vec<_> = numbers.iter().map(|number| sequences.arrived(0, *number).unwrap()).collect();
            assert_eq!(seen, expected, "{alone} {numbers:?}");
        };
        check(true, &[0, 1, 2], &[InOrder; 3]);
        check(true, &[0, 1, 1], &[InOrder, InOrder, Again]);
        check(true, &[0, 2, 1, 1], &[InOrder, InOrder, Late, Again]);
        check(false, &[0, 5, 9], &[InOrder; 3]);
        check(false, &[0, 5, 5, 3], &[InOrder, InOrder, Again, Late]);
        assert!(Sequences::new(1, true).arrived(1, 0).is_err());
    }
}
