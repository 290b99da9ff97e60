//! What stands in the brackets: `#[leveret::service(name = "weather", version = "1.2.0")]`.

use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::{Ident, LitStr, Token};

const DEFAULT_VERSION: &str = "0.1.0";
/// A service is a queue, and AMQP writes a queue's name with one octet of length.
const NAME_BYTES_MAX: usize = 255;
/// RabbitMQ refuses to declare queues whose names begin so.
const RESERVED_PREFIX: &str = "amq.";

/// Name and version of a service, where they are given.
#[derive(Debug, Default)]
pub(crate) struct Options {
    name: Option<String>,
    version: Option<String>,
}

impl Options {
    /// The service's name on the wire: the given one, or the trait's in kebab-case.
    pub(crate) fn name(&self, of_trait: &Ident) -> String {
        self.name.clone().unwrap_or_else(|| kebab_case(&of_trait.unraw().to_string()))
    }

    /// The service's semantic version.
    pub(crate) fn version(&self) -> String {
        self.version.clone().unwrap_or_else(|| DEFAULT_VERSION.to_owned())
    }
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut options = Self::default();
        while !input.is_empty() {
            let key = input.call(Ident::parse_any)?;
            let (place, check): (_, fn(&str) -> Option<String>) = match key.to_string().as_str() {
                "name" => (&mut options.name, wrong_name),
                "version" => (&mut options.version, wrong_version),
                other => {
                    let text = format!("`{other}` is no option of a service: there are `name` and `version`");
                    return Err(syn::Error::new(key.span(), text));
                }
            };
            input.parse::<Token![=]>()?;
            let value: LitStr = input.parse()?;
            if place.replace(checked(&value, check)?).is_some() {
                return Err(syn::Error::new(key.span(), format!("`{key}` is given twice")));
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(options)
    }
}

fn checked(literal: &LitStr, wrong: fn(&str) -> Option<String>) -> syn::Result<String> {
    let value = literal.value();
    match wrong(&value) {
        None => Ok(value),
        Some(why) => Err(syn::Error::new(literal.span(), why)),
    }
}

fn wrong_name(name: &str) -> Option<String> {
    match name.len() {
        0 => Some("a service needs a name".to_owned()),
        length if length > NAME_BYTES_MAX => {
            Some(format!("the name of a service has at most {NAME_BYTES_MAX} octets, this one has {length}"))
        }
        _ if name.starts_with(RESERVED_PREFIX) => {
            Some(format!("names that begin with `{RESERVED_PREFIX}` are reserved by AMQP"))
        }
        _ => None,
    }
}

/// Discovery promises semantic versions to its readers.
fn wrong_version(version: &str) -> Option<String> {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<&str> = core.split('.').collect();
    let is_number = |text: &&str| !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    let fits = numbers.len() == 3 && numbers.iter().all(is_number);
    (!fits).then(|| format!("{version:?} is no semantic version: expected three numbers, as in \"1.2.0\""))
}

/// `HttpProxy` and `HTTPProxy` → `http-proxy`.
fn kebab_case(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut kebab = String::with_capacity(name.len() + 4);
    for (at, &letter) in letters.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| letters[before]);
        let after = letters.get(at + 1);
        let begins_word = letter.is_uppercase()
            && before.is_some_and(|before| {
                before != '_' && (!before.is_uppercase() || after.is_some_and(|after| after.is_lowercase()))
            });
        if begins_word {
            kebab.push('-');
        }
        match letter {
            '_' => kebab.push('-'),
            _ => kebab.extend(letter.to_lowercase()),
        }
    }
    kebab
}

#[cfg(test)]
mod tests {
    use proc_macro2::Span;

    use super::*;

    #[test]
    fn a_name_comes_from_the_trait_unless_it_is_given() {
        let check = |options: &str, of_trait: &str, name: &str, version: &str| {
            let options: Options = syn::parse_str(options).unwrap();
            assert_eq!(options.name(&Ident::new(of_trait, Span::call_site())), name);
            assert_eq!(options.version(), version);
        };
        check("", "Weather", "weather", "0.1.0");
        check("", "WeatherReport", "weather-report", "0.1.0");
        check("", "HTTPProxy", "http-proxy", "0.1.0");
        check("", "Farm_Ohio2", "farm-ohio2", "0.1.0");
        check("name = \"weather.ohio\",", "Weather", "weather.ohio", "0.1.0");
        check("version = \"1.2.0-rc.1\", name = \"w\"", "Weather", "w", "1.2.0-rc.1");
    }

    #[test]
    fn mistakes_are_named() {
        let check = |options: &str, expected: &str| {
            let error = syn::parse_str::<Options>(options).unwrap_err();
            assert_eq!(error.to_string(), expected, "{options}");
        };
        check("title = \"w\"", "`title` is no option of a service: there are `name` and `version`");
        check("name = \"a\", name = \"b\"", "`name` is given twice");
        check("name = \"\"", "a service needs a name");
        check("name = \"amq.weather\"", "names that begin with `amq.` are reserved by AMQP");
        check("version = \"1.2\"", "\"1.2\" is no semantic version: expected three numbers, as in \"1.2.0\"");
        check("name = 7", "expected string literal");
        check(
            &format!("name = {:?}", "q".repeat(256)),
            "the name of a service has at most 255 octets, this one has 256",
        );
    }
}
