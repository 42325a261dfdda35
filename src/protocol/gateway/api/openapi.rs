//! The OpenAPI 3.1 description of the interface, made from the table of functions.

use std::sync::LazyLock;

use http::Method;
use serde_json::{Map, Value, json};

use super::ErrorCode;
use super::parameter::{Kind, Parameter};
use super::shape::{Shape, object};
use super::table::{FUNCTIONS, Function};
use super::{BATCH_MAX, LIST_MAX, NAME_BYTES_MAX};

/// Where the description is.
pub const PATH: &[u8] = b"/v1/openapi.json";

/// The description as JSON.
pub fn document() -> &'static [u8] {
    static TEXT: LazyLock<Vec<u8>> = LazyLock::new(|| describe().to_string().into_bytes());
    &TEXT
}

/// The description.
pub fn describe() -> Value {
    let mut paths = Map::new();
    for function in &FUNCTIONS {
        let Some(route) = &function.route else { continue };
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] = operation(function);
    }
    paths.insert("/v1/call/{function}".into(), json!({"post": call()}));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "rainbow-server: gateway",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The interface of backends to clients of the gateway door. docs/gateway.md explains it.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {"schemas": schemas(), "responses": responses(), "securitySchemes": {
            "token": {"type": "http", "scheme": "bearer"},
        }},
    })
}

fn operation(function: &Function) -> Value {
    let of = |wanted: fn(&super::table::Sources) -> bool| {
        function
            .parameters
            .iter()
            .filter(move |is| wanted(&function.sources(is)))
    };
    let mut parameters: Vec<Value> = of(|is| is.path).map(|is| in_head(is, "path")).collect();
    parameters.extend(of(|is| is.query).map(|is| in_head(is, "query")));
    let mut operation = json!({
        "operationId": function.name,
        "summary": function.about,
        "parameters": parameters,
        "responses": answers(function.answer),
    });
    // A body of a DELETE is allowed, but not all tools know what to do with one.
    let is_delete = function
        .route
        .as_ref()
        .is_some_and(|route| route.method == Method::DELETE);
    let fields: Vec<&Parameter> = of(|is| is.body).collect();
    if let Some(whole) = of(|is| is.whole).next() {
        operation["requestBody"] = body(true, whole.kind.schema());
    } else if !fields.is_empty() && !is_delete {
        let required: Vec<_> = fields.iter().filter(|is| is.required).map(|is| is.name).collect();
        let is_message = fields.iter().any(|is| is.name == "message");
        let is_required = is_message || !required.is_empty();
        operation["requestBody"] = body(is_required, arguments(&fields, &required, is_message));
    }
    operation
}

/// The fields of a body. Of the ways to give a message, one is needed.
fn arguments(fields: &[&Parameter], required: &[&str], has_message: bool) -> Value {
    let named = |is: &&Parameter| (is.name.to_owned(), schema(is, is.kind.schema()));
    let properties: Map<_, _> = fields.iter().map(named).collect();
    let mut schema = json!({
        "type": "object", "properties": properties, "required": required, "additionalProperties": false,
    });
    if has_message {
        schema["oneOf"] = ["message", "json", "message_base64"]
            .map(|name| json!({"required": [name]}))
            .into();
    }
    schema
}

fn schema(parameter: &Parameter, mut schema: Value) -> Value {
    schema["description"] = parameter.about.into();
    schema
}

fn in_head(parameter: &Parameter, place: &str) -> Value {
    let schema = match parameter.kind {
        // One that is given in the path is no list, and not empty.
        Kind::NameOrNames | Kind::GroupOrAll => Kind::Name.schema(),
        Kind::Client => json!({"type": "string", "minLength": 1}),
        kind => kind.schema(),
    };
    json!({
        "name": parameter.name, "in": place, "required": parameter.required || place == "path",
        "description": parameter.about, "schema": schema,
    })
}

fn body(is_required: bool, schema: Value) -> Value {
    json!({"required": is_required, "content": {"application/json": {"schema": schema}}})
}

/// `/v1/call/`: which arguments there are depends on the function.
fn call() -> Value {
    let names: Vec<_> = FUNCTIONS.iter().flat_map(Function::names).collect();
    json!({
        "operationId": "call",
        "summary": "Calls a function by the name it has in bin-x/websocket or GatewayWorker.",
        "parameters": [
            {"name": "function", "in": "path", "required": true, "schema": {"type": "string", "enum": names}},
            {"name": "lenient", "in": "query", "schema": {"type": "boolean"},
             "description": "A client that is not there is no error."},
        ],
        "requestBody": body(false, json!({"anyOf": [{"type": "object"}, {"type": "array", "maxItems": 8}]})),
        "responses": answers_of(json!({"type": "object"})),
    })
}

fn answers(shape: Shape) -> Value {
    answers_of(json!({"$ref": format!("#/components/schemas/{}", shape.name())}))
}

fn answers_of(data: Value) -> Value {
    let ok = object(&[("ok", json!({"const": true})), ("data", data)]);
    let mut answers = json!({
        "200": {"description": "Done.", "content": {"application/json": {"schema": ok}}},
    });
    for status in statuses() {
        answers[&status] = json!({"$ref": format!("#/components/responses/{status}")});
    }
    answers
}

/// The statuses of errors, each once.
fn statuses() -> Vec<String> {
    let mut statuses: Vec<_> = ErrorCode::ALL
        .iter()
        .map(|code| code.status().as_str().to_owned())
        .collect();
    statuses.sort();
    statuses.dedup();
    statuses
}

fn responses() -> Value {
    let mut responses = json!({});
    for status in statuses() {
        let of_status = ErrorCode::ALL.iter().filter(|code| code.status().as_str() == status);
        let words: Vec<_> = of_status.map(|code| format!("`{}`", code.word())).collect();
        responses[&status] = json!({
            "description": words.join(", "),
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        });
    }
    responses
}

fn schemas() -> Value {
    let words: Vec<_> = ErrorCode::ALL.iter().map(|code| code.word()).collect();
    let error = object(&[
        ("code", json!({"type": "string", "enum": words})),
        ("message", json!({"type": "string"})),
    ]);
    let names: Vec<_> = FUNCTIONS
        .iter()
        .flat_map(Function::names)
        .filter(|name| *name != "batch")
        .collect();
    let mut schemas = json!({
        "ClientId": {"type": "string", "pattern": "^[0-9a-f]{20}$", "example": "7f00000169dd00000001"},
        "AnyClientId": {
            "type": "string",
            "description": "20 hex digits. Anything else is refused with 400, or is nobody's with `lenient`.",
        },
        "Name": {
            "type": "string", "minLength": 1, "maxLength": NAME_BYTES_MAX,
            "description": format!("At most {NAME_BYTES_MAX} bytes of UTF-8."),
        },
        "Targets": {
            "type": "object", "additionalProperties": false,
            "properties": {
                "all": Kind::Flag.schema(),
                "clients": Kind::Clients.schema(),
                "uids": Kind::Names.schema(),
                "groups": Kind::Names.schema(),
            },
            "description": format!("`all`, or any of the others, up to {LIST_MAX} each."),
        },
        "Call": {
            "type": "object", "required": ["fn"], "additionalProperties": false,
            "properties": {
                "fn": {"type": "string", "enum": names},
                "args": {"anyOf": [{"type": "object"}, {"type": "array"}, {"type": "null"}]},
            },
            "description": format!("One of at most {BATCH_MAX} calls."),
        },
        "Error": object(&[("ok", json!({"const": false})), ("error", error)]),
    });
    for shape in Shape::ALL {
        schemas[shape.name()] = shape.schema();
    }
    schemas
}
