//! As much of HTTP/1.1 as is needed: a request without a body, an answer, and the end.
//!
//! Each connection carries one request. So nothing that follows it is read, and there is no
//! second request that could be taken for a part of the first. `httparse` reads the head.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// A head is no longer than this.
const HEAD: usize = 8 << 10;

/// Nor has it more fields.
const FIELDS: usize = 64;

/// A head is there after so long, or there will be no answer.
const HEAD_WITHIN: Duration = Duration::from_secs(5);

/// Who takes nothing for so long is not written to any more.
pub(crate) const WRITTEN_WITHIN: Duration = Duration::from_secs(10);

/// Nor who has not taken an answer after so long; streams have no end.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);

/// An answer is written in parts of this size, between which the time is looked at.
const PART: usize = 16 << 10;

/// What is asked for, as far as anybody looks at it.
#[derive(Debug, Default)]
pub(crate) struct Request {
    pub method: String,
    pub target: String,
    pub host: Option<String>,
    pub origin: Option<String>,
    /// `Sec-Fetch-Site`: where a browser says that a request comes from.
    pub site: Option<String>,
    pub authorization: Option<String>,
    /// `Last-Event-ID`.
    pub last: Option<String>,
    /// Whether something follows the head.
    has_body: bool,
}

impl Request {
    /// What is asked for, without a query.
    pub fn path(&self) -> &str {
        self.target.split(['?', '#']).next().unwrap_or_default()
    }

    pub fn is_head(&self) -> bool {
        self.method == "HEAD"
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub status: u16,
    /// Fields beside those of every answer: each `Name: value\r\n`.
    pub fields: String,
    pub body: Body,
}

/// What an answer says.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    Words(String),
    Shared(std::sync::Arc<[u8]>),
}

impl Body {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Words(words) => words.as_bytes(),
            Self::Shared(bytes) => bytes,
        }
    }
}

impl Reply {
    /// One line of words.
    pub fn words(status: u16, words: &str) -> Self {
        Self {
            status,
            fields: "Content-Type: text/plain; charset=utf-8\r\n".to_owned(),
            body: Body::Words(format!("{words}\n")),
        }
    }

    pub fn json(body: Body) -> Self {
        Self {
            status: 200,
            fields: "Content-Type: application/json\r\n".to_owned(),
            body,
        }
    }

    pub fn with(mut self, field: &str) -> Self {
        self.fields += field;
        self.fields += "\r\n";
        self
    }

    /// Writes it; of a request with `HEAD`, all but what it says.
    pub fn write(&self, out: &mut TcpStream, head_only: bool) -> io::Result<()> {
        let body = self.body.bytes();
        let length = format!("Content-Length: {}\r\n", body.len());
        let began = Instant::now();
        out.write_all(head(self.status, &(length + &self.fields)).as_bytes())?;
        for part in body.chunks(PART).take_while(|_| !head_only) {
            if began.elapsed() > TAKEN_WITHIN {
                return Err(io::ErrorKind::TimedOut.into());
            }
            out.write_all(part)?;
        }
        Ok(())
    }
}

/// The head of an answer. What is said is of this moment and this page alone: nobody keeps
/// it, nothing is guessed of it, and pages of other sites can neither read nor frame it.
pub(crate) fn head(status: u16, fields: &str) -> String {
    let reason = match status {
        200 => "OK",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Internal Server Error",
    };
    format!(
        "HTTP/1.1 {status} {reason}\r\nConnection: close\r\nCache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\
         Cross-Origin-Resource-Policy: same-origin\r\nCross-Origin-Opener-Policy: same-origin\r\n\
         X-Frame-Options: DENY\r\n{fields}\r\n"
    )
}

/// Reads what is asked for; `Err` is what is to be answered instead, `None` where nobody is
/// there any more.
pub(crate) fn read(stream: &mut TcpStream) -> Result<Request, Option<Reply>> {
    let until = Instant::now() + HEAD_WITHIN;
    let mut bytes = Vec::with_capacity(1 << 10);
    let mut part = [0; 2 << 10];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let late = || Some(Reply::words(408, "the request did not come in time"));
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            return Err(late());
        }
        match stream.read(&mut part) {
            Ok(0) => return Err(None),
            Ok(n) => bytes.extend_from_slice(&part[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                return Err(late());
            }
            Err(_) => return Err(None),
        }
        if let Some(request) = parse(&bytes)? {
            return Ok(request);
        }
        if bytes.len() >= HEAD {
            let words = format!("the head is longer than {HEAD} bytes");
            return Err(Some(Reply::words(431, &words)));
        }
    }
}

/// A request from its bytes; `None` where they are not all there.
fn parse(bytes: &[u8]) -> Result<Option<Request>, Option<Reply>> {
    let refuse = |status, words: &str| Err(Some(Reply::words(status, words)));
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut head = httparse::Request::new(&mut fields);
    match head.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return refuse(431, "the head has too many fields");
        }
        Err(httparse::Error::Version) => return refuse(505, "HTTP/1.1 is spoken here"),
        Err(e) => return refuse(400, &format!("no request of HTTP/1.1: {e}")),
    }
    let mut request = Request {
        method: head.method.unwrap_or_default().to_owned(),
        target: head.path.unwrap_or_default().to_owned(),
        ..Request::default()
    };
    for field in head.headers.iter() {
        let Ok(value) = std::str::from_utf8(field.value) else {
            return refuse(400, &format!("{} is no text", field.name));
        };
        let value = value.trim();
        let place = match &field.name.to_ascii_lowercase()[..] {
            "host" => &mut request.host,
            "origin" => &mut request.origin,
            "sec-fetch-site" => &mut request.site,
            "authorization" => &mut request.authorization,
            "last-event-id" => &mut request.last,
            "transfer-encoding" => {
                request.has_body = true;
                continue;
            }
            "content-length" => {
                request.has_body |= value != "0";
                continue;
            }
            _ => continue,
        };
        // Of two, one would be looked at here, and the other by whoever sent it.
        if place.replace(value.to_owned()).is_some() {
            return refuse(400, &format!("{} is there twice", field.name));
        }
    }
    if !matches!(&request.method[..], "GET" | "HEAD") {
        let reply = Reply::words(405, "only GET and HEAD are answered");
        return Err(Some(reply.with("Allow: GET, HEAD")));
    }
    if request.has_body {
        return refuse(413, "a request has no body here");
    }
    if !request.target.starts_with('/') {
        return refuse(400, "the target of a request begins with a slash");
    }
    Ok(Some(request))
}

/// Ends a connection so that what was written arrives: whoever closes with something unread
/// takes back what the other has not read.
pub(crate) fn close(mut stream: TcpStream) {
    const WITHIN: Duration = Duration::from_millis(500);
    let until = Instant::now() + WITHIN;
    if stream.shutdown(Shutdown::Write).is_err() {
        return;
    }
    let mut part = [0; 2 << 10];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            return;
        }
        match stream.read(&mut part) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(text: &str) -> u16 {
        match parse(text.as_bytes()) {
            Ok(Some(_)) => 200,
            Ok(None) => 0,
            Err(Some(reply)) => reply.status,
            Err(None) => 1,
        }
    }

    #[test]
    fn a_request_is_read_whole_or_refused() {
        for (text, expected) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
            ("GET / HTTP/1.0\r\n\r\n", 200),
            ("HEAD /x?y HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 200),
            ("GET / HTTP/1.1\r\nHost: a\r\n", 0),
            ("GET / HTTP/2.0\r\n\r\n", 505),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
            ("\u{16}\u{3}\u{1}\r\n\r\n", 400),
            ("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
            ("OPTIONS * HTTP/1.1\r\n\r\n", 405),
            ("GET / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 413),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 413),
            ("GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 413),
            ("GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        ] {
            assert_eq!(status(text), expected, "{text:?}");
        }
        let many = "a: b\r\n".repeat(FIELDS + 1);
        assert_eq!(status(&format!("GET / HTTP/1.1\r\n{many}\r\n")), 431);
    }
}
