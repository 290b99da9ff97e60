//! The attribute behind `#[leveret::service]`: a trait becomes a service and its client.
//!
//! ```text
//!   the trait ──parse──► Service ──┬─ interface  the trait as implementors see it: every future is Send
//!   name, version ─options─┘       ├─ service    WeatherService<T>: requests in, answers out
//!                                  └─ client     WeatherClient: one method per method
//! ```
//!
//! Whatever cannot be served is refused here, in words, at the place where it stands: an error of the compiler in
//! generated code helps nobody. All mistakes of a trait are reported at once.

mod client;
mod interface;
mod options;
mod parse;
mod service;

use proc_macro2::TokenStream;
use quote::quote;
use syn::ItemTrait;

use options::Options;
use parse::Service;

/// Makes a service and its client from a trait.
///
/// For `trait Weather` it adds `WeatherService<T>`, which serves an implementation `T`, and `WeatherClient`, which calls
/// it from anywhere. Arguments of the attribute, both optional: `name = "weather"` is where the service is found
/// (default: the trait's name in kebab-case), `version = "1.2.0"` what `leveret services` shows (default `0.1.0`).
///
/// A method is `async fn name(&self, cx: &Context, …) -> Result<T, E>` for one answer, or
/// `fn name(&self, cx: &Context, …) -> impl Stream<Item = Result<T, E>> + Send + 'static` for many. Arguments must
/// implement serde's `Deserialize` and `Serialize`, and so must `T`; `E` implements `IntoFailure`.
///
/// On the wire the property `type` names the method; a request without one is understood where there is only one. The
/// body is the argument; of several, an object with their names or an array in their order; of none, anything.
#[proc_macro_attribute]
pub fn service(arguments: proc_macro::TokenStream, item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    expand(arguments.into(), item.into()).unwrap_or_else(|error| error.into_compile_error()).into()
}

fn expand(arguments: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let options: Options = syn::parse2(arguments)?;
    let item: ItemTrait = syn::parse2(item)?;
    let model = Service::read(&item, options)?;
    let (interface, service, client) =
        (interface::generate(item, &model), service::generate(&model), client::generate(&model));
    Ok(quote! { #interface #service #client })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expansion(arguments: &str, item: &str) -> syn::Result<syn::File> {
        syn::parse2(expand(arguments.parse().unwrap(), item.parse().unwrap())?)
    }

    #[test]
    fn the_expansion_is_a_trait_and_two_types() {
        let file = expansion(
            "name = \"weather\"",
            "pub trait Weather { async fn forecast(&self, cx: &Context, place: Place) -> Result<Forecast, Failure>; }",
        )
        .unwrap();
        let names: Vec<String> = file
            .items
            .iter()
            .filter_map(|item| match item {
                syn::Item::Trait(item) => Some(format!("trait {}", item.ident)),
                syn::Item::Struct(item) => Some(format!("struct {}", item.ident)),
                _ => None,
            })
            .collect();
        assert_eq!(names, ["trait Weather", "struct WeatherService", "struct WeatherClient"]);
    }

    #[test]
    fn what_is_no_trait_is_refused() {
        let error = expansion("", "struct Weather;").err().unwrap();
        assert_eq!(error.to_string(), "expected `trait`");
    }
}
