//! The side that answers: `WeatherService<T>` takes requests apart for an implementation `T` and puts its answers
//! together.
//!
//! The code calls the hidden module `leveret::__private`, which offers:
//!
//! ```text
//! serde, tower_service                       the crates, re-exported
//! Answer Call Client Context Description Failure Request Serve StreamCall
//! IntoFailure                                bound of a method's error
//! argument::<T>(&Payload, service, method) -> Result<T, Failure>
//!                                            the body as the only argument; INVALID_ARGUMENT names both
//! arguments::<T>(&Payload, service, method) -> Result<T, Failure>
//!                                            the same for a struct of several, by name or by position
//! one::<T, E>(&Context, Result<T, E>) -> Result<Answer, Failure>
//! many(Context, impl Stream<Item = Result<T, E>> + Send + 'static) -> Result<Answer, Failure>
//!                                            encoded with cx.format(); many keeps the context as long as it answers
//! no_such_method(service, Option<&str>, &[&str]) -> Failure
//!                                            UNIMPLEMENTED: what was asked for, and what there is
//! ```

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;

use crate::parse::{Answer, Argument, Method, Service};

/// `WeatherService<T>`: a tower service, and how to serve it.
pub(crate) fn generate(service: &Service) -> TokenStream {
    let ty = format_ident!("{}Service", service.ident, span = service.ident.span());
    let structure = structure(service, &ty);
    let inherent = inherent(service, &ty);
    let tower = tower(service, &ty);
    quote! { #structure #inherent #tower }
}

fn structure(service: &Service, ty: &syn::Ident) -> TokenStream {
    let Service { visibility, ident, name, .. } = service;
    let docs = format!("Serves an implementation of [`{ident}`] as `{name}`.");
    quote! {
        #[doc = #docs]
        ///
        /// Cheap to clone: the clones share the implementation.
        #visibility struct #ty<Implementation>(::std::sync::Arc<Implementation>);

        #[automatically_derived]
        impl<Implementation> ::core::clone::Clone for #ty<Implementation> {
            fn clone(&self) -> Self {
                Self(::std::sync::Arc::clone(&self.0))
            }
        }
    }
}

fn inherent(service: &Service, ty: &syn::Ident) -> TokenStream {
    let Service { visibility, ident, name, version, description, methods } = service;
    let methods = methods.iter().map(|method| &method.name);
    quote! {
        #[allow(unused)]
        impl<Implementation: #ident> #ty<Implementation> {
            /// The service's name: its queue.
            #visibility const NAME: &'static str = #name;

            /// Serves this implementation.
            #visibility fn new(implementation: Implementation) -> Self {
                Self(::std::sync::Arc::new(implementation))
            }

            /// What discovery says about the service.
            #visibility fn description() -> ::leveret::__private::Description {
                ::leveret::__private::Description {
                    version: ::std::string::String::from(#version),
                    description: ::std::string::String::from(#description),
                    endpoints: ::std::vec::Vec::from([#(::std::string::String::from(#methods)),*]),
                    ..::core::default::Default::default()
                }
            }

            /// A worker for the service; it begins with `start`.
            #visibility fn serve(self, client: &::leveret::__private::Client) -> ::leveret::__private::Serve<Self> {
                client.serve(Self::NAME, self).describe(Self::description())
            }
        }
    }
}

fn tower(service: &Service, ty: &syn::Ident) -> TokenStream {
    let Service { ident, name, methods, .. } = service;
    let arms = methods.iter().map(|method| arm(service, method));
    let names = methods.iter().map(|method| &method.name);
    quote! {
        impl<Implementation: #ident> ::leveret::__private::tower_service::Service<::leveret::__private::Request>
            for #ty<Implementation>
        {
            type Response = ::leveret::__private::Answer;
            type Error = ::leveret::__private::Failure;
            type Future = ::core::pin::Pin<::std::boxed::Box<
                dyn ::core::future::Future<Output = ::core::result::Result<Self::Response, Self::Error>>
                    + ::core::marker::Send,
            >>;

            fn poll_ready(
                &mut self,
                _: &mut ::core::task::Context<'_>,
            ) -> ::core::task::Poll<::core::result::Result<(), Self::Error>> {
                ::core::task::Poll::Ready(::core::result::Result::Ok(()))
            }

            fn call(&mut self, request: ::leveret::__private::Request) -> Self::Future {
                let implementation = ::std::sync::Arc::clone(&self.0);
                ::std::boxed::Box::pin(async move {
                    match request.method.as_deref() {
                        #(#arms)*
                        other => ::core::result::Result::Err(
                            ::leveret::__private::no_such_method(#name, other, &[#(#names),*]),
                        ),
                    }
                })
            }
        }
    }
}

/// Decodes, calls and encodes one method. Arguments never become variables under their own names: one of them
/// may be called `request`.
fn arm(service: &Service, method: &Method) -> TokenStream {
    let Method { ident, name, answer, .. } = method;
    let trait_ident = &service.ident;
    let pattern = match service.methods.len() {
        1 => quote! { ::core::option::Option::Some(#name) | ::core::option::Option::None },
        _ => quote! { ::core::option::Option::Some(#name) },
    };
    let (decode, values) = decoding(service, method);
    let call = quote_spanned! { ident.span() =>
        <Implementation as #trait_ident>::#ident(&*implementation, &request.cx, #(#values),*)
    };
    let answered = match answer {
        // At the type: what is wrong with an answer, it does not serialize, say, is shown there.
        Answer::One(ty) => quote_spanned! { ty.span() =>
            ::leveret::__private::one::<#ty, _>(&request.cx, #call.await)
        },
        Answer::Many(ty) => quote_spanned! { ty.span() =>
            {
                let answers = #call;
                ::leveret::__private::many(request.cx, answers)
            }
        },
    };
    quote! { #pattern => { #decode #answered } }
}

/// Statements that decode the body, and an expression for each argument.
fn decoding(service: &Service, method: &Method) -> (TokenStream, Vec<TokenStream>) {
    let (service_name, method_name) = (&service.name, &method.name);
    match &method.arguments[..] {
        [] => (TokenStream::new(), Vec::new()),
        [Argument { ty, .. }] => {
            let decode = quote_spanned! { ty.span() =>
                let argument =
                    ::leveret::__private::argument::<#ty>(&request.payload, #service_name, #method_name)?;
            };
            (decode, vec![quote! { argument }])
        }
        several => {
            let idents: Vec<_> = several.iter().map(|argument| &argument.ident).collect();
            let types = several.iter().map(|argument| &argument.ty);
            let decode = quote! {
                #[derive(::leveret::__private::serde::Deserialize)]
                #[serde(crate = "::leveret::__private::serde")]
                struct __Arguments {
                    #(#idents: #types,)*
                }
                let arguments = ::leveret::__private::arguments::<__Arguments>(
                    &request.payload,
                    #service_name,
                    #method_name,
                )?;
            };
            (decode, idents.iter().map(|ident| quote! { arguments.#ident }).collect())
        }
    }
}
