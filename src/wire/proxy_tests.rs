//! The forms of the document, and what is none of them.

use super::*;

/// Longest header these tests allow.
const LEN_MAX: usize = 2048;

fn parse(bytes: &[u8]) -> Result<Option<Header>, ProxyError> {
    super::parse(bytes, LEN_MAX)
}

fn source(bytes: &[u8]) -> Result<Option<IpAddr>, ProxyError> {
    let header = parse(bytes)?.expect("a whole header");
    assert_eq!(header.len, bytes.len());
    Ok(header.source)
}

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let len = (body.len() as u16).to_be_bytes();
    [V2_START, &[command, family][..], &len, body].concat()
}

#[test]
fn version_1_of_the_document() {
    let ip = |text: &str| Ok(Some(text.parse::<IpAddr>().unwrap()));
    assert_eq!(
        source(b"PROXY TCP4 255.255.255.255 1.2.3.4 65535 65535\r\n"),
        ip("255.255.255.255")
    );
    assert_eq!(source(b"PROXY TCP6 2001:db8::1 ::1 1 0\r\n"), ip("2001:db8::1"));
    assert_eq!(source(b"PROXY UNKNOWN\r\n"), Ok(None));
    let longest = b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n";
    assert_eq!(source(longest), Ok(None));
    let with_more = parse(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\nGET / HTTP/1.1\r\n")
        .unwrap()
        .unwrap();
    assert_eq!(with_more.len, 32);
}

#[test]
fn version_1_is_strict() {
    for line in [
        "PROXY",
        "PROXY ",
        "PROXY TCP4",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 1 ",
        "PROXY  TCP4 1.2.3.4 1.2.3.4 1 1",
        "PROXY TCP4 1.2.3.4  1.2.3.4 1 1",
        "PROXY TCP4 1.2.3.04 1.2.3.4 1 1",
        "PROXY TCP4 ::1 1.2.3.4 1 1",
        "PROXY TCP6 1.2.3.4 ::1 1 1",
        "PROXY TCP6 ::1 1.2.3.4 1 1",
        "PROXY TCP4 1.2.3.4 1.2.3.4 01 1",
        "PROXY TCP4 1.2.3.4 1.2.3.4 +1 1",
        "PROXY TCP4 1.2.3.4 1.2.3.4 65536 1",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 ",
        "PROXY UDP4 1.2.3.4 1.2.3.4 1 1",
        "PROXY tcp4 1.2.3.4 1.2.3.4 1 1",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 \u{e9}",
        "proxy TCP4 1.2.3.4 1.2.3.4 1 1",
        "GET / HTTP/1.1",
    ] {
        assert!(parse(format!("{line}\r\n").as_bytes()).is_err(), "{line:?}");
    }
    let bare = parse(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n");
    assert_eq!(bare, Err(ProxyError::Malformed), "a line end without CR");
    let endless = format!("PROXY UNKNOWN {}", "x".repeat(V1_BYTES_MAX));
    assert_eq!(parse(endless.as_bytes()), Err(ProxyError::Malformed));
    assert_eq!(parse(&endless.as_bytes()[..V1_BYTES_MAX - 1]), Ok(None));
}

#[test]
fn version_2_of_the_document() {
    let v4 = [&[192, 0, 2, 7, 10, 0, 0, 1][..], &[0, 80, 0, 81]].concat();
    assert_eq!(source(&v2(0x21, 0x11, &v4)), Ok(Some("192.0.2.7".parse().unwrap())));
    let mut v6 = [0u8; 36];
    v6[15] = 9;
    assert_eq!(source(&v2(0x21, 0x21, &v6)), Ok(Some("::9".parse().unwrap())));
    let with_fields = [&v4[..], &[0x04, 0, 3, 1, 2, 3]].concat();
    assert_eq!(
        source(&v2(0x21, 0x11, &with_fields)),
        Ok(Some("192.0.2.7".parse().unwrap()))
    );
    for local in [
        v2(0x20, 0, &[]),
        v2(0x20, 0x11, &v4),
        v2(0x20, 0x99, b"x"),
        v2(0x21, 0, b"any"),
    ] {
        assert_eq!(source(&local), Ok(None));
    }
}

#[test]
fn every_family_of_version_2_is_taken_as_the_document_says() {
    let v4 = [&[192, 0, 2, 7, 10, 0, 0, 1][..], &[0, 80, 0, 81]].concat();
    let v6 = [&[0; 15][..], &[9], &[0; 20]].concat();
    let unix = [b'/'; 216];
    let told = |text: &str| Some(text.parse().unwrap());
    for (family, body, address) in [
        (0x11, &v4[..], told("192.0.2.7")),
        (0x12, &v4, told("192.0.2.7")),
        (0x21, &v6, told("::9")),
        (0x22, &v6, told("::9")),
        (0x31, &unix, None),
        (0x32, &unix, None),
        // Family or protocol unspecified: no address is meant, and none need be there.
        (0x00, &[], None),
        (0x00, &v4, None),
        (0x01, &v4, None),
        (0x02, b"x", None),
        (0x10, &v4, None),
        (0x20, &[], None),
        (0x30, &unix, None),
    ] {
        for fields in [&[][..], &[0x04, 0, 3, 1, 2, 3]] {
            let header = v2(0x21, family, &[body, fields].concat());
            assert_eq!(source(&header), Ok(address), "{family:#x}");
            assert_eq!(
                source(&v2(0x20, family, &[body, fields].concat())),
                Ok(None),
                "LOCAL {family:#x}"
            );
        }
    }
    for family in (0..=255).filter(|byte| byte >> 4 > 3 || byte & 0xf > 2) {
        assert_eq!(
            parse(&v2(0x21, family, &unix)),
            Err(ProxyError::Unsupported),
            "{family:#x}"
        );
    }
}

#[test]
fn version_2_is_strict() {
    let body = [0; 216];
    for command in (0..=255).filter(|byte| !matches!(byte, 0x20 | 0x21)) {
        assert_eq!(parse(&v2(command, 0x11, &body)), Err(ProxyError::Unsupported));
    }
    for (family, least) in [(0x11, 12), (0x12, 12), (0x21, 36), (0x22, 36), (0x31, 216), (0x32, 216)] {
        assert_eq!(parse(&v2(0x21, family, &body[..least - 1])), Err(ProxyError::Malformed));
        assert!(parse(&v2(0x21, family, &body[..least])).is_ok());
    }
    assert!(parse(&v2(0x21, 0x11, &[0; LEN_MAX - V2_FIXED])).is_ok());
    assert_eq!(
        parse(&v2(0x21, 0x11, &[0; LEN_MAX - V2_FIXED + 1])),
        Err(ProxyError::TooLong(LEN_MAX + 1))
    );
    assert_eq!(parse(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"), Err(ProxyError::NoHeader));
}

#[test]
fn a_prefix_asks_for_more_until_it_decides() {
    let v1 = b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n";
    let (v4, v6, unix) = (
        v2(0x21, 0x11, &[1; 2000]),
        v2(0x21, 0x22, &[1; 36]),
        v2(0x21, 0x31, &[1; 216]),
    );
    for (whole, decides) in [(&v1[..], v1.len()), (&v4, 20), (&v6, 32), (&unix, 16)] {
        for len in 0..=whole.len() {
            let header = parse(&whole[..len]).unwrap();
            assert_eq!(
                header.map(|header| header.len),
                (len >= decides).then_some(whole.len()),
                "{len} bytes"
            );
        }
        assert!(decides <= DECIDING_BYTES);
    }
}
