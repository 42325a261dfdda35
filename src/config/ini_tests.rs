//! Goldens of the ini reader. The tables were produced by running the same texts through CPython 2.7.18.

use super::*;
use proptest::prelude::*;

/// The value of `key` in `[main]`, or the problem.
fn read(text: &str, key: &str) -> Result<Option<String>, Problem> {
    let ini = parse("t.ini", text).map_err(|mut errors| errors.remove(0).problem)?;
    ini.value("main", key)
        .map(|found| found.map(|(value, _)| value))
        .map_err(|error| error.problem)
}

#[test]
fn values_as_python_2_reads_them() {
    let table = [
        ("A = b\n", "b"),
        ("a:b", "b"),
        ("a = b ; c\n", "b"),
        ("a = b\x0b;c\n", "b"),
        ("a = b;c\n", "b;c"),
        ("a = b;c ; d\n", "b;c ; d"),
        ("a = ; c\n", "; c"),
        ("a = ; c \n", ""),
        ("a = ; c\r\n", ""),
        ("a = b # c\n", "b # c"),
        ("a = b\n c\n\td\n", "b\nc\nd"),
        ("a = b\n ; c\n # d\n", "b\n; c\n# d"),
        ("a = b\n\n c\n", "b\nc"),
        ("a = b\n# x\n c\n", "b\nc"),
        ("a =\n b\n", "\nb"),
        ("a = 0\nrem = 3\nRem x\nrem\n c\n", "0\nc"),
        ("a = \"\"\n", ""),
        ("a = \"q\"\n", "\"q\""),
        ("a = 1\na = 2\n", "2"),
        ("a = 1\n[x]\na=9\n[main]\nb=3\n", "1"),
        ("a = %(B)s/%(b)s%%\nb = z\n", "z/z%"),
        ("a = %(__name__)s\n", "main"),
        ("a = %(b)s\nb = %%(c)s\n", "%(c)s"),
        ("a = b = c : d\n", "b = c : d"),
        ("a =\n", ""),
        ("a = b\rc = d\n", "b\rc = d"),
        ("a = b\r\nc = d\r\n", "b"),
        ("a=\u{e4}\n", "\u{e4}"),
        ("a=x\n]b=3\n", "x"),
    ];
    for (body, expected) in table {
        assert_eq!(
            read(&format!("[main]\n{body}"), "a"),
            Ok(Some(expected.to_owned())),
            "{body:?}"
        );
    }
    assert_eq!(read("[main] trailing\na=b\n", "a"), Ok(Some("b".into())));
    assert_eq!(read("[main]\nmy key  = b\n", "My Key"), Ok(Some("b".into())));
    assert_eq!(read("[DEFAULT]\na = z\n[main]\n", "a"), Ok(Some("z".into())));
    assert_eq!(read("[DEFAULT]\na = z\n[main]\na = y\n", "a"), Ok(Some("y".into())));
    assert_eq!(read("[ main ]\na=b\n", "a"), Ok(None));
    assert_eq!(read("[main]\nremark = 1\n", "remark"), Ok(Some("1".into())));
}

#[test]
fn a_byte_order_mark_is_tolerated() {
    assert_eq!(read("\u{feff}[main]\na=b\n", "a"), Ok(Some("b".into())));
}

#[test]
fn problems_as_python_2_sees_them() {
    let unknown = || Problem::UnknownName("zz".into());
    let table = [
        ("[main]\na = %(b)s\nb = %(a)s\n", Problem::TooDeep),
        ("[main]\na = %(zz)s\n", unknown()),
        ("[main]\na = 5%\n", Problem::StrayPercent(2)),
        ("[main]\na = \u{e4}%2F\n", Problem::StrayPercent(2)),
        ("[main]\na = %(b\nb=1\n", Problem::BadReference(1)),
        ("[main]\na=%()s\n", Problem::BadReference(1)),
        ("[main]\na=%(b)d\nb=1\n", Problem::BadReference(1)),
        ("a = b\n", Problem::NoSection),
        ("[]\na = b\n", Problem::NoSection),
        ("[main]\n a = b\n", Problem::NotAnOption),
        ("[main]\nnovalue\n", Problem::NotAnOption),
        ("[main]\n= b\n", Problem::NotAnOption),
        ("[main]\na = b\n[x]\n c = d\n", Problem::NotAnOption),
        ("[main]\na = b\n[]\n", Problem::NotAnOption),
    ];
    for (text, expected) in table {
        assert_eq!(read(text, "a"), Err(expected), "{text:?}");
    }
}

#[test]
fn references_nest_ten_deep_and_no_deeper() {
    let chain = |last: u32| {
        let links: String = (1..last).map(|i| format!("k{i} = %(k{})s\n", i + 1)).collect();
        format!("[main]\n{links}k{last} = x%%\n")
    };
    assert_eq!(read(&chain(10), "k1"), Ok(Some("x%".into())));
    assert_eq!(read(&chain(11), "k1"), Err(Problem::TooDeep));
}

#[test]
fn a_stray_percent_in_a_key_nobody_reads_is_harmless() {
    assert_eq!(read("[main]\na = 1\nb = 5%\n", "a"), Ok(Some("1".into())));
}

#[test]
fn growth_by_references_is_bounded_in_bytes_and_in_work() {
    for leaf in ["xxxxxxxx%%", "", "%(empty)s"] {
        let many = |i: u32| format!("k{i} = {}\n", format!("%(k{})s", i + 1).repeat(30));
        let text = format!("[main]\nempty =\n{}k9 = {leaf}\n", (1..9).map(many).collect::<String>());
        assert_eq!(read(&text, "k1"), Err(Problem::TooLarge), "leaf {leaf:?}");
    }
}

#[test]
fn errors_name_file_line_and_key_and_stay_few() {
    let ini = parse("t.ini", "[main]\n\nurl = a%20b\n").expect("lines are fine");
    let error = ini.value("main", "URL").expect_err("stray percent");
    assert_eq!(
        error.to_string(),
        "t.ini:3: url: `%` at column 2 of the value must be doubled: write %%"
    );
    let errors = parse("t.ini", &format!("[main]\n{}", "bad\n".repeat(500))).expect_err("bad lines");
    assert_eq!(errors.len(), ERRORS_MAX);
    assert_eq!(
        errors[1].to_string(),
        "t.ini:3: line is neither `key = value`, [section] nor # comment"
    );
    assert_eq!(
        parse("t", &" ".repeat(FILE_BYTES_MAX + 1)).expect_err("long")[0].problem,
        Problem::TooLong
    );
}

proptest! {
    #[test]
    fn never_panics(text in "\\PC*|([\\[\\]=:;#% \t\r\nabm(s)DEFAULT]|main|rem|%\\(a\\)s){0,60}") {
        let _ = parse("t", &text);
        if let Ok(ini) = parse("t", &format!("[main]\na=1\n{text}")) {
            for key in ini.section("main").expect("has main").keys() {
                let _ = ini.value("main", key);
            }
        }
    }

    #[test]
    fn values_survive_a_round_trip(value in "[!-:<-~\u{e4}][ -:<-~\u{e4}]{0,40}") {
        let value = value.trim();
        prop_assume!(value != "\"\"");
        let text = format!("[main]\nkey = {}\n", value.replace('%', "%%"));
        prop_assert_eq!(read(&text, "KEY"), Ok(Some(value.to_owned())));
    }
}
