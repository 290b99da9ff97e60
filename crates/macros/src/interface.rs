//! The trait as implementors see it: still theirs, but every future and stream may move between threads, which is what
//! serving several requests at once takes.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{ItemTrait, ReturnType, TraitItem, TraitItemFn, Type, TypeParamBound, parse_quote};

use crate::parse::{Answer, Service, ends_with, traits};

/// The trait: `async fn a() -> R` becomes `fn a() -> impl Future<Output = R> + Send`, which an `async fn` implements.
pub(crate) fn generate(mut item: ItemTrait, service: &Service) -> TokenStream {
    item.colon_token.get_or_insert_default();
    item.supertraits.extend::<[TypeParamBound; 3]>([
        parse_quote!(::core::marker::Send),
        parse_quote!(::core::marker::Sync),
        parse_quote!('static),
    ]);
    let methods = item.items.iter_mut().filter_map(|item| match item {
        TraitItem::Fn(method) => Some(method),
        _ => None,
    });
    for (method, model) in methods.zip(&service.methods) {
        match model.answer {
            Answer::One(_) => send_future(method),
            Answer::Many(_) => send_stream(method),
        }
    }
    item.into_token_stream()
}

fn send_future(method: &mut TraitItemFn) {
    if let ReturnType::Type(_, output) = &mut method.sig.output {
        **output = parse_quote! {
            impl ::core::future::Future<Output = #output> + ::core::marker::Send
        };
    }
    method.sig.asyncness = None;
    if let Some(body) = &method.default {
        method.default = Some(parse_quote! {{ async move #body }});
    }
}

/// Answers outlive the call that began them. Where the trait says so already, nothing changes.
fn send_stream(method: &mut TraitItemFn) {
    let ReturnType::Type(_, output) = &mut method.sig.output else { return };
    let Type::ImplTrait(opaque) = &mut **output else { return };
    if !traits(&opaque.bounds).any(|path| ends_with(path, "Send")) {
        opaque.bounds.push(parse_quote!(::core::marker::Send));
    }
    let is_static = |bound: &TypeParamBound| matches!(bound, TypeParamBound::Lifetime(_));
    if !opaque.bounds.iter().any(is_static) {
        opaque.bounds.push(parse_quote!('static));
    }
}

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::*;
    use crate::options::Options;

    fn check(method: &str, expected: &str) {
        let item: ItemTrait = syn::parse_str(&format!("trait W: Sky {{ {method} }}")).unwrap();
        let service = Service::read(&item, Options::default()).unwrap();
        let expected =
            format!("trait W: Sky + ::core::marker::Send + ::core::marker::Sync + 'static {{ {expected} }}");
        let expected: ItemTrait = syn::parse_str(&expected).unwrap();
        assert_eq!(generate(item, &service).to_string(), quote!(#expected).to_string());
    }

    #[test]
    fn futures_and_streams_are_send() {
        check(
            "async fn a(&self, cx: &Context) -> Result<u8, E>;",
            "fn a(&self, cx: &Context) -> impl ::core::future::Future<Output = Result<u8, E> > + ::core::marker::Send;",
        );
        check(
            "async fn a(&self, cx: &Context) -> Result<u8, E> { Ok(1) }",
            "fn a(&self, cx: &Context) -> impl ::core::future::Future<Output = Result<u8, E> > + ::core::marker::Send \
             { async move { Ok(1) } }",
        );
        let whole = "fn a(&self, cx: &Context) -> impl Stream<Item = Result<u8, E> > + Send + 'static;";
        check(whole, whole);
        check(
            "fn a(&self, cx: &Context) -> impl Stream<Item = Result<u8, E> >;",
            "fn a(&self, cx: &Context) -> impl Stream<Item = Result<u8, E> > + ::core::marker::Send + 'static;",
        );
    }
}
