//! Addresses for direct reply-to.
//!
//! Who consumes from the pseudo-queue `amq.rabbitmq.reply-to` gets an address that whoever answers may publish
//! to. RabbitMQ's addresses encode a process and a key, and were decoded before they were checked
//! (CVE-2026-57215, GHSA-6chv); ours say nothing:
//!
//! ```text
//!   amq.rabbitmq.reply-to.  base64url( 128 random bits │ 64-bit code over them )
//!                                      └ the table's key   └ keyed for this process
//! ```
//!
//! That nobody can guess an address rests on the random bits. The code is there so that an invented or outdated
//! address is refused without a look at the table that all channels share.

use std::hash::{BuildHasher, RandomState};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hashbrown::HashMap;
use parking_lot::RwLock;

/// What every address begins with.
const PREFIX: &str = "amq.rabbitmq.reply-to.";
const TOKEN_BYTES: usize = 16;
const CODE_BYTES: usize = 8;

type Token = [u8; TOKEN_BYTES];

/// The addresses in use and what each leads to.
#[derive(Debug, Default)]
pub(crate) struct ReplyTokens<T> {
    targets: RwLock<HashMap<Token, T>>,
    code_key: RandomState,
}

impl<T: Clone> ReplyTokens<T> {
    /// No addresses yet. Those of other instances and processes are never valid here.
    pub(crate) fn new() -> Self {
        Self { targets: RwLock::new(HashMap::new()), code_key: RandomState::new() }
    }

    /// A new address for a target: a routing key of 54 characters. Good until [`revoke`](Self::revoke)d.
    ///
    /// # Errors
    /// The operating system gives no random numbers.
    pub(crate) fn issue(&self, target: T) -> Result<String, getrandom::Error> {
        let mut token = Token::default();
        getrandom::fill(&mut token)?;
        self.targets.write().insert(token, target);
        Ok(self.address(token))
    }

    /// The target of an address, if it is one of ours and still in use.
    pub(crate) fn resolve(&self, address: &str) -> Option<T> {
        let token = self.genuine(address)?;
        self.targets.read().get(&token).cloned()
    }

    /// Ends an address. Others are ignored.
    pub(crate) fn revoke(&self, address: &str) {
        if let Some(token) = self.genuine(address) {
            self.targets.write().remove(&token);
        }
    }

    fn address(&self, token: Token) -> String {
        let mut address = String::from(PREFIX);
        let code = self.code(token).to_le_bytes();
        URL_SAFE_NO_PAD.encode_string([&token[..], &code[..]].concat(), &mut address);
        address
    }

    /// The token of an address whose code is right.
    fn genuine(&self, address: &str) -> Option<Token> {
        let encoded = address.strip_prefix(PREFIX)?;
        let mut decoded = [0; TOKEN_BYTES + CODE_BYTES];
        // Fails for everything that is not exactly that long.
        let len = URL_SAFE_NO_PAD.decode_slice(encoded, &mut decoded).ok()?;
        let (token, code) = decoded.get(..len)?.split_first_chunk::<TOKEN_BYTES>()?;
        let code: [u8; CODE_BYTES] = code.try_into().ok()?;
        (u64::from_le_bytes(code) == self.code(*token)).then_some(*token)
    }

    /// SipHash, a keyed function made to be unpredictable without the key.
    fn code(&self, token: Token) -> u64 {
        self.code_key.hash_one(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_leads_to_its_target_until_it_is_revoked() {
        let tokens = ReplyTokens::new();
        let (a, b) = (tokens.issue("a").unwrap(), tokens.issue("b").unwrap());
        assert_ne!(a, b);
        assert_eq!((a.len(), a.starts_with(PREFIX)), (54, true));
        assert_eq!((tokens.resolve(&a), tokens.resolve(&b)), (Some("a"), Some("b")));
        tokens.revoke(&a);
        tokens.revoke(&a);
        assert_eq!((tokens.resolve(&a), tokens.resolve(&b)), (None, Some("b")));
        assert_eq!(tokens.targets.read().len(), 1);
    }

    #[test]
    fn nothing_but_the_very_address_is_accepted() {
        let tokens = ReplyTokens::new();
        let address = tokens.issue(()).unwrap();
        let foreign = ReplyTokens::new().issue(()).unwrap();
        let last_changed = format!("{}{}", &address[..53], if address.ends_with('A') { 'B' } else { 'A' });
        let elsewhere = tokens.address([7; TOKEN_BYTES]);
        let padded = format!("{address}=");
        let longer = format!("{address}AAAA");
        let long = format!("{PREFIX}{}", "A".repeat(233));
        for forged in
            [&foreign, &last_changed, &elsewhere, &padded, &longer, &long, &address[..50], PREFIX, ""]
        {
            assert_eq!(tokens.resolve(forged), None, "{forged}");
            tokens.revoke(forged);
        }
        assert_eq!(tokens.resolve(&address), Some(()));
    }
}
