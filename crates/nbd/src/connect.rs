//! From an address to a connection that takes requests.
//!
//! QEMU: nbd/client-connection.c, `socket_connect` (util/qemu-sockets.c).

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockaddrStorage, UnixAddr};
use qemu_block::error::{BlockError, ErrorKind, Result, errno_text};

use crate::address::{Address, InetAddress};
use crate::cancel::Cancel;
use crate::config::Config;
use crate::negotiate::{Export, Wanted, negotiate};
use crate::socket::{Handshake, Socket};

/// How long connecting and negotiating take at most when nobody says otherwise. The reference would wait for ever for a
/// server that accepts and says nothing.
pub(crate) const HANDSHAKE_MAX: Duration = Duration::from_secs(120);

/// The first pause between two attempts; each is twice as long as the one before.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Connects and negotiates once.
///
/// # Errors
/// In the words of the reference.
pub(crate) fn connect_once(config: &Config, until: Instant, cancel: &Cancel) -> Result<(Socket, Export)> {
    let socket = open_socket(&config.address, until, cancel)?;
    let wanted = Wanted { export: config.export_name(), context: config.context() };
    let export = negotiate(&mut Handshake { socket: &socket, until, cancel }, wanted)?;
    socket.set_blocking()?;
    Ok((socket, export))
}

/// Connects and negotiates, again and again until it works, the time has come, or `cancel` was fired.
///
/// # Errors
/// Those of the last attempt.
pub(crate) fn connect_patiently(config: &Config, until: Instant, cancel: &Cancel) -> Result<(Socket, Export)> {
    let mut pause = PAUSE_MIN;
    loop {
        let error = match connect_once(config, until, cancel) {
            Ok(connected) => return Ok(connected),
            Err(error) => error,
        };
        let again = Instant::now() + pause;
        if again >= until || cancel.wait_until(again).is_err() {
            return Err(error);
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn open_socket(address: &Address, until: Instant, cancel: &Cancel) -> Result<Socket> {
    let failed = |error: &io::Error| {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        BlockError::from_errno(errno, format!("Failed to connect to '{address}': {}", errno_text(errno)))
    };
    match address {
        Address::Inet(inet) => {
            let mut last = failed(&io::Error::from_raw_os_error(libc::EADDRNOTAVAIL));
            for place in resolve(inet)? {
                let family = if place.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
                match Socket::connect(family, &SockaddrStorage::from(place), until, cancel) {
                    Ok(socket) => {
                        socket.tune_for_network(inet.keep_alive.unwrap_or(true));
                        return Ok(socket);
                    }
                    Err(error) => last = failed(&error),
                }
            }
            Err(last)
        }
        // The kernel would understand it as the abstract name without any letters.
        Address::Unix(path) if path.is_empty() => Err(failed(&io::Error::from_raw_os_error(libc::ECONNREFUSED))),
        Address::Unix(path) => {
            let place = UnixAddr::new(path.as_str()).map_err(|_| too_long(path))?;
            Socket::connect(AddressFamily::Unix, &place, until, cancel).map_err(|error| failed(&error))
        }
        Address::Abstract { name, tight } => {
            let mut bytes = name.clone().into_bytes();
            if !tight && bytes.len() < ABSTRACT_LEN {
                bytes.resize(ABSTRACT_LEN, 0);
            }
            let place = UnixAddr::new_abstract(&bytes).map_err(|_| too_long(name))?;
            Socket::connect(AddressFamily::Unix, &place, until, cancel).map_err(|error| failed(&error))
        }
    }
}

/// Length of an abstract name that fills its structure, in bytes.
const ABSTRACT_LEN: usize = 107;

fn too_long(path: &str) -> BlockError {
    let message = format!("UNIX socket path '{path}' is too long\nPath must be less than 108 bytes");
    BlockError::new(ErrorKind::InvalidArgument, message)
}

/// All addresses of a host that the user wants to be used. Asking the resolver cannot be cancelled.
fn resolve(inet: &InetAddress) -> Result<Vec<SocketAddr>> {
    let InetAddress { host, port, .. } = inet;
    let failed = |reason: &str| {
        let message = format!("address resolution failed for {host}:{port}: {reason}");
        BlockError::new(ErrorKind::InvalidArgument, message)
    };
    let number: u16 = port.parse().map_err(|_| failed("Servname not supported for ai_socktype"))?;
    if host.is_empty() {
        return Err(failed("Name or service not known"));
    }
    let found = (host.as_str(), number).to_socket_addrs().map_err(|error| {
        let text = error.to_string();
        failed(text.strip_prefix("failed to lookup address information: ").unwrap_or(&text))
    })?;
    // If one family is wanted and nothing is said about the other, only that one is used.
    let (ipv4, ipv6) = match (inet.ipv4, inet.ipv6) {
        (Some(true), None) => (true, false),
        (None, Some(true)) => (false, true),
        (ipv4, ipv6) => (ipv4.unwrap_or(true), ipv6.unwrap_or(true)),
    };
    Ok(found.filter(|place| if place.is_ipv4() { ipv4 } else { ipv6 }).collect())
}
