//! `infer - --serve`: answers as a live page, JSON and events.

use std::net::{Ipv4Addr, SocketAddr};

use mtcae_dfer::Provenance;
use mtcae_dfer::model::Config;
use mtcae_serve::{Error, Options, Server, Subject};

use super::args::Args;
use crate::{Fault, note, one_line};

/// The environment variable of the token. It is no flag: all users of a machine see the
/// command lines of its programs.
const TOKEN: &str = "MTCAE_SERVE_TOKEN";

/// An address to listen at.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let local = text.strip_prefix("localhost:").map(str::parse);
    let local = local.and_then(Result::ok);
    local
        .map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .or_else(|| text.parse().ok())
        .ok_or_else(|| "an address and a port are needed, as in 127.0.0.1:8000".to_owned())
}

/// Begins to serve, where that is asked for, and says where.
pub fn start(
    args: &Args,
    name: &str,
    provenance: Option<&Provenance>,
    model: &Config,
) -> Result<Option<Server>, Fault> {
    let Some(address) = args.serve else {
        return Ok(None);
    };
    let token = match std::env::var(TOKEN) {
        Ok(token) => Some(token).filter(|token| !token.is_empty()),
        Err(std::env::VarError::NotPresent) => None,
        Err(std::env::VarError::NotUnicode(_)) => {
            return Err(format!("{TOKEN}: {}", Error::Token).into());
        }
    };
    let options = Options {
        address,
        anyone: args.serve_anyone,
        token,
    };
    let subject = Subject {
        name: name.to_owned(),
        provenance: provenance.cloned(),
        classes: model.classes.clone(),
        units: model.action_units.clone(),
        windows: args.live_windows(),
    };
    let server = Server::start(&options, subject).map_err(|e| match e {
        Error::InUse(address) => format!(
            "--serve {address}: another program has this port; give another, or 0 for a free one"
        ),
        Error::Bind { address, source } => format!(
            "--serve {address}: {source}; give an address of this machine, and a port from 1024 on"
        ),
        Error::Token => format!("{TOKEN}: {e}; without it a random one is made"),
        other => format!("--serve: {}", one_line(&other)),
    })?;
    // Said even with --quiet: without it nobody gets in.
    note!("live at {}", server.url());
    if !address.ip().is_loopback() && !args.quiet {
        note!(
            "warning: --serve-anyone: other machines can connect, and what they are told is not encrypted"
        );
    }
    Ok(Some(server))
}

/// Goes on serving what was said, until the program is stopped.
pub fn stay(server: &Server, args: &Args) -> ! {
    if !args.quiet {
        note!("the page stays at {}; Ctrl-C ends it", server.address());
    }
    loop {
        std::thread::park();
    }
}
