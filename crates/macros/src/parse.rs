//! The trait as a checked model: what is left of it once we know that it can be served.
//!
//! ```text
//!   async fn compare(&self, cx: &Context, a: Place, b: Place) -> Result<Order, WeatherError>;
//!            method         context       arguments                     answer
//! ```

use std::collections::HashSet;

use syn::ext::IdentExt;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{
    Attribute, Expr, ExprLit, FnArg, GenericArgument, Generics, Ident, ItemTrait, Lit, Meta, Pat, PatType,
    Path, PathArguments, ReceiverKind, ReturnType, Safety, Signature, Token, TraitItem, TraitItemFn, Type,
    TypeParamBound, Visibility,
};

use crate::options::Options;

/// What the generated client has already.
const TAKEN_METHODS: [&str; 2] = ["new", "of"];

/// A trait that can be served.
pub(crate) struct Service {
    pub(crate) visibility: Visibility,
    /// The trait's.
    pub(crate) ident: Ident,
    /// On the wire.
    pub(crate) name: String,
    pub(crate) version: String,
    /// The first paragraph of the trait's documentation, in one line.
    pub(crate) description: String,
    /// At least one, with names of their own.
    pub(crate) methods: Vec<Method>,
}

/// One method of it.
pub(crate) struct Method {
    /// What the client's method carries too: documentation and deprecation.
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) ident: Ident,
    /// On the wire.
    pub(crate) name: String,
    /// Without `self` and the context.
    pub(crate) arguments: Vec<Argument>,
    pub(crate) answer: Answer,
}

pub(crate) struct Argument {
    pub(crate) ident: Ident,
    pub(crate) ty: Type,
}

/// How often a method answers, and with what: `T` of its `Result<T, E>`.
pub(crate) enum Answer {
    One(Type),
    Many(Type),
}

impl Service {
    /// Checks a trait.
    ///
    /// # Errors
    /// Everything about it that cannot be served, each at its place.
    pub(crate) fn read(item: &ItemTrait, options: Options) -> syn::Result<Self> {
        let mut mistakes = Mistakes::default();
        mistakes.collect(check_trait(item));
        let methods: Vec<Method> =
            item.items.iter().filter_map(|item| mistakes.collect(Method::read(item))).collect();
        mistakes.collect(check_names(&methods));
        mistakes.none_or_all()?;
        Ok(Self {
            visibility: item.vis.clone(),
            ident: item.ident.clone(),
            name: options.name(&item.ident),
            version: options.version(),
            description: first_paragraph(&item.attrs),
            methods,
        })
    }
}

impl Method {
    fn read(item: &TraitItem) -> syn::Result<Self> {
        let TraitItem::Fn(TraitItemFn { attrs, sig, .. }) = item else {
            return Err(error(
                item,
                "a service has methods only: its client knows nothing else of the trait",
            ));
        };
        let mut mistakes = Mistakes::default();
        mistakes.collect(check_attributes(attrs));
        mistakes.collect(check_signature(sig));
        let arguments = mistakes.collect(read_arguments(sig));
        let answer = mistakes.collect(Answer::read(sig));
        mistakes.none_or_all()?;
        // Without mistakes both are there.
        let (Some(arguments), Some(answer)) = (arguments, answer) else {
            return Err(error(&sig.ident, "this method cannot be served"));
        };
        let inherited =
            attrs.iter().filter(|one| one.path().is_ident("doc") || one.path().is_ident("deprecated"));
        Ok(Self {
            attributes: inherited.cloned().collect(),
            ident: sig.ident.clone(),
            name: sig.ident.unraw().to_string(),
            arguments,
            answer,
        })
    }
}

impl Answer {
    fn read(sig: &Signature) -> syn::Result<Self> {
        match (&sig.asyncness, &sig.output) {
            (Some(_), ReturnType::Type(_, ty)) => match value_of_result(ty) {
                Some(value) => Ok(Self::One(value.clone())),
                None => Err(error(ty, "a method returns `Result<T, E>`: whatever is remote can fail")),
            },
            (Some(_), ReturnType::Default) => Err(error(
                &sig.ident,
                "a method returns `Result<T, E>`, at least `Result<(), Failure>`: whatever is remote can fail",
            )),
            (None, output) => match value_of_stream(output) {
                Some(item) => match value_of_result(item) {
                    Some(value) => Ok(Self::Many(value.clone())),
                    None => Err(error(
                        item,
                        "the items of a stream are `Result<T, E>`: whatever is remote can fail",
                    )),
                },
                None => Err(error(
                    &sig.fn_token,
                    "a method is an `async fn` that returns `Result<T, E>`, or a `fn` that returns \
                     `impl Stream<Item = Result<T, E>> + Send + 'static`",
                )),
            },
        }
    }
}

/// The mistakes of a whole trait, to be reported together.
#[derive(Default)]
struct Mistakes(Option<syn::Error>);

impl Mistakes {
    fn collect<T>(&mut self, checked: syn::Result<T>) -> Option<T> {
        match checked {
            Ok(value) => Some(value),
            Err(error) => {
                match &mut self.0 {
                    Some(earlier) => earlier.combine(error),
                    none => *none = Some(error),
                }
                None
            }
        }
    }

    fn none_or_all(self) -> syn::Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

fn error(at: &impl Spanned, text: impl std::fmt::Display) -> syn::Error {
    syn::Error::new(at.span(), text)
}

fn check_trait(item: &ItemTrait) -> syn::Result<()> {
    let mut mistakes = Mistakes::default();
    if let Some(token) = &item.unsafety {
        mistakes.collect::<()>(Err(error(token, "a service cannot be an unsafe trait")));
    }
    mistakes.collect(check_generics(&item.generics, "a service"));
    if item.items.is_empty() {
        mistakes.collect::<()>(Err(error(&item.ident, "a service needs a method")));
    }
    mistakes.none_or_all()
}

/// A request names its method, not the types it means.
fn check_generics(generics: &Generics, whose: &str) -> syn::Result<()> {
    let at = match (&generics.where_clause, generics.params.is_empty()) {
        (Some(clause), true) => clause.span(),
        (_, false) => generics.params.span(),
        (None, true) => return Ok(()),
    };
    Err(syn::Error::new(at, format!("{whose} cannot be generic: a request could not say which one it means")))
}

fn check_attributes(attributes: &[Attribute]) -> syn::Result<()> {
    match attributes.iter().find(|one| one.path().is_ident("cfg") || one.path().is_ident("cfg_attr")) {
        None => Ok(()),
        Some(cfg) => Err(error(cfg, "a method cannot be conditional: put the condition on the trait")),
    }
}

fn check_signature(sig: &Signature) -> syn::Result<()> {
    let mut mistakes = Mistakes::default();
    mistakes.collect(check_generics(&sig.generics, "a method of a service"));
    if let Safety::Unsafe(token) = &sig.safety {
        mistakes
            .collect::<()>(Err(error(token, "a method of a service cannot be unsafe: strangers call it")));
    }
    if let Some(token) = &sig.constness {
        mistakes.collect::<()>(Err(error(token, "a method of a service cannot be const")));
    }
    mistakes.none_or_all()
}

fn read_arguments(sig: &Signature) -> syn::Result<Vec<Argument>> {
    let mut mistakes = Mistakes::default();
    let mut inputs = sig.inputs.iter().peekable();
    let takes_self = inputs.next_if(|input| matches!(input, FnArg::Receiver(_)));
    mistakes.collect(check_receiver(sig, takes_self));
    let context = inputs.next_if(|input| referred(input).is_some_and(is_context));
    mistakes.collect(check_context(sig, context, inputs.peek().copied()));
    let arguments: Vec<Argument> =
        inputs.filter_map(|input| mistakes.collect(read_argument(input))).collect();
    mistakes.collect(check_argument_names(&arguments));
    mistakes.none_or_all().map(|()| arguments)
}

fn check_receiver(sig: &Signature, input: Option<&FnArg>) -> syn::Result<()> {
    match input {
        Some(FnArg::Receiver(receiver)) => match receiver.kind {
            ReceiverKind::Reference(_, None, None) => Ok(()),
            _ => Err(error(receiver, "a method takes `&self`: requests run side by side")),
        },
        _ => Err(error(&sig.ident, "a method takes `&self`")),
    }
}

fn check_context(sig: &Signature, context: Option<&FnArg>, instead: Option<&FnArg>) -> syn::Result<()> {
    let text = "the first argument is the context: `cx: &Context`, with deadline, cancellation and headers";
    match (context, instead) {
        (Some(input), _) if is_shared_reference(input) => Ok(()),
        (Some(input), _) | (None, Some(input)) => Err(error(input, text)),
        (None, None) => Err(error(&sig.ident, text)),
    }
}

fn is_context(ty: &Type) -> bool {
    matches!(ty, Type::Path(path) if ends_with(&path.path, "Context"))
}

/// The type of an argument, or what it refers to.
fn referred(input: &FnArg) -> Option<&Type> {
    match input {
        FnArg::Receiver(_) => None,
        FnArg::Typed(PatType { ty, .. }) => match &**ty {
            Type::Reference(reference) => Some(&reference.elem),
            owned => Some(owned),
        },
    }
}

fn is_shared_reference(input: &FnArg) -> bool {
    let FnArg::Typed(PatType { ty, .. }) = input else { return false };
    matches!(&**ty, Type::Reference(reference) if reference.mutability.is_none() && reference.lifetime.is_none())
}

fn read_argument(input: &FnArg) -> syn::Result<Argument> {
    let FnArg::Typed(PatType { pat, ty, .. }) = input else {
        return Err(error(input, "`self` comes first"));
    };
    let Pat::Ident(pattern) = &**pat else {
        return Err(error(pat, "an argument needs a name: callers send it"));
    };
    match &**ty {
        Type::Reference(_) => Err(error(ty, "an argument is decoded from the request: take it by value")),
        Type::ImplTrait(_) => Err(error(
            ty,
            "a method of a service cannot be generic: a request could not say which one it means",
        )),
        _ => Ok(Argument { ident: pattern.ident.clone(), ty: (**ty).clone() }),
    }
}

fn check_argument_names(arguments: &[Argument]) -> syn::Result<()> {
    let mut seen = HashSet::new();
    match arguments.iter().find(|argument| !seen.insert(argument.ident.unraw())) {
        None => Ok(()),
        Some(Argument { ident, .. }) => {
            Err(error(ident, format!("there are two arguments `{}`", ident.unraw())))
        }
    }
}

fn check_names(methods: &[Method]) -> syn::Result<()> {
    let mut mistakes = Mistakes::default();
    let mut seen = HashSet::new();
    for Method { ident, name, .. } in methods {
        if !seen.insert(name) {
            mistakes.collect::<()>(Err(error(ident, format!("there are two methods `{name}`"))));
        }
        if TAKEN_METHODS.contains(&name.as_str()) {
            let text = format!("a method cannot be called `{name}`: that makes a client");
            mistakes.collect::<()>(Err(error(ident, text)));
        }
    }
    mistakes.none_or_all()
}

/// `T` of `Result<T, E>`, `io::Result<T>` and every alias that ends so.
fn value_of_result(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == "Result")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    })
}

/// `I` of `impl Stream<Item = I> + …`.
fn value_of_stream(output: &ReturnType) -> Option<&Type> {
    let ReturnType::Type(_, ty) = output else { return None };
    let Type::ImplTrait(opaque) = &**ty else { return None };
    let stream = traits(&opaque.bounds).find(|path| ends_with(path, "Stream"))?;
    let PathArguments::AngleBracketed(arguments) = &stream.segments.last()?.arguments else { return None };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::AssocType(item) if item.ident == "Item" => Some(&item.ty),
        _ => None,
    })
}

/// The traits among some bounds.
pub(crate) fn traits(bounds: &Punctuated<TypeParamBound, Token![+]>) -> impl Iterator<Item = &Path> {
    bounds.iter().filter_map(|bound| match bound {
        TypeParamBound::Trait(bound) => Some(&bound.path),
        _ => None,
    })
}

/// Whether this is `name`, or a longer path to it.
pub(crate) fn ends_with(path: &Path, name: &str) -> bool {
    path.segments.last().is_some_and(|last| last.ident == name)
}

fn first_paragraph(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(documentation).map(|line| line.trim().to_owned());
    let paragraph: Vec<String> =
        lines.skip_while(String::is_empty).take_while(|line| !line.is_empty()).collect();
    paragraph.join(" ")
}

fn documentation(attribute: &Attribute) -> Option<String> {
    match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use quote::ToTokens;

    use super::*;

    fn read(item: &str) -> syn::Result<Service> {
        Service::read(&syn::parse_str(item).unwrap(), Options::default())
    }

    fn tokens(item: &impl ToTokens) -> String {
        item.to_token_stream().to_string()
    }

    #[test]
    fn a_trait_becomes_a_model() {
        let service = read(
            "/// What the sky
             /// will do.
             ///
             /// At length.
             pub(crate) trait SkyReport {
                 /// Tomorrow.
                 #[allow(unused)]
                 async fn forecast(&self, cx: &Context, place: Place) -> Result<Forecast, Failure>;
                 async fn r#move(&self, _: &leveret::Context, a: geo::Place, r#type: Option<u8>) -> io::Result<()>;
                 fn radar(&self, cx: &Context) -> impl Send + Stream<Item = Result<Tile, Failure>> + 'static;
             }",
        )
        .unwrap();
        assert_eq!((service.name.as_str(), service.version.as_str()), ("sky-report", "0.1.0"));
        assert_eq!(service.description, "What the sky will do.");
        assert_eq!(tokens(&service.visibility), "pub (crate)");
        let methods: Vec<String> = service.methods.iter().map(summary).collect();
        assert_eq!(
            methods,
            [
                "1 forecast(place: Place) -> one Forecast",
                "0 move(a: geo :: Place, type: Option < u8 >) -> one ()",
                "0 radar() -> many Tile"
            ]
        );
    }

    /// With the number of attributes that the client's method gets.
    fn summary(method: &Method) -> String {
        let arguments: Vec<String> = method
            .arguments
            .iter()
            .map(|argument| format!("{}: {}", argument.ident.unraw(), tokens(&argument.ty)))
            .collect();
        let answer = match &method.answer {
            Answer::One(ty) => format!("one {}", tokens(ty)),
            Answer::Many(ty) => format!("many {}", tokens(ty)),
        };
        format!("{} {}({}) -> {answer}", method.attributes.len(), method.name, arguments.join(", "))
    }

    /// Reads a trait with this between its braces, and expects these errors, in this order.
    fn refused(body: &str, expected: &[&str]) {
        refused_trait(&format!("trait Weather {{ {body} }}"), expected);
    }

    fn refused_trait(item: &str, expected: &[&str]) {
        let errors: Vec<String> = match read(item) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.into_iter().map(|error| error.to_string()).collect(),
        };
        assert_eq!(errors.len(), expected.len(), "{item}: {errors:?}");
        for (error, expected) in errors.iter().zip(expected) {
            assert!(error.contains(expected), "{item}: {error}");
        }
    }

    #[test]
    fn what_cannot_be_served_is_named() {
        refused("async fn a(cx: &Context) -> Result<(), E>;", &["a method takes `&self`"]);
        refused(
            "async fn a(&mut self, cx: &Context) -> Result<(), E>;",
            &["`&self`: requests run side by side"],
        );
        refused("async fn a(self, cx: &Context) -> Result<(), E>;", &["`&self`: requests run side by side"]);
        refused(
            "async fn a(&self) -> Result<(), E>;",
            &["the first argument is the context: `cx: &Context`"],
        );
        refused("async fn a(&self, cx: Context) -> Result<(), E>;", &["the context"]);
        refused("async fn a(&self, cx: &mut Context) -> Result<(), E>;", &["the context"]);
        refused(
            "async fn a<T>(&self, cx: &Context, x: T) -> Result<(), E>;",
            &["a method of a service cannot be gene"],
        );
        refused("async fn a(&self, cx: &Context, x: impl Eq) -> Result<(), E>;", &["cannot be generic"]);
        refused("async fn a(&self, cx: &Context, x: &str) -> Result<(), E>;", &["take it by value"]);
        refused("async fn a(&self, cx: &Context, _: u8) -> Result<(), E>;", &["an argument needs a name"]);
        refused("async fn a(&self, cx: &Context, x: u8, x: u8) -> Result<(), E>;", &["two arguments `x`"]);
        refused("async fn a(&self, cx: &Context);", &["at least `Result<(), Failure>`"]);
        refused("async fn a(&self, cx: &Context) -> Forecast;", &["a method returns `Result<T, E>`"]);
        refused("fn a(&self, cx: &Context) -> Result<(), E>;", &["a method is an `async fn`"]);
        refused(
            "fn a(&self, cx: &Context) -> impl Stream<Item = u8>;",
            &["the items of a stream are `Result"],
        );
        refused("async unsafe fn a(&self, cx: &Context) -> Result<(), E>;", &["cannot be unsafe"]);
        refused(
            "const fn a(&self, cx: &Context) -> impl Stream<Item = Result<u8, E>>;",
            &["cannot be const"],
        );
        refused("#[cfg(test)] async fn a(&self, cx: &Context) -> Result<(), E>;", &["cannot be conditional"]);
        refused("async fn new(&self, cx: &Context) -> Result<(), E>;", &["cannot be called `new`"]);
        refused("const A: u8; type B;", &["methods only", "methods only"]);
        refused("", &["a service needs a method"]);
        let twice = "async fn a(&self, cx: &Context) -> Result<(), E>;".repeat(2);
        refused(&twice, &["there are two methods `a`"]);
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        refused(
            "const A: u8; async fn a(place: Place); fn b(&self, cx: &Context);",
            &[
                "methods only",
                "takes `&self`",
                "the context",
                "at least `Result",
                "a method is an `async fn`",
            ],
        );
    }

    #[test]
    fn a_trait_is_refused_as_a_whole() {
        let method = "async fn a(&self, cx: &Context) -> Result<(), E>;";
        refused_trait(&format!("trait W<T> {{ {method} }}"), &["a service cannot be generic"]);
        refused_trait(&format!("trait W where Self: Eq {{ {method} }}"), &["a service cannot be generic"]);
        refused_trait(&format!("unsafe trait W {{ {method} }}"), &["cannot be an unsafe trait"]);
    }

    #[test]
    fn an_error_stands_where_the_mistake_is() {
        let item = "trait W {\n async fn a(&self, cx: &Context,\n place: &str) -> Result<(), E>; }";
        let error = read(item).err().unwrap();
        assert_eq!(error.span().start().line, 3);
    }
}
