//! A name for TLS that is not the address's.

use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::Host;

/// Resolves the name on the server's certificate to where the server really is. reqwest has no setting for the name
/// to verify; it verifies the host of the URL, so the URL gets the name and this finds the way.
pub(crate) struct Detour {
    pub(crate) name: String,
    pub(crate) real: Host,
}

impl Resolve for Detour {
    fn resolve(&self, name: Name) -> Resolving {
        let detour = name.as_str().eq_ignore_ascii_case(&self.name);
        let host = if detour { self.real.clone() } else { Host::Domain(name.as_str().to_owned()) };
        Box::pin(async move {
            // Port 0 stands for the URL's.
            let found: Vec<SocketAddr> = match host {
                Host::Domain(domain) => tokio::net::lookup_host((domain, 0)).await?.collect(),
                Host::Ipv4(ip) => vec![(ip, 0).into()],
                Host::Ipv6(ip) => vec![(ip, 0).into()],
            };
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}
