//! Who is let in: hosts, origins, the token, and how often.

use std::net::SocketAddr;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;

use crate::Error;
use crate::http::{Reply, Request};

/// Length of a token, at least and at most.
pub(crate) const TOKEN: (usize, usize) = (16, 256);

/// Bytes of a random token.
const RANDOM: usize = 32;

/// What a token is made of: what stands for itself in the fragment of an address.
fn is_token(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    (TOKEN.0..=TOKEN.1).contains(&text.len()) && text.bytes().all(fits)
}

/// The token given, or a random one.
pub(crate) fn token(given: Option<&str>) -> Result<String, Error> {
    match given {
        Some(token) if is_token(token) => Ok(token.to_owned()),
        Some(_) => Err(Error::Token),
        None => {
            let mut bytes = [0; RANDOM];
            getrandom::fill(&mut bytes).map_err(Error::Random)?;
            Ok(URL_SAFE_NO_PAD.encode(bytes))
        }
    }
}

/// Whom a server lets in.
pub(crate) struct Gate {
    /// What is listened at.
    pub address: SocketAddr,
    pub token: String,
}

impl Gate {
    /// Why a request is refused, whatever it asks for.
    ///
    /// A page of another site can make a browser send requests here, and by a name that it
    /// first gives its own address and then ours it can even read what comes back. Such a
    /// request has that name as its host, and that site as its origin.
    pub fn refuse(&self, request: &Request) -> Option<Reply> {
        if !request.host.as_deref().is_some_and(|h| self.is_own(h)) {
            return Some(Reply::words(
                403,
                "this is no name of this server: open the address that mtcae printed",
            ));
        }
        let own = request.host.as_ref().map(|host| format!("http://{host}"));
        let foreign = request.origin.is_some() && request.origin != own;
        // Whoever follows a link comes to the page alone, which has no answers in it.
        let site = request.site.as_deref();
        let elsewhere = site.is_some_and(|site| site != "same-origin" && site != "none");
        if foreign || (elsewhere && request.path() != "/") {
            return Some(Reply::words(403, "pages of other sites get no answers"));
        }
        None
    }

    /// Whether a request has the token. How long it takes to say no does not tell how much of
    /// it was right.
    pub fn has_token(&self, request: &Request) -> bool {
        let given = request.authorization.as_deref();
        let given = given.and_then(|given| {
            let (scheme, token) = given.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        given.is_some_and(|given| given.as_bytes().ct_eq(self.token.as_bytes()).into())
    }

    /// Whether a host is this server. Where other machines may connect, it has names that are
    /// not known here; an address in numbers is none that a site could have taken.
    fn is_own(&self, host: &str) -> bool {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !name.is_empty() && !port.ends_with(']') => (name, port),
            _ => (host, "80"),
        };
        if port.parse() != Ok(self.address.port()) {
            return false;
        }
        if name.eq_ignore_ascii_case("localhost") {
            return true;
        }
        let v6 = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
        let ip = match v6 {
            Some(name) => name.parse().map(std::net::IpAddr::V6),
            None => name.parse().map(std::net::IpAddr::V4),
        };
        match self.address.ip() {
            own if own.is_loopback() => ip == Ok(own),
            _ => ip.is_ok(),
        }
    }
}

/// So many a second, and so many at once.
pub(crate) struct Rate {
    each: f64,
    most: f64,
    left: f64,
    since: Instant,
}

impl Rate {
    pub fn new(each: f64, most: f64) -> Self {
        Self {
            each,
            most,
            left: most,
            since: Instant::now(),
        }
    }

    /// Whether one more is allowed now.
    pub fn take(&mut self) -> bool {
        let now = Instant::now();
        let more = self.each * now.duration_since(self.since).as_secs_f64();
        self.since = now;
        self.left = (self.left + more).min(self.most);
        let allowed = self.left >= 1.0;
        if allowed {
            self.left -= 1.0;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(address: &str) -> Gate {
        Gate {
            address: address.parse().expect("an address"),
            token: "0123456789abcdef".to_owned(),
        }
    }

    #[test]
    fn a_loopback_server_is_known_by_its_address_and_as_localhost_alone() {
        let gate = gate("127.0.0.1:8000");
        for own in ["127.0.0.1:8000", "localhost:8000", "LOCALHOST:8000"] {
            assert!(gate.is_own(own), "{own}");
        }
        for other in [
            "",
            ":8000",
            "127.0.0.1",
            "127.0.0.1:8001",
            "127.0.0.1:",
            "127.0.0.2:8000",
            "[::1]:8000",
            "evil.example:8000",
            "localhost.evil.example:8000",
            "127.0.0.1:8000.evil.example",
            "evil.example@127.0.0.1:8000",
            "127.0.0.1:8000 ",
        ] {
            assert!(!gate.is_own(other), "{other}");
        }
    }

    #[test]
    fn a_server_for_other_machines_is_known_by_addresses_in_numbers_and_no_other_name() {
        let gate = gate("0.0.0.0:80");
        for own in ["192.168.1.7", "10.0.0.1:80", "[fe80::1]", "[fe80::1]:80"] {
            assert!(gate.is_own(own), "{own}");
        }
        for other in ["evil.example", "fe80::1", "[fe80::1", "10.0.0.1:81"] {
            assert!(!gate.is_own(other), "{other}");
        }
    }

    #[test]
    fn a_token_is_long_enough_and_can_stand_in_an_address() {
        assert_eq!(token(None).expect("random").len(), 43);
        assert_ne!(token(None).expect("random"), token(None).expect("random"));
        assert!(token(Some("0123456789abcdef")).is_ok());
        for bad in ["", "short", "0123456789abcde#", "0123456789abcd f"] {
            assert!(token(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_more_than_allowed_are_taken_at_once() {
        let mut rate = Rate::new(1e-9, 3.0);
        let taken = (0..10).filter(|_| rate.take()).count();
        assert_eq!(taken, 3);
    }
}
