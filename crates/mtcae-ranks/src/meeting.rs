//! A meeting point: how ranks that no MPI connects get what one of them has made.
//!
//! Rank 0 listens on one address and port, the others come to it. Each side proves that it knows
//! a secret which all ranks have, by a keyed hash (HMAC-SHA-256) over random bytes of the other:
//! the secret itself is not sent, and what was sent once is worth nothing a second time. What is
//! handed over is not hidden from whoever reads the network.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::Error;

/// Bytes that are handed over: an id of NCCL.
pub const BYTES: usize = 128;

/// What a connection begins with.
const GREETING: &[u8; 16] = b"mtcae-ranks/1\0\0\0";
const NONCE: usize = 32;
const PROOF: usize = 32;

/// The shortest secret.
const SHORTEST: usize = 16;

/// How long a side waits for bytes of a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where ranks meet, and what they know each other by.
#[derive(Clone)]
pub struct Meeting {
    address: String,
    secret: Vec<u8>,
    rank: usize,
    ranks: usize,
    /// How long all ranks may take to come.
    within: Duration,
}

impl Meeting {
    /// As the environment says it: `RANK`, `WORLD_SIZE`, `MASTER_ADDR`, `MASTER_PORT`, and
    /// `MTCAE_RANKS_SECRET`.
    ///
    /// # Errors
    /// Names the variable that is missing, or what is wrong with it.
    pub fn found() -> Result<Self, Error> {
        Self::of(|name| std::env::var(name).ok())
    }

    /// The same, of other variables than the process's own.
    ///
    /// # Errors
    /// As there.
    pub fn of(get: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let said = |variable, what: &str| {
            let text = get(variable).filter(|text| !text.is_empty());
            text.ok_or_else(|| fault(variable, format!("is not set; it says {what}")))
        };
        let number = |variable, what: &str| {
            let text = said(variable, what)?;
            let number = text.parse::<usize>().ok();
            number.ok_or_else(|| fault(variable, format!("says {what}, and is {text:?}")))
        };
        let ranks = number("WORLD_SIZE", "how many ranks there are")?;
        let rank = number("RANK", "which of the ranks this is, from 0")?;
        if rank >= ranks {
            let reason = format!("is {rank}, of {ranks} ranks from 0 (WORLD_SIZE)");
            return Err(fault("RANK", reason));
        }
        let host = said("MASTER_ADDR", "on which of its addresses rank 0 listens")?;
        let port = number("MASTER_PORT", "on which port rank 0 listens")?;
        let port = u16::try_from(port)
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(|| fault("MASTER_PORT", format!("is no port: {port}")))?;
        let variable = "MTCAE_RANKS_SECRET";
        let secret = said(
            variable,
            "the secret by which ranks know each other: the same on all, as of `openssl rand -hex 32`",
        )?;
        if secret.len() < SHORTEST {
            let reason =
                format!("has fewer than {SHORTEST} bytes; `openssl rand -hex 32` makes one");
            return Err(fault(variable, reason));
        }
        let address = match host.contains(':') {
            true => format!("[{}]:{port}", host.trim_matches(['[', ']'])),
            false => format!("{host}:{port}"),
        };
        Ok(Self {
            address,
            secret: secret.into_bytes(),
            rank,
            ranks,
            within: Duration::from_secs(300),
        })
    }

    /// Waits at most so long for all ranks; five minutes by default.
    pub fn within(self, within: Duration) -> Self {
        Self { within, ..self }
    }

    /// The number of this rank, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many ranks there are.
    pub fn ranks(&self) -> usize {
        self.ranks
    }

    /// Gives all ranks what `make` makes on rank 0.
    ///
    /// # Errors
    /// When it cannot be made, the address cannot be listened on, or a rank does not come.
    pub fn hand_over(
        &self,
        make: impl FnOnce() -> Result<[u8; BYTES], Error>,
    ) -> Result<[u8; BYTES], Error> {
        match self.rank {
            0 => {
                let bytes = make()?;
                self.give(&bytes)?;
                Ok(bytes)
            }
            _ => self.get(),
        }
    }

    fn give(&self, bytes: &[u8; BYTES]) -> Result<(), Error> {
        let end = Instant::now() + self.within;
        let cannot = |e: std::io::Error| {
            let reason = format!("rank 0 cannot listen on {}: {e}", self.address);
            fault("MASTER_ADDR", reason)
        };
        // That address alone, and not all of the host.
        let listener = TcpListener::bind(&self.address).map_err(cannot)?;
        listener.set_nonblocking(true).map_err(cannot)?;
        let mut missing: BTreeSet<usize> = (1..self.ranks).collect();
        let mut turned_away = 0;
        while !missing.is_empty() {
            match listener.accept() {
                Ok((stream, _)) => match self.receive(&stream, bytes, &mut missing) {
                    Ok(Some(())) => {}
                    // A stranger, or a rank that has gone again: it may come back.
                    Ok(None) => turned_away += 1,
                    Err(error) => return Err(error),
                },
                Err(e) if e.kind() == ErrorKind::WouldBlock && Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    let ranks: Vec<String> = missing.iter().map(usize::to_string).collect();
                    let reason = format!(
                        "within {} s ranks {} have not come to {} ({turned_away} connections \
                         without the right MTCAE_RANKS_SECRET)",
                        self.within.as_secs(),
                        ranks.join(", "),
                        self.address
                    );
                    return Err(fault("MASTER_ADDR", reason));
                }
                Err(_) => turned_away += 1,
            }
        }
        Ok(())
    }

    /// One who comes; none where it does not know the secret.
    fn receive(
        &self,
        stream: &TcpStream,
        bytes: &[u8; BYTES],
        missing: &mut BTreeSet<usize>,
    ) -> Result<Option<()>, Error> {
        let mut nonce = [0; NONCE];
        random(&mut nonce)?;
        let asked = || -> std::io::Result<([u8; NONCE], [u8; 16], [u8; PROOF])> {
            let mut stream = ready(stream)?;
            stream.write_all(&[&GREETING[..], &nonce].concat())?;
            let (mut theirs, mut who, mut proof) = ([0; NONCE], [0; 16], [0; PROOF]);
            stream.read_exact(&mut theirs)?;
            stream.read_exact(&mut who)?;
            stream.read_exact(&mut proof)?;
            Ok((theirs, who, proof))
        };
        let Ok((theirs, who, proof)) = asked() else {
            return Ok(None);
        };
        // Compared in constant time.
        let knows = self.mac(&[b"comes", &nonce, &theirs, &who])?;
        if knows.verify_slice(&proof).is_err() {
            return Ok(None);
        }
        let [rank, ranks] = [&who[..8], &who[8..]].map(|n| {
            let n = n.try_into().map_or(u64::MAX, u64::from_le_bytes);
            usize::try_from(n).unwrap_or(usize::MAX)
        });
        if ranks != self.ranks {
            let reason = format!("rank {rank} says {ranks}, rank 0 says {}", self.ranks);
            return Err(fault("WORLD_SIZE", reason));
        }
        if !missing.contains(&rank) {
            return Err(fault(
                "RANK",
                format!("two processes say that they are rank {rank}"),
            ));
        }
        let proof = self
            .mac(&[b"gives", &theirs, bytes])?
            .finalize()
            .into_bytes();
        let given = ready(stream).and_then(|mut s| s.write_all(&[&bytes[..], &proof].concat()));
        if given.is_err() {
            return Ok(None);
        }
        missing.remove(&rank);
        Ok(Some(()))
    }

    fn get(&self) -> Result<[u8; BYTES], Error> {
        let end = Instant::now() + self.within;
        let mut turned_away = None;
        loop {
            let error = match self.come() {
                Ok(Ok(bytes)) => return Ok(bytes),
                Ok(Err(error)) => return Err(error),
                Err(error) => error,
            };
            if error.kind() == ErrorKind::UnexpectedEof {
                turned_away = Some(error.to_string());
            }
            if Instant::now() > end {
                // Rank 0 may have given up since, which says less.
                let error = turned_away.unwrap_or_else(|| error.to_string());
                let reason = format!(
                    "rank {} has not met rank 0 at {} within {} s: {error}",
                    self.rank,
                    self.address,
                    self.within.as_secs()
                );
                return Err(fault("MASTER_ADDR", reason));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// One attempt; the outer error is worth another.
    fn come(&self) -> std::io::Result<Result<[u8; BYTES], Error>> {
        let none = || std::io::Error::new(ErrorKind::NotFound, "no such address");
        let address = self.address.to_socket_addrs()?.next().ok_or_else(none)?;
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        let mut stream = ready(&stream)?;
        let mut greeting = [0; GREETING.len()];
        stream.read_exact(&mut greeting)?;
        if greeting != *GREETING {
            let reason = format!("what listens at {} is no rank of this build", self.address);
            return Ok(Err(fault("MASTER_ADDR", reason)));
        }
        let (mut theirs, mut nonce) = ([0; NONCE], [0; NONCE]);
        stream.read_exact(&mut theirs)?;
        if let Err(error) = random(&mut nonce) {
            return Ok(Err(error));
        }
        let [rank, ranks] = [self.rank, self.ranks].map(|n| (n as u64).to_le_bytes());
        let who = [rank, ranks].concat();
        let proof = match self.mac(&[b"comes", &theirs, &nonce, &who]) {
            Ok(mac) => mac.finalize().into_bytes(),
            Err(error) => return Ok(Err(error)),
        };
        stream.write_all(&[&nonce[..], &who, &proof].concat())?;
        let mut given = [0; BYTES + PROOF];
        stream.read_exact(&mut given).map_err(|e| match e.kind() {
            ErrorKind::UnexpectedEof => std::io::Error::new(
                e.kind(),
                "it was turned away: is MTCAE_RANKS_SECRET the same on all ranks?",
            ),
            _ => e,
        })?;
        let (bytes, proof) = given.split_at(BYTES);
        let gives = self.mac(&[b"gives", &nonce, bytes]);
        let right = gives.map(|mac| mac.verify_slice(proof).is_ok());
        Ok(match (right, bytes.try_into()) {
            (Ok(true), Ok(bytes)) => Ok(bytes),
            (Err(error), _) => Err(error),
            _ => Err(fault(
                "MTCAE_RANKS_SECRET",
                format!("what listens at {} does not know it", self.address),
            )),
        })
    }

    fn mac(&self, parts: &[&[u8]]) -> Result<Hmac<Sha256>, Error> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.secret);
        let mut mac = mac.map_err(|e| fault("MTCAE_RANKS_SECRET", e.to_string()))?;
        parts.iter().for_each(|part| mac.update(part));
        Ok(mac)
    }
}

fn ready(stream: &TcpStream) -> std::io::Result<&TcpStream> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn random(bytes: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(bytes).map_err(|e| Error::Library {
        library: "random numbers",
        reason: e.to_string(),
    })
}

fn fault(variable: &'static str, reason: String) -> Error {
    Error::Variable { variable, reason }
}
