//! Connections: who is let in, what is answered, and how many there are.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mtcae_report::Page;
use serde::Serialize;

use crate::events;
use crate::gate::{Gate, Rate};
use crate::http::{self, Body, Reply, Request, WRITTEN_WITHIN};
use crate::hub::{Hub, Kind, Status};

/// Connections at once. One more is told so.
const CONNECTIONS: usize = 256;

/// Connections beyond them that are told so at once; those beyond are closed.
const TURNED_AWAY: usize = 32;

/// Connections that are taken a second, and at once. Others wait in the system's queue.
const ACCEPTED: (f64, f64) = (4000.0, 512.0);

/// Requests that are answered a second, and at once: of those who have the token, and of
/// those who have not, so that these do not use up what those have.
const KNOWN: (f64, f64) = (200.0, 400.0);
const STRANGERS: (f64, f64) = (100.0, 400.0);

/// Bytes of a connection's stack, of which the system has as many in memory as are used.
const STACK: usize = 256 << 10;

/// What the system keeps of what somebody has not read yet, in bytes.
const UNREAD: usize = 128 << 10;

pub(crate) struct Service {
    gate: Gate,
    /// Names this run of the server in its events.
    run: String,
    page: Reply,
    hub: Arc<Hub>,
    connections: AtomicUsize,
    known: Mutex<Rate>,
    strangers: Mutex<Rate>,
}

/// A place among the connections, given back when it is dropped.
struct Place(Arc<Service>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Service {
    /// Accepts connections on a thread of its own until the hub closes.
    pub fn start(
        listener: TcpListener,
        address: SocketAddr,
        token: &str,
        run: String,
        page: Page,
        hub: Arc<Hub>,
    ) -> io::Result<()> {
        let policy = format!(
            "Content-Security-Policy: {}; frame-ancestors 'none'",
            page.policy
        );
        let page = Reply {
            status: 200,
            fields: "Content-Type: text/html; charset=utf-8\r\n".to_owned(),
            body: Body::Shared(page.html.into_bytes().into()),
        };
        let service = Arc::new(Self {
            gate: Gate {
                address,
                token: token.to_owned(),
            },
            run,
            page: page.with(&policy),
            hub,
            connections: AtomicUsize::new(0),
            known: Mutex::new(Rate::new(KNOWN.0, KNOWN.1)),
            strangers: Mutex::new(Rate::new(STRANGERS.0, STRANGERS.1)),
        });
        std::thread::Builder::new()
            .name("serve".to_owned())
            .spawn(move || service.accept(&listener))?;
        Ok(())
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        let mut rate = Rate::new(ACCEPTED.0, ACCEPTED.1);
        loop {
            let accepted = listener.accept();
            if self.hub.is_closing() {
                return;
            }
            match accepted {
                Ok((stream, _)) => self.take(stream),
                // Too many files are open, or whoever came is gone: neither is for ever.
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
            while !rate.take() {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }

    /// Gives a connection a thread; one too many is told so.
    fn take(self: &Arc<Self>, stream: TcpStream) {
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        let place = Place(self.clone());
        if before >= CONNECTIONS + TURNED_AWAY {
            return;
        }
        let work = move || {
            if ready(&stream).is_ok() {
                place.0.serve(stream, before < CONNECTIONS);
            }
            drop(place);
        };
        let thread = std::thread::Builder::new().name("reader".to_owned());
        // Without a thread the connection is closed.
        drop(thread.stack_size(STACK).spawn(work));
    }

    fn serve(&self, mut stream: TcpStream, is_free: bool) {
        let request = match http::read(&mut stream) {
            Ok(request) => request,
            Err(reply) => {
                if let Some(reply) = reply {
                    drop(reply.write(&mut stream, false));
                }
                return http::close(stream);
            }
        };
        let is_head = request.is_head();
        let reply = match is_free {
            true => self.answer(&request, &mut stream),
            false => Some(
                Reply::words(503, "too many connections: close some of them")
                    .with("Retry-After: 5"),
            ),
        };
        // Who is gone needs no answer.
        if reply.is_none_or(|reply| reply.write(&mut stream, is_head).is_ok()) {
            http::close(stream);
        }
    }

    /// What a request is answered; `None` where events have been written.
    fn answer(&self, request: &Request, stream: &mut TcpStream) -> Option<Reply> {
        let has_token = self.gate.has_token(request);
        let rate = match has_token {
            true => &self.known,
            false => &self.strangers,
        };
        if !rate.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let reply = Reply::words(429, "too many requests: wait a second");
            return Some(reply.with("Retry-After: 1"));
        }
        if let Some(reply) = self.gate.refuse(request) {
            return Some(reply);
        }
        let events = match request.path() {
            "/" => return Some(self.page.clone()),
            // Browsers ask for it, with no token.
            "/favicon.ico" => {
                return Some(Reply {
                    status: 204,
                    fields: String::new(),
                    body: Body::Words(String::new()),
                });
            }
            _ if !has_token => {
                let words = "the token is missing or wrong: open the address that mtcae \
                             printed, or send its token as `Authorization: Bearer TOKEN`";
                return Some(Reply::words(401, words).with("WWW-Authenticate: Bearer"));
            }
            "/v1/results" => {
                let (json, left_out) = self.hub.results();
                let reply = Reply::json(Body::Shared(json));
                return Some(reply.with(&format!("Mtcae-Left-Out: {left_out}")));
            }
            "/v1/status" => return Some(self.status()),
            "/v1/events" => Kind::Lines,
            "/page/events" => Kind::Pieces,
            _ => return Some(Reply::words(404, "there is nothing of this name")),
        };
        if request.is_head() {
            return Some(Reply {
                status: 200,
                fields: "Content-Type: text/event-stream\r\n".to_owned(),
                body: Body::Words(String::new()),
            });
        }
        let next = events::after(request.last.as_deref(), &self.run);
        // Ends when the reader is gone.
        drop(events::write(stream, &self.hub, events, &self.run, next));
        None
    }

    fn status(&self) -> Reply {
        #[derive(Serialize)]
        struct Said {
            program: &'static str,
            #[serde(flatten)]
            status: Status,
            kept: usize,
            left_out: u64,
            connections: usize,
        }
        let (status, kept, left_out) = self.hub.status();
        let said = Said {
            program: concat!("mtcae ", env!("CARGO_PKG_VERSION")),
            status,
            kept,
            left_out,
            connections: self.connections.load(Ordering::Relaxed),
        };
        match serde_json::to_string(&said) {
            Ok(json) => Reply::json(Body::Words(json + "\n")),
            Err(e) => Reply::words(500, &e.to_string()),
        }
    }
}

/// A connection on which nobody waits for ever, and of which the system keeps little.
fn ready(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(WRITTEN_WITHIN))?;
    socket2::SockRef::from(stream).set_send_buffer_size(UNREAD)
}

/// Connects once, so that whoever accepts looks up.
pub(crate) fn wake(address: SocketAddr, within: Duration) {
    let ip: std::net::IpAddr = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        ip if ip.is_ipv6() => std::net::Ipv6Addr::LOCALHOST.into(),
        _ => std::net::Ipv4Addr::LOCALHOST.into(),
    };
    drop(TcpStream::connect_timeout(
        &SocketAddr::new(ip, address.port()),
        within,
    ));
}
