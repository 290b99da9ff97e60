//! Whom a client's certificate names.
//!
//! Rustls has verified the chain and the client's possession of the key before anything in here runs; this only
//! reads a name out of the certificate. A name that could be read in two ways is none: whoever issues certificates
//! must not be able to name two users at once, nor one with characters that nobody sees.
//!
//! ```text
//!   Certificate ─ TBSCertificate ─ … issuer, validity, subject … [3] extensions ─ subjectAltName
//!                                            │                                       ├─ dns, uri, email
//!                                            └─ common name, distinguished name (RFC 4514)
//! ```

mod der;
mod name;
mod validity;

use std::fmt;
use std::str::FromStr;

use der::{Der, INTEGER, OCTET_STRING, OID, SEQUENCE, context};
use name::{COMMON_NAME, Name};

/// `subjectAltName`, 2.5.29.17.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1D, 0x11];
/// Where names end: users have no longer ones.
const NAME_MAX_BYTES: usize = 255;

/// What of a certificate is the user's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UserFrom {
    /// The only common name of the subject.
    #[default]
    CommonName,
    /// The subject's distinguished name, `CN=client,O=Example` (RFC 4514, the most specific part in front).
    Subject,
    /// The only DNS name among the alternative names.
    SanDns,
    /// The only URI among them.
    SanUri,
    /// The only address of electronic mail among them.
    SanEmail,
}

/// What a certificate says of its owner, for listings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    /// Whom it names.
    pub(crate) subject: String,
    /// Who says so.
    pub(crate) issuer: String,
}

/// Why a certificate names no user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoName {
    /// It is no certificate as X.509 has them.
    Malformed,
    /// It has no such name.
    Missing,
    /// It has several.
    Ambiguous,
    /// The name is empty, longer than 255 octets, or has control characters.
    Unusable,
}

/// The user that a certificate (DER) names.
///
/// # Errors
/// It names none, or not clearly.
pub fn user_of(certificate: &[u8], from: UserFrom) -> Result<String, NoName> {
    let parts = Parts::read(certificate).ok_or(NoName::Malformed)?;
    let name = match from {
        UserFrom::Subject => parts.subject()?.to_string(),
        UserFrom::CommonName => only(parts.subject()?.values(COMMON_NAME))?,
        UserFrom::SanDns => only(parts.alternative_names(2)?)?,
        UserFrom::SanUri => only(parts.alternative_names(6)?)?,
        UserFrom::SanEmail => only(parts.alternative_names(1)?)?,
    };
    let is_usable = !name.is_empty() && name.len() <= NAME_MAX_BYTES && !name.contains(char::is_control);
    if is_usable { Ok(name) } else { Err(NoName::Unusable) }
}

/// Whom a certificate (DER) is about; `None` if it cannot be read.
pub(crate) fn subject_of(certificate: &[u8]) -> Option<Subject> {
    let parts = Parts::read(certificate)?;
    let show = |octets| Some(Name::read(octets)?.to_string());
    Some(Subject { subject: show(parts.subject)?, issuer: show(parts.issuer)? })
}

/// When a certificate (DER) ends, s since 1970; `None` if that cannot be read.
pub(crate) fn expires_at_s(certificate: &[u8]) -> Option<u64> {
    validity::not_after_s(Parts::read(certificate)?.validity)
}

/// The octets of the parts that matter here.
struct Parts<'a> {
    issuer: &'a [u8],
    validity: Der<'a>,
    subject: &'a [u8],
    /// `None`: the certificate has no extensions.
    extensions: Option<&'a [u8]>,
}

impl<'a> Parts<'a> {
    fn read(certificate: &'a [u8]) -> Option<Self> {
        let mut outer = Der(certificate).only(SEQUENCE)?;
        let mut tbs = outer.expect(SEQUENCE)?;
        tbs.optional(context(0)).ok()?; // version
        tbs.expect(INTEGER)?; // serial number
        tbs.expect(SEQUENCE)?; // signature algorithm
        let issuer = tbs.expect(SEQUENCE)?.0;
        let validity = tbs.expect(SEQUENCE)?;
        let subject = tbs.expect(SEQUENCE)?.0;
        tbs.expect(SEQUENCE)?; // public key
        let mut extensions = None;
        while let Some((tag, value)) = tbs.next() {
            if tag == context(3) {
                extensions = Some(value);
            }
        }
        tbs.is_empty().then_some(Self { issuer, validity, subject, extensions })
    }

    fn subject(&self) -> Result<Name<'a>, NoName> {
        Name::read(self.subject).ok_or(NoName::Malformed)
    }

    /// The alternative names of one kind (the tag of `GeneralName`).
    fn alternative_names(&self, kind: u8) -> Result<Vec<String>, NoName> {
        let Some(extensions) = self.extensions else { return Ok(Vec::new()) };
        let found = find_extension(extensions, SUBJECT_ALT_NAME).ok_or(NoName::Malformed)?;
        let Some(octets) = found else { return Ok(Vec::new()) };
        let mut names = Der(octets).only(SEQUENCE).ok_or(NoName::Malformed)?;
        let mut of_kind = Vec::new();
        while let Some((tag, value)) = names.next() {
            if tag == 0x80 | kind {
                let text = std::str::from_utf8(value).ok().filter(|text| text.is_ascii());
                of_kind.push(text.ok_or(NoName::Unusable)?.to_owned());
            }
        }
        if names.is_empty() { Ok(of_kind) } else { Err(NoName::Malformed) }
    }
}

/// The value of an extension; the outer `None`: they cannot be read.
fn find_extension<'a>(extensions: &'a [u8], wanted: &[u8]) -> Option<Option<&'a [u8]>> {
    let mut all = Der(extensions).only(SEQUENCE)?;
    let mut found = None;
    while let Some((tag, value)) = all.next() {
        if tag != SEQUENCE {
            return None;
        }
        let mut extension = Der(value);
        let id = extension.expect(OID)?;
        extension.optional(der::BOOLEAN).ok()?; // critical
        let value = extension.expect(OCTET_STRING)?;
        if id.0 == wanted {
            found = Some(value.0);
        }
    }
    all.is_empty().then_some(found)
}

fn only(names: Vec<String>) -> Result<String, NoName> {
    let mut names = names.into_iter();
    match (names.next(), names.next()) {
        (Some(name), None) => Ok(name),
        (None, _) => Err(NoName::Missing),
        (Some(_), Some(_)) => Err(NoName::Ambiguous),
    }
}

impl UserFrom {
    /// All of them, as they are written in a configuration.
    pub const NAMES: [(&'static str, Self); 5] = [
        ("common_name", Self::CommonName),
        ("subject", Self::Subject),
        ("san:dns", Self::SanDns),
        ("san:uri", Self::SanUri),
        ("san:email", Self::SanEmail),
    ];
}

impl FromStr for UserFrom {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::NAMES.iter().find(|(name, _)| *name == text).map(|(_, from)| *from).ok_or(())
    }
}

impl fmt::Display for UserFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(_, from)| from == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

impl fmt::Display for NoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the certificate cannot be read",
            Self::Missing => "the certificate has no such name",
            Self::Ambiguous => "the certificate has several such names",
            Self::Unusable => "the name in the certificate cannot be a user's",
        })
    }
}

impl std::error::Error for NoName {}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair, SanType};

    use super::*;

    fn certificate(names: &[(DnType, &str)], alternatives: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind.clone(), DnValue::Utf8String((*value).to_owned()));
        }
        params.subject_alt_names = alternatives;
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    fn check(certificate: &[u8], from: &str, expected: Result<&str, NoName>) {
        let found = user_of(certificate, from.parse().unwrap());
        assert_eq!(found, expected.map(ToOwned::to_owned), "{from}");
        for end in 0..certificate.len() {
            let cut = user_of(&certificate[..end], from.parse().unwrap());
            assert!(cut.is_err(), "{from}: cut at {end} it still names {cut:?}");
        }
    }

    #[test]
    fn a_certificate_names_its_owner() {
        let alternatives = vec![
            SanType::DnsName("worker.example".try_into().unwrap()),
            SanType::URI("spiffe://example/worker".try_into().unwrap()),
            SanType::Rfc822Name("w@example.org".try_into().unwrap()),
        ];
        let names =
            [(DnType::CountryName, "DE"), (DnType::OrganizationName, "A, B"), (DnType::CommonName, "wörker")];
        let full = certificate(&names, alternatives);
        check(&full, "common_name", Ok("wörker"));
        check(&full, "subject", Ok("CN=wörker,O=A\\, B,C=DE"));
        check(&full, "san:dns", Ok("worker.example"));
        check(&full, "san:uri", Ok("spiffe://example/worker"));
        check(&full, "san:email", Ok("w@example.org"));
        let subject = subject_of(&full).unwrap();
        assert_eq!(
            (subject.subject.as_str(), &subject.subject),
            ("CN=wörker,O=A\\, B,C=DE", &subject.issuer)
        );
    }

    #[test]
    fn a_name_that_is_not_clear_is_none() {
        let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
        let two = certificate(&[], vec![dns("a"), dns("b")]);
        check(&two, "san:dns", Err(NoName::Ambiguous));
        check(&two, "san:uri", Err(NoName::Missing));
        check(&two, "common_name", Err(NoName::Missing));
        check(&two, "subject", Err(NoName::Unusable));
        let hidden = certificate(&[(DnType::CommonName, "guest\0.evil")], Vec::new());
        check(&hidden, "common_name", Err(NoName::Unusable));
        check(&hidden, "san:dns", Err(NoName::Missing));
        let long = certificate(&[(DnType::CommonName, &"n".repeat(256))], Vec::new());
        check(&long, "common_name", Err(NoName::Unusable));
    }

    #[test]
    fn a_certificate_says_when_it_ends() {
        let mut params = CertificateParams::default();
        params.not_after = rcgen::date_time_ymd(2031, 2, 3);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        assert_eq!(expires_at_s(certificate.der()), Some(1_927_843_200));
        assert_eq!(expires_at_s(b"nothing"), None);
    }

    #[test]
    fn what_is_written_is_read() {
        for (name, from) in UserFrom::NAMES {
            assert_eq!((name.parse(), from.to_string().as_str()), (Ok(from), name));
        }
        assert!("cn".parse::<UserFrom>().is_err());
    }

    /// A changed octet may change the name, but never what can be done with it.
    #[test]
    fn no_octets_are_too_strange() {
        let sound = certificate(&[(DnType::CommonName, "worker")], Vec::new());
        for at in 0..sound.len() {
            for change in [0x01, 0x80, 0xFF] {
                let mut changed = sound.clone();
                changed[at] ^= change;
                for (_, from) in UserFrom::NAMES {
                    let name = user_of(&changed, from).unwrap_or_default();
                    assert!(name.len() <= NAME_MAX_BYTES && !name.contains(char::is_control));
                }
            }
        }
    }
}
