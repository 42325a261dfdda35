//! The tables of docs/gateway.md, made from the table of functions; a test holds the document to them.

use super::table::{FUNCTIONS, Function};

/// REST requests with their parameters and answers, as Markdown.
pub fn routes() -> String {
    let mut table = "| request | parameters | `data` |\n| --- | --- | --- |\n".to_owned();
    for function in &FUNCTIONS {
        let Some(route) = &function.route else { continue };
        let given = function.parameters.iter().filter(|is| {
            let sources = function.sources(is);
            sources.query || sources.body || sources.whole
        });
        let given: Vec<_> = given
            .map(|is| match (is.required, function.sources(is).whole) {
                (_, true) => "the body is the object".to_owned(),
                (true, _) => format!("**{}**", is.name),
                (false, _) => is.name.to_owned(),
            })
            .collect();
        let (method, path, given) = (&route.method, route.path, given.join(", "));
        table += &format!("| `{method} {path}` | {given} | {} |\n", function.answer.short());
    }
    table
}

/// Functions by name with their REST requests, as Markdown.
pub fn functions() -> String {
    let mut table = "| function | other names | same as |\n| --- | --- | --- |\n".to_owned();
    for function in &FUNCTIONS {
        let aliases: Vec<_> = function
            .aliases
            .iter()
            .map(|alias| match alias.sets {
                [] => format!("`{}`", alias.name),
                sets => format!("`{}` ({})", alias.name, sets.join(", ")),
            })
            .collect();
        let same = function
            .route
            .as_ref()
            .map_or("only in answers to events".to_owned(), |route| {
                format!("`{} {}`", route.method, route.path)
            });
        table += &format!(
            "| `{}({})` | {} | {same} |\n",
            function.name,
            positional(function),
            aliases.join(", ")
        );
    }
    table
}

fn positional(function: &Function) -> String {
    let names: Vec<_> = function
        .parameters
        .iter()
        .take(function.positional)
        .map(|is| is.name)
        .collect();
    names.join(", ")
}
