//! Which trace a message belongs to: W3C trace context.
//!
//! ```text
//!  traceparent, text     00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
//!                        version   trace id (16 octets)        span id (8)      flags
//!  traceparent, binary   0 | 0 trace id | 1 span id | 2 flags            29 octets
//! ```
//!
//! A caller's request carries the context of its span; the worker's calls carry children of it. What does not parse is
//! no context: a stranger's broken header must not cost a request.

use leveret_wire::{FieldTable, FieldValue};

use crate::ids::random_u64;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
/// What MassTransit calls its traceparent.
const MASSTRANSIT_ACTIVITY_ID: &str = "MT-Activity-Id";
const SAMPLED: u8 = 1;
/// The size every implementation must pass on (W3C §3.3.1.5); a longer list is dropped as a whole.
const TRACESTATE_MAX_BYTES: usize = 512;

/// A place in a distributed trace: the trace, a span of it, and what vendors add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: u128,
    span_id: u64,
    flags: u8,
    state: Option<String>,
}

impl TraceContext {
    /// A new trace with one span, sampled.
    pub fn root() -> TraceContext {
        let trace_id = u128::from(non_zero_random()) << 64 | u128::from(random_u64());
        TraceContext { trace_id, span_id: non_zero_random(), flags: SAMPLED, state: None }
    }

    /// Reads the two headers. A malformed `traceparent` is none at all; a malformed `tracestate` is dropped alone.
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Option<TraceContext> {
        let context = parse_text(traceparent.as_bytes())?;
        Some(context.with_state(tracestate))
    }

    /// Reads a message's headers: `traceparent` as text or binary, or MassTransit's `MT-Activity-Id`.
    pub fn from_headers(headers: &FieldTable) -> Option<TraceContext> {
        let parent = headers.get(TRACEPARENT).and_then(octets).and_then(parse_octets);
        let parent = parent.or_else(|| parse_text(octets(headers.get(MASSTRANSIT_ACTIVITY_ID)?)?))?;
        let state = headers.get(TRACESTATE).and_then(FieldValue::as_str);
        Some(parent.with_state(state))
    }

    /// Writes `traceparent`, and `tracestate` if there is one.
    pub fn write_to(&self, headers: &mut FieldTable) {
        headers.insert(TRACEPARENT, self.traceparent().as_str());
        if let Some(state) = self.tracestate() {
            headers.insert(TRACESTATE, state);
        }
    }

    /// The same trace, with a new span.
    #[must_use]
    pub fn child(&self) -> TraceContext {
        TraceContext { span_id: non_zero_random(), ..self.clone() }
    }

    /// The header `traceparent`.
    pub fn traceparent(&self) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }

    /// The header `tracestate`.
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// The trace, as 32 hexadecimal digits.
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace_id)
    }

    /// The span, as 16 hexadecimal digits.
    pub fn span_id(&self) -> String {
        format!("{:016x}", self.span_id)
    }

    /// Whether the caller records this trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    fn with_state(self, state: Option<&str>) -> TraceContext {
        let sound = |text: &&str| {
            !text.is_empty()
                && text.len() <= TRACESTATE_MAX_BYTES
                && text.bytes().all(|b| matches!(b, b' '..=b'~' | b'\t'))
        };
        TraceContext { state: state.filter(sound).map(str::to_owned), ..self }
    }
}

/// Zero means "no id".
fn non_zero_random() -> u64 {
    random_u64().max(1)
}

fn octets(value: &FieldValue) -> Option<&[u8]> {
    match value {
        FieldValue::LongString(octets) | FieldValue::Bytes(octets) => Some(octets),
        _ => None,
    }
}

fn parse_octets(octets: &[u8]) -> Option<TraceContext> {
    if octets.first() == Some(&0) { parse_binary(octets) } else { parse_text(octets) }
}

fn parse_text(text: &[u8]) -> Option<TraceContext> {
    let version = hexadecimal(text.get(..2)?)?;
    let known_length =
        if version == 0 { text.len() == 55 } else { text.get(55).is_none_or(|&next| next == b'-') };
    let dashes = [2, 35, 52].iter().all(|&at| text.get(at) == Some(&b'-'));
    if version == 0xff || !known_length || !dashes {
        return None;
    }
    let span_id = u64::try_from(hexadecimal(text.get(36..52)?)?).ok()?;
    let flags = u8::try_from(hexadecimal(text.get(53..55)?)?).ok()?;
    context(hexadecimal(text.get(3..35)?)?, span_id, flags)
}

fn parse_binary(octets: &[u8]) -> Option<TraceContext> {
    let octets: &[u8; 29] = octets.try_into().ok()?;
    if (octets[0], octets[1], octets[18], octets[27]) != (0, 0, 1, 2) {
        return None;
    }
    let trace_id = u128::from_be_bytes(octets[2..18].try_into().ok()?);
    let span_id = u64::from_be_bytes(octets[19..27].try_into().ok()?);
    context(trace_id, span_id, octets[28])
}

/// Zero is no id. Of the flags only "sampled" has a meaning in version 0.
fn context(trace_id: u128, span_id: u64, flags: u8) -> Option<TraceContext> {
    let valid = trace_id != 0 && span_id != 0;
    valid.then_some(TraceContext { trace_id, span_id, flags: flags & SAMPLED, state: None })
}

/// Lower case only, as the standard wants it; no sign, no blank.
fn hexadecimal(digits: &[u8]) -> Option<u128> {
    let lower = digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    let digits = std::str::from_utf8(digits).ok().filter(|_| lower)?;
    u128::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn texts() {
        let check = |text: &str, expected: Option<&str>| {
            let read = TraceContext::parse(text, None).map(|context| context.traceparent());
            assert_eq!(read.as_deref(), expected, "{text}");
        };
        check(PARENT, Some(PARENT));
        check(&PARENT.replace("-01", "-00"), Some(&PARENT.replace("-01", "-00")));
        check(&PARENT.replace("-01", "-ff"), Some(PARENT));
        check(&format!("cc{}-what-the-future-brings", &PARENT[2..]), Some(PARENT));
        check(&format!("cc{}", &PARENT[2..]), Some(PARENT));
        for bad in [
            "",
            "00",
            &PARENT[..54],
            &format!("{PARENT}-"),
            &format!("ff{}", &PARENT[2..]),
            &format!("cc{}x", &PARENT[2..]),
            &PARENT.to_uppercase(),
            &PARENT.replace('4', "+"),
            &PARENT.replace("00f067aa0ba902b7", "0000000000000000"),
            &PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &PARENT.replace('-', "_"),
            &"é".repeat(55),
            "|4bf92f35.1.",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn headers_of_any_type() {
        let mut binary = vec![0, 0];
        binary.extend(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes());
        binary.push(1);
        binary.extend(0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
        binary.extend([2, 1]);
        let check = |name: &str, value: FieldValue, expected: Option<&str>| {
            let headers = FieldTable::from([(name, value.clone())]);
            let read = TraceContext::from_headers(&headers).map(|context| context.traceparent());
            assert_eq!(read.as_deref(), expected, "{name}: {value:?}");
        };
        check("traceparent", PARENT.into(), Some(PARENT));
        check("traceparent", FieldValue::Bytes(binary.clone()), Some(PARENT));
        check("traceparent", FieldValue::LongString(binary.clone()), Some(PARENT));
        check("traceparent", FieldValue::Bytes(binary[..28].to_vec()), None);
        check("traceparent", FieldValue::LongString(vec![0xff; 55]), None);
        check("traceparent", FieldValue::I32(7), None);
        check("traceparent", FieldValue::Table(FieldTable::new()), None);
        check("MT-Activity-Id", PARENT.into(), Some(PARENT));
        check("MT-Activity-Id", "|hierarchical.1.".into(), None);
        check("Traceparent", PARENT.into(), None);
    }

    #[test]
    fn a_child_stays_in_its_trace() {
        let parent = TraceContext::parse(PARENT, Some("vendor=1,other=2")).unwrap();
        let child = parent.child();
        assert_eq!((child.trace_id(), child.tracestate()), (parent.trace_id(), Some("vendor=1,other=2")));
        assert_ne!(child.span_id(), parent.span_id());
        assert!(child.is_sampled() && TraceContext::root().is_sampled());
        assert_ne!(TraceContext::root().trace_id(), TraceContext::root().trace_id());
        let mut headers = FieldTable::new();
        child.write_to(&mut headers);
        assert_eq!(TraceContext::from_headers(&headers), Some(child));
    }

    #[test]
    fn a_bad_state_is_dropped_alone() {
        for state in ["", "x\n=1", "é=1", &"x".repeat(513)] {
            let context = TraceContext::parse(PARENT, Some(state)).unwrap();
            assert_eq!(context.tracestate(), None, "{state}");
        }
    }
}
