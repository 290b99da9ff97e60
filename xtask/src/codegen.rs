//! `cargo xtask codegen [--check]`: AMQP's tables as Rust, from RabbitMQ's machine-readable
//! specification in `crates/wire/spec`.
//!
//! Only tables and field lists are generated: constants, a struct per method with its fields in order,
//! and which types they have. How a type is read or written is in `leveret-wire`, by hand.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::workspace_root;

const SPEC: &str = "crates/wire/spec/amqp-rabbitmq-0.9.1.json";
const CONSTANTS: &str = "crates/wire/src/constants.rs";
const METHODS: &str = "crates/wire/src/generated.rs";

/// Methods with a field that must not be logged: their `Debug` is written by hand.
const SECRET_METHODS: [&str; 3] = ["connection.start-ok", "connection.secure-ok", "connection.update-secret"];

/// Writes the generated files; with `--check`, fails instead if one differs from what it should be.
pub(crate) fn run() -> Result<()> {
    let check_only = std::env::args().any(|argument| argument == "--check");
    for (path, text) in generate()? {
        let shown = path.strip_prefix(workspace_root()).unwrap_or(&path).display();
        if check_only {
            ensure!(is_current(&path, &text), "{shown} is out of date: run `cargo xtask codegen`");
        } else {
            std::fs::write(&path, text).with_context(|| format!("writing {shown}"))?;
        }
    }
    Ok(())
}

fn generate() -> Result<Vec<(PathBuf, String)>> {
    let json = std::fs::read_to_string(workspace_root().join(SPEC)).context(SPEC)?;
    let spec: Spec = serde_json::from_str(&json).context(SPEC)?;
    Ok(vec![
        (workspace_root().join(CONSTANTS), rustfmt(&constants(&spec)?)?),
        (workspace_root().join(METHODS), rustfmt(&methods(&spec)?)?),
    ])
}

fn is_current(path: &Path, text: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|current| current == text)
}

#[derive(Deserialize)]
struct Spec {
    domains: Vec<(String, String)>,
    constants: Vec<Constant>,
    classes: Vec<Class>,
}

#[derive(Deserialize)]
struct Constant {
    name: String,
    value: u32,
    class: Option<String>,
}

impl Constant {
    /// A number of the frame format, as opposed to a reply code (`FRAME-ERROR` is one).
    fn is_frame(&self) -> bool {
        self.class.is_none() && self.name.starts_with("FRAME-")
    }
}

#[derive(Deserialize)]
struct Class {
    id: u16,
    name: String,
    methods: Vec<Method>,
    #[serde(default)]
    properties: Vec<Field>,
}

#[derive(Deserialize)]
struct Method {
    id: u16,
    name: String,
    arguments: Vec<Field>,
    #[serde(default)]
    content: bool,
}

#[derive(Deserialize)]
struct Field {
    name: String,
    domain: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// The elementary types that a method field can have.
#[derive(Clone, Copy, PartialEq)]
enum FieldType {
    Bit,
    Octet,
    Short,
    Long,
    LongLong,
    ShortStr,
    LongStr,
    Table,
    Timestamp,
}

impl FieldType {
    fn parse(name: &str) -> Result<FieldType> {
        Ok(match name {
            "bit" => FieldType::Bit,
            "octet" => FieldType::Octet,
            "short" => FieldType::Short,
            "long" => FieldType::Long,
            "longlong" => FieldType::LongLong,
            "shortstr" => FieldType::ShortStr,
            "longstr" => FieldType::LongStr,
            "table" => FieldType::Table,
            "timestamp" => FieldType::Timestamp,
            _ => bail!("the specification has a type this generator does not know: {name}"),
        })
    }

    fn rust(self) -> &'static str {
        match self {
            FieldType::Bit => "bool",
            FieldType::Octet => "u8",
            FieldType::Short => "u16",
            FieldType::Long => "u32",
            FieldType::LongLong | FieldType::Timestamp => "u64",
            FieldType::ShortStr => "&'a str",
            FieldType::LongStr => "&'a [u8]",
            FieldType::Table => "RawTable<'a>",
        }
    }

    /// The function of `ArgReader` and `ArgWriter`.
    fn accessor(self) -> &'static str {
        match self {
            FieldType::Bit => "bit",
            FieldType::Octet => "octet",
            FieldType::Short => "short",
            FieldType::Long => "long",
            FieldType::LongLong | FieldType::Timestamp => "longlong",
            FieldType::ShortStr => "shortstr",
            FieldType::LongStr => "longstr",
            FieldType::Table => "table",
        }
    }

    fn property_type(self) -> Result<&'static str> {
        Ok(match self {
            FieldType::Octet => "Octet",
            FieldType::ShortStr => "ShortStr",
            FieldType::Table => "Table",
            FieldType::Timestamp => "Timestamp",
            _ => bail!("the specification has a property of a type this generator does not know"),
        })
    }

    /// Types of variable size: borrowed when read, fallible when written.
    fn is_borrowed(self) -> bool {
        matches!(self, FieldType::ShortStr | FieldType::LongStr | FieldType::Table)
    }
}

/// A method with everything resolved that its struct needs.
struct Signature {
    class_id: u16,
    method_id: u16,
    /// `basic.publish`
    name: String,
    /// `BasicPublish`
    struct_name: String,
    has_content: bool,
    fields: Vec<(String, FieldType)>,
}

impl Signature {
    fn lifetime(&self) -> &'static str {
        if self.fields.iter().any(|(_, kind)| kind.is_borrowed()) { "<'a>" } else { "" }
    }
}

fn signatures(spec: &Spec) -> Result<Vec<Signature>> {
    let domains: HashMap<&str, &str> =
        spec.domains.iter().map(|(name, kind)| (name.as_str(), kind.as_str())).collect();
    let mut classes: Vec<&Class> = spec.classes.iter().collect();
    classes.sort_by_key(|class| class.id);
    let mut signatures = Vec::new();
    for class in classes {
        for method in &class.methods {
            signatures.push(signature(class, method, &domains)?);
        }
    }
    Ok(signatures)
}

fn signature(class: &Class, method: &Method, domains: &HashMap<&str, &str>) -> Result<Signature> {
    let resolve = |field: &Field| -> Result<(String, FieldType)> {
        Ok((rust_name(&field.name), field_type(field, domains)?))
    };
    Ok(Signature {
        class_id: class.id,
        method_id: method.id,
        name: format!("{}.{}", class.name, method.name),
        struct_name: camel(&class.name) + &camel(&method.name),
        has_content: method.content,
        fields: method.arguments.iter().map(resolve).collect::<Result<_>>()?,
    })
}

fn field_type(field: &Field, domains: &HashMap<&str, &str>) -> Result<FieldType> {
    let declared = field.kind.as_deref().or(field.domain.as_deref()).unwrap_or_default();
    FieldType::parse(domains.get(declared).copied().unwrap_or(declared))
}

fn constants(spec: &Spec) -> Result<String> {
    let mut out = String::from(
        "//! Numbers of the AMQP 0-9-1 specification. Generated by `cargo xtask codegen`: do not edit.\n\n",
    );
    for constant in spec.constants.iter().filter(|constant| constant.is_frame()) {
        let kind = if constant.name == "FRAME-MIN-SIZE" { "u32" } else { "u8" };
        let (name, value) = (constant_name(&constant.name), constant.value);
        writeln!(out, "/// `{}` of the specification.\npub const {name}: {kind} = {value};", constant.name)?;
    }
    write_class_ids(&mut out, spec)?;
    write_reply_codes(&mut out, spec)?;
    Ok(out)
}

fn write_class_ids(out: &mut String, spec: &Spec) -> Result<()> {
    out.push_str("\n/// The numbers of the classes.\npub mod class_id {\n");
    for class in &spec.classes {
        let (name, id) = (constant_name(&class.name), class.id);
        writeln!(out, "/// Class `{}`.\npub const {name}: u16 = {id};", class.name)?;
    }
    out.push_str("}\n");
    Ok(())
}

fn write_reply_codes(out: &mut String, spec: &Spec) -> Result<()> {
    let codes: Vec<&Constant> = spec.constants.iter().filter(|constant| !constant.is_frame()).collect();
    out.push_str(
        "\n/// Why a channel or connection was closed, or a message returned. Any number can be received.\n\
         #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]\n\
         pub struct ReplyCode(pub u16);\n\nimpl ReplyCode {\n",
    );
    for code in &codes {
        let (name, value) = (constant_name(&code.name), code.value);
        let scope = code.class.as_deref().unwrap_or("no-error");
        writeln!(out, "/// {value}, {scope}.\npub const {name}: ReplyCode = ReplyCode({value});")?;
    }
    out.push_str("\n/// The code's name, `UNKNOWN` if the specification has none.\npub fn name(self) -> &'static str {\nmatch self {\n");
    for code in &codes {
        let name = constant_name(&code.name);
        writeln!(out, "ReplyCode::{name} => \"{name}\",")?;
    }
    out.push_str("_ => \"UNKNOWN\",\n}\n}\n\n/// Whether the code closes the connection, not only a channel.\npub fn is_hard(self) -> bool {\nmatches!(self, ");
    let hard: Vec<String> = codes
        .iter()
        .filter(|code| code.class.as_deref() == Some("hard-error"))
        .map(|code| format!("ReplyCode::{}", constant_name(&code.name)))
        .collect();
    writeln!(out, "{})\n}}\n}}", hard.join(" | "))?;
    Ok(())
}

fn methods(spec: &Spec) -> Result<String> {
    let signatures = signatures(spec)?;
    let mut out = String::from(
        "//! The methods and properties of the AMQP 0-9-1 specification, with RabbitMQ's extensions.\n\
         //! Generated by `cargo xtask codegen`: do not edit.\n\n\
         use crate::method::Signature;\n\
         use crate::properties::PropertyType;\n\
         use crate::reader::{ArgFault, ArgReader};\n\
         use crate::writer::ArgWriter;\n\
         use crate::{EncodeError, RawTable};\n",
    );
    write_enum(&mut out, &signatures)?;
    for signature in &signatures {
        write_struct(&mut out, signature)?;
        write_impl(&mut out, signature)?;
    }
    write_properties(&mut out, spec)?;
    Ok(out)
}

fn write_enum(out: &mut String, signatures: &[Signature]) -> Result<()> {
    out.push_str("\n/// A method of either direction.\n#[derive(Debug, Clone, Copy, PartialEq)]\npub enum Method<'a> {\n");
    for method in signatures {
        let (name, variant, lifetime) = (&method.name, &method.struct_name, method.lifetime());
        writeln!(out, "/// `{name}`\n{variant}({variant}{lifetime}),")?;
    }
    out.push_str("}\n\nimpl<'a> Method<'a> {\n/// `None`: there is no such method.\n#[inline]\npub(crate) fn read(class_id: u16, method_id: u16, args: &mut ArgReader<'a>) -> Option<Result<Method<'a>, ArgFault>> {\nSome(match (class_id, method_id) {\n");
    for method in signatures {
        let (class_id, method_id, variant) = (method.class_id, method.method_id, &method.struct_name);
        writeln!(out, "({class_id}, {method_id}) => {variant}::read(args).map(Method::{variant}),")?;
    }
    out.push_str("_ => return None,\n})\n}\n\npub(crate) fn write(&self, args: &mut ArgWriter<'_>) -> Result<(), EncodeError> {\nmatch self {\n");
    for method in signatures {
        let variant = &method.struct_name;
        writeln!(out, "Method::{variant}(method) => method.write(args),")?;
    }
    out.push_str("}\n}\n\npub(crate) fn signature(&self) -> Signature {\nmatch self {\n");
    for method in signatures {
        let variant = &method.struct_name;
        writeln!(out, "Method::{variant}(_) => {variant}::SIGNATURE,")?;
    }
    out.push_str("}\n}\n}\n");
    for method in signatures {
        let (variant, lifetime) = (&method.struct_name, method.lifetime());
        writeln!(
            out,
            "\nimpl<'a> From<{variant}{lifetime}> for Method<'a> {{\n\
             fn from(method: {variant}{lifetime}) -> Method<'a> {{ Method::{variant}(method) }}\n}}"
        )?;
    }
    Ok(())
}

fn write_struct(out: &mut String, method: &Signature) -> Result<()> {
    let Signature { class_id, method_id, name, struct_name, has_content, .. } = method;
    let content = if *has_content { "; a content follows" } else { "" };
    let debug = if SECRET_METHODS.contains(&name.as_str()) { "" } else { "Debug, " };
    let lifetime = method.lifetime();
    writeln!(out, "\n/// `{name}`, class {class_id}, method {method_id}{content}.")?;
    writeln!(out, "#[derive({debug}Clone, Copy, PartialEq, Default)]")?;
    if method.fields.is_empty() {
        writeln!(out, "pub struct {struct_name};")?;
    } else {
        writeln!(out, "pub struct {struct_name}{lifetime} {{")?;
        for (field, kind) in &method.fields {
            writeln!(out, "/// {}.\npub {field}: {},", field_doc(field, *kind), kind.rust())?;
        }
        writeln!(out, "}}")?;
    }
    Ok(())
}

fn field_doc(field: &str, kind: FieldType) -> String {
    let reserved = if field == "ticket" { ", reserved: always 0" } else { "" };
    format!("A {}{reserved}", kind.accessor())
}

fn write_impl(out: &mut String, method: &Signature) -> Result<()> {
    let Signature { class_id, method_id, name, struct_name, has_content, .. } = method;
    let lifetime = method.lifetime();
    writeln!(
        out,
        "\nimpl{lifetime} {struct_name}{lifetime} {{\npub(crate) const SIGNATURE: Signature = Signature {{ \
         class_id: {class_id}, method_id: {method_id}, name: \"{name}\", has_content: {has_content} }};"
    )?;
    write_read(out, method)?;
    write_write(out, method)?;
    out.push_str("}\n");
    Ok(())
}

fn write_read(out: &mut String, method: &Signature) -> Result<()> {
    let Signature { struct_name, fields, .. } = method;
    let args = if fields.is_empty() { "_args" } else { "args" };
    let lifetime = if method.lifetime().is_empty() { "'_" } else { "'a" };
    writeln!(out, "\n#[inline]\nfn read({args}: &mut ArgReader<{lifetime}>) -> Result<Self, ArgFault> {{")?;
    writeln!(out, "Ok({struct_name}")?;
    if !fields.is_empty() {
        out.push_str(" {\n");
        for (field, kind) in fields {
            writeln!(out, "{field}: args.{}()?,", kind.accessor())?;
        }
        out.push('}');
    }
    out.push_str(")\n}\n");
    Ok(())
}

fn write_write(out: &mut String, method: &Signature) -> Result<()> {
    let args = if method.fields.is_empty() { "_args" } else { "args" };
    writeln!(out, "\nfn write(&self, {args}: &mut ArgWriter<'_>) -> Result<(), EncodeError> {{")?;
    for (field, kind) in &method.fields {
        let fallible = if kind.is_borrowed() { "?" } else { "" };
        writeln!(out, "args.{}(self.{field}){fallible};", kind.accessor())?;
    }
    out.push_str("Ok(())\n}\n");
    Ok(())
}

fn write_properties(out: &mut String, spec: &Spec) -> Result<()> {
    let basic = spec.classes.iter().find(|class| class.name == "basic").context("class basic is missing")?;
    let count = basic.properties.len();
    writeln!(
        out,
        "\n/// The types of a content's properties, in the order of their flags and values.\n\
         pub(crate) const BASIC_PROPERTIES: [PropertyType; {count}] = ["
    )?;
    for property in &basic.properties {
        let kind = field_type(property, &HashMap::new())?.property_type()?;
        writeln!(out, "PropertyType::{kind}, // {}", property.name)?;
    }
    out.push_str("];\n\n/// Where each property is in `BASIC_PROPERTIES`.\npub(crate) mod property {\n");
    for (index, property) in basic.properties.iter().enumerate() {
        writeln!(out, "pub(crate) const {}: usize = {index};", constant_name(&property.name))?;
    }
    out.push_str("}\n");
    Ok(())
}

/// `delivery-tag` → `delivery_tag`; `type`, a Rust keyword, → `kind`.
fn rust_name(name: &str) -> String {
    if name == "type" { "kind".to_owned() } else { name.replace('-', "_") }
}

/// `not-found` → `NOT_FOUND`
fn constant_name(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

/// `declare-ok` → `DeclareOk`
fn camel(name: &str) -> String {
    let capitalized = |word: &str| match word.split_at_checked(1) {
        Some((first, rest)) => first.to_uppercase() + rest,
        None => String::new(),
    };
    name.split('-').map(capitalized).collect()
}

fn rustfmt(source: &str) -> Result<String> {
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024", "--config-path"])
        .arg(workspace_root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting rustfmt")?;
    child.stdin.take().context("rustfmt has no stdin")?.write_all(source.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "rustfmt refused the generated code");
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_files_are_current() {
        for (path, text) in generate().unwrap() {
            assert!(is_current(&path, &text), "{} is out of date: run `cargo xtask codegen`", path.display());
        }
    }

    #[test]
    fn names_follow_rust() {
        assert_eq!(camel("unbind-ok"), "UnbindOk");
        assert_eq!(rust_name("type"), "kind");
        assert_eq!(rust_name("if-unused"), "if_unused");
        assert_eq!(constant_name("frame-min-size"), "FRAME_MIN_SIZE");
    }
}
