//! Answers about a video while it comes, served on this machine: a live page, JSON and
//! server-sent events over HTTP.
//!
//! A [`Server`] is told what [`FaceFinder::follow`](mtcae_dfer::FaceFinder::follow) says, and
//! hands it on (`docs/live.md`):
//!
//! | | |
//! |---|---|
//! | `/` | the page of [`mtcae_report::Course`], without results |
//! | `/v1/results` | the last results as one file of them |
//! | `/v1/events` | each line of a [`Teller`] as an event |
//! | `/v1/status` | how far the stream is |
//!
//! All but the page, in which nothing is said of anybody, is for those alone who have the
//! token. Nothing is read from disk, and nothing is changed by a request.
//!
//! A thread accepts connections, and each of these has a small one of its own: what waits or
//! is slow holds up nobody else, and the one who tells never waits for a reader. Of
//! connections, requests and memory there are only so many (`serve.rs`, `http.rs`, `hub.rs`).

mod error;
mod events;
mod gate;
mod http;
mod hub;
mod serve;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use mtcae_dfer::{Ended, Provenance, Said, Teller};
use mtcae_report::Course;

pub use error::Error;

use hub::Hub;
use serve::Service;

/// What the page runs to be told what is said.
const FEED: &str = include_str!("../assets/feed.js");

/// Where and to whom answers are served.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address to listen at; port 0 takes a free one.
    pub address: SocketAddr,
    /// Whether it may be one that other machines can connect to. What goes over the network
    /// is not encrypted.
    pub anyone: bool,
    /// The token; a random one where there is none.
    pub token: Option<String>,
}

/// What is served: of which stream, by which model.
#[derive(Clone, Debug)]
pub struct Subject {
    /// What the stream is called.
    pub name: String,
    /// Where results come from.
    pub provenance: Option<Provenance>,
    /// The model's classes, in its order.
    pub classes: Vec<String>,
    /// Its action units.
    pub units: Vec<String>,
    /// Length and stride of windows in seconds.
    pub windows: (f64, f64),
}

/// Serves what it is told, until it is dropped.
pub struct Server {
    hub: Arc<Hub>,
    course: Course,
    teller: Teller<Vec<u8>>,
    address: SocketAddr,
    token: String,
}

impl Server {
    /// Begins to listen.
    ///
    /// # Errors
    /// [`Error::Anyone`] for an address that others reach and should not, [`Error::InUse`],
    /// [`Error::Bind`], [`Error::Token`]; or what the system lacks.
    pub fn start(options: &Options, subject: Subject) -> Result<Self, Error> {
        if !options.anyone && !options.address.ip().is_loopback() {
            return Err(Error::Anyone(options.address));
        }
        let token = gate::token(options.token.as_deref())?;
        let run = gate::token(None)?.split_off(35);
        let fault = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::AddrInUse => Error::InUse(options.address),
            _ => Error::Bind {
                address: options.address,
                source,
            },
        };
        let listener = TcpListener::bind(options.address).map_err(fault)?;
        let address = listener.local_addr().map_err(fault)?;
        let Subject {
            name,
            provenance,
            classes,
            units,
            windows,
        } = subject;
        let course = Course::new(&name, provenance.as_ref(), &classes, &units, windows);
        let page = course.page(FEED)?;
        let mut teller = Teller::begin(Vec::new(), provenance.clone(), windows.0, windows.1)
            .map_err(Error::Line)?;
        let hub = Arc::new(Hub::new(taken(&mut teller), provenance, windows));
        Service::start(listener, address, &token, run, page, hub.clone()).map_err(Error::Thread)?;
        Ok(Self {
            hub,
            course,
            teller,
            address,
            token,
        })
    }

    /// The address that is listened at.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who has this may read what is said.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// What a browser opens.
    ///
    /// The token is in the fragment, which a browser keeps to itself: it is in no request, no
    /// log and no `Referer`, and the page takes it out of the address bar. A cookie would go
    /// to every other server on this machine too, since cookies know no ports, and would be
    /// sent along with requests that other pages make; nothing is allowed here for what a
    /// browser sends by itself.
    pub fn url(&self) -> String {
        let ip = self.address.ip();
        let address = match ip.is_unspecified() {
            true if ip.is_ipv6() => {
                SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], self.address.port()))
            }
            true => SocketAddr::from(([127, 0, 0, 1], self.address.port())),
            false => self.address,
        };
        format!("http://{address}/#token={}", self.token)
    }

    /// Tells what is said of one window.
    ///
    /// # Errors
    /// When it cannot be told as JSON.
    pub fn tell(&mut self, said: &Said) -> Result<(), Error> {
        let mut lines = Vec::new();
        for prediction in &said.predictions {
            self.teller
                .tell(prediction, said.delay, said.dropped)
                .map_err(Error::Line)?;
            lines.push((taken(&mut self.teller), Arc::new(prediction.clone())));
        }
        let piece = self.course.add(&said.predictions)?.map(Arc::from);
        self.hub.tell(lines, piece, said.delay, said.dropped);
        Ok(())
    }

    /// Tells that the stream has ended. What was said stays to be read.
    pub fn end(&mut self, ended: &Ended) {
        let said = serde_json::json!({
            "windows": ended.windows,
            "frames": ended.frames,
            "dropped": ended.dropped,
            "warnings": ended.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        });
        self.hub.end(said.to_string().into());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.hub.close();
        serve::wake(self.address, Duration::from_millis(100));
    }
}

/// The line that was told.
fn taken(teller: &mut Teller<Vec<u8>>) -> Arc<str> {
    let bytes = std::mem::take(teller.get_mut());
    Arc::from(String::from_utf8_lossy(&bytes).trim_end())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_s_script_ends_no_element_of_the_page() {
        let text = super::FEED.to_lowercase();
        assert!(!text.contains("</script") && !text.contains("<!--") && !text.contains("@@"));
    }
}
