//! What a content encoding means: compression, or nothing.
//!
//! ```text
//!  utf-8              nothing: Kombu and Spring put a charset here
//!  gzip               one layer
//!  gzip:utf-8         Spring: outermost first
//!  deflate, gzip      HTTP: outermost last
//! ```
//!
//! `deflate` is what Kombu writes when it says gzip, and what HTTP means: zlib's container, or none.

use crate::Payload;

use super::ContentError;

/// What a compressed body may grow to, unless somebody says otherwise: the size of the largest message a broker of
/// ours takes.
pub const DECOMPRESSED_MAX_BYTES: usize = 128 * 1024 * 1024;

/// More layers than this are an attack, not thrift.
const LAYERS_MAX: usize = 3;

/// How to make a body smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Understood everywhere.
    Gzip,
    /// Faster, and smaller for large bodies.
    Zstd,
}

impl Compression {
    /// The content encoding to write.
    pub fn content_encoding(self) -> &'static str {
        match self {
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        }
    }
}

impl Payload {
    /// The same payload, smaller on the wire. One that is compressed stays as it is.
    ///
    /// # Errors
    /// [`ContentError::FeatureMissing`]
    pub fn compress(self, compression: Compression) -> Result<Payload, ContentError> {
        if !is_identity(self.content_encoding.as_deref()) {
            return Ok(self);
        }
        let body = deflated(compression, &self.body)?;
        Ok(Payload {
            content_encoding: Some(compression.content_encoding().into()),
            body: body.into(),
            ..self
        })
    }

    /// The same payload without compression and without a content encoding.
    ///
    /// # Errors
    /// An unknown encoding, damaged octets, or more than `limit_bytes` of them: that is noticed while decompressing,
    /// not after.
    pub fn decompress(self, limit_bytes: usize) -> Result<Payload, ContentError> {
        let mut body = self.body;
        for layer in layers(self.content_encoding.as_deref())? {
            body = inflated(layer, &body, limit_bytes)?.into();
        }
        Ok(Payload { content_type: self.content_type, content_encoding: None, body })
    }
}

/// Whether an encoding means that the octets are what they are.
pub(super) fn is_identity(content_encoding: Option<&str>) -> bool {
    content_encoding.is_none_or(|encoding| encoding.split([':', ',']).all(is_charset))
}

/// One compression around a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    Gzip,
    Deflate,
    Zstd,
}

/// The compressions around a body, outermost first.
fn layers(content_encoding: Option<&str>) -> Result<Vec<Layer>, ContentError> {
    let encoding = content_encoding.unwrap_or_default();
    let mut layers = Vec::new();
    for token in encoding.split(':').flat_map(|part| part.rsplit(',')).filter(|token| !is_charset(token)) {
        layers.push(layer(token).ok_or_else(|| ContentError::unknown_encoding(encoding))?);
        if layers.len() > LAYERS_MAX {
            return Err(ContentError::unknown_encoding(encoding));
        }
    }
    Ok(layers)
}

fn layer(token: &str) -> Option<Layer> {
    match token.trim().to_ascii_lowercase().as_str() {
        "gzip" | "x-gzip" => Some(Layer::Gzip),
        "deflate" | "zlib" => Some(Layer::Deflate),
        "zstd" => Some(Layer::Zstd),
        _ => None,
    }
}

/// Names of charsets whose octets JSON and text can be read from as they are, and of "no encoding".
fn is_charset(token: &str) -> bool {
    const NONE: [&str; 9] = ["", "utf-8", "utf8", "us-ascii", "ascii", "binary", "identity", "7bit", "8bit"];
    NONE.iter().any(|name| name.eq_ignore_ascii_case(token.trim()))
}

#[cfg(feature = "compression")]
use codec::{deflated, inflated};

#[cfg(not(feature = "compression"))]
fn deflated(_: Compression, _: &[u8]) -> Result<Vec<u8>, ContentError> {
    Err(ContentError::FeatureMissing { feature: "compression" })
}

#[cfg(not(feature = "compression"))]
fn inflated(_: Layer, _: &[u8], _: usize) -> Result<Vec<u8>, ContentError> {
    Err(ContentError::FeatureMissing { feature: "compression" })
}

#[cfg(feature = "compression")]
mod codec {
    use std::fmt::Display;
    use std::io::Read;

    use flate2::read::{DeflateDecoder, GzEncoder, MultiGzDecoder, ZlibDecoder};
    use ruzstd::decoding::StreamingDecoder;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::{Compression, ContentError, Layer};

    /// The window a zstd frame may ask for. Memory is taken for it before the first octet comes out, so a small
    /// message must not choose it; 8 MiB is what RFC 8878 asks every decoder to support.
    const ZSTD_WINDOW_MAX_BYTES: u64 = 8 * 1024 * 1024;

    pub(super) fn deflated(compression: Compression, body: &[u8]) -> Result<Vec<u8>, ContentError> {
        match compression {
            Compression::Zstd => Ok(compress_to_vec(body, CompressionLevel::Fastest)),
            Compression::Gzip => {
                let mut out = Vec::new();
                let mut encoder = GzEncoder::new(body, flate2::Compression::fast());
                encoder.read_to_end(&mut out).map_err(|error| ContentError::damaged("gzip", error))?;
                Ok(out)
            }
        }
    }

    pub(super) fn inflated(layer: Layer, body: &[u8], limit_bytes: usize) -> Result<Vec<u8>, ContentError> {
        match layer {
            // Kombu says gzip about zlib's container.
            Layer::Gzip if !body.starts_with(&[0x1f, 0x8b]) && has_zlib_header(body) => {
                drained("gzip", ZlibDecoder::new(body), limit_bytes)
            }
            Layer::Gzip => drained("gzip", MultiGzDecoder::new(body), limit_bytes),
            Layer::Deflate if has_zlib_header(body) => {
                drained("deflate", ZlibDecoder::new(body), limit_bytes)
            }
            Layer::Deflate => drained("deflate", DeflateDecoder::new(body), limit_bytes),
            Layer::Zstd => unzstd(body, limit_bytes),
        }
    }

    /// RFC 1950: method 8, and the first two octets divide by 31.
    fn has_zlib_header(body: &[u8]) -> bool {
        matches!(*body, [cmf, flags, ..] if cmf & 0x0f == 8 && (u16::from(cmf) << 8 | u16::from(flags)) % 31 == 0)
    }

    fn unzstd(mut body: &[u8], limit_bytes: usize) -> Result<Vec<u8>, ContentError> {
        let decoder = StreamingDecoder::new_with_max_window_size(&mut body, ZSTD_WINDOW_MAX_BYTES)
            .map_err(|error| damaged_zstd(&error))?;
        let out = drained("zstd", decoder, limit_bytes)?;
        if body.is_empty() { Ok(out) } else { Err(damaged_zstd(&"octets after the frame")) }
    }

    fn damaged_zstd(reason: &dyn Display) -> ContentError {
        ContentError::damaged("zstd", reason)
    }

    fn drained(
        encoding: &'static str,
        decoder: impl Read,
        limit_bytes: usize,
    ) -> Result<Vec<u8>, ContentError> {
        let mut out = Vec::new();
        let limit = u64::try_from(limit_bytes).unwrap_or(u64::MAX);
        decoder
            .take(limit.saturating_add(1))
            .read_to_end(&mut out)
            .map_err(|error| ContentError::damaged(encoding, error))?;
        if out.len() > limit_bytes { Err(ContentError::TooLarge { limit_bytes }) } else { Ok(out) }
    }
}

#[cfg(all(test, feature = "compression"))]
mod tests {
    use super::*;

    /// Python's `zlib.compress` of [`SKY`].
    const ZLIB: &[u8] =
        b"\x78\x9c\xab\x56\x2a\xce\xae\x54\xb2\x52\x4a\x2f\x4a\xad\x54\xaa\x05\x00\x23\x8d\x04\xc9";
    const SKY: &[u8] = br#"{"sky":"grey"}"#;

    fn coded(encoding: &str, body: &[u8]) -> Payload {
        Payload { content_encoding: Some(encoding.into()), ..Payload::bytes(body.to_vec()) }
    }

    #[test]
    fn what_is_compressed_comes_back() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            for size in [0, 1, 1000, 300_000] {
                let payload = Payload::new("application/json", vec![b'x'; size]);
                let small = payload.clone().compress(compression).unwrap();
                assert_eq!(small.content_encoding.as_deref(), Some(compression.content_encoding()));
                assert_eq!(small.clone().compress(compression).unwrap(), small);
                assert_eq!(small.decompress(size).unwrap(), payload);
            }
        }
    }

    #[test]
    fn encodings_as_others_write_them() {
        let gzip = coded("", SKY).compress(Compression::Gzip).unwrap().body;
        let twice = coded("", &gzip).compress(Compression::Zstd).unwrap().body;
        for (encoding, body) in [
            ("utf-8", SKY),
            ("UTF-8", SKY),
            ("binary", SKY),
            ("identity, us-ascii", SKY),
            ("gzip", &gzip[..]),
            ("gzip:UTF-8", &gzip),
            ("GZIP", &gzip),
            ("zstd:gzip", &twice),
            ("gzip, zstd", &twice),
            ("deflate", ZLIB),
            ("deflate", &ZLIB[2..ZLIB.len() - 4]),
            ("gzip", ZLIB),
        ] {
            let payload = coded(encoding, body).decompress(100).unwrap();
            assert_eq!(payload, Payload::bytes(SKY), "{encoding}");
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let bomb = Payload::bytes(vec![0; 50_000_000]).compress(compression).unwrap();
            assert!(bomb.body.len() < 300_000);
            let error = bomb.decompress(1_000_000).unwrap_err();
            assert_eq!(error, ContentError::TooLarge { limit_bytes: 1_000_000 });
        }
    }

    #[test]
    fn refused_encodings() {
        let many = ["gzip"; 50].join(",");
        for encoding in ["brotli", "base64", "gzip:bzip2", "utf-16", &many] {
            let error = coded(encoding, b"x").decompress(10).unwrap_err();
            assert!(matches!(error, ContentError::UnknownEncoding { .. }), "{encoding}: {error}");
        }
    }

    #[test]
    fn a_frame_does_not_choose_how_much_memory_is_taken() {
        // A zstd header that asks for a window of 1 GiB, then one octet of data.
        let greedy = b"\x28\xb5\x2f\xfd\x00\xa0\x09\x00\x00x";
        let error = coded("zstd", greedy).decompress(DECOMPRESSED_MAX_BYTES).unwrap_err();
        assert!(matches!(error, ContentError::Damaged { encoding: "zstd", .. }), "{error}");
    }

    #[test]
    fn every_truncation_and_flip_is_an_error_or_text() {
        let payload = Payload::bytes(br#"{"place":"Ohio","days":[1,2,3,4,5,6,7,8,9]}"#.repeat(20));
        for compression in [Compression::Gzip, Compression::Zstd] {
            let whole = payload.clone().compress(compression).unwrap().body;
            let encoding = compression.content_encoding();
            for at in 0..whole.len() {
                assert!(coded(encoding, &whole[..at]).decompress(10_000).is_err(), "{encoding} cut at {at}");
                let mut flipped = whole.to_vec();
                flipped[at] ^= 0x55;
                let _ = coded(encoding, &flipped).decompress(10_000);
            }
        }
    }
}
