//! The options of the driver.
//!
//! QEMU: `nbd_process_options` (block/nbd.c).

use std::time::Duration;

use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::options::Options;

use crate::address::{Address, InetAddress, PORT_DEFAULT};
use crate::protocol::STRING_MAX;

/// What a user asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// Where the server is.
    pub(crate) address: Address,
    /// The export; none is the default one, and so is an empty name.
    pub(crate) export: Option<String>,
    /// A bitmap to be shown instead of what is allocated: its bits as data, as the reference does it.
    pub(crate) dirty_bitmap: Option<String>,
    /// How long requests wait for a connection that was lost.
    pub(crate) reconnect_delay: Duration,
    /// How long opening is tried again; zero means once.
    pub(crate) open_timeout: Duration,
}

impl Config {
    /// Takes the options that the driver knows out of `options`.
    ///
    /// # Errors
    /// `InvalidArgument`, in the words of the reference; `Unsupported` for TLS.
    pub(crate) fn take(options: &mut Options) -> Result<Self> {
        translate_old_options(options)?;
        let address = take_address(options.take_sub("server"))?;
        let export = options.take_str("export");
        check_len(export.as_deref(), "export name too long to send to server")?;
        if let Some(id) = options.take_str("tls-creds") {
            let message = format!("TLS is not supported by this NBD client (tls-creds='{id}')");
            return Err(BlockError::new(ErrorKind::Unsupported, message));
        }
        // Without credentials there is nothing that the name of the host could be compared with.
        options.take_str("tls-hostname");
        let dirty_bitmap = options.take_str("x-dirty-bitmap");
        check_len(dirty_bitmap.as_deref(), "x-dirty-bitmap query too long to send to server")?;
        let mut seconds = |key| -> Result<Duration> {
            let number = options.take_number(key)?.unwrap_or(0);
            // The reference keeps 32 bits.
            Ok(Duration::from_secs(number & u64::from(u32::MAX)))
        };
        let (reconnect_delay, open_timeout) = (seconds("reconnect-delay")?, seconds("open-timeout")?);
        Ok(Self { address, export, dirty_bitmap, reconnect_delay, open_timeout })
    }

    /// The name of the export as it is sent.
    pub(crate) fn export_name(&self) -> &str {
        self.export.as_deref().unwrap_or_default()
    }

    /// The metadata context that is asked for.
    pub(crate) fn context(&self) -> &str {
        self.dirty_bitmap.as_deref().unwrap_or("base:allocation")
    }
}

fn check_len(text: Option<&str>, complaint: &str) -> Result<()> {
    match text {
        Some(text) if text.len() > STRING_MAX => Err(invalid(complaint)),
        _ => Ok(()),
    }
}

/// `host`, `port` and `path` are older than `server`.
fn translate_old_options(options: &mut Options) -> Result<()> {
    let (path, host, port) = (options.take_str("path"), options.take_str("host"), options.take_str("port"));
    if (path.is_some() || host.is_some() || port.is_some()) && options.contains_sub("server") {
        return Err(invalid("Cannot use 'server' and path/host/port at the same time"));
    }
    match (path, host, port) {
        (Some(_), Some(_), _) => Err(invalid("path and host may not be used at the same time")),
        (Some(_), None, Some(_)) => Err(invalid("port may not be used without host")),
        (Some(path), None, None) => {
            options.set("server.type", "unix");
            options.set("server.path", path);
            Ok(())
        }
        (None, Some(host), port) => {
            options.set("server.type", "inet");
            options.set("server.host", host);
            options.set("server.port", port.unwrap_or_else(|| PORT_DEFAULT.to_owned()));
            Ok(())
        }
        (None, None, _) => Ok(()),
    }
}

fn take_address(mut server: Options) -> Result<Address> {
    if server.is_empty() {
        return Err(invalid("NBD server address missing"));
    }
    let kind = required(&mut server, "type")?;
    let address = match kind.as_str() {
        "inet" => take_inet(&mut server)?,
        "unix" => take_unix(&mut server)?,
        "vsock" | "fd" => {
            let message = format!("NBD servers of the type '{kind}' are not supported");
            return Err(BlockError::new(ErrorKind::Unsupported, message));
        }
        other => return Err(invalid(&format!("Parameter 'type' does not accept value '{other}'"))),
    };
    match server.keys().next() {
        Some(key) => Err(invalid(&format!("Parameter '{key}' is unexpected"))),
        None => Ok(address),
    }
}

fn take_inet(server: &mut Options) -> Result<Address> {
    let host = required(server, "host")?;
    let port = required(server, "port")?;
    // Whether the host is a number already: it makes no difference to us.
    server.take_bool("numeric")?;
    Ok(Address::Inet(InetAddress {
        ipv4: server.take_bool("ipv4")?,
        ipv6: server.take_bool("ipv6")?,
        keep_alive: server.take_bool("keep-alive")?,
        ..InetAddress::new(host, port)
    }))
}

fn take_unix(server: &mut Options) -> Result<Address> {
    let path = required(server, "path")?;
    let is_abstract = server.take_bool("abstract")?.unwrap_or(false);
    let tight = server.take_bool("tight")?.unwrap_or(true);
    Ok(if is_abstract { Address::Abstract { name: path, tight } } else { Address::Unix(path) })
}

fn required(options: &mut Options, key: &str) -> Result<String> {
    options.take_str(key).ok_or_else(|| invalid(&format!("Parameter '{key}' is missing")))
}

fn invalid(message: &str) -> BlockError {
    BlockError::new(ErrorKind::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(text: &str) -> Result<Config, String> {
        let mut options = Options::parse_keyval(text, None).expect("a list of options");
        Config::take(&mut options).map_err(|error| error.chain())
    }

    #[test]
    fn old_and_new_options_mean_the_same() {
        let new = taken("server.type=unix,server.path=/s,export=e").expect("complete");
        assert_eq!(new, taken("path=/s,export=e").expect("complete"));
        assert_eq!(new.address, Address::Unix("/s".to_owned()));
        let inet = taken("host=h,reconnect-delay=3,open-timeout=2").expect("complete");
        assert_eq!(inet.address, Address::Inet(InetAddress::new("h", "10809")));
        assert_eq!((inet.reconnect_delay.as_secs(), inet.open_timeout.as_secs()), (3, 2));
    }

    #[test]
    fn what_is_missing_or_too_much_is_named() {
        for (options, text) in [
            ("export=e", "NBD server address missing"),
            ("port=3", "NBD server address missing"),
            ("host=a,path=b", "path and host may not be used at the same time"),
            ("path=a,port=3", "port may not be used without host"),
            ("path=s,server.type=unix", "Cannot use 'server' and path/host/port at the same time"),
            ("server.type=foo", "Parameter 'type' does not accept value 'foo'"),
            ("server.path=s", "Parameter 'type' is missing"),
            ("server.type=unix", "Parameter 'path' is missing"),
            ("server.type=inet", "Parameter 'host' is missing"),
            ("server.type=inet,server.host=h", "Parameter 'port' is missing"),
            ("server.type=unix,server.path=s,server.foo=1", "Parameter 'foo' is unexpected"),
            ("path=s,reconnect-delay=x", "Parameter 'reconnect-delay' expects a number"),
            ("path=s,tls-creds=t", "TLS is not supported by this NBD client (tls-creds='t')"),
        ] {
            assert_eq!(taken(options), Err(text.to_owned()), "{options}");
        }
    }
}
