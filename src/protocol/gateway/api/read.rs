//! From requests to calls: REST requests by their route, functions by their name, calls of a batch. All three fill the same
//! [`Arguments`], so that they mean the same.

use std::borrow::Cow;

use http::Method;
use serde_json::Value;

use super::arguments::Arguments;
use super::error::{ErrorCode, quoted};
use super::parameter::Parameter;
use super::path::{self, Found};
use super::table::Function;
use super::{ApiError, Context, Request, json};
use crate::wire::query;

/// Where functions are called by name.
const CALL: &[u8] = b"/v1/call/";

/// A request to the interface.
#[derive(Clone, Copy, Debug)]
pub struct HttpRequest<'a> {
    /// Its method; HEAD is read as GET.
    pub method: &'a Method,
    /// Its path, undecoded, without query.
    pub path: &'a [u8],
    /// Its query, without `?`.
    pub query: &'a [u8],
    /// Its body.
    pub body: &'a [u8],
}

impl Request {
    /// Reads an HTTP request: REST or `/v1/call/`.
    pub fn from_http(request: &HttpRequest<'_>) -> Result<Self, ApiError> {
        if let Some(name) = request.path.strip_prefix(CALL) {
            return called(request, name);
        }
        match path::find(request.method, request.path)? {
            Found::Function(function, parts) => rest(request, function, parts),
            Found::Other(allow) => Err(ApiError {
                allow: Some(allow),
                ..ApiError::new(ErrorCode::MethodNotAllowed, "the path has other methods")
            }),
            Found::Nothing => Err(ApiError::new(ErrorCode::NotFound, "no such path")),
        }
    }

    /// Reads a function and its arguments: an object, or a list by position.
    pub fn from_function(name: &str, arguments: Value, context: &Context) -> Result<Self, ApiError> {
        let Some((function, sets)) = Function::named(name) else {
            let message = format!("no function {}", quoted(name));
            return Err(ApiError::new(ErrorCode::UnknownFunction, message));
        };
        let mut given = Arguments::new(function, context);
        match arguments {
            Value::Null => {}
            Value::Object(fields) => {
                for (name, value) in fields {
                    let parameter = function.parameters.iter().find(|is| is.is_called(&name));
                    given.give_or_null(parameter.ok_or_else(|| unknown(name.as_bytes()))?, value)?;
                }
            }
            Value::Array(values) => positional(&mut given, function, values)?,
            _ => return Err(ApiError::bad_request("arguments: an object or a list expected")),
        }
        for parameter in function.parameters.iter().filter(|is| sets.contains(&is.name)) {
            given.give(parameter, Value::Bool(true))?;
        }
        finish(function, given)
    }
}

/// One call of a batch, or one action of an answer: `{"fn": …, "args": …}`.
pub fn item(item: Value, context: &Context) -> Result<Request, ApiError> {
    let Value::Object(mut fields) = item else {
        return Err(ApiError::bad_request("an object with fn and args expected"));
    };
    let name = match fields.remove("fn") {
        Some(Value::String(name)) => name,
        Some(_) => return Err(ApiError::bad_request("fn: a string expected")),
        None => return Err(ApiError::bad_request("fn is missing")),
    };
    let arguments = fields.remove("args").unwrap_or_default();
    match fields.keys().next() {
        Some(other) => Err(ApiError::bad_request(format!("{}: unknown", quoted(other)))),
        None => Request::from_function(&name, arguments, context).map_err(|error| error.within(&quoted(&name))),
    }
}

/// `/v1/call/{name}`, whose only parameter in the query is `lenient`.
fn called(request: &HttpRequest<'_>, name: &[u8]) -> Result<Request, ApiError> {
    if request.method != Method::POST {
        return Err(ApiError {
            allow: Some("POST"),
            ..ApiError::new(ErrorCode::MethodNotAllowed, "functions are called with POST")
        });
    }
    let name = path::decode(name)?;
    let mut lenient = false;
    for (key, value) in query::pairs(request.query) {
        match (&*key, &*value) {
            (b"lenient", b"1" | b"true") => lenient = true,
            (b"lenient", b"0" | b"false") => lenient = false,
            (b"lenient", _) => return Err(ApiError::bad_request("lenient: 1, 0, true or false expected")),
            _ => return Err(unknown(&key)),
        }
    }
    let context = Context {
        lenient,
        ..Context::default()
    };
    Request::from_function(&name, body(request.body)?.unwrap_or_default(), &context)
}

fn rest(request: &HttpRequest<'_>, function: &'static Function, parts: Vec<&[u8]>) -> Result<Request, ApiError> {
    let context = Context::default();
    let mut given = Arguments::new(function, &context);
    let mut parts = parts.into_iter();
    // Its parameters come in the order of the path's braces.
    for name in function.route.iter().flat_map(|route| path::parameters(route.path)) {
        let text = path::decode(parts.next().unwrap_or_default()).map_err(|error| error.within(name))?;
        if text.is_empty() {
            return Err(ApiError::bad_request(format!("{name}: must not be empty")));
        }
        if let Some(parameter) = function.parameters.iter().find(|is| is.name == name) {
            given.give(parameter, Value::String(text.into_owned()))?;
        }
    }
    for (key, value) in query::pairs(request.query) {
        let named = |is: &&Parameter| is.name.as_bytes() == &*key && function.sources(is).query;
        let parameter = function.parameters.iter().find(named).ok_or_else(|| unknown(&key))?;
        let text = str::from_utf8(&value).map_err(|_| no_utf8(parameter.name))?;
        given.give(parameter, parameter.of_text(text)?)?;
    }
    if let Some(whole) = function.parameters.iter().find(|is| function.sources(is).whole) {
        given.give(whole, json::read(request.body)?)?;
    } else if let Some(body) = body(request.body)? {
        match body {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let named = |is: &&Parameter| is.name == name && function.sources(is).body;
                    let parameter = function.parameters.iter().find(named);
                    given.give(parameter.ok_or_else(|| unknown(name.as_bytes()))?, value)?;
                }
            }
            _ => return Err(ApiError::bad_request("the body: an object expected")),
        }
    }
    finish(function, given)
}

/// The JSON of a body, if there is any.
fn body(body: &[u8]) -> Result<Option<Value>, ApiError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    json::read(body).map(Some)
}

fn positional(given: &mut Arguments<'_>, function: &'static Function, values: Vec<Value>) -> Result<(), ApiError> {
    if values.len() > function.positional {
        let most = function.positional;
        return Err(ApiError::bad_request(format!(
            "{}: at most {most} arguments",
            function.name
        )));
    }
    let mut parameters = function.parameters.iter();
    values
        .into_iter()
        .zip(&mut parameters)
        .try_for_each(|(value, parameter)| given.give_or_null(parameter, value))
}

fn finish(function: &'static Function, mut given: Arguments<'_>) -> Result<Request, ApiError> {
    let call = (function.read)(&mut given)?;
    Ok(Request {
        call,
        lenient: given.is_lenient()?,
    })
}

fn unknown(name: &[u8]) -> ApiError {
    ApiError::bad_request(format!("{}: unknown", quoted(&String::from_utf8_lossy(name))))
}

fn no_utf8(name: &str) -> ApiError {
    ApiError::bad_request(format!("{name}: no UTF-8"))
}

/// For what is told about an undecoded part of a path.
pub(super) fn text_of(bytes: Cow<'_, [u8]>) -> Result<Cow<'_, str>, ApiError> {
    match bytes {
        Cow::Borrowed(bytes) => str::from_utf8(bytes)
            .map(Cow::Borrowed)
            .map_err(|_| no_utf8("the path")),
        Cow::Owned(bytes) => String::from_utf8(bytes)
            .map(Cow::Owned)
            .map_err(|_| no_utf8("the path")),
    }
}
