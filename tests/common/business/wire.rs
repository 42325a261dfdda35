//! HTTP/1.1 as the business server reads and writes it.

use super::super::ms;
use super::{Mode, Reply, Request};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// None when the peer closed between requests.
pub fn read_request(reader: &mut BufReader<&TcpStream>, connection: usize) -> io::Result<Option<Request>> {
    let Some(first) = read_line(reader)? else {
        return Ok(None);
    };
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    while let Some(line) = read_line(reader)?.filter(|l| !l.is_empty()) {
        let (key, value) = line.split_once(':').unwrap_or((&line, ""));
        headers.push((key.to_owned(), value.trim().to_owned()));
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = query
        .split('&')
        .filter(|p| !p.is_empty())
        .map(|p| p.split_once('=').unwrap_or((p, "")));
    let mut request = Request {
        at: Instant::now(),
        connection,
        method: method.to_owned(),
        target: target.to_owned(),
        path: path.to_owned(),
        query: pairs.map(|(k, v)| (unescape(k), unescape(v))).collect(),
        headers,
        body: Vec::new(),
    };
    read_body(reader, &mut request)?;
    request.at = Instant::now();
    Ok(Some(request))
}

fn read_line(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    if reader.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(
        String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned(),
    ))
}

fn read_body(reader: &mut BufReader<&TcpStream>, request: &mut Request) -> io::Result<()> {
    if let Some(length) = request.header("content-length") {
        request.body = vec![0; length.parse().map_err(io::Error::other)?];
        return reader.read_exact(&mut request.body);
    }
    while request.header("transfer-encoding").is_some() {
        let size = read_line(reader)?.unwrap_or_default();
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default(), 16).map_err(io::Error::other)?;
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk)?;
        request.body.extend_from_slice(&chunk[..size]);
        if size == 0 {
            break;
        }
    }
    Ok(())
}

/// Decodes percent signs and plus signs of a query part.
fn unescape(text: &str) -> String {
    let (bytes, mut out, mut i) = (text.as_bytes(), Vec::new(), 0);
    while i < bytes.len() {
        let code = text.get(i + 1..i + 3).and_then(|d| u8::from_str_radix(d, 16).ok());
        match (bytes[i], code) {
            (b'%', Some(code)) => {
                out.push(code);
                i += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// False when the connection must be closed now.
pub fn write_reply(mut stream: &TcpStream, reply: &Reply, stop: &AtomicBool) -> io::Result<bool> {
    let mut head = format!("HTTP/1.1 {} X\r\n", reply.status);
    for (key, value) in &reply.headers {
        head += &format!("{key}: {value}\r\n");
    }
    let whole = [
        format!("{head}Content-Length: {}\r\n\r\n", reply.body.len()).as_bytes(),
        &reply.body,
    ]
    .concat();
    match &reply.mode {
        Mode::Whole | Mode::ThenClose => stream.write_all(&whole)?,
        Mode::Chunked => {
            let chunks = reply
                .body
                .chunks(3)
                .flat_map(|c| [format!("{:x}\r\n", c.len()).as_bytes(), c, b"\r\n"].concat());
            let chunks: Vec<u8> = chunks.collect();
            let head = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
            stream.write_all(&[head.as_bytes(), &chunks, b"0\r\n\r\n"].concat())?;
        }
        Mode::Trickle(pause) => {
            for byte in whole {
                stream.write_all(&[byte])?;
                std::thread::sleep(*pause);
            }
        }
        Mode::Raw(bytes) => stream.write_all(bytes)?,
        Mode::CutShort => {
            stream.write_all(format!("{head}Content-Length: {}\r\n\r\n", reply.body.len() * 2 + 2).as_bytes())?;
            stream.write_all(&reply.body)?;
        }
        Mode::HalfThenHang => {
            stream.write_all(format!("{head}Content-Length: {}\r\n\r\n", reply.body.len() * 2).as_bytes())?;
            stream.write_all(&reply.body)?;
            hang(stream, stop);
        }
        Mode::Drop => {}
        Mode::Hang => hang(stream, stop),
    }
    Ok(matches!(reply.mode, Mode::Whole | Mode::Chunked | Mode::Trickle(_)))
}

/// Returns when the peer closes or the business server is dropped.
fn hang(mut stream: &TcpStream, stop: &AtomicBool) {
    let _ = stream.set_read_timeout(Some(ms(200)));
    while !stop.load(Ordering::SeqCst) {
        match stream.read(&mut [0; 512]) {
            Ok(0) => return,
            Err(e) if !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => return,
            _ => {}
        }
    }
}
