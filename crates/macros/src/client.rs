//! The side that asks: `WeatherClient`, a method for each method, each with its name on the wire.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{GenericArgument, PathArguments, Type};

use crate::parse::{Answer, Argument, Method, Service};

/// `WeatherClient`.
pub(crate) fn generate(service: &Service) -> TokenStream {
    let Service { visibility, ident, name, methods, .. } = service;
    let ty = format_ident!("{ident}Client", span = ident.span());
    let docs = format!("Calls the service `{name}`: an implementation of [`{ident}`] somewhere.");
    let methods = methods.iter().map(|one| method(service, one));
    quote! {
        #[doc = #docs]
        ///
        /// Cheap to clone.
        #[derive(Clone)]
        #visibility struct #ty {
            client: ::leveret::__private::Client,
            service: ::std::sync::Arc<str>,
        }

        #[allow(unused)]
        impl #ty {
            /// The service's name: its queue.
            #visibility const NAME: &'static str = #name;

            /// Calls the service by its own name.
            #visibility fn new(client: &::leveret::__private::Client) -> Self {
                Self::of(client, Self::NAME)
            }

            /// Calls a service of another name that understands the same requests.
            #visibility fn of(client: &::leveret::__private::Client, service_name: &str) -> Self {
                Self {
                    client: ::core::clone::Clone::clone(client),
                    service: ::core::convert::From::from(service_name),
                }
            }

            #(#methods)*
        }
    }
}

fn method(service: &Service, method: &Method) -> TokenStream {
    let visibility = &service.visibility;
    let Method { attributes, ident, name, arguments, answer } = method;
    let parameters = arguments.iter().map(|Argument { ident, ty }| {
        let ty = borrowed(ty);
        quote! { #ident: &#ty }
    });
    let body = body(arguments);
    let is_documented = attributes.iter().any(|attribute| attribute.path().is_ident("doc"));
    let docs = (!is_documented).then(|| {
        let docs = format!("Calls `{name}`.");
        quote! { #[doc = #docs] }
    });
    let (returned, call) = match answer {
        Answer::One(ty) => (quote! { ::leveret::__private::Call<#ty> }, quote! { call }),
        Answer::Many(ty) => (quote! { ::leveret::__private::StreamCall<#ty> }, quote! { stream }),
    };
    quote! {
        #docs
        #(#attributes)*
        #visibility fn #ident(&self, #(#parameters),*) -> #returned {
            self.client.#call(&self.service, &#body).method(#name)
        }
    }
}

/// What is sent: nothing, the argument, or an object with the names of several.
fn body(arguments: &[Argument]) -> TokenStream {
    match arguments {
        [] => quote! { () },
        [Argument { ident, .. }] => quote! { #ident },
        several => {
            let idents: Vec<_> = several.iter().map(|argument| &argument.ident).collect();
            let types = several.iter().map(|argument| borrowed(&argument.ty));
            quote! {{
                #[derive(::leveret::__private::serde::Serialize)]
                #[serde(crate = "::leveret::__private::serde")]
                struct __Arguments<'a> {
                    #(#idents: &'a #types,)*
                }
                __Arguments { #(#idents),* }
            }}
        }
    }
}

/// What a reference to this type points to: `str` for a `String` and `[T]` for a `Vec<T>`, so that callers may pass
/// literals and slices. Both are written alike on the wire.
fn borrowed(ty: &Type) -> TokenStream {
    let whole = quote! { #ty };
    let Type::Path(path) = ty else { return whole };
    let Some(last) = path.path.segments.last().filter(|_| path.path.segments.len() == 1) else {
        return whole;
    };
    match (last.ident.to_string().as_str(), &last.arguments) {
        ("String", PathArguments::None) => quote! { str },
        ("Vec", PathArguments::AngleBracketed(arguments)) => match arguments.args.first() {
            Some(GenericArgument::Type(item)) => quote! { [#item] },
            _ => whole,
        },
        _ => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_borrowed_as_widely_as_they_can() {
        let check = |ty: &str, expected: &str| {
            assert_eq!(borrowed(&syn::parse_str(ty).unwrap()).to_string().replace(' ', ""), expected);
        };
        check("String", "str");
        check("Vec<u8>", "[u8]");
        check("Place", "Place");
        check("geo::String", "geo::String");
        check("Option<String>", "Option<String>");
        check("(u8,String)", "(u8,String)");
    }
}
