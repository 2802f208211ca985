//! Code generation: from a structure to its trait implementations.

use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Field, GenericParam, Ident, LitStr, Member, Result, Type};

/// Implements both traits.
pub(crate) fn parameters(input: &DeriveInput) -> Result<TokenStream> {
    let gradients = implementation(input, &Trait::gradients())?;
    let parameters = implementation(input, &Trait::parameters())?;
    let checks = field_checks(input, &Trait::parameters())?;
    Ok(quote!(#gradients #parameters #checks))
}

/// Implements only the trait for reading.
pub(crate) fn gradients(input: &DeriveInput) -> Result<TokenStream> {
    let gradients = implementation(input, &Trait::gradients())?;
    let checks = field_checks(input, &Trait::gradients())?;
    Ok(quote!(#gradients #checks))
}

/// The names and types in which the two traits differ.
struct Trait {
    name: Ident,
    method: Ident,
    mutability: Option<TokenStream>,
    leaf: TokenStream,
}

impl Trait {
    fn gradients() -> Self {
        Self {
            name: format_ident!("Gradients"),
            method: format_ident!("visit"),
            mutability: None,
            leaf: quote!(Gradient),
        }
    }

    fn parameters() -> Self {
        Self {
            name: format_ident!("Parameters"),
            method: format_ident!("visit_mut"),
            mutability: Some(quote!(mut)),
            leaf: quote!(ViewMut),
        }
    }
}

fn implementation(input: &DeriveInput, traits: &Trait) -> Result<TokenStream> {
    let core = core_path()?;
    let Trait { name, method, mutability, leaf } = traits;
    let parts = parts(input)?;
    let visits = parts
        .iter()
        .map(|Part { member, path, .. }| quote!(#core::#name::#method(&#mutability self.#member, &#path, visit);));

    let structure = &input.ident;
    let (_, type_generics, _) = input.generics.split_for_impl();
    let mut generics = input.generics.clone();
    generics.params.push(syn::parse_quote!(__T: #core::Scalar));
    let bounds = generics.make_where_clause();
    for Part { kind, .. } in &parts {
        bounds.predicates.push(syn::parse_quote!(#kind: #core::#name<__T>));
    }
    if *name == "Parameters" {
        bounds.predicates.push(syn::parse_quote!(Self: #core::Gradients<__T>));
    }
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #impl_generics #core::#name<__T> for #structure #type_generics #where_clause {
            fn #method<'__a>(
                &'__a #mutability self,
                path: &#core::model::Path<'_>,
                visit: &mut dyn ::core::ops::FnMut(::std::string::String, #core::#leaf<'__a, __T>),
            ) {
                let _ = (path, &mut *visit);
                #(#visits)*
            }
        }
    })
}

/// Constants that do not compile if a field has no variables. Without them, the error would come where the model is
/// used, and would not name the field.
///
/// Types that mention generics or the structure itself cannot be checked here.
fn field_checks(input: &DeriveInput, traits: &Trait) -> Result<TokenStream> {
    let core = core_path()?;
    let of_structure = input.generics.params.iter().map(|parameter| match parameter {
        GenericParam::Lifetime(lifetime) => lifetime.lifetime.ident.to_string(),
        GenericParam::Type(kind) => kind.ident.to_string(),
        GenericParam::Const(constant) => constant.ident.to_string(),
    });
    let own: Vec<String> = of_structure.chain([input.ident.to_string(), "Self".to_owned()]).collect();
    let name = &traits.name;
    let checks = parts(input)?.into_iter().filter(|part| !mentions(part.kind.to_token_stream(), &own)).map(|part| {
        let Part { member, kind, .. } = part;
        let problem = format!(
            "field `{}` of `{}` has no variables: leave it out by `#[parameters(skip)]`",
            member.to_token_stream(),
            input.ident
        );
        quote_spanned! {kind.span()=>
            const _: () = {
                use #core::model::field::HasNone as _;
                ::core::assert!(
                    #core::model::field::#name::<#kind, f32>::HAS || #core::model::field::#name::<#kind, f64>::HAS,
                    #problem
                );
            };
        }
    });
    Ok(checks.collect())
}

/// Whether a type mentions one of these names.
fn mentions(tokens: TokenStream, names: &[String]) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Group(group) => mentions(group.stream(), names),
        TokenTree::Ident(ident) => names.contains(&ident.to_string()),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

/// A field that holds variables.
struct Part<'a> {
    member: Member,
    kind: &'a Type,
    /// An expression for the path of the field.
    path: TokenStream,
}

fn parts(input: &DeriveInput) -> Result<Vec<Part<'_>>> {
    let Data::Struct(data) = &input.data else {
        let problem = "only structures have named variables: an enum's would change with its variant";
        return Err(Error::new_spanned(&input.ident, problem));
    };
    let mut parts: Vec<Part<'_>> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for (field, member) in data.fields.iter().zip(data.fields.members()) {
        let Options { skip, rename } = Options::read(field)?;
        if skip {
            continue;
        }
        let (name, path) = match (rename, &member) {
            (Some(name), _) => (name.value(), quote!(path.field(#name))),
            (None, Member::Named(name)) => {
                let name = unraw(name);
                (name.clone(), quote!(path.field(#name)))
            }
            (None, Member::Unnamed(index)) => {
                let index = index.index as usize;
                (index.to_string(), quote!(path.index(#index)))
            }
        };
        if names.contains(&name) {
            return Err(Error::new_spanned(field, format!("two fields are called {name:?}")));
        }
        names.push(name);
        parts.push(Part { member, kind: &field.ty, path });
    }
    Ok(parts)
}

/// The name of a field: `type` for `r#type`.
fn unraw(name: &Ident) -> String {
    let name = name.to_string();
    name.strip_prefix("r#").map_or(name.clone(), str::to_owned)
}

/// The options in `#[parameters(...)]` on a field.
#[derive(Default)]
struct Options {
    skip: bool,
    rename: Option<LitStr>,
}

impl Options {
    fn read(field: &Field) -> Result<Self> {
        let mut options = Self::default();
        for attribute in field.attrs.iter().filter(|attribute| attribute.path().is_ident("parameters")) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("skip") {
                    options.skip = true;
                } else if meta.path.is_ident("rename") {
                    options.rename = Some(meta.value()?.parse()?);
                } else {
                    return Err(meta.error("expected `skip` or `rename = \"name\"`"));
                }
                Ok(())
            })?;
        }
        match &options {
            Self { skip: true, rename: Some(name) } => Err(Error::new_spanned(name, "a skipped field has no name")),
            Self { rename: Some(name), .. } if name.value().is_empty() => {
                Err(Error::new_spanned(name, "a name has at least one letter"))
            }
            _ => Ok(options),
        }
    }
}

/// The path of `opt-core` in the user's crate: direct, or inside the umbrella crate.
fn core_path() -> Result<TokenStream> {
    let path = |found: FoundCrate, itself: &str| match found {
        FoundCrate::Itself => Ident::new(itself, Span::call_site()),
        FoundCrate::Name(name) => Ident::new(&name, Span::call_site()),
    };
    if let Ok(found) = crate_name("opt-core") {
        let core = path(found, "opt_core");
        return Ok(quote!(::#core));
    }
    match crate_name("optimizers") {
        Ok(found) => {
            let umbrella = path(found, "optimizers");
            Ok(quote!(::#umbrella::opt_core))
        }
        Err(error) => Err(Error::new(Span::call_site(), error)),
    }
}
